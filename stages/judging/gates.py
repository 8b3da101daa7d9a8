"""Asks the conditions of promotion, one by one; each answers with its numbers, and together they decide."""

from dataclasses import asdict
from math import isfinite
from typing import Any, Literal

import pandas as pd

from stages.contract.params import BeatsBaseline, Calibration, EachLabel, Floor, Gate
from stages.judging import ledger
from stages.judging.statistics import Comparison, calibration_error, compare

Outcome = Literal["promote", "reject", "inconclusive"]
Verdict = dict[str, Any]


def judge(gate: Gate, predictions: pd.DataFrame, metrics: dict[str, Any], against: list[str], labels: list[str], *, use: int = 1) -> Verdict:
    """Answer one gate. predictions: y, candidate, confidence, and a column for each model in `against`, on the same test rows.

    use says how many decisions have used these rows, with this one (ledger.number). What cannot be judged is rejected.
    """
    if unfit := _unfit(predictions, against):
        return _refuse(gate, unfit)
    match gate:
        case BeatsBaseline():
            return _beats(gate, predictions, against, labels, use)
        case EachLabel():
            return _each_label(gate, predictions, labels)
        case Calibration():
            return _calibration(gate, predictions)
        case Floor():
            return _floor(gate, metrics.get(gate.metric))


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
    missing = [name for name in ("y", "candidate", *against) if name not in predictions or predictions[name].isna().any()]
    return f"some test rows lack a value of {', '.join(missing)}; every model must have scored the same rows" if missing else None


def _refuse(gate: Gate, reason: str) -> Verdict:
    return {"gate": gate.name, "outcome": "reject", "reason": reason}


def _absent(predictions: pd.DataFrame, labels: list[str]) -> str | None:
    """Return why labels without test rows cannot be judged, if there are any."""
    absent = sorted(set(labels) - set(predictions["y"]))
    return f"no test row bears {', '.join(absent)}, so its F1 is unknown; label some, or leave it out of the data" if absent else None


def _floor(gate: Floor, value: object) -> Verdict:
    if not isinstance(value, int | float) or not isfinite(value) or not 0 <= value <= 1:
        return _refuse(gate, f"{gate.metric} is {value!r}, which is no number from 0 to 1")
    passed = value >= gate.least
    reason = f"{gate.metric} {value:.4f} {'reaches' if passed else 'is below'} the floor {gate.least:.4f}"
    return {"gate": gate.name, "outcome": "promote" if passed else "reject", "metric": gate.metric, "value": value, "least": gate.least, "reason": reason}


def _each_label(gate: EachLabel, predictions: pd.DataFrame, labels: list[str]) -> Verdict:
    if absent := _absent(predictions, labels):
        return _refuse(gate, absent)
    y, candidate = predictions["y"], predictions["candidate"]
    both, true, predicted = (of.value_counts().reindex(labels, fill_value=0) for of in (y[y == candidate], y, candidate))
    f1 = 2 * both / (true + predicted)
    lowest = str(f1.idxmin())
    passed = bool(f1[lowest] >= gate.least)
    reason = f"the lowest F1 is {f1[lowest]:.4f}, of {lowest} ({true[lowest]} rows); each must reach {gate.least:.4f}"
    return {"gate": gate.name, "outcome": "promote" if passed else "reject", "f1": f1.to_dict(), "least": gate.least, "reason": reason}


def _calibration(gate: Calibration, predictions: pd.DataFrame) -> Verdict:
    confidence = pd.to_numeric(predictions.get("confidence", pd.Series(None, predictions.index)), errors="coerce")
    if wrong := int((~confidence.between(0, 1)).sum()):
        return _refuse(gate, f"{wrong} of {len(predictions)} confidences are missing or no number from 0 to 1")
    if len(predictions) < gate.bins:
        return _refuse(gate, f"{len(predictions)} test rows cannot fill {gate.bins} bins; take fewer bins or more rows")
    error = calibration_error(confidence, predictions["y"] == predictions["candidate"], gate.bins)
    passed = error <= gate.most
    reason = f"calibration error {error:.4f} over {gate.bins} bins {'is within' if passed else 'exceeds'} {gate.most:.4f}"
    return {"gate": gate.name, "outcome": "promote" if passed else "reject", "error": error, "bins": gate.bins, "most": gate.most, "reason": reason}


def _beats(gate: BeatsBaseline, predictions: pd.DataFrame, against: list[str], labels: list[str], use: int) -> Verdict:
    if unfit := _absent(predictions, labels) or (None if against else "there is nobody to judge against"):
        return _refuse(gate, unfit)
    spent = ledger.spending(gate.alpha, use)
    found = {name: compare(predictions["y"], predictions["candidate"], predictions[name], labels, margin=gate.margin, level=spent.level) for name in against}
    outcomes: dict[str, Outcome] = {name: _outcome(c, gate.margin) for name, c in found.items()}
    hardest = min(found, key=lambda name: (("reject", "inconclusive", "promote").index(outcomes[name]), found[name].lower))
    said = [_say(hardest, outcomes[hardest], found[hardest], gate.margin, spent.level), spent.advice]
    return {
        "gate": gate.name,
        "outcome": together([{"outcome": o} for o in outcomes.values()]),
        "margin": gate.margin,
        "alpha": gate.alpha,
        **asdict(spent),
        "against": {name: {"outcome": outcomes[name]} | asdict(c) for name, c in found.items()},
        "reason": "; ".join(filter(None, said)),
    }


def _outcome(c: Comparison, margin: float) -> Outcome:
    if isfinite(c.lower) and c.lower > margin:
        return "promote"
    return "reject" if isfinite(c.upper) and c.upper <= margin else "inconclusive"


def _say(name: str, outcome: Outcome, c: Comparison, margin: float, level: float) -> str:
    widest = max(c.by_label, key=lambda label: c.by_label[label]["share_of_variance"])
    label = c.by_label[widest]
    verb = {
        "promote": "beats" if margin >= 0 else "is not inferior to",
        "reject": "does not beat" if margin >= 0 else "is inferior to",
        "inconclusive": "cannot be told from",
    }[outcome]
    more = f"about {c.more_rows:,} more rows would settle it" if c.more_rows else "more rows cannot be expected to lead to a promotion"
    return (
        f"macro-F1 {c.candidate:.4f} {verb} {name} {c.baseline:.4f}: the difference is {c.difference:+.4f}, with {1 - level:.2%} "
        f"confidence at least {c.lower:+.4f}, to be above {margin:g}; these rows can show {c.smallest_detectable:.4f} or more; "
        f"label {widest} ({label['rows']:.0f} rows) makes {label['share_of_variance']:.0%} of that uncertainty"
    ) + (f"; {more}" if outcome == "inconclusive" else "")
