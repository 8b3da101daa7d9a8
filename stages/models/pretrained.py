"""Make a folder that transformers reads out of foreign weights.

Every tensor is put in its place and saved as safetensors.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import extract, one_line


def locate(folder: Path, file: str) -> Path:
    """Return the foreign file of a source.

    Raises ModelError if the source brought no file of that name.
    """
    path = folder / file
    if not path.is_file():
        held = (
            ", ".join(
                sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
            )
            or "nothing"
        )
        raise ModelError(
            f"{extract(file)}: the source brought no such file (it brought: {one_line(held, 300)});"
            " mend `format.file` or what `origin` takes"
        )
    return path


def build(
    kind: Any, config: Any, weights: Mapping[str, Any], called: Callable[[str], str], file: str
) -> Any:
    """Return a model of a transformers class with all of these weights and no others.

    The model is ready to predict. called gives the file's name for a tensor of the model. Raises
    ModelError, which names tensors that are missing, unexpected, or of another shape or dtype.
    """
    import torch

    # The weights that the model draws are replaced, and must not shift the draws of others.
    with torch.random.fork_rng(devices=[]):
        model = kind(config)
    own = model.state_dict()
    if faults := _faults({called(name): tensor for name, tensor in own.items()}, weights):
        raise ModelError(
            f"{extract(file)}: its tensors are not those of {kind.__name__}: {faults}; check that "
            "`format` is that of this file"
        )
    model.load_state_dict({name: weights[called(name)] for name in own})
    return model.eval()


def _faults(wanted: Mapping[str, Any], weights: Mapping[str, Any]) -> str:
    """Say in which tensors weights differ from those that are wanted; nothing if in none."""
    faults = {
        "missing": wanted.keys() - weights.keys(),
        "unexpected": weights.keys() - wanted.keys(),
        "of another shape or dtype": {
            name
            for name in wanted.keys() & weights.keys()
            if (wanted[name].shape, wanted[name].dtype)
            != (weights[name].shape, weights[name].dtype)
        },
    }
    return ", ".join(
        f"{len(names)} {fault} ({_first(names)})" for fault, names in faults.items() if names
    )


def save(model: Any, folder: Path) -> None:
    """Write config.json and model.safetensors."""
    from transformers import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()


def _first(names: Iterable[str]) -> str:
    first, *others = sorted(names)
    return extract(first) + (", ..." if others else "")
