"""Let low-rank updates of linear layers and convolutions learn, and what is new.

This is LoRA (Hu et al. 2021), by peft; merged, the updates make a plain model.
"""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import extract, one_line
from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.methods import batchnorm
from stages.params.finetune import Lora


def prepare(start: Start, learning: Learning, settings: Lora) -> tuple[Any, Learning]:
    """Return a peft model around the base model.

    Updates of the targets learn, and the modules that contain what is new.
    """
    import peft

    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    if isinstance(targets, list):
        _require_layers(start.model, targets)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.dropout,
        target_modules=targets,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        modules_to_save=sorted({name.rpartition(".")[0] for name in start.new}),
    )
    try:
        learner = peft.get_peft_model(start.model, config)
    except ValueError as error:
        raise ModelError(
            f"finetune.tune.targets: {one_line(error, 300)}; name linear layers of the base model, "
            "or all-linear"
        ) from error
    batchnorm.hold_frozen(learner)
    return learner, learning


def _require_layers(model: Any, targets: list[str]) -> None:
    """Raise ModelError if a target names no layer; peft is content if one of them names one."""
    names = [name for name, _ in model.named_modules()]
    unknown = [
        target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)
    ]
    if unknown:
        raise ModelError(
            "finetune.tune.targets: the base model has no layer "
            f"{', '.join(map(extract, unknown))}; name linear layers, or say all-linear"
        )


def finish(learner: Any) -> Any:
    """Return the base model with the updates merged into its weights."""
    return learner.merge_and_unload()
