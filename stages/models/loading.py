"""Load the model of a folder with the head that a problem asks for.

Only safetensors are loaded, and no code of the folder is run.
"""

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import extract, one_line
from stages.contract.problem import Problem
from stages.models import adapters, device, pooling

CLASSIFIERS = {  # modality: the class of transformers with one output for each label, or one
    "text": "AutoModelForSequenceClassification",
    "image": "AutoModelForImageClassification",
    "audio": "AutoModelForAudioClassification",
}


def load(
    of_y: Problem, folder: Path, modality: str, labels: list[str], new_head: bool
) -> tuple[Any, frozenset[str]]:
    """Load the model of a folder in float32, with a head for a problem and its labels.

    Only safetensors are loaded. With new_head the head may be missing or of another shape, and so
    may the pooler, which many base models come without: the parameters of both are returned as new.
    Any other weight that the folder lacks would be random, and is refused. If a base model says
    that it was trained on the mean over tokens, or if nothing in it was trained on the first
    token's state (it has no pooler), the new head of a BERT sees the mean.
    """
    import transformers

    transformers.logging.set_verbosity_error()  # a new head needs no warning
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    _require_files(folder)
    _require_own_code(folder)
    if new_head and adapters.is_in(folder):
        raise ModelError(
            f"{folder}: has made-up tokens, which no other task can begin with; take a version "
            "that was tuned in another way"
        )
    model, lacking = _loaded(of_y, folder, modality, dict(enumerate(labels)) or {0: "value"})
    new = set[str]()
    if new_head:
        new = _renewed(model, lacking)
        if pooling.fits(model) and (
            pooling.is_stated(folder) or any("pooler" in name for name in lacking)
        ):
            pooling.by_mean(model)
        lacking -= new
    elif adapters.sees_mean(folder):
        lacking = {name for name in lacking if "pooler" not in name}
    if lacking:
        raise ModelError(
            f"{folder}: {len(lacking)} weights are missing or misshapen (first: {min(lacking)}); "
            "they would be random, bring a whole model"
        )
    if adapters.is_in(folder):
        model = adapters.load(model, folder)
    return model, frozenset(new & {name for name, _ in model.named_parameters()})


def _require_files(folder: Path) -> None:
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        held = (
            ", ".join(sorted(extract(p.name) for p in folder.iterdir())[:10])
            if folder.is_dir()
            else "no such folder"
        )
        raise ModelError(
            f"{folder}: needs config.json and *.safetensors (found: {held}); a pickled model is "
            "never opened, convert it with transformers' save_pretrained where you trust it"
        )


def _loaded(
    of_y: Problem, folder: Path, modality: str, names: dict[int, str]
) -> tuple[Any, set[str]]:
    """Return the model with an output for each name, and the weights that the folder lacks."""
    import torch
    import transformers

    head = of_y.HEADS.get(modality)
    if head is None:
        raise ModelError(
            f"problem: there is no head of it for the modality {modality}; it has one for "
            f"{', '.join(of_y.HEADS)}"
        )
    try:
        model, report = getattr(transformers, head).from_pretrained(
            folder,
            num_labels=len(names),
            id2label=names,
            label2id={name: i for i, name in names.items()},
            # Else transformers would read the outputs of a base for another problem as that one's.
            problem_type=of_y.KIND,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:
        # Anybody may have written the configuration: transformers and its kin raise any type on it.
        raise ModelError(
            f"{folder}: transformers cannot load it as {head} ({one_line(error, 300)}); check its "
            "files"
        ) from error
    return model, {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}


def _renewed(model: Any, lacking: set[str]) -> set[str]:
    """Draw the head anew where the folder has one, and return the names of what is new."""
    outputs = _outputs(model)
    beside = {
        name
        for name in model.state_dict()
        if model.base_model is not model and not name.startswith(f"{model.base_model_prefix}.")
    }
    # The folder's own head has as many labels, but they are not these labels.
    for name in {name.rpartition(".")[0] for name in outputs - lacking}:
        model.get_submodule(name).reset_parameters()
    return outputs | {name for name in lacking if name in beside or "pooler" in name}


def _require_own_code(folder: Path) -> None:
    """Raise ModelError if a configuration makes transformers fetch code.

    The code is a kernel of the hub that replaces the model's own attention.
    """
    try:
        document = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{folder}/config.json: {one_line(error, 200)}; bring the base model's own"
        ) from None
    for key, value in _values(document):
        if key.endswith("attn_implementation") and "/" in str(value):
            raise ModelError(
                f"{folder}/config.json: {key} names foreign code, {extract(value)}, which is never "
                "run; take that line out"
            )


def _values(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a JSON document and of the objects in it."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield str(key), value
            yield from _values(value)


def _outputs(model: Any) -> set[str]:
    """Return the names of the parameters that depend on the number of labels.

    They are the last layer, whatever an architecture calls it.
    """
    import torch

    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.device("meta"):
        another = type(model)(config).state_dict()
    return {
        name for name, value in model.state_dict().items() if value.shape != another[name].shape
    }


def save(model: Any, folder: Path) -> None:
    """Write a model as transformers' own classes compute it, or with the tokens it was given."""
    if adapters.wrapped(model):
        adapters.save(model, folder)
    else:
        pooling.plain(model).save_pretrained(folder)


def ready(of_y: Problem, folder: Path, modality: str, labels: list[str], memory_format: str) -> Any:
    """Return the model of a folder on its device, in evaluation mode."""
    import torch

    model, _ = load(of_y, folder, modality, labels, new_head=False)
    return model.eval().to(device.find(), memory_format=getattr(torch, memory_format))


def empty(of_y: Problem, folder: Path, modality: str, labels: list[str]) -> Any:
    """Return a model by the configuration of a folder alone; its weights are random."""
    import transformers

    _require_own_code(folder)
    head = {"num_labels": len(labels) or 1, "problem_type": of_y.KIND}
    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, **head, local_files_only=True, trust_remote_code=False
        )
        kind: Any = getattr(transformers, of_y.HEADS[modality])
        return kind.from_config(config, trust_remote_code=False)
    except Exception as error:
        # Anybody may have written the configuration: transformers and its kin raise any type on it.
        raise ModelError(
            f"{folder}: transformers makes no model of it ({one_line(error, 300)}); check its files"
        ) from error
