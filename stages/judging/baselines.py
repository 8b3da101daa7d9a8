"""Scores test rows with models that cost little.

A fine-tuned model must beat them, or not fall behind, to be worth its price.
"""

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.contract import plugins
from stages.contract.problem import Problem
from stages.models import cheap, linear
from stages.models.activations import Base
from stages.models.cheap import Array
from stages.params.evaluate import Baseline, Linear, Majority, ProbeLogistic


@dataclass(frozen=True)
class Scored:
    """A baseline's value for each test row, and its cost."""

    predicted: Array
    milliseconds: float
    """a row, all in one batch, from x to value"""
    megabytes: float
    """to keep: its numbers and words, and the base model if it needs one (1,000,000 bytes)"""


@dataclass(frozen=True)
class Probe:
    """A head on the frozen base model, and the labels of its outputs."""

    head: linear.Solved
    labels: list[str]


def known(train: pd.DataFrame, validation: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that a baseline learns from: the originals of train, and validation.

    The column `held` marks validation.
    """
    originals = train[train["id"] == train["source_id"]]
    return pd.concat(
        [originals.assign(held=False), validation.assign(held=True)], ignore_index=True
    )


def learn_probe(baseline: ProbeLogistic, known: pd.DataFrame, base: Base) -> Probe:
    """Fit a head on the frozen base model's features of known rows, max_rows of them at most.

    C is chosen as finetune chooses it.
    """
    of_y = base.of_y
    drawn = known.sort_values("id").head(baseline.max_rows).sort_index()  # ids are hashes
    labels = plugins.labels(of_y, of_y.values(drawn["y"]))
    features, held = base.features(drawn), drawn["held"].to_numpy()
    targets = linear.array(of_y.targets(drawn["y"], labels))
    outputs = plugins.outputs(labels)
    c = linear.choose(
        of_y, features[~held], targets[~held], features[held], targets[held], outputs, baseline.c
    )
    return Probe(linear.solve(of_y, features, targets, outputs, c), labels)


def learn_cheap(baseline: Linear, known: pd.DataFrame, of_y: Problem) -> cheap.Fitted:
    """Fit a cheap model on known rows."""
    labels = plugins.labels(of_y, of_y.values(known["y"]))
    targets = linear.array(of_y.targets(known["y"], labels))
    return cheap.fit(baseline, of_y, cheap.features(baseline, known["x"]), targets, labels)


def score(baseline: Baseline, known: pd.DataFrame, test: pd.DataFrame, base: Base) -> Scored:
    """Fit on known rows and score test."""
    of_y = base.of_y
    if isinstance(baseline, Majority):
        guess = of_y.constant(of_y.values(known["y"]))
        dtype = object if isinstance(guess, str) else float
        return Scored(np.full(len(test), guess, dtype=dtype), 0.0, 0.0)
    if isinstance(baseline, ProbeLogistic):
        probe = learn_probe(baseline, known, base)
        head, labels = probe.head, probe.labels
        size = head.weights.nbytes + head.bias.nbytes + base.bytes()
        began = time.perf_counter()
        outputs = head.outputs(base.features(test))
    else:
        fitted = learn_cheap(baseline, known, of_y)
        labels = fitted.labels
        size = sum(array.nbytes for array in fitted.numbers.values())
        size += sum(len(word.encode()) for word in fitted.vocabulary)
        began = time.perf_counter()
        outputs = cheap.outputs(fitted, cheap.features(baseline, test["x"]))
    predicted = of_y.decode(outputs, labels)["predicted"].to_numpy()
    took = time.perf_counter() - began
    return Scored(predicted, 1000 * took / len(test), size / 1e6)
