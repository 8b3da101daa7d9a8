"""Measures a model on slices of the test rows: where it is weak although it is strong on the whole."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import plugins
from stages.contract.escape import extract
from stages.contract.metrics import Metric
from stages.contract.plugins import Problem
from stages.judging import evidence, statistics
from stages.params.evaluate import Slicing


def columns(features: pd.DataFrame, meta: "pd.Series[str]", settings: Slicing) -> pd.DataFrame:
    """Return by what rows are sliced (same index, a column each, null where a row is in no slice): features, and the columns of meta.

    meta is JSON, as the user's other columns are carried. A column of words that has too many values is left out, as a name or an address.
    """
    others = (
        pd.json_normalize([json.loads(of) for of in meta], max_level=0).set_axis(meta.index)
        if len(meta)
        else pd.DataFrame(index=meta.index)
    )
    sliced = dict[str, "pd.Series[Any]"]()
    for name, column in [*features.items(), *((f"meta.{name}", others[name]) for name in others)]:
        words = column.map(lambda value: None if value is None or value != value else str(value))
        numbers = pd.to_numeric(words, errors="coerce")
        if 1 < words.nunique() <= settings.max_values:
            sliced[str(name)] = words
        elif (
            numbers[np.isfinite(numbers)].nunique() > settings.max_values
            and np.isfinite(numbers[words.notna()]).all()
        ):
            sliced[str(name)] = _ranges(numbers, settings.bins)
    return pd.DataFrame(sliced, index=meta.index)


def measure(
    sliced: pd.DataFrame,
    of_y: Problem,
    y: "pd.Series[Any]",
    predicted: "pd.Series[Any]",
    metric: Metric,
    settings: Slicing,
    confidence: float,
) -> list[dict[str, Any]]:
    """Return a slice each, the weakest first: rows, the metric over the labels there, and the one for a few rows with its interval.

    The intervals hold together: each has the confidence that all of them hold with the one that is asked (Bonferroni). A slice is weak
    where its whole interval is worse than what all rows have.
    """
    found = [
        (str(name), value, rows)
        for name, of in sliced.items()
        for value, rows in of.groupby(of).groups.items()
        if len(rows) >= settings.min_rows
    ]
    small, listed = of_y.METRICS[of_y.OF_SLICES], list[dict[str, Any]]()
    sign, of_all = (
        -1 if small.less else 1,
        evidence.score(small.tally(y, predicted, plugins.labels(of_y, y)), small),
    )
    for name, value, rows in found:
        labels = plugins.labels(of_y, y[rows])
        scored, by_row = (of.tally(y[rows], predicted[rows], labels) for of in (metric, small))
        interval = evidence.intervals(by_row, small, alpha=(1 - confidence) / len(found)).score
        listed.append({
            "column": name,
            "slice": extract(value),
            "rows": len(rows),
            "score": evidence.score(scored, metric),
            "of_rows": asdict(interval),
            "weak": max(sign * interval.low, sign * interval.high) < sign * of_all,
        })  # fmt: skip
    return sorted(listed, key=lambda of: (sign * of["of_rows"]["value"], of["column"], of["slice"]))


def _ranges(numbers: "pd.Series[float]", bins: int) -> "pd.Series[Any]":
    """Return the range in which each number lies: about equally many rows in each, equal numbers in one."""
    place = statistics.in_bins(numbers, bins)
    return place.map({i: f"{of.min():.4g} to {of.max():.4g}" for i, of in numbers.groupby(place)})
