"""Loads a model of a folder with the head that a problem asks for: safetensors alone, and no code of the folder's."""

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import extract, one_line
from stages.contract.plugins import Problem
from stages.models import pooling

CLASSIFIERS = {  # modality: the class of transformers that has one output a label, or one
    "text": "AutoModelForSequenceClassification",
    "image": "AutoModelForImageClassification",
    "audio": "AutoModelForAudioClassification",
}


def load(
    of_y: Problem, folder: Path, modality: str, labels: list[str], new_head: bool
) -> tuple[Any, frozenset[str]]:
    """Load the model of a folder, in float32 and from safetensors only, with a head for a problem and its labels.

    With new_head the head may be missing or of another shape, and so may the pooler, which many base models come
    without: the parameters of both are returned as new. Any other weight that the folder lacks would be random, and is refused. Where a base model
    says that it was trained on the mean over tokens, or where nothing in it was trained on the first one's state (it has no
    pooler), the new head of a BERT sees the mean.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # a new head is no news
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        held = (
            ", ".join(sorted(extract(p.name) for p in folder.iterdir())[:10])
            if folder.is_dir()
            else "no such folder"
        )
        raise ModelError(
            f"{folder}: needs config.json and *.safetensors (holds: {held}); a pickled model is never opened, "
            "convert it with transformers' save_pretrained where you trust it"
        )
    _require_own_code(folder)
    names, head = dict(enumerate(labels)) or {0: "value"}, of_y.HEADS.get(modality)
    if head is None:
        raise ModelError(
            f"problem: there is no head of it for the modality {modality}; it has one for {', '.join(of_y.HEADS)}"
        )
    try:
        model, report = getattr(transformers, head).from_pretrained(
            folder,
            num_labels=len(names),
            id2label=names,
            label2id={name: i for i, name in names.items()},
            problem_type=of_y.KIND,  # or transformers would read the outputs of a base for another problem as it read those
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:  # a configuration of anybody's: transformers and its kin raise errors of any type on it
        raise ModelError(
            f"{folder}: transformers cannot load it as {head} ({one_line(error, 300)}); check its files"
        ) from error
    lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    new = set[str]()
    if new_head:
        outputs = _outputs(model)
        beside = {
            name
            for name in model.state_dict()
            if model.base_model is not model and not name.startswith(f"{model.base_model_prefix}.")
        }
        new = outputs | {name for name in lacking if name in beside or "pooler" in name}
        for name in {
            name.rpartition(".")[0] for name in outputs - lacking
        }:  # the folder's own, of as many labels: they are not these
            model.get_submodule(name).reset_parameters()
        if pooling.fits(model) and (
            pooling.is_stated(folder) or any("pooler" in name for name in lacking)
        ):
            pooling.by_mean(model)
        lacking -= new
    if lacking:
        raise ModelError(
            f"{folder}: {len(lacking)} weights are missing or misshapen (first: {min(lacking)}); they would be random, bring a whole model"
        )
    return model, frozenset(new & {name for name, _ in model.named_parameters()})


def _require_own_code(folder: Path) -> None:
    """Raise ModelError for a configuration that makes transformers fetch code: a kernel of the hub in place of its own attention."""
    try:
        document = json.loads((folder / "config.json").read_text("utf-8"))
    except ValueError as error:
        raise ModelError(
            f"{folder}/config.json: {one_line(error, 200)}; bring the base model's own"
        ) from None
    named = [
        of
        for of in _values(document)
        if of[0].endswith("attn_implementation") and "/" in str(of[1])
    ]
    if named:
        raise ModelError(
            f"{folder}/config.json: {named[0][0]} names foreign code, {extract(named[0][1])}, which is never run; take that line out"
        )


def _values(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a JSON document, those of the objects in it too."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield str(key), value
            yield from _values(value)


def _outputs(model: Any) -> set[str]:
    """Return the names of the parameters that depend on how many labels there are: the last layer, whatever an architecture calls it."""
    import torch

    config = copy.deepcopy(model.config)
    config.num_labels += 1
    with torch.device("meta"):
        another = type(model)(config).state_dict()
    return {
        name for name, value in model.state_dict().items() if value.shape != another[name].shape
    }


def plain(model: Any) -> Any:
    """Return a model that load gave as it is saved: computed by transformers' own classes alone."""
    return pooling.plain(model)
