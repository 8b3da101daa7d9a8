"""Says what predictions of the same rows show, and how sure one may be of it.

That is a score, and how it differs from another model's. No metric is known here:
contract/metrics.py says what a problem states of one.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from stages.contract.metrics import Metric, Ratio, Tally, ratio, sums
from stages.judging import statistics

Array = np.ndarray[Any, Any]
POWER = 0.8  # with which a difference is shown that these rows, or so many more, "can show"
STEP = 1e-6  # of the numeric gradient, of the size of a sum
LEAST_SPREAD = 1e-12  # standard error: models that say the same of every row would have none


@dataclass(frozen=True)
class Interval:
    """What the test rows show, and the bounds of the value for rows of the kind at large."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Intervals:
    """Two-sided intervals of a score and of each part of it, each at its own level alpha."""

    score: Interval
    parts: dict[str, Interval]


@dataclass(frozen=True)
class Comparison:
    """How much better the candidate is by a metric.

    Bounds are one-sided, each at the level that this use of the rows has.
    """

    metric: str
    """as people call it"""
    candidate: float
    baseline: float
    difference: float
    lower: float
    upper: float
    p_value: float
    smallest_detectable: float
    more_rows: int | None
    parts: dict[str, dict[str, float]]
    mcnemar_p: float | None
    """null if no row is right or wrong"""


def compare(
    candidate: Tally, baseline: Tally, metric: Metric, *, margin: float, level: float
) -> Comparison:
    """Compare two models' predictions of the same rows by the delta method (contrast).

    p_value is one-sided, of a difference of at most the margin. smallest_detectable is the
    difference that these rows would have shown with probability POWER. more_rows is how many more
    rows of the kind would show the observed difference with that probability at this level, as the
    standard error falls with the root of their number: 0 if it is shown already, None if it is at
    most the margin, so that no number of rows can be expected to show it.
    """
    pairs, rows = np.unique(np.stack([candidate.kinds, baseline.kinds]), axis=1, return_counts=True)
    both = candidate.counts[:, pairs[0]], baseline.counts[:, pairs[1]]
    scores, covariance = (one[0] for one in contrast(rows[None, :].astype(float), *both, metric))

    gains = (scores[0] - scores[1]) * (-1 if metric.less else 1)
    difference = float(gains.mean())
    spread = max(float(np.sqrt(covariance.sum()) / len(gains)), LEAST_SPREAD)
    reach = statistics.quantile(1 - level)
    smallest = margin + (reach + statistics.quantile(POWER)) * spread
    lower = difference - reach * spread
    right = candidate.right, baseline.right
    known = right[0] is not None and right[1] is not None
    return Comparison(
        metric=metric.title,
        candidate=float(scores[0].mean()),
        baseline=float(scores[1].mean()),
        difference=difference,
        lower=lower,
        upper=difference + reach * spread,
        p_value=statistics.above((difference - margin) / spread),
        smallest_detectable=smallest,
        more_rows=_more_rows(len(candidate.kinds), difference, lower, smallest, margin),
        parts=_parts(candidate, metric, scores, gains, covariance, reach),
        mcnemar_p=statistics.mcnemar(*right) if known else None,  # pyright: ignore[reportArgumentType]
    )


def _more_rows(
    rows: int, difference: float, lower: float, smallest: float, margin: float
) -> int | None:
    if difference <= margin:
        return None
    if lower > margin:
        return 0
    return ceil(rows * (((smallest - margin) / (difference - margin)) ** 2 - 1))


def _parts(
    candidate: Tally, metric: Metric, scores: Array, gains: Array, covariance: Array, reach: float
) -> dict[str, dict[str, float]]:
    """Return, by part, its rows, both scores, the bounds of their difference, and its share.

    The share is of the variance of the difference of the metric.
    """
    half = reach * np.sqrt(covariance.diagonal())
    share = ratio(covariance.sum(axis=1), np.full(len(covariance), covariance.sum()))
    rows = metric.rows(candidate.sums())[0]
    return {
        name: {
            "rows": int(rows[i]),
            "candidate": float(scores[0, i]),
            "baseline": float(scores[1, i]),
            "lower": float(gains[i] - half[i]),
            "upper": float(gains[i] + half[i]),
            "share_of_variance": float(share[i]),
        }
        for i, name in enumerate(candidate.parts)
    }


