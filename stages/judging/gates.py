"""Asks the conditions of promotion, one by one; each answers with its numbers."""

from dataclasses import asdict
from math import isfinite
from typing import TypeGuard

import pandas as pd

from stages.contract.escape import one_line
from stages.contract.metrics import Metric
from stages.judging import beats, robustness
from stages.judging.cost import Cost
from stages.judging.report import Alteration, Slice
from stages.judging.statistics import calibration_error
from stages.judging.verdict import Evidence, Outcome, Verdict, absent, answer, refuse
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

SHARE = (0.0, 1.0)  # least and greatest value of most metrics


def judge(gate: Gate, evidence: Evidence) -> Verdict:
    """Answer one gate. What cannot be judged is rejected."""
    if unfit := _unfit(evidence.predictions, evidence.against):
        return refuse(gate.name, unfit)
    report = evidence.report
    match gate:
        case BeatsBaseline():
            return beats.judge(gate, evidence)
        case EachLabel():
            return _each_label(gate, evidence)
        case Calibration():
            return _calibration(gate, evidence)
        case Floor() | Ceiling():
            metric = evidence.metrics.get(gate.metric)
            within = metric.range if metric else SHARE
            return _limit(gate, report.candidate.scores.get(gate.metric), within)
        case Slices():
            return _slices(gate, report.slices, report.metric_of_slices)
        case Robustness():
            return _robustness(gate, report.robustness, evidence.metric)
        case Budget():
            return _budget(gate, evidence.cost)


def _unfit(predictions: pd.DataFrame, against: list[str]) -> str | None:
    """Return why nothing can be judged on these rows, if so."""
    if predictions.empty:
        return "there are no test rows; without them nothing is promoted"
    columns = ("y", "candidate", *against)
    missing = [
        name for name in columns if name not in predictions or predictions[name].isna().any()
    ]
    if not missing:
        return None
    return (
        f"some test rows lack a value of {', '.join(missing)}; "
        "every model must have scored the same rows"
    )


def _limit(gate: Floor | Ceiling, value: object, within: tuple[float, float]) -> Verdict:
    if not _number(value, within):
        least, most = within
        return refuse(
            gate.name, f"{gate.metric} is {value!r}, which is no number from {least:g} to {most:g}"
        )
    match gate:
        case Floor():
            kind, limit, passed = "least", gate.least, value >= gate.least
            verb = "reaches" if passed else "is below"
        case Ceiling():
            kind, limit, passed = "most", gate.most, value <= gate.most
            verb = "is within" if passed else "exceeds"
    reason = f"{gate.metric} {value:.4f} {verb} the {gate.name} {limit:.4f}"
    return answer(gate.name, passed, reason, metric=gate.metric, value=value, **{kind: limit})


def _each_label(gate: EachLabel, evidence: Evidence) -> Verdict:
    tally, metric = evidence.tally("candidate"), evidence.metric
    if unknown := absent(tally, metric):
        return refuse(gate.name, unknown)
    sums = tally.sums()
    scores = dict(zip(tally.parts, metric.value(sums)[0].tolist(), strict=True))
    lowest = min(scores, key=lambda part: scores[part])
    rows = metric.rows(sums)[0, tally.parts.index(lowest)]
    reason = (
        f"the lowest {metric.part} is {scores[lowest]:.4f}, of {lowest} ({rows:.0f} rows); "
        f"each must reach {gate.least:.4f}"
    )
    passed = scores[lowest] >= gate.least
    return answer(gate.name, passed, reason, parts=scores, least=gate.least)


def _calibration(gate: Calibration, evidence: Evidence) -> Verdict:
    predictions, right = evidence.predictions, evidence.tally("candidate").right
    if right is None:
        return refuse(
            gate.name,
            f"no row is right or wrong by {evidence.metric.title}, "
            "so no confidence can be held to it; leave the gate out",
        )
    stated = predictions.get("confidence", pd.Series(None, predictions.index))
    confidence = pd.to_numeric(stated, errors="coerce")
    if wrong := int((~confidence.between(0, 1)).sum()):
        return refuse(
            gate.name,
            f"{wrong} of {len(predictions)} confidences are missing or no number from 0 to 1",
        )
    if len(predictions) < gate.bins:
        return refuse(
            gate.name,
            f"{len(predictions)} test rows cannot fill {gate.bins} bins; "
            "take fewer bins or more rows",
        )
    hits = pd.Series(list[bool](right), predictions.index)
    error = calibration_error(confidence, hits, gate.bins)
    passed = error <= gate.most
    reason = (
        f"calibration error {error:.4f} over {gate.bins} bins "
        f"{'is within' if passed else 'exceeds'} {gate.most:.4f}"
    )
    return answer(gate.name, passed, reason, error=error, bins=gate.bins, most=gate.most)


