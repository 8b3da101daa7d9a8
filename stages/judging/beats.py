"""The gate beats_baseline: is the candidate shown to be better, beyond what chance gives?"""

from dataclasses import asdict
from math import isfinite

from stages.judging import ledger
from stages.judging.evidence import Comparison, compare
from stages.judging.verdict import Evidence, Outcome, Verdict, absent, refuse, together
from stages.params.register import BeatsBaseline

SURE = 3.0  # standard deviations above predictions dealt out at random that a model must lie


def judge(gate: BeatsBaseline, evidence: Evidence) -> Verdict:
    """Compare the candidate with each model in `against`; all comparisons must promote."""
    candidate, metric = evidence.tally("candidate"), evidence.metric
    unfit = absent(candidate, metric)
    if unfit or not evidence.against:
        return refuse(gate.name, unfit or "there is nobody to judge against")
    spent = ledger.spending(gate.alpha, evidence.use)
    margins = {name: gate.margins.get(name, gate.margin) for name in evidence.against}
    compared = {
        name: compare(candidate, evidence.tally(name), metric, margin=margin, level=spent.level)
        for name, margin in margins.items()
    }
    outcomes: dict[str, Outcome] = {
        name: _outcome(one, margins[name]) for name, one in compared.items()
    }
    order = ("reject", "inconclusive", "promote")
    hardest = min(
        compared,
        key=lambda name: (order.index(outcomes[name]), compared[name].lower - margins[name]),
    )
    worst, level = compared[hardest], spent.level
    reasons = [_say(hardest, outcomes[hardest], worst, margins[hardest], level), spent.advice]
    outcome = together(outcomes.values())
    if outcome == "promote" and (doubt := _by_chance(worst, evidence)):
        outcome = "inconclusive"
        reasons.insert(0, doubt)
    facts = {
        "margin": gate.margin,
        "alpha": gate.alpha,
        **asdict(spent),
        "against": {
            name: {"outcome": outcomes[name], "margin": margins[name]} | asdict(one)
            for name, one in compared.items()
        },
    }
    return Verdict(gate.name, outcome, "; ".join(filter(None, reasons)), facts)


def _by_chance(compared: Comparison, evidence: Evidence) -> str | None:
    """Return why the candidate may know nothing, although it beats models that know nothing."""
    mean, spread = evidence.by_chance()
    sign = -1 if evidence.metric.less else 1
    if sign * (compared.candidate - mean) > SURE * spread:
        return None
    return (
        f"its predictions dealt out to the rows at random reach {mean:.4f} "
        f"(standard deviation {spread:.4f}): that it knows more is not shown"
    )


def _outcome(compared: Comparison, margin: float) -> Outcome:
    if isfinite(compared.lower) and compared.lower > margin:
        return "promote"
    if isfinite(compared.upper) and compared.upper <= margin:
        return "reject"
    return "inconclusive"


def _say(name: str, outcome: Outcome, compared: Comparison, margin: float, level: float) -> str:
    beside = _beside(name, outcome, compared, margin, level)
    line = f"{compared.metric} {compared.candidate:.4f} {beside}"
    line += f"; these rows can show {compared.smallest_detectable:.4f} or more"
    if len(compared.parts) > 1:
        widest = max(compared.parts, key=lambda one: compared.parts[one]["share_of_variance"])
        part = compared.parts[widest]
        line += (
            f"; label {widest} ({part['rows']:.0f} rows) makes "
            f"{part['share_of_variance']:.0%} of that uncertainty"
        )
    if outcome != "inconclusive":
        return line
    if compared.more_rows:
        return (
            f"{line}; about {compared.more_rows:,} more rows would settle it "
            "(judge them alone: with these, it would be their next use)"
        )
    return f"{line}; more rows cannot be expected to lead to a promotion"


def _beside(name: str, outcome: Outcome, compared: Comparison, margin: float, level: float) -> str:
    """Return how the candidate compares with one model, for a person."""
    sure, other = f"with {1 - level:.2%} confidence", f"{name} {compared.baseline:.4f}"
    by, least = f"{compared.difference:+.4f}", f"{compared.lower:+.4f}"
    if outcome == "promote" and compared.lower > 0:
        return f"is better than {other} by {compared.difference:.4f} ({sure} at least {least})"
    if outcome == "promote":
        return (
            f"is not inferior to {other}: the difference is {by} "
            f"({sure} at least {least}, {margin:g} is allowed)"
        )
    if outcome == "reject":
        fails = "does not beat" if margin >= 0 else "is inferior to"
        return (
            f"{fails} {other}: the difference is {by} "
            f"({sure} at most {compared.upper:+.4f}, more than {margin:g} is asked)"
        )
    return (
        f"cannot be distinguished from {other}: the difference is {by} "
        f"({sure} at least {least}, more than {margin:g} is asked)"
    )
