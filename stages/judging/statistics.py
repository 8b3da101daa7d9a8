"""Says how sure one may be that one model is better than another on the same rows."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]
POWER = 0.8  # with which a difference is shown that these rows, or so many more, "can show"


@dataclass(frozen=True)
class Comparison:
    """Macro-F1 of candidate minus baseline: its bounds are one-sided, each at the level that the use of these rows has."""

    candidate: float
    baseline: float
    difference: float
    lower: float
    upper: float
    p_value: float
    smallest_detectable: float
    more_rows: int | None
    by_label: dict[str, dict[str, float]]
    mcnemar_p: float


@dataclass(frozen=True)
class Interval:
    """What the test rows show, and the bounds between which the value of such rows at large lies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Two-sided intervals of one model's scores, each at its own level alpha."""

    accuracy: Interval
    macro_f1: Interval
    f1: dict[str, Interval]


def compare(y: "pd.Series[str]", candidate: "pd.Series[str]", baseline: "pd.Series[str]", labels: list[str], *,
            margin: float, level: float) -> Comparison:  # fmt: skip
    """Compare two models' predictions on the same rows: the difference in macro-F1, and its bounds by the delta method (contrast).

    p_value is one-sided, of a difference of at most the margin. smallest_detectable is the difference that these rows
    would have shown with probability POWER. more_rows is how many more such rows would show the observed difference
    with that probability at this level, as the standard error falls with the root of their number: 0 where it is shown
    already, None where it is at most the margin, so that no number of rows can be expected to show it.
    """
    code = {name: i for i, name in enumerate(labels)}
    rows = pd.DataFrame({"y": y.map(code), "a": candidate.map(code), "b": baseline.map(code)}).fillna(-1).astype(int)
    found = rows.value_counts().sort_index()
    cells = np.stack([found.index.get_level_values(name).to_numpy() for name in ("y", "a", "b")])
    f1, covariance = (of[0] for of in contrast(found.to_numpy()[None, :].astype(float), cells, len(labels)))

    of_labels = f1[0] - f1[1]
    difference, spread = float(of_labels.mean()), float(np.sqrt(covariance.sum()) / len(labels))
    reach = _z(1 - level)
    smallest = margin + (reach + _z(POWER)) * spread
    lower = difference - reach * spread
    more_rows = None
    if difference > margin:
        more_rows = 0 if lower > margin else ceil(len(rows) * (((smallest - margin) / (difference - margin)) ** 2 - 1))
    half = reach * np.sqrt(covariance.diagonal())
    share = covariance.sum(axis=1) / covariance.sum()
    return Comparison(
        candidate=float(f1[0].mean()),
        baseline=float(f1[1].mean()),
        difference=difference,
        lower=lower,
        upper=difference + reach * spread,
        p_value=_above((difference - margin) / spread),
        smallest_detectable=smallest,
        more_rows=more_rows,
        by_label={
            name: {
                "rows": int((rows["y"] == i).sum()),
                "candidate_f1": float(f1[0, i]),
                "baseline_f1": float(f1[1, i]),
                "lower": float(of_labels[i] - half[i]),
                "upper": float(of_labels[i] + half[i]),
                "share_of_variance": float(share[i]),
            }
            for name, i in code.items()
        },
        mcnemar_p=mcnemar(candidate == y, baseline == y),
    )


def contrast(counts: Array, cells: Array, labels: int) -> tuple[Array, Array]:
    """Return F1 of both models (draws, 2, labels), and the covariance of its differences (draws, labels, labels).

    counts: rows (draws, cells). cells: index of the label of y, candidate and baseline (3, cells), -1 for any other label.
    A row's influence on F1 = 2 both / total is (2 [both] - F1 [each]) / total; covariances are sums of its products over
    rows (the delta method: Efron & Tibshirani 1993, ch. 21-22). Rows tell too little of a label that has few, or of models that
    differ nowhere: so for the covariance each label gets one more row, on which the models differ as often as on all
    rows, either being the right one (as Agresti & Min 2005 add rows to a paired table). docs/measured.md compares it with
    the bootstrap.
    """
    f1 = np.stack([_f1(counts, cells[0], side, labels)[0] for side in cells[1:]], axis=1)
    differing = (counts[:, cells[1] != cells[2]].sum(axis=1) + 1) / (counts.sum(axis=1) + 2)
    each, other = np.arange(labels), np.full(labels, -1)
    cells = np.hstack([cells, [each, each, other], [each, other, each]])
    counts = np.hstack([counts, np.repeat(differing[:, None] / 2, 2 * labels, axis=1)])
    of_row = influence(counts, cells[0], cells[1], labels) - influence(counts, cells[0], cells[2], labels)
    return f1, np.swapaxes(of_row * counts[:, :, None], 1, 2) @ of_row


def influence(counts: Array, y: Array, predicted: Array, labels: int) -> Array:
    """Return what one row of each cell adds to F1 (draws, cells, labels)."""
    both, each = _marks(y, predicted, labels)
    f1, total = _f1(counts, y, predicted, labels)
    return _ratio(2 * both - f1[:, None, :] * each, np.broadcast_to(total[:, None, :], (len(counts), *each.shape)))