def _slices(gate: Slices, slices: list[Slice], metric: str) -> Verdict:
    if not slices:
        return refuse(
            gate.name,
            "evaluate made no slices; lower evaluate.slices.min_rows, or leave the gate out",
        )
    if not all(_number(one.interval.value) and _number(one.interval.high) for one in slices):
        return refuse(
            gate.name,
            f"the {metric} of a slice is missing or no number from 0 to 1; evaluate anew",
        )
    lowest = min(slices, key=lambda one: (one.interval.value, one.interval.high))
    worst = min(slices, key=lambda one: one.interval.high)
    outcome: Outcome = "inconclusive"
    if worst.interval.high < gate.least:
        outcome = "reject"
    elif lowest.interval.value >= gate.least:
        outcome = "promote"
    shown = worst if outcome == "reject" else lowest
    kind = "weakest" if outcome == "promote" else "one that fails"
    place = f"{one_line(shown.column, 60)} {one_line(shown.slice, 60)} ({shown.rows} rows)"
    reason = (
        f"of {len(slices)} slices the {kind} is {place}: "
        f"{metric} {shown.interval.value:.4f}, at most {shown.interval.high:.4f} by chance; "
        f"each must reach {gate.least:.4f}"
    )
    return Verdict(gate.name, outcome, reason, {"slice": asdict(shown), "least": gate.least})


def _robustness(gate: Robustness, alterations: list[Alteration], metric: Metric) -> Verdict:
    if not alterations:
        return refuse(
            gate.name,
            "evaluate altered no rows; "
            "name transforms in evaluate.robustness, or leave the gate out",
        )
    scores = [score for one in alterations for score in (one.as_it_is, one.altered)]
    if not all(_number(score, metric.range) for score in scores):
        least, most = metric.range
        return refuse(
            gate.name,
            f"{metric.title} of altered rows is missing or no number "
            f"from {least:g} to {most:g}; evaluate anew",
        )
    sign = -1 if metric.less else 1
    worst = max(alterations, key=lambda one: sign * (one.as_it_is - one.altered))
    drop = sign * (worst.as_it_is - worst.altered)
    moves = "rises" if metric.less else "drops"
    reason = (
        f"{robustness.name(worst.transform)} costs most: "
        f"{metric.title} {moves} by {drop:.4f} to {worst.altered:.4f}; "
        f"at most {gate.most:.4f} is allowed"
    )
    return answer(gate.name, drop <= gate.most, reason, worst=asdict(worst), most=gate.most)


def _budget(gate: Budget, cost: Cost | None) -> Verdict:
    if cost is None:
        return refuse(gate.name, "what the candidate costs was not measured")
    units = {
        "latency_p95_ms": "ms at the 95th percentile",
        "peak_memory_mib": "MiB of memory",
        "megabytes": "MB of files",
    }
    limits = {name: getattr(gate, name) for name in units}
    asked = {name: limit for name, limit in limits.items() if limit is not None}
    if not asked:
        return refuse(
            gate.name,
            "names no limit; "
            "state latency_p95_ms, peak_memory_mib or megabytes, or leave the gate out",
        )
    values = {name: getattr(cost, name) for name in asked}
    over = [name for name, limit in asked.items() if not values[name] <= limit]
    reason = ", ".join(
        f"{values[name]:,.4g} {units[name]} ({'over' if name in over else 'within'} {limit:,g})"
        for name, limit in asked.items()
    )
    return answer(gate.name, not over, reason, cost=asdict(cost), limits=asdict(gate))


def _number(value: object, within: tuple[float, float] = SHARE) -> TypeGuard[float]:
    """Say whether a value is a finite number within a range."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return isfinite(value) and within[0] <= value <= within[1]
