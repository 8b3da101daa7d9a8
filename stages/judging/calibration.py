"""Says whether a model's confidence can be believed: how far it lies from the share of rows that are right, and what temperature mends."""

from typing import Any

import numpy as np
import pandas as pd

from stages.contract.plugins import Problem
from stages.judging import statistics
from stages.judging.statistics import Array

RANGE = (-3.0, 3.0)  # of the logarithm of a temperature


def examine(
    confidence: "pd.Series[float]",
    right: "pd.Series[bool]",
    temperature: float,
    bins: int,
    alpha: float,
) -> dict[str, Any]:
    """Return the calibration error and its bins for the confidence that outputs divided by the temperature give."""
    place = statistics.in_bins(confidence, bins)
    found = list[dict[str, float]]()
    for _, rows in right.groupby(place):
        share = statistics.share(int(rows.sum()), len(rows), alpha)
        found.append(
            {"rows": len(rows), "confidence": float(confidence[rows.index].mean())}
            | dict(zip(("right", "low", "high"), share, strict=True))
        )
    return {
        "temperature": temperature,
        "error": statistics.calibration_error(confidence, right, bins),
        "bins": found,
    }


def temperature(of_y: Problem, outputs: Array, targets: Array) -> float:
    """Return the number that outputs (rows, outputs) are divided by for the least negative log-likelihood of the targets.

    Guo, Pleiss, Sun, Weinberger 2017. It moves the confidence, and no prediction.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return -float(
            of_y.likelihood(outputs.astype(float) / np.exp(log_temperature), targets).mean()
        )

    found: Any = minimize_scalar(loss, bounds=RANGE, method="bounded")
    return float(np.exp(found.x))