def calibration_error(confidence: "pd.Series[float]", right: "pd.Series[bool]", bins: int) -> float:
    """Return the expected calibration error over bins of equally many rows (Nguyen & O'Connor 2015); equal confidences share a bin."""
    return float((right - confidence).groupby(in_bins(confidence, bins)).sum().abs().sum() / len(confidence))


def in_bins(values: "pd.Series[float]", bins: int) -> "pd.Series[int]":
    """Return the bin (0, 1, ...) of each value: about equally many rows in each, equal values in one; a missing value is in none."""
    rank = (values.rank(method="average") - 0.5) / values.notna().sum()
    return (rank * bins).dropna().astype(int)


def share(right: int, rows: int, alpha: float) -> Interval:
    """Return a share of rows and its two-sided score interval (Wilson 1927)."""
    return Interval(*(float(of[0]) for of in _wilson(np.array([right]), np.array([rows - right]), alpha)))


def intervals(y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str], *, alpha: float) -> Intervals:
    """Return confidence intervals of accuracy, macro-F1 and each label's F1 for one model's predictions.

    F1 of a label is 2j / (1 + j), where j is the share of its right rows among the rows that bear or got the label.
    Given how many those are, the right ones are binomial, so j, and with it F1, has Wilson's score interval (Wilson
    1927), as accuracy has. Macro-F1 is their mean: the half widths of the labels are put together as standard errors
    are, with the correlations that the delta method gives (Takahashi et al. 2022), and laid around it. A percentile
    bootstrap was tried and left: a label that is wholly right has the interval [1, 1] however few its rows are.
    Simulated at 95%, intervals of labels held the truth in 95 to 97% of draws, mean over labels, and in 92% for the worst
    label (the bootstrap's in 83 to 98%, worst 39%), those of macro-F1 in 92 to 99%, but in 68 to 87% where most labels
    have 2 to 5 rows. A label without a row, true or predicted, has the interval [0, 1].
    """
    code = {name: i for i, name in enumerate([*labels, None])}
    rows = np.stack([side.map(code).fillna(len(labels)).to_numpy(dtype=int) for side in (y, predicted)])
    counts = np.zeros((len(labels) + 1, len(labels) + 1))  # the last: any other label
    np.add.at(counts, tuple(rows), 1)
    total = (counts.sum(axis=0) + counts.sum(axis=1))[:-1]
    counts = counts[:-1, :-1]
    right = counts.diagonal()

    f1, low, high = (2 * j / (1 + j) for j in _wilson(right, total - 2 * right, alpha))
    weight = np.divide(f1, total, out=np.zeros_like(f1), where=total > 0)
    covariance = np.outer(weight, weight) * (counts + counts.T)
    of_right = np.divide(2 - 2 * f1, total, out=np.zeros_like(f1), where=total > 0)
    np.fill_diagonal(covariance, of_right**2 * right + weight**2 * (total - 2 * right))
    spread = np.sqrt(covariance.diagonal())
    both = np.outer(spread, spread)
    correlation = np.divide(covariance, both, out=np.zeros_like(both), where=both > 0)
    np.fill_diagonal(correlation, 1)

    macro = f1.mean()
    half = (high - low) / 2
    reach = np.sqrt(half @ correlation @ half) / len(labels)
    return Intervals(
        accuracy=share(int(right.sum()), len(y), alpha),
        macro_f1=Interval(float(macro), float(max(macro - reach, 0)), float(min(macro + reach, 1))),
        f1={name: Interval(float(f1[i]), float(low[i]), float(high[i])) for i, name in enumerate(labels)},
    )


def mcnemar(candidate_right: "pd.Series[bool]", baseline_right: "pd.Series[bool]") -> float:
    """Return the two-sided exact p of McNemar's test on accuracy (McNemar 1947; binomial on discordant rows)."""
    from scipy.stats import binomtest

    better, worse = int((candidate_right & ~baseline_right).sum()), int((~candidate_right & baseline_right).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _f1(counts: Array, y: Array, predicted: Array, labels: int) -> tuple[Array, Array]:
    """Return F1 and the rows that it is over, true and predicted (draws, labels); F1 is 0 where a label is neither there nor predicted."""
    both, each = _marks(y, predicted, labels)
    total = counts @ each
    return _ratio(2 * (counts @ both), total), total


def _marks(y: Array, predicted: Array, labels: int) -> tuple[Array, Array]:
    """Return (cells, labels): 1 where a label is true and predicted, and the times that it is either."""
    each = np.arange(labels)
    is_y, is_p = (y[:, None] == each).astype(float), (predicted[:, None] == each).astype(float)
    return is_y * is_p, is_y + is_p


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _wilson(right: Array, wrong: Array, alpha: float) -> tuple[Array, ...]:
    """Return shares and their score intervals (Wilson 1927); without a row the share is 0, and anything from 0 to 1."""
    rows = right + wrong
    n, z = np.maximum(rows, 1), _z(1 - alpha / 2)
    share = right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = np.where(rows > 0, centre - half, 0), np.where(rows > 0, centre + half, 1)
    return share, np.clip(low, 0, share), np.clip(high, share, 1)  # a bound that is the share itself may miss it by an ulp


def _z(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(level))


def _above(z: float) -> float:
    from scipy.stats import norm

    return float(norm.sf(z))
