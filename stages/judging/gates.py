"""Asks the conditions of promotion, one by one; each answers with its numbers, and together they decide."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal, TypeGuard

import numpy as np
import pandas as pd

from stages.contract.escape import one_line
from stages.contract.metrics import Metric, Tally
from stages.judging import ledger, robustness
from stages.judging.cost import Cost
from stages.judging.evidence import Comparison, compare, score
from stages.judging.statistics import calibration_error
from stages.params.register import (
    BeatsBaseline,
    Budget,
    Calibration,
    Ceiling,
    EachLabel,
    Floor,
    Gate,
    Robustness,
    Slices,
)

DEALS, SURE = (
    200,
    3.0,
)  # times that predictions are dealt out at random; standard deviations above their mean that a model must be
SHARE = (0.0, 1.0)  # what most metrics lie within
Outcome = Literal["promote", "reject", "inconclusive"]
Verdict = dict[str, Any]


@dataclass(frozen=True)
class Evidence:
    """What a candidate is judged by: all of it was measured on the same test rows."""

    predictions: pd.DataFrame
    """y, candidate, confidence, and a column for each model in `against`"""
    metrics: dict[str, Any]
    """metrics.json"""
    report: dict[str, Any]
    """report.json"""
    cost: Cost | None
    """as register measured it, where a gate asks"""
    against: list[str]
    labels: list[str]
    metric: Metric
    """by which models are compared"""
    ranges: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    """a metric of the problem: its least and greatest value, where it is no share"""
    use: int = 1
    """how many decisions have used these rows, with this one (ledger.number)"""

    def by_chance(self) -> tuple[float, float]:
        """Return mean and standard deviation of the metric where the candidate's predictions are dealt out to the rows at random."""
        drawn, rows = np.random.default_rng(0), self.predictions
        dealt = (
            pd.Series(drawn.permutation(rows["candidate"].to_numpy()), rows.index)
            for _ in range(DEALS)
        )
        scores = [score(self.metric.tally(rows["y"], of, self.labels), self.metric) for of in dealt]
        return float(np.mean(scores)), float(np.std(scores))

    def tally(self, model: str) -> Tally:
        """Return what each row adds to the counts of the metric, as a model predicts it."""
        return self.metric.tally(self.predictions["y"], self.predictions[model], self.labels)


def judge(gate: Gate, evidence: Evidence) -> Verdict:
    """Answer one gate. What cannot be judged is rejected."""
    if unfit := _unfit(evidence.predictions, evidence.against):
        return _refuse(gate, unfit)
    match gate:
        case BeatsBaseline():
            return _beats(gate, evidence)
        case EachLabel():
            return _each_label(gate, evidence)
        case Calibration():
            return _calibration(gate, evidence)
        case Floor() | Ceiling():
            return _limit(
                gate, evidence.metrics.get(gate.metric), evidence.ranges.get(gate.metric, SHARE)
            )
        case Slices():
            return _slices(
                gate, evidence.report.get("slices"), str(evidence.report.get("metric_of_slices"))
            )
        case Robustness():
            return _robustness(gate, evidence.report.get("robustness"), evidence.metric)
        case Budget():
            return _budget(gate, evidence.cost)


def together(verdicts: list[Verdict]) -> Outcome:
    """Return promote only if every gate says so; one rejection rejects. Without a verdict there is no promotion."""
    outcomes = {v["outcome"] for v in verdicts}
    if "reject" in outcomes or not outcomes:
        return "reject"
    return "promote" if outcomes == {"promote"} else "inconclusive"


def _unfit(predictions: pd.DataFrame, against: list[str]) -> str | None:
    """Return why nothing can be judged on these rows, if so."""
    if predictions.empty:
        return "there are no test rows; without them nothing is promoted"
    missing = [
        name
        for name in ("y", "candidate", *against)
        if name not in predictions or predictions[name].isna().any()
    ]
    return (
        f"some test rows lack a value of {', '.join(missing)}; every model must have scored the same rows"
        if missing
        else None
    )


def _refuse(gate: Gate, reason: str) -> Verdict:
    return {"gate": gate.name, "outcome": "reject", "reason": reason}


def _absent(tally: Tally, metric: Metric) -> str | None:
    """Return why parts without test rows cannot be judged, if there are any."""
    absent = sorted(
        name
        for name, rows in zip(tally.parts, metric.rows(tally.sums())[0], strict=True)
        if not rows
    )
    return (
        f"no test row bears {', '.join(absent)}, so its {metric.part} is unknown; label some, or leave it out of the data"
        if absent
        else None
    )


def _limit(gate: Floor | Ceiling, value: object, within: tuple[float, float]) -> Verdict:
    if not _number(value, within):
        return _refuse(
            gate,
            f"{gate.metric} is {value!r}, which is no number from {within[0]:g} to {within[1]:g}",
        )
    kind, limit = ("least", gate.least) if isinstance(gate, Floor) else ("most", gate.most)
    passed = value >= limit if isinstance(gate, Floor) else value <= limit
    said = {
        ("least", True): "reaches",
        ("least", False): "is below",
        ("most", True): "is within",
        ("most", False): "exceeds",
    }[kind, passed]
    reason = f"{gate.metric} {value:.4f} {said} the {gate.name} {limit:.4f}"
    return {
        "gate": gate.name,
        "outcome": "promote" if passed else "reject",
        "metric": gate.metric,
        "value": value,
        kind: limit,
        "reason": reason,
    }


