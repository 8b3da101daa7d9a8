"""Scores test rows with models that cost little: what a fine-tuned model must beat, or not fall behind, to be worth its price."""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.contract import plugins
from stages.contract.plugins import Problem
from stages.models import cheap, linear
from stages.models.activations import Base
from stages.models.cheap import Array
from stages.params.evaluate import Baseline, Linear, Majority, ProbeLogistic


@dataclass(frozen=True)
class Scored:
    """A baseline's value for each test row, and what it costs."""

    predicted: Array
    milliseconds: float
    """a row, all in one batch, from x to value"""
    megabytes: float
    """that it keeps: its numbers and words, and the base model if it needs one (1,000,000 bytes)"""


def known(train: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Return what a baseline learns from: the originals of train, and validation, which the column held marks."""
    return pd.concat(
        [train[train["id"] == train["source_id"]].assign(held=False), validation.assign(held=True)],
        ignore_index=True,
    )


@dataclass(frozen=True)
class Probe:
    """A head on the frozen base model, and the labels that its outputs stand for."""

    head: linear.Solved
    labels: list[str]


def learn_probe(baseline: ProbeLogistic, known: pd.DataFrame, base: Base) -> Probe:
    """Fit a head on what the frozen base model says of known rows, max_rows of them at most; C is chosen as finetune does."""
    known, of_y = (
        known.sort_values("id").head(baseline.max_rows).sort_index(),
        base.of_y,
    )  # ids are hashes: their order is a draw
    labels = plugins.labels(of_y, of_y.values(known["y"]))
    features, targets, held = (
        base.features(known),
        linear.array(of_y.targets(known["y"], labels)),
        known["held"].to_numpy(),
    )
    outputs = plugins.outputs(labels)
    c = linear.choose(
        of_y, features[~held], targets[~held], features[held], targets[held], outputs, baseline.c
    )
    return Probe(linear.solve(of_y, features, targets, outputs, c), labels)


def learn_cheap(baseline: Linear, known: pd.DataFrame, of_y: Problem) -> cheap.Fitted:
    """Fit a cheap model on known rows."""
    labels = plugins.labels(of_y, of_y.values(known["y"]))
    return cheap.fit(
        baseline,
        of_y,
        cheap.features(baseline, known["x"]),
        linear.array(of_y.targets(known["y"], labels)),
        labels,
    )


def score(baseline: Baseline, known: pd.DataFrame, test: pd.DataFrame, base: Base) -> Scored:
    """Fit on known rows and score test."""
    of_y = base.of_y
    if isinstance(baseline, Majority):
        best = of_y.constant(of_y.values(known["y"]))
        return Scored(
            np.full(len(test), best, dtype=object if isinstance(best, str) else float), 0.0, 0.0
        )
    if isinstance(baseline, ProbeLogistic):
        probe = learn_probe(baseline, known, base)
        labels, size = (
            probe.labels,
            probe.head.weights.nbytes + probe.head.bias.nbytes + base.bytes(),
        )
        began = time.perf_counter()
        outputs = probe.head.outputs(base.features(test))
    else:
        fitted = learn_cheap(baseline, known, of_y)
        labels = fitted.labels
        size = sum(of.nbytes for of in fitted.numbers.values()) + sum(
            len(word.encode()) for word in fitted.vocabulary
        )
        began = time.perf_counter()
        outputs = cheap.outputs(fitted, cheap.features(baseline, test["x"]))
    predicted = of_y.decode(outputs, labels)["predicted"].to_numpy()
    took = time.perf_counter() - began
    return Scored(predicted, 1000 * took / len(test), size / 1e6)