def contrast(rows: Array, candidate: Array, baseline: Array, metric: Metric) -> tuple[Array, Array]:
    """Return the scores of both models, and the covariance of their differences.

    Scores are (draws, 2, parts), covariances (draws, parts, parts). rows says how many rows each
    pair of kinds has (draws, pairs); candidate and baseline what one row of a pair adds (counts,
    pairs, parts). Covariances are sums over rows of the products of what a row adds to the scores
    (the delta method: Efron & Tibshirani 1993, ch. 21-22). A part of few rows, or models that
    differ nowhere, show too little: so for the covariance each part of a metric by which rows are
    right or wrong gets one more row, on which the models differ as often as on all rows, either
    being the right one (as Agresti & Min 2005 add rows to a paired table). docs/measured.md
    compares it with the bootstrap.
    """
    scores = np.stack([metric.value(sums(of, rows)) for of in (candidate, baseline)], axis=1)
    if metric.right and metric.wrong:
        parts = candidate.shape[2]
        differing = (rows[:, (candidate != baseline).any(axis=(0, 2))].sum(axis=1) + 1) / (
            rows.sum(axis=1) + 2
        )
        right, wrong = (
            np.array(of)[:, None, None] * np.eye(parts) for of in (metric.right, metric.wrong)
        )
        candidate = np.concatenate([candidate, right, wrong], axis=1)
        baseline = np.concatenate([baseline, wrong, right], axis=1)
        rows = np.hstack([rows, np.repeat(differing[:, None] / 2, 2 * parts, axis=1)])
    of_row = influence(candidate, rows, metric) - influence(baseline, rows, metric)
    return scores, np.swapaxes(of_row * rows[:, :, None], 1, 2) @ of_row


def intervals(tally: Tally, metric: Metric, *, alpha: float) -> Intervals:
    """Return two-sided intervals of one model's score and of its parts.

    A part whose score is a function of a share of rows has Wilson's score interval (1927) of that
    share, any other one of the delta method. The score is the mean of its parts: their half widths
    are put together as standard errors are, with the correlations that the delta method gives
    (Takahashi et al. 2022), and laid around it. A percentile bootstrap was tried and left: it gives
    a label that is wholly right the interval [1, 1], however few its rows are. Simulated for
    macro-F1 at 95 %, intervals of labels covered the truth in 95 to 97 % of draws, mean over
    labels, and in 92 % for the worst label (the bootstrap's in 83 to 98 %, worst 39 %), those of
    the mean in 92 to 99 %, but in 68 to 87 % if most labels have 2 to 5 rows. A label without a
    row, true or predicted, has the interval [0, 1].
    """
    total, of_row = tally.sums(), influence(tally.counts, tally.rows(), metric)[0]
    covariance = (of_row * tally.rows().T).T @ of_row
    spread = np.sqrt(covariance.diagonal())
    least, most = -np.inf, np.inf
    if metric.share:
        right, trials = (of[0] for of in metric.share(total))
        value, low, high = (
            metric.of_share(of) for of in statistics.wilson(right, trials - right, alpha)
        )
        least, most = (float(metric.of_share(np.array(of))) for of in (0.0, 1.0))
    else:
        value, reach = metric.value(total)[0], statistics.quantile(1 - alpha / 2)
        low, high = value - reach * spread, value + reach * spread
    parts = {
        name: Interval(float(value[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(tally.parts)
    }
    if len(parts) == 1:
        return Intervals(next(iter(parts.values())), parts)
    both = np.outer(spread, spread)
    correlation = ratio(covariance, both)
    np.fill_diagonal(correlation, 1)
    mean, half = float(value.mean()), (high - low) / 2
    reach = float(np.sqrt(half @ correlation @ half) / len(parts))
    return Intervals(Interval(mean, max(mean - reach, least), min(mean + reach, most)), parts)


def score(tally: Tally, metric: Metric) -> float:
    """Return the score of one model."""
    return float(metric.value(tally.sums()).mean())


def influence(counts: Array, rows: Array, metric: Metric) -> Array:
    """Return what one row of each kind adds to the score of each part (draws, kinds, parts)."""
    total = sums(counts, rows)
    if isinstance(metric.value, Ratio):
        return metric.value.influence(counts, total)
    found = np.zeros((len(rows), *counts.shape[1:]))
    for i, of in enumerate(counts):
        step = np.zeros_like(total)
        step[i] = STEP * np.maximum(np.abs(total[i]), 1)
        slope = (metric.value(total + step) - metric.value(total - step)) / (2 * step[i])
        found += slope[:, None, :] * of[None]
    return found
