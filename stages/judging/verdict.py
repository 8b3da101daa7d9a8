"""What gates judge by, and what they answer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from stages.contract.metrics import Metric, Tally
from stages.judging.cost import Cost
from stages.judging.evidence import score
from stages.judging.report import Report

DEALS = 200  # times that predictions are dealt out to the rows at random
Outcome = Literal["promote", "reject", "inconclusive"]


@dataclass(frozen=True)
class Verdict:
    """The answer of one gate, why, and the numbers that it rests on."""

    gate: str
    outcome: Outcome
    reason: str
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Evidence:
    """Everything a candidate is judged by, measured on the same test rows."""

    predictions: pd.DataFrame
    """y, candidate, confidence, and a column for each model in `against`"""
    report: Report
    cost: Cost | None
    """as register measured it, if a gate asks"""
    against: list[str]
    labels: list[str]
    metrics: Mapping[str, Metric]
    """of the problem"""
    use: int = 1
    """how many decisions have used these rows, this one included (ledger.number)"""

    @property
    def metric(self) -> Metric:
        """The metric by which models are compared."""
        return self.metrics[self.report.metric.name]

    def tally(self, model: str) -> Tally:
        """Return what each row adds to the counts of the metric, as a model predicts it."""
        return self.metric.tally(self.predictions["y"], self.predictions[model], self.labels)

    def by_chance(self) -> tuple[float, float]:
        """Return mean and standard deviation of the metric for predictions dealt out at random.

        The predictions are the candidate's own.
        """
        drawn, rows = np.random.default_rng(0), self.predictions
        scores = list[float]()
        for _ in range(DEALS):
            dealt = pd.Series(drawn.permutation(rows["candidate"].to_numpy()), rows.index)
            scores.append(score(self.metric.tally(rows["y"], dealt, self.labels), self.metric))
        return float(np.mean(scores)), float(np.std(scores))


def together(outcomes: Collection[Outcome]) -> Outcome:
    """Return promote only if every gate says so; one rejection rejects.

    Without a gate there is no promotion.
    """
    if "reject" in outcomes or not outcomes:
        return "reject"
    return "promote" if set(outcomes) == {"promote"} else "inconclusive"


def answer(gate: str, passed: bool, reason: str, **facts: Any) -> Verdict:
    """Return the verdict of a gate that promotes or rejects."""
    return Verdict(gate, "promote" if passed else "reject", reason, facts)


def refuse(gate: str, reason: str) -> Verdict:
    """Return the rejection of a gate that cannot judge."""
    return Verdict(gate, "reject", reason)


def absent(tally: Tally, metric: Metric) -> str | None:
    """Return why parts without test rows cannot be judged, if there are any."""
    rows = metric.rows(tally.sums())[0]
    names = sorted(name for name, number in zip(tally.parts, rows, strict=True) if not number)
    if not names:
        return None
    return (
        f"no test row bears {', '.join(names)}, so its {metric.part} is unknown; "
        "label some, or leave it out of the data"
    )
