"""Says whether a model's confidence can be believed: how far it lies from the share of rows that are right, and what temperature mends."""

from typing import Any

import numpy as np
import pandas as pd

from stages.judging import statistics
from stages.judging.statistics import Array

RANGE = (-3.0, 3.0)  # of the logarithm of a temperature


def examine(logits: Array, right: "pd.Series[bool]", temperature: float, bins: int, alpha: float) -> dict[str, Any]:
    """Return the calibration error and its bins for the confidence of logits (rows, labels), divided by the temperature."""
    from scipy.special import softmax

    confidence = pd.Series(softmax(logits.astype(float) / temperature, axis=1).max(axis=1), right.index)
    place = statistics.in_bins(confidence, bins)
    found = list[dict[str, float]]()
    for _, rows in right.groupby(place):
        share = statistics.share(int(rows.sum()), len(rows), alpha)
        found.append({"rows": len(rows), "confidence": float(confidence[rows.index].mean())} | dict(zip(("right", "low", "high"), share, strict=True)))
    return {"temperature": temperature, "error": statistics.calibration_error(confidence, right, bins), "bins": found}


def temperature(logits: Array, targets: list[int]) -> float:
    """Return the number that logits (rows, labels) are divided by for the least negative log-likelihood of the targets.

    Guo, Pleiss, Sun, Weinberger 2017. It moves the confidence, and no prediction.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows = np.arange(len(logits))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits.astype(float) / np.exp(log_temperature), axis=1)[rows, targets].mean())

    found: Any = minimize_scalar(loss, bounds=RANGE, method="bounded")
    return float(np.exp(found.x))