def _each_label(gate: EachLabel, evidence: Evidence) -> Verdict:
    tally, metric = evidence.tally("candidate"), evidence.metric
    if absent := _absent(tally, metric):
        return _refuse(gate, absent)
    sums = tally.sums()
    scores = dict(zip(tally.parts, metric.value(sums)[0].tolist(), strict=True))
    lowest = min(scores, key=lambda part: scores[part])
    rows = metric.rows(sums)[0, tally.parts.index(lowest)]
    passed = scores[lowest] >= gate.least
    reason = f"the lowest {metric.part} is {scores[lowest]:.4f}, of {lowest} ({rows:.0f} rows); each must reach {gate.least:.4f}"
    return {
        "gate": gate.name,
        "outcome": "promote" if passed else "reject",
        "parts": scores,
        "least": gate.least,
        "reason": reason,
    }


def _calibration(gate: Calibration, evidence: Evidence) -> Verdict:
    predictions, right = evidence.predictions, evidence.tally("candidate").right
    if right is None:
        return _refuse(
            gate,
            f"no row is right or wrong by {evidence.metric.title}, so no confidence can be held to it; leave the gate out",
        )
    confidence = pd.to_numeric(
        predictions.get("confidence", pd.Series(None, predictions.index)), errors="coerce"
    )
    if wrong := int((~confidence.between(0, 1)).sum()):
        return _refuse(
            gate, f"{wrong} of {len(predictions)} confidences are missing or no number from 0 to 1"
        )
    if len(predictions) < gate.bins:
        return _refuse(
            gate,
            f"{len(predictions)} test rows cannot fill {gate.bins} bins; take fewer bins or more rows",
        )
    error = calibration_error(
        confidence, pd.Series(list[bool](right), predictions.index), gate.bins
    )
    passed = error <= gate.most
    reason = f"calibration error {error:.4f} over {gate.bins} bins {'is within' if passed else 'exceeds'} {gate.most:.4f}"
    return {
        "gate": gate.name,
        "outcome": "promote" if passed else "reject",
        "error": error,
        "bins": gate.bins,
        "most": gate.most,
        "reason": reason,
    }


def _slices(gate: Slices, slices: Any, metric: str) -> Verdict:
    if not slices:
        return _refuse(
            gate, "evaluate made no slices; lower evaluate.slices.min_rows, or leave the gate out"
        )
    shares = [[of["of_rows"][at] for at in ("value", "high")] for of in slices]
    if not all(_number(value) for share in shares for value in share):
        return _refuse(
            gate, f"the {metric} of a slice is missing or no number from 0 to 1; evaluate anew"
        )
    lowest = min(range(len(slices)), key=lambda i: shares[i])
    worst = min(range(len(slices)), key=lambda i: shares[i][1])
    outcome = (
        "reject"
        if shares[worst][1] < gate.least
        else "promote"
        if shares[lowest][0] >= gate.least
        else "inconclusive"
    )
    shown = slices[worst if outcome == "reject" else lowest]
    of, kind = shown["of_rows"], "weakest" if outcome == "promote" else "one that fails"
    reason = (
        f"of {len(slices)} slices the {kind} is {one_line(shown['column'], 60)} {one_line(shown['slice'], 60)} ({shown['rows']} rows): "
        f"{metric} {of['value']:.4f}, at most {of['high']:.4f} by chance; each must reach {gate.least:.4f}"
    )
    return {
        "gate": gate.name,
        "outcome": outcome,
        "slice": shown,
        "least": gate.least,
        "reason": reason,
    }


def _robustness(gate: Robustness, alterations: Any, metric: Metric) -> Verdict:
    if not alterations:
        return _refuse(
            gate,
            "evaluate altered no rows; name transforms in evaluate.robustness, or leave the gate out",
        )
    if not all(
        _number(of["as_it_is"], metric.range) and _number(of["altered"], metric.range)
        for of in alterations
    ):
        least, most = metric.range
        return _refuse(
            gate,
            f"{metric.title} of altered rows is missing or no number from {least:g} to {most:g}; evaluate anew",
        )
    sign = -1 if metric.less else 1
    worst = max(alterations, key=lambda of: sign * (of["as_it_is"] - of["altered"]))
    drop = sign * (worst["as_it_is"] - worst["altered"])
    passed = drop <= gate.most
    moves = "rises" if metric.less else "drops"
    reason = f"{robustness.name(worst['transform'])} costs most: {metric.title} {moves} by {drop:.4f} to {worst['altered']:.4f}; at most {gate.most:.4f} is allowed"
    return {
        "gate": gate.name,
        "outcome": "promote" if passed else "reject",
        "worst": worst,
        "most": gate.most,
        "reason": reason,
    }


