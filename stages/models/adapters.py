"""Save and load made-up tokens that a model was given, which no weight can take up.

They lie in a folder of their own beside the model's weights, by stages/methods/prompts.py.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from stages.contract import receipts
from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.models import pooling

FOLDER, FACTS, TENSORS = "adapter", "adapter.json", "adapter.safetensors"


@dataclass(frozen=True)
class Facts:
    """What the tokens are, and whether the head of the model sees the mean over tokens."""

    kind: Literal["prompt", "prefix"]
    tokens: int
    by_mean: bool


def is_in(folder: Path) -> bool:
    """Tell whether the model of a folder has made-up tokens."""
    return (folder / FOLDER).is_dir()


def sees_mean(folder: Path) -> bool:
    """Tell whether the model of a folder has made-up tokens, and sees the mean over all tokens.

    Its pooler has no weights then. Raises ModelError if the folder does not say so plainly.
    """
    return is_in(folder) and _facts(folder / FOLDER).by_mean


def _facts(place: Path) -> Facts:
    try:
        return TypeAdapter(Facts).validate_json((place / FACTS).read_bytes())
    except (OSError, ValueError) as error:
        raise _unfit(place, error) from error


def _unfit(place: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{place}: are no made-up tokens of this model ({one_line(error, 200)}); bring or "
        "train it anew"
    )


def wrapped(model: Any) -> bool:
    """Tell whether peft has given a model made-up tokens."""
    return any(of.is_prompt_learning for of in getattr(model, "peft_config", {}).values())


def save(model: Any, folder: Path) -> None:
    """Write a model that peft has given made-up tokens, and the tokens beside it."""
    import peft
    from safetensors.torch import save_file

    base, config = model.get_base_model(), model.peft_config["default"]
    base.save_pretrained(folder)
    kind = "prefix" if config.peft_type == peft.PeftType.PREFIX_TUNING else "prompt"
    (folder / FOLDER).mkdir()
    facts = Facts(kind, config.num_virtual_tokens, pooling.sees_mean(base))
    receipts.write_json(folder / FOLDER / FACTS, asdict(facts))
    tokens = model.get_prompt_embedding_to_save("default").detach().float().contiguous()
    save_file({"tokens": tokens}, folder / FOLDER / TENSORS)


def load(model: Any, folder: Path) -> Any:
    """Return the model of a folder with the made-up tokens that lie beside it.

    Raises ModelError if they are none, or not this model's.
    """
    import peft
    from safetensors.torch import load_file

    place = folder / FOLDER
    facts = _facts(place)
    try:
        tokens = load_file(place / TENSORS)["tokens"]
        kind = peft.PrefixTuningConfig if facts.kind == "prefix" else peft.PromptTuningConfig
        if facts.by_mean:
            pooling.by_mean(model)
        made = wrap(model, kind("FEATURE_EXTRACTION", num_virtual_tokens=facts.tokens))
        encoder: Any = made.prompt_encoder
        encoder["default"].embedding.load_state_dict({"weight": tokens})
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise _unfit(place, error) from error
    return made


def wrap(model: Any, config: Any) -> Any:
    """Return a model that peft gives made-up tokens; it takes types of tokens, and ignores them."""
    import peft

    made = peft.get_peft_model(model, config)
    made.register_forward_pre_hook(_without_types, with_kwargs=True)
    return made


def _without_types(_: Any, given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Leave out what made-up tokens have not, of which peft warns each time."""
    return given, {name: of for name, of in named.items() if name != "token_type_ids"}
