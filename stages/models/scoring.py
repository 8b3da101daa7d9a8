"""Scores rows with a model folder that finetune wrote: the candidate's and the champion's in one and the same way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import plugins, receipts
from stages.contract.errors import ModelError
from stages.contract.plugins import Encoded, Modality, Problem
from stages.contract.progress import Progress
from stages.models import cheap, device, loading
from stages.params.compute import Compute

WINDOW = 16_384  # rows that are encoded at a time: what a tokenizer returns takes a hundred times the memory of a text


@dataclass(frozen=True)
class Scorer:
    """A model that finetune wrote, loaded and on its device; its own settings hold, not today's."""

    card: dict[str, Any]
    """model.json"""
    of_x: Modality
    of_y: Problem
    model: Any
    processor: Any
    settings: Any
    """of the modality, with which x is encoded"""
    compute: Compute

    def encode(self, samples: pd.DataFrame) -> Encoded:
        """Return the model's inputs for each sample."""
        return self.of_x.encoding.encode(samples, self.processor, self.settings)

    def decode(self, outputs: "np.ndarray[Any, Any]", samples: pd.DataFrame) -> pd.DataFrame:
        """Return predicted and confidence of the samples (same index) that the outputs are of."""
        return self.of_y.decode(outputs, self.card["labels"]).set_index(samples.index)


def load(folder: Path, compute: Compute, sha256: str | None = None) -> Scorer:
    """Load folder/model.json and folder/model.

    Its bytes are verified first, against sha256 where the caller knows it (a registry's files can be written over); only
    safetensors are loaded and no code of the folder is run.
    """
    return _loaded(folder, verified(folder, sha256), compute)


def _loaded(folder: Path, card: dict[str, Any], compute: Compute) -> Scorer:
    """Load a folder whose bytes are verified; card is its model.json."""
    import torch

    on = device.set_up(compute)
    of_x, of_y = plugins.modality(card["modality"]["name"]), plugins.problem(card["problem"])
    model = loading.load(
        of_y, folder / "model", card["modality"]["name"], card["labels"], new_head=False
    )[0].eval()
    model = model.to(on, memory_format=getattr(torch, compute.memory_format))
    return Scorer(
        card,
        of_x,
        of_y,
        model,
        of_x.encoding.processor(folder / "model"),
        plugins.settings(card["modality"]),
        compute,
    )


def outputs(
    scorer: Scorer,
    encoded: Encoded,
    progress: Callable[[int], None] | None = None,
    *,
    averaged: bool = True,
) -> "np.ndarray[Any, Any]":
    """Return what the model says of encoded rows (rows, outputs), float32: the mean over its views, or, not averaged, of the first view alone.

    progress is called after each batch with the number of its rows.
    """
    import torch

    of_x, settings, compute = scorer.of_x, scorer.settings, scorer.compute
    found = np.empty((len(encoded), plugins.outputs(scorer.card["labels"])), dtype=np.float32)
    with torch.no_grad():  # not inference_mode: what a model keeps of it (BEiT its relative positions) would let no gradient pass later
        for batch, inputs in device.batches(
            encoded,
            of_x.encoding.lengths(encoded),
            of_x.encoding.collate(scorer.processor),
            compute.batch_size,
        ):
            with device.arithmetic(compute):
                views = of_x.encoding.views(inputs, settings) if averaged else [inputs]
                if (
                    len(views) * len(batch) <= compute.batch_size
                ):  # four views of one row together take half the time of one after the other
                    together = {name: torch.cat([view[name] for view in views]) for name in inputs}
                    seen = scorer.model(**together).logits.float().chunk(len(views))
                else:
                    seen = [scorer.model(**view).logits.float() for view in views]
            found[batch] = torch.stack(tuple(seen)).mean(dim=0).cpu().numpy()
            if progress:
                progress(len(batch))
    return found


def score(
    scorer: Scorer, samples: pd.DataFrame, progress: Callable[[int], None] | None = None
) -> "np.ndarray[Any, Any]":
    """Return the outputs (rows, outputs) of samples, which are encoded a window at a time; progress takes the place of the lines that long work prints."""
    found = np.empty((len(samples), plugins.outputs(scorer.card["labels"])), dtype=np.float32)
    with Progress("score", len(samples)) as going:
        for start in range(0, len(samples), WINDOW):
            found[start : start + WINDOW] = outputs(
                scorer,
                scorer.encode(samples.iloc[start : start + WINDOW]),
                progress or going.advance,
            )
    return found


def predict(
    folder: Path,
    samples: pd.DataFrame,
    compute: Compute,
    sha256: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Return predicted and confidence for each sample (same index), as load and score do it; a cheap model's where the folder holds one."""
    card = verified(folder, sha256)
    if "baseline" in card:
        return (
            plugins.problem(card["problem"])
            .decode(cheap.score(folder, card, samples["x"]), card["labels"])
            .set_index(samples.index)
        )
    scorer = _loaded(folder, card, compute)
    return scorer.decode(score(scorer, samples, progress), samples)


def identity(folder: Path) -> str:
    """Return the sha256 by which a model is known: of its files, and of model.json, which says how to read them."""
    return receipts.digest(receipts.files(folder, ["model", "model.json"]))


def verified(folder: Path, sha256: str | None = None) -> dict[str, Any]:
    """Return model.json; raises ModelError unless the bytes are those of sha256, or, without it, those model.json names."""
    card, right = {}, False
    try:
        card = receipts.read_json(folder / "model.json")
        whole = (
            receipts.digest(receipts.files(folder, ["model"])) == card["sha256"]
            if sha256 is None
            else identity(folder) == sha256
        )
        plugins.settings(card["modality"])
        right = whole and isinstance(card["task"], str) and isinstance(card["labels"], list)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        pass  # a file is gone, or model.json is none of finetune's: not those bytes either
    if not right:
        raise ModelError(
            f"{folder}: the model's bytes are not those that were registered or written; fetch or train it anew"
        )
    return card
