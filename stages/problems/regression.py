"""Regression: y is a number."""

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from stages.contract.escape import extract
from stages.contract.metrics import Metric, Ratio, Tally
from stages.models import loading
from stages.params.problems import Regression

Array = np.ndarray[Any, Any]

ENOUGH = 200  # rows, at least, to say that a model does no better than chance
RANGES = 5  # ranges of equally many rows, for the confusion of numbers
NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)
HEADS = loading.CLASSIFIERS
KIND = "regression"
CONFLICTS = False  # two people may well give one text two ratings


def read(cells: "pd.Series[str]", settings: Regression) -> pd.DataFrame:
    """Return y as a list of its one number, written as Python writes it.

    A cell that is not a number, or is out of range, is set aside.
    """
    good = cells.map(lambda cell: NUMBER.fullmatch(str(cell)) is not None).astype(bool)
    number = cells.where(good, "nan").astype(float)
    good &= np.isfinite(number)
    frame = pd.DataFrame(
        {
            "y": [[repr(value)] for value in number.tolist()],
            "stratum": None,
            "code": None,
            "reason": None,
        },
        cells.index,
        dtype=object,
    )
    frame.loc[~good, "code"] = "no_number"
    frame.loc[~good, "reason"] = [
        f"'{extract(cell)}' is no number; write decimals after a point" for cell in cells[~good]
    ]
    if settings.range is not None:
        least, most = settings.range
        out = good & ~number.between(least, most)
        frame.loc[out, "code"] = "out_of_range"
        frame.loc[out, "reason"] = [
            f"{value:g} is not within {least:g} to {most:g}" for value in number[out]
        ]
    return frame


def values(y: "pd.Series[Any]") -> "pd.Series[float]":
    """Return each row's number."""
    return y.str[0].astype(float)


def borne(values: "pd.Series[Any]") -> "pd.Series[str]":
    """Return nothing: no row bears a label, and the model has one output."""
    return values.iloc[:0].astype("str")


def targets(y: "pd.Series[Any]", labels: list[str]) -> list[float]:  # noqa: ARG001
    """Return each row's number."""
    return values(y).tolist()


def truth(targets: Array, labels: list[str]) -> list[float]:  # noqa: ARG001
    """Return the targets as numbers."""
    return np.asarray(targets, float).tolist()


def decode(outputs: Array, labels: list[str]) -> pd.DataFrame:  # noqa: ARG001
    """Return the number in each row of outputs (rows, 1); its confidence is unknown (NaN)."""
    return pd.DataFrame({"predicted": outputs[:, 0].astype(float), "confidence": np.nan})


def probabilities(outputs: Array) -> Array:
    """Return no column: a number has no probability."""
    return np.empty((len(outputs), 0))


def likelihood(outputs: Array, targets: Array) -> Array:
    """Return the log-likelihood of each target (rows,) under outputs (rows, 1).

    It is minus half the squared error; the terms that all rows share are missing.
    """
    return -0.5 * (outputs[:, 0].astype(float) - targets) ** 2


def fit(
    features: Any,
    targets: Array,
    outputs: int,  # noqa: ARG001
    c: float,
    balanced: bool,  # noqa: ARG001
) -> tuple[Array, Array]:
    """Return weights (1, width) and bias (1) of ridge regression.

    Numbers are scaled to variance one; c is the inverse strength as in logistic regression.
    """
    from sklearn.linear_model import Ridge

    mean, scale = targets.mean(), targets.std() or 1.0
    fitted = Ridge(alpha=1 / (2 * c), random_state=0).fit(features, (targets - mean) / scale)
    return scale * np.asarray(fitted.coef_).reshape(1, -1), np.array(
        [mean + scale * fitted.intercept_]
    )


def constant(values: "pd.Series[Any]") -> float:
    """Return the mean."""
    return float(values.mean())


def measure(
    y: list[float],
    predicted: list[float],
    labels: list[str],  # noqa: ARG001
) -> dict[str, Any]:
    """Return R^2, the mean absolute error and the root of the mean squared error.

    The definitions are scikit-learn's.
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "r2": float(r2_score(y, predicted)),
        "mae": float(mean_absolute_error(y, predicted)),
        "rmse": float(root_mean_squared_error(y, predicted)),
        "rows": len(y),
    }


def at_chance(targets: Array, outputs: Array) -> bool:
    """Return whether outputs (rows, 1) are no nearer to the targets than the targets' mean is.

    It takes at least ENOUGH rows to say so.
    """
    return len(targets) >= ENOUGH and bool(
        ((outputs[:, 0] - targets) ** 2).mean() >= np.var(targets)
    )


def confusions(y: "pd.Series[Any]", predicted: "pd.Series[Any]") -> pd.DataFrame:
    """Return the columns actual and predicted of a confusion matrix of ranges.

    The numbers of y fall into the ranges about equally often.
    """
    edges = np.unique(np.quantile(y, np.linspace(0, 1, RANGES + 1)))[1:-1]
    ends = [f"{edge:.4g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in pairwise(ends)]
    named = [f"below {ends[0]}", *between, f"{ends[-1]} and more"] if ends else ["all"]
    # The numbers in front put the names in order when they are sorted as texts.
    names = np.array([f"{i}: {name}" for i, name in enumerate(named, 1)], dtype=object)
    ranges = {
        side: names[np.searchsorted(edges, value, side="right")]
        for side, value in (("actual", y), ("predicted", predicted))
    }
    return pd.DataFrame(ranges, y.index)


def _tally(y: "pd.Series[float]", predicted: "pd.Series[float]", _: list[str]) -> Tally:
    """Return 1, the number, its square, the absolute error and the squared error of each row."""
    true, error = y.to_numpy(float), (predicted - y).to_numpy(float)
    counts = np.stack([np.ones_like(true), true, true**2, np.abs(error), error**2])
    return Tally(["all"], counts[:, :, None], np.arange(len(true)))


def _explained(sums: Array) -> Array:
    rows, total, squares, _, errors = sums
    return 1 - errors / np.maximum(squares - total**2 / np.maximum(rows, 1), np.finfo(float).tiny)


METRICS: dict[str, Metric] = {
    "r2": Metric(
        "R²", "R²", _tally, value=_explained, rows=lambda sums: sums[0], range=(-np.inf, 1.0)
    ),
    "mae": Metric(
        "mean absolute error",
        "error",
        _tally,
        value=Ratio(lambda counts: counts[3], lambda counts: counts[0]),
        rows=lambda sums: sums[0],
        less=True,
        range=(0.0, np.inf),
    ),
    "rmse": Metric(
        "root mean squared error",
        "error",
        _tally,
        value=lambda sums: np.sqrt(np.maximum(sums[4], 0) / np.maximum(sums[0], 1)),
        rows=lambda sums: sums[0],
        less=True,
        range=(0.0, np.inf),
    ),
}
HEADLINES = {name: value.title for name, value in METRICS.items()}
OF_SLICES = "mae"
