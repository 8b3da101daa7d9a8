"""Score rows with a model folder that export wrote.

The candidate and the champion are scored in the same way.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import plugins, receipts
from stages.contract.errors import ModelError
from stages.contract.learning import Encoded, Inputs
from stages.contract.modality import Modality
from stages.contract.problem import Problem
from stages.contract.progress import Progress
from stages.models import cheap, device, saved
from stages.models.saved import Saved
from stages.params.compute import Compute

# Rows encoded at a time: what a tokenizer returns takes a hundred times the memory of a text.
WINDOW = 16_384
LIBRARIES = ("torch", "transformers.modeling_utils", "transformers.processing_utils")


def import_libraries() -> None:
    """Import what loading a model takes seconds to import."""
    for library in LIBRARIES:
        import_module(library)


@dataclass(frozen=True)
class Scorer:
    """A model in the form that export gave it; its own settings apply, not today's."""

    saved: Saved
    of_x: Modality
    of_y: Problem
    model: Any
    processor: Any
    settings: Any
    """the settings of the modality, with which x is encoded"""
    compute: Compute

    def encode(self, samples: pd.DataFrame) -> Encoded:
        """Return the model's inputs for each sample."""
        return self.of_x.encoding.encode(samples, self.processor, self.settings)

    def decode(self, outputs: "np.ndarray[Any, Any]", samples: pd.DataFrame) -> pd.DataFrame:
        """Return predicted and confidence (same index) of the samples that have these outputs."""
        return self.of_y.decode(outputs, self.saved.labels).set_index(samples.index)


def load(folder: Path, compute: Compute, sha256: str | None = None) -> Scorer:
    """Load folder/model.json and folder/model.

    The bytes are verified first, against sha256 if the caller knows it (a registry's files can be
    overwritten); only safetensors are loaded, and no code of the folder is run.
    """
    return _loaded(folder, verified(folder, sha256), compute)


def _loaded(folder: Path, described: Saved, compute: Compute) -> Scorer:
    """Load a folder whose bytes are verified."""
    device.set_up(compute)
    name, of_y = described.modality["name"], plugins.problem(described.problem)
    of_x = plugins.modality(name)
    form = plugins.export(described.form)
    model = form.load(of_y, folder / "model", name, described.labels, compute)
    processor = of_x.encoding.processor(folder / "model")
    settings = plugins.settings(described.modality)
    return Scorer(described, of_x, of_y, model, processor, settings, compute)


def outputs(
    scorer: Scorer,
    encoded: Encoded,
    progress: Callable[[int], None] | None = None,
    *,
    averaged: bool = True,
) -> "np.ndarray[Any, Any]":
    """Return the model's outputs for encoded rows (rows, outputs), float32.

    They are the mean over its views or, unless averaged, those of the first view alone. progress is
    called after each batch with the number of its rows.
    """
    import torch

    encoding, compute = scorer.of_x.encoding, scorer.compute
    lengths, collate = encoding.lengths(encoded), encoding.collate(scorer.processor)
    scores = np.empty((len(encoded), plugins.outputs(scorer.saved.labels)), dtype=np.float32)
    # Not inference_mode: what a model keeps of it (BEiT its relative positions) would let no
    # gradient pass later.
    with torch.no_grad():
        for batch, inputs in device.batches(encoded, lengths, collate, compute.batch_size):
            with device.arithmetic(compute):
                views = encoding.views(inputs, scorer.settings) if averaged else [inputs]
                seen = _seen(scorer, views, len(batch))
            scores[batch] = torch.stack(seen).mean(dim=0).cpu().numpy()
            if progress:
                progress(len(batch))
    return scores


def _seen(scorer: Scorer, views: list[Inputs], rows: int) -> tuple[Any, ...]:
    """Return the outputs of each view of a batch."""
    import torch

    # Four views of one row together take half the time of one after the other.
    if len(views) * rows <= scorer.compute.batch_size:
        together = {name: torch.cat([view[name] for view in views]) for name in views[0]}
        return scorer.model(**together).logits.float().chunk(len(views))
    return tuple(scorer.model(**view).logits.float() for view in views)


def score(
    scorer: Scorer, samples: pd.DataFrame, progress: Callable[[int], None] | None = None
) -> "np.ndarray[Any, Any]":
    """Return the outputs (rows, outputs) of samples, which are encoded a window at a time.

    progress replaces the lines that long work prints.
    """
    scores = np.empty((len(samples), plugins.outputs(scorer.saved.labels)), dtype=np.float32)
    with Progress("score", len(samples)) as going:
        for start in range(0, len(samples), WINDOW):
            scores[start : start + WINDOW] = outputs(
                scorer,
                scorer.encode(samples.iloc[start : start + WINDOW]),
                progress or going.advance,
            )
    return scores


@dataclass(frozen=True)
class Opened:
    """A model that predicts: one that was fine-tuned, or a cheap one."""

    saved: Saved
    of_y: Problem
    score: Callable[[pd.DataFrame, Callable[[int], None] | None], "np.ndarray[Any, Any]"]
    """samples, and what is told the number of rows of each batch -> outputs (rows, outputs)"""

    def predict(
        self,
        samples: pd.DataFrame,
        progress: Callable[[int], None] | None = None,
        probabilities: bool = False,
    ) -> pd.DataFrame:
        """Return predicted and confidence for each sample (same index).

        With probabilities, a column `probability LABEL` for each label follows.
        """
        outputs, labels = self.score(samples, progress), self.saved.labels
        decoded = self.of_y.decode(outputs, labels).set_index(samples.index)
        if not probabilities or not labels:
            return decoded
        values = self.of_y.probabilities(outputs)
        return decoded.join(pd.DataFrame(values, samples.index, likely(labels)))


def likely(labels: list[str]) -> list[str]:
    """Return the names of the columns of probabilities."""
    return [f"probability {label}" for label in labels]


def opened(folder: Path, described: Saved, compute: Compute) -> Opened:
    """Load the model of a folder whose bytes are verified, whatever kind of model it is."""
    of_y = plugins.problem(described.problem)
    if described.baseline:
        fitted = cheap.load(folder, described)
        return Opened(described, of_y, lambda samples, _: cheap.score(fitted, samples["x"]))
    scorer = _loaded(folder, described, compute)
    return Opened(described, of_y, lambda samples, progress: score(scorer, samples, progress))


def predict(
    folder: Path,
    samples: pd.DataFrame,
    compute: Compute,
    sha256: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Return predicted and confidence for each sample (same index).

    The bytes are verified first.
    """
    return opened(folder, verified(folder, sha256), compute).predict(samples, progress)


def identity(folder: Path) -> str:
    """Return the sha256 by which a model is known.

    It covers the model's files and model.json, which says how to read them.
    """
    return receipts.digest(receipts.files(folder, ["model", "model.json"]))


def verified(folder: Path, sha256: str | None = None) -> Saved:
    """Return model.json after the folder's bytes are verified.

    Raises ModelError unless the bytes are those of sha256 or, without it, those that model.json
    names.
    """
    # A file is gone, or model.json is none: the bytes differ too.
    with suppress(FileNotFoundError, ValueError, LookupError, TypeError):
        described = saved.read(folder / "model.json")
        plugins.settings(described.modality)
        if sha256 is None:
            whole = receipts.digest(receipts.files(folder, ["model"])) == described.sha256
        else:
            whole = identity(folder) == sha256
        if whole:
            return described
    raise ModelError(
        f"{folder}: the model's bytes are not those that were registered or written; fetch or "
        "train it anew"
    )
