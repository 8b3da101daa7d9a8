"""Scores test rows with models that cost little: what a fine-tuned model must beat, or not fall behind, to be worth its price."""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.contract.params import Baseline, Majority, ProbeLogistic
from stages.models import cheap, linear
from stages.models.activations import Base
from stages.models.cheap import Array


@dataclass(frozen=True)
class Scored:
    """A baseline's label for each test row, and what it costs."""

    predicted: Array
    milliseconds: float
    """a row, all in one batch, from x to label"""
    megabytes: float
    """that it keeps: its numbers and words, and the base model if it needs one (1,000,000 bytes)"""


def known(train: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Return what a baseline learns from: the originals of train, and validation, which the column held marks."""
    return pd.concat([train[train["id"] == train["source_id"]].assign(held=False), validation.assign(held=True)], ignore_index=True)


def learn_probe(baseline: ProbeLogistic, known: pd.DataFrame, y: "pd.Series[str]", base: Base) -> linear.Solved:
    """Fit a head on what the frozen base model says of known rows and their labels y, max_rows of them at most; C is chosen as finetune does."""
    known = known.sort_values("id").head(baseline.max_rows).sort_index()  # ids are hashes: their order is a draw
    features, labels, held = base.features(known), y[known.index].to_numpy(), known["held"].to_numpy()
    return linear.solve(features, labels, linear.choose(features[~held], labels[~held], features[held], labels[held], baseline.c))


def score(baseline: Baseline, known: pd.DataFrame, y: "pd.Series[str]", test: pd.DataFrame, base: Base) -> Scored:
    """Fit on known rows and their labels y and score test."""
    if isinstance(baseline, Majority):
        return Scored(np.full(len(test), y.mode().iloc[0], dtype=object), 0.0, 0.0)
    if isinstance(baseline, ProbeLogistic):
        head = learn_probe(baseline, known, y, base)
        labels, size = head.labels, head.weights.nbytes + head.bias.nbytes + base.bytes()
        began = time.perf_counter()
        logits = head.logits(base.features(test))
    else:
        fitted = cheap.fit(baseline, cheap.features(baseline, known["x"]), y)
        labels = fitted.labels
        size = sum(of.nbytes for of in fitted.numbers.values()) + sum(len(word.encode()) for word in fitted.vocabulary)
        began = time.perf_counter()
        logits = cheap.logits(fitted, cheap.features(baseline, test["x"]))
    best = logits.argmax(axis=1)
    took = time.perf_counter() - began
    return Scored(np.array(labels, dtype=object)[best], 1000 * took / len(test), size / 1e6)
