"""Shares of rows and their intervals, McNemar's test, bins of rows, the normal distribution."""

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]


def calibration_error(confidence: "pd.Series[float]", right: "pd.Series[bool]", bins: int) -> float:
    """Return the expected calibration error over bins of equally many rows.

    Equal confidences share a bin (Nguyen & O'Connor 2015).
    """
    return float(
        (right - confidence).groupby(in_bins(confidence, bins)).sum().abs().sum() / len(confidence)
    )


def in_bins(values: "pd.Series[float]", bins: int) -> "pd.Series[int]":
    """Return the bin (0, 1, ...) of each value: about equally many rows in each.

    Equal values share a bin; a missing value is in none.
    """
    rank = (values.rank(method="average") - 0.5) / values.notna().sum()
    return (rank * bins).dropna().astype(int)


def share(right: int, rows: int, alpha: float) -> tuple[float, float, float]:
    """Return a share of rows and its two-sided score interval (Wilson 1927)."""
    value, low, high = (
        float(of[0]) for of in wilson(np.array([right]), np.array([rows - right]), alpha)
    )
    return value, low, high


def mcnemar(candidate_right: Array, baseline_right: Array) -> float:
    """Return the two-sided exact p of McNemar's test on accuracy.

    McNemar 1947; binomial on discordant rows.
    """
    from scipy.stats import binomtest

    better, worse = (
        int((candidate_right & ~baseline_right).sum()),
        int((~candidate_right & baseline_right).sum()),
    )
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def wilson(right: Array, wrong: Array, alpha: float) -> tuple[Array, ...]:
    """Return shares and their score intervals (Wilson 1927).

    Without a row the share is 0, and its interval [0, 1].
    """
    rows = right + wrong
    n, z = np.maximum(rows, 1), quantile(1 - alpha / 2)
    share = right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = np.where(rows > 0, centre - half, 0), np.where(rows > 0, centre + half, 1)
    return (
        share,
        np.clip(low, 0, share),
        np.clip(high, share, 1),
    )  # a bound that is the share itself may miss it by an ulp


def quantile(level: float) -> float:
    """Return the quantile of the standard normal distribution."""
    from scipy.stats import norm

    return float(norm.ppf(level))


def above(z: float) -> float:
    """Return the share of the standard normal distribution above z."""
    from scipy.stats import norm

    return float(norm.sf(z))
