"""Scores test rows with models that cost little: what a fine-tuned model must beat, or not fall behind, to be worth its price."""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.checks.activations import Base
from stages.contract.params import Baseline, Majority, ProbeLogistic
from stages.judging import cheap
from stages.judging.cheap import Array


@dataclass(frozen=True)
class Scored:
    """A baseline's label for each test row, and what it costs."""

    predicted: Array
    milliseconds: float
    """a row, all in one batch, from x to label"""
    megabytes: float
    """that it keeps: its numbers and words, and the base model if it needs one (1,000,000 bytes)"""


def known(train: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Return what a baseline learns from: the originals of train, and validation, as it tunes nothing on it."""
    return pd.concat([train[train["id"] == train["source_id"]], validation], ignore_index=True)


def score(baseline: Baseline, train: pd.DataFrame, y: "pd.Series[str]", test: pd.DataFrame, base: Base) -> Scored:
    """Fit on train (manifest rows and their labels y) and score test."""
    if isinstance(baseline, Majority):
        return Scored(np.full(len(test), y.mode().iloc[0], dtype=object), 0.0, 0.0)

    def seen(rows: pd.DataFrame) -> Array:
        return base.embed(rows) if isinstance(baseline, ProbeLogistic) else cheap.features(baseline, rows["x"])

    if isinstance(baseline, ProbeLogistic):
        train = train.sort_values("id").head(baseline.max_rows)  # ids are hashes: their order is a draw
    fitted = cheap.fit(baseline, seen(train), y[train.index])
    began = time.perf_counter()
    best = cheap.logits(fitted, seen(test)).argmax(axis=1)
    took = time.perf_counter() - began
    size = sum(of.nbytes for of in fitted.numbers.values()) + sum(len(word.encode()) for word in fitted.vocabulary)
    size += base.bytes() if isinstance(baseline, ProbeLogistic) else 0
    return Scored(np.array(fitted.labels, dtype=object)[best], 1000 * took / len(test), size / 1e6)
