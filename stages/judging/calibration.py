"""Says whether a model's confidence can be believed: how far it lies from the share of rows that are right, and what temperature mends."""

from typing import Any

import numpy as np
import pandas as pd

from stages.judging import statistics
from stages.judging.statistics import Array

RANGE = (-3.0, 3.0)  # of the logarithm of a temperature


def examine(logits: Array, right: "pd.Series[bool]", temperature: float, bins: int, alpha: float) -> dict[str, Any]:
    """Return the calibration error and its bins for the confidence of logits (rows, labels), divided by the temperature."""
    confidence = pd.Series(_softmax(logits / temperature).max(axis=1), right.index)
    place = statistics.in_bins(confidence, bins)
    found = list[dict[str, float]]()
    for _, rows in right.groupby(place):
        share = statistics.share(int(rows.sum()), len(rows), alpha)
        found.append({"rows": len(rows), "confidence": float(confidence[rows.index].mean()), "right": share.value, "low": share.low, "high": share.high})
    return {"temperature": temperature, "error": statistics.calibration_error(confidence, right, bins), "bins": found}


def temperature(logits: Array, targets: list[int]) -> float:
    """Return the number that logits (rows, labels) are divided by for the least negative log-likelihood of the targets.

    Guo, Pleiss, Sun, Weinberger 2017. It moves the confidence, and no prediction.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(logits))

    def loss(log_temperature: float) -> float:
        return -float(np.log(_softmax(logits / np.exp(log_temperature))[rows, targets].clip(1e-30)).mean())

    found: Any = minimize_scalar(loss, bounds=RANGE, method="bounded")
    return float(np.exp(found.x))


def _softmax(logits: Array) -> Array:
    exponent = np.exp((logits - logits.max(axis=1, keepdims=True)).astype(float))
    return exponent / exponent.sum(axis=1, keepdims=True)