def _budget(gate: Budget, cost: Cost | None) -> Verdict:
    if cost is None:
        return _refuse(gate, "what the candidate costs was not measured")
    units = {
        "latency_p95_ms": "ms at the 95th percentile",
        "peak_memory_mib": "MiB of memory",
        "megabytes": "MB of files",
    }
    asked = {
        name: (getattr(cost, name), limit)
        for name in units
        if (limit := getattr(gate, name)) is not None
    }
    if not asked:
        return _refuse(
            gate,
            "names no limit; state latency_p95_ms, peak_memory_mib or megabytes, or leave the gate out",
        )
    over = [name for name, (value, limit) in asked.items() if not value <= limit]
    reason = ", ".join(
        f"{value:,.4g} {units[name]} ({'over' if name in over else 'within'} {limit:,g})"
        for name, (value, limit) in asked.items()
    )
    return {
        "gate": gate.name,
        "outcome": "reject" if over else "promote",
        "cost": asdict(cost),
        "limits": asdict(gate),
        "reason": reason,
    }


def _number(value: object, within: tuple[float, float] = SHARE) -> TypeGuard[float]:
    """Say whether a value is a finite number within a range."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isfinite(value)
        and within[0] <= value <= within[1]
    )


def _beats(gate: BeatsBaseline, evidence: Evidence) -> Verdict:
    candidate = evidence.tally("candidate")
    if unfit := _absent(candidate, evidence.metric) or (
        None if evidence.against else "there is nobody to judge against"
    ):
        return _refuse(gate, unfit)
    spent = ledger.spending(gate.alpha, evidence.use)
    margins = {name: gate.margins.get(name, gate.margin) for name in evidence.against}
    found = {
        name: compare(
            candidate, evidence.tally(name), evidence.metric, margin=margin, level=spent.level
        )
        for name, margin in margins.items()
    }
    outcomes: dict[str, Outcome] = {name: _outcome(c, margins[name]) for name, c in found.items()}
    hardest = min(
        found,
        key=lambda name: (
            ("reject", "inconclusive", "promote").index(outcomes[name]),
            found[name].lower - margins[name],
        ),
    )
    said = [
        _say(hardest, outcomes[hardest], found[hardest], margins[hardest], spent.level),
        spent.advice,
    ]
    outcome = together([{"outcome": o} for o in outcomes.values()])
    if outcome == "promote":  # better than models that know nothing is not yet to know something
        mean, spread = evidence.by_chance()
        if (found[hardest].candidate - mean) * (-1 if evidence.metric.less else 1) <= SURE * spread:
            outcome = "inconclusive"
            reach = f"its predictions dealt out to the rows at random reach {mean:.4f} (standard deviation {spread:.4f})"
            said.insert(0, f"{reach}: that it knows more is not shown")
    return {
        "gate": gate.name,
        "outcome": outcome,
        "margin": gate.margin,
        "alpha": gate.alpha,
        **asdict(spent),
        "against": {
            name: {"outcome": outcomes[name], "margin": margins[name]} | asdict(c)
            for name, c in found.items()
        },
        "reason": "; ".join(filter(None, said)),
    }


def _outcome(c: Comparison, margin: float) -> Outcome:
    if isfinite(c.lower) and c.lower > margin:
        return "promote"
    return "reject" if isfinite(c.upper) and c.upper <= margin else "inconclusive"


def _say(name: str, outcome: Outcome, c: Comparison, margin: float, level: float) -> str:
    widest = max(c.parts, key=lambda part: c.parts[part]["share_of_variance"])
    part = c.parts[widest]
    more = (
        f"about {c.more_rows:,} more rows would settle it (judge them alone: with these, it would be their next use)"
        if c.more_rows
        else "more rows cannot be expected to lead to a promotion"
    )
    sure = f"with {1 - level:.2%} confidence"
    compared = {
        "promote": f"is better than {name} {c.baseline:.4f} by {c.difference:.4f} ({sure} at least {c.lower:+.4f})"
        if c.lower > 0
        else f"is not inferior to {name} {c.baseline:.4f}: the difference is {c.difference:+.4f} ({sure} at least {c.lower:+.4f}, {margin:g} is allowed)",
        "reject": f"{'does not beat' if margin >= 0 else 'is inferior to'} {name} {c.baseline:.4f}: the difference is {c.difference:+.4f} "
        f"({sure} at most {c.upper:+.4f}, more than {margin:g} is asked)",
        "inconclusive": f"cannot be told from {name} {c.baseline:.4f}: the difference is {c.difference:+.4f} "
        f"({sure} at least {c.lower:+.4f}, more than {margin:g} is asked)",
    }[outcome]
    return (
        f"{c.metric} {c.candidate:.4f} {compared}; these rows can show {c.smallest_detectable:.4f} or more"
        + (
            f"; label {widest} ({part['rows']:.0f} rows) makes {part['share_of_variance']:.0%} of that uncertainty"
            if len(c.parts) > 1
            else ""
        )
    ) + (f"; {more}" if outcome == "inconclusive" else "")
