"""Says whether a model's confidence can be believed, and which temperature makes it better.

Confidence is believed as far as it lies near the share of rows that are right.
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.contract.problem import Problem
from stages.judging import statistics
from stages.judging.report import Bin, Confidence
from stages.judging.statistics import Array

RANGE = (-3.0, 3.0)  # of the logarithm of a temperature


def examine(
    confidence: "pd.Series[float]",
    right: "pd.Series[bool]",
    temperature: float,
    bins: int,
    alpha: float,
) -> Confidence:
    """Return the calibration error and its bins.

    confidence is what outputs divided by the temperature give; right has the same index.
    """
    place = statistics.in_bins(confidence, bins)
    measured = list[Bin]()
    for _, rows in right.groupby(place):
        share = statistics.share(int(rows.sum()), len(rows), alpha)
        measured.append(Bin(len(rows), float(confidence[rows.index].mean()), *share))
    error = statistics.calibration_error(confidence, right, bins)
    return Confidence(temperature, error, measured)


def temperature(of_y: Problem, outputs: Array, targets: Array) -> float:
    """Return the number by which to divide outputs (rows, outputs) for the greatest likelihood.

    Guo, Pleiss, Sun, Weinberger 2017. It moves the confidence, and no prediction.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = outputs.astype(float) / np.exp(log_temperature)
        return -float(of_y.likelihood(scaled, targets).mean())

    least: Any = minimize_scalar(loss, bounds=RANGE, method="bounded")
    return float(np.exp(least.x))
