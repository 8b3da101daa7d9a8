"""Asks the conditions of promotion, one by one; each answers with its numbers, and together they decide."""

from dataclasses import asdict
from math import isfinite
from typing import Any, Literal

import pandas as pd

from stages.contract.params import BeatsBaseline, Floor
from stages.judging.statistics import Comparison, compare

Outcome = Literal["promote", "reject", "inconclusive"]
Verdict = dict[str, Any]


def judge(gate: BeatsBaseline | Floor, predictions: pd.DataFrame, metrics: dict[str, float], against: list[str], labels: list[str]) -> Verdict:
    """Answer one gate. predictions: y, candidate, and a column for each model in `against`, on the same test rows."""
    match gate:
        case BeatsBaseline():
            return _beats(gate, predictions, against, labels)
        case Floor():
            value = metrics[gate.metric]
            passed = isfinite(value) and value >= gate.least
            return {
                "gate": gate.name,
                "outcome": "promote" if passed else "reject",
                "metric": gate.metric,
                "value": value,
                "least": gate.least,
                "reason": f"{gate.metric} {value:.4f} {'reaches' if passed else 'is below'} the floor {gate.least:.4f}",
            }


def together(verdicts: list[Verdict]) -> Outcome:
    """Return promote only if every gate says so; one rejection rejects. Without a verdict there is no promotion."""
    outcomes = {v["outcome"] for v in verdicts}
    if "reject" in outcomes or not outcomes:
        return "reject"
    return "promote" if outcomes == {"promote"} else "inconclusive"


def _beats(gate: BeatsBaseline, predictions: pd.DataFrame, against: list[str], labels: list[str]) -> Verdict:
    found = {
        name: compare(predictions["y"], predictions["candidate"], predictions[name], labels,
                      margin=gate.margin, alpha=gate.alpha, resamples=gate.resamples, seed=gate.seed)
        for name in against
    }  # fmt: skip
    outcomes: dict[str, Outcome] = {name: _outcome(c, gate.margin) for name, c in found.items()}
    hardest = min(found, key=lambda name: (("reject", "inconclusive", "promote").index(outcomes[name]), found[name].lower))
    return {
        "gate": gate.name,
        "outcome": together([{"outcome": o} for o in outcomes.values()]),
        "margin": gate.margin,
        "alpha": gate.alpha,
        "against": {name: {"outcome": outcomes[name]} | asdict(c) for name, c in found.items()},
        "reason": _say(hardest, outcomes[hardest], found[hardest], gate),
    }


def _outcome(c: Comparison, margin: float) -> Outcome:
    if isfinite(c.lower) and c.lower > margin:
        return "promote"
    return "reject" if isfinite(c.upper) and c.upper <= margin else "inconclusive"


def _say(name: str, outcome: Outcome, c: Comparison, gate: BeatsBaseline) -> str:
    widest = max(c.by_label, key=lambda label: c.by_label[label]["share_of_variance"])
    label = c.by_label[widest]
    verb = {"promote": "beats", "reject": "does not beat", "inconclusive": "cannot be told from"}[outcome]
    return (
        f"macro-F1 {c.candidate:.4f} {verb} {name} {c.baseline:.4f}: the difference is {c.difference:+.4f}, with {1 - gate.alpha:.0%} "
        f"confidence at least {c.lower:+.4f}, to be above {gate.margin:g}; these rows can show {c.smallest_detectable:.4f} or more; "
        f"label {widest} ({label['rows']:.0f} rows) makes {label['share_of_variance']:.0%} of that uncertainty"
    )
