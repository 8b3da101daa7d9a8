"""Measures a model on slices of the test rows, to find where it is weak."""

import json
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import plugins
from stages.contract.escape import extract
from stages.contract.metrics import Metric
from stages.contract.problem import Problem
from stages.judging import evidence, statistics
from stages.judging.report import Slice
from stages.params.evaluate import Slicing


def columns(features: pd.DataFrame, meta: "pd.Series[str]", settings: Slicing) -> pd.DataFrame:
    """Return a column for each way to slice the rows (same index), null where a row is in no slice.

    The ways are the features and the columns of meta, JSON with the user's other columns.
    """
    others = pd.DataFrame(index=meta.index)
    if len(meta):
        others = pd.json_normalize([json.loads(row) for row in meta], max_level=0)
        others = others.set_axis(meta.index).add_prefix("meta.")
    candidates = features.join(others)
    slices = {str(name): _slices(column, settings) for name, column in candidates.items()}
    kept = {name: column for name, column in slices.items() if column is not None}
    return pd.DataFrame(kept, index=meta.index)


def measure(
    sliced: pd.DataFrame,
    of_y: Problem,
    y: "pd.Series[Any]",
    predicted: "pd.Series[Any]",
    metric: Metric,
    settings: Slicing,
    confidence: float,
) -> list[Slice]:
    """Return the slices, the weakest first.

    The intervals hold together: each has the confidence that all of them hold with the one that
    is asked (Bonferroni).
    """
    small = of_y.METRICS[of_y.OF_SLICES]
    sign = -1 if small.less else 1
    overall = evidence.score(small.tally(y, predicted, plugins.labels(of_y, y)), small)
    groups = [
        (str(name), value, rows)
        for name, column in sliced.items()
        for value, rows in column.groupby(column).groups.items()
        if len(rows) >= settings.min_rows
    ]
    measured = list[Slice]()
    for name, value, rows in groups:
        labels = plugins.labels(of_y, y[rows])
        scored, by_row = (kind.tally(y[rows], predicted[rows], labels) for kind in (metric, small))
        interval = evidence.intervals(by_row, small, alpha=(1 - confidence) / len(groups)).score
        best = max(sign * interval.low, sign * interval.high)
        score = evidence.score(scored, metric)
        weak = best < sign * overall
        measured.append(Slice(name, extract(value), len(rows), score, interval, weak))
    return sorted(measured, key=lambda one: (sign * one.interval.value, one.column, one.slice))


def _slices(column: "pd.Series[Any]", settings: Slicing) -> "pd.Series[Any] | None":
    """Return each row's slice: its value if there are few, a range if there are many numbers."""
    words = column.map(lambda value: None if value is None or value != value else str(value))
    if 1 < words.nunique() <= settings.max_values:
        return words
    numbers = pd.to_numeric(words, errors="coerce")
    if (
        numbers[np.isfinite(numbers)].nunique() > settings.max_values
        and np.isfinite(numbers[words.notna()]).all()
    ):
        return _ranges(numbers, settings.bins)
    return None  # a name or an address: too many values, and no numbers


def _ranges(numbers: "pd.Series[float]", bins: int) -> "pd.Series[Any]":
    """Return the range of each number: about equally many rows in each, equal numbers in one."""
    place = statistics.in_bins(numbers, bins)
    ranges = {i: f"{part.min():.4g} to {part.max():.4g}" for i, part in numbers.groupby(place)}
    return place.map(ranges)
