"""Writes the model card: what the model is, what it learned from, and how good it is."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from stages.contract.escape import one_line
from stages.judging import robustness
from stages.judging.cost import Cost
from stages.judging.decision import Decision, Drift
from stages.judging.evidence import Interval
from stages.judging.report import Calibration, Report
from stages.models.saved import Saved
from stages.params.register import Card


def line(decision: Decision) -> str:
    """Return the outcome and the first reason for it, on one line of Markdown."""
    first = decision.verdicts[0].reason.partition(";")[0] if decision.verdicts else "no gate"
    return f"{decision.outcome}: {_safe(first)}"


def summary(decision: Decision, model: Saved) -> str:
    """Return the head of the card as Markdown: what the model is, and the decision.

    Every value from data is escaped.
    """
    data, against = decision.data, _safe(decision.against)
    damage = f" {_safe(decision.damaged)}." if decision.damaged else ""
    reasons = "\n".join(
        f"- {_safe(verdict.gate)}: **{verdict.outcome}**. {_safe(verdict.reason)}"
        for verdict in decision.verdicts
    )
    kind = f"{_safe(model.modality['name'])} {_safe(model.problem)}"
    return f"""# {_safe(decision.task)}

Its task: {kind}. Fine-tuned from `{model.base.source}`.
Model sha256 `{decision.candidate.model_sha256}`. \
Data `{data.source}` (DVC md5 `{data.md5}`), {data.test_rows} test rows.

**Decision: {decision.outcome}**, judged against {against}.{damage}

{reasons}
"""


@dataclass(frozen=True)
class Facts:
    """What the card says beside decision and report."""

    labels: dict[str, Counter[str]]
    """by part: the labels that its rows bear"""
    parts: dict[str, int]
    """by part: its rows"""
    far: list[str]
    """what in the data is far from what the base model was pretrained on"""
    cost: Cost | None


def write(decision: Decision, model: Saved, report: Report, stated: Card, facts: Facts) -> str:
    """Return the whole card (after Mitchell et al. 2019).

    Its head, what the model is for, its data, the models compared, and where it is weak.
    """
    return f"""{summary(decision, model)}
## Intended use

{_safe(stated.intended_use)}

**Limits.** {_safe(stated.limits)}

## Data

{_parts(facts)}

Rows that are alike stand in one part; altered copies in train alone. \
Far from what the base model was pretrained on:
{_safe("; ".join(facts.far) or "nothing that was measured")}.

{_drift(decision.drift)}

## Results

On the test rows, with {report.confidence:.0%} intervals:

{_models(report)}
{_labels(report)}
## Where it is weak

{_weak(report)}
{_price(facts.cost)}"""


def _parts(facts: Facts) -> str:
    """Return the parts with their rows, and their labels if there are any."""
    rows = [
        (part, str(rows), ", ".join(f"{label} {n}" for label, n in sorted(borne.items())))
        for part, rows in facts.parts.items()
        for borne in [facts.labels[part]]
    ]
    if any(facts.labels.values()):
        return _table(("part", "rows", "labels"), rows)
    return _table(("part", "rows"), [row[:2] for row in rows])


def _models(report: Report) -> str:
    """Return the models with their scores by the deciding metric and by the one for few rows."""
    metric, by = report.metric, report.metric_of_slices
    rows = [
        (name, _interval(model.intervals[metric.name], 4), f"{model.scores[by]:.4f}")
        for name, model in report.models.items()
    ]
    return _table(("model", metric.title, by), rows)


def _labels(report: Report) -> str:
    """Return how well the candidate predicts each label, if there are labels."""
    candidate = report.candidate
    rows = [
        (
            name,
            f"{scores.precision:.3f}",
            f"{scores.recall:.3f}",
            _interval(candidate.parts[name], 3),
            str(scores.support),
        )
        for name, scores in candidate.labels.items()
    ]
    head = ("label", "precision", "recall", "F1", "test rows")
    return f"\n{_table(head, rows)}\n" if rows else ""


def _weak(report: Report) -> str:
    """Return a line for each weak slice and each alteration, and how far confidence is off."""
    by = report.metric_of_slices
    overall = report.candidate.scores[by]
    below = [
        f"{one.column} {one.slice}: {by} {_interval(one.interval, 3)} on {one.rows} rows, "
        f"{overall:.3f} on all"
        for one in report.slices
        if one.weak
    ]
    moves = "rises" if report.metric.less else "drops"
    altered = [
        f"{robustness.name(one.transform)}: "
        f"{report.metric.title} {moves} by {_interval(one.drop, 3)}"
        for one in report.robustness
    ]
    none = [f"No slice of the test rows is surely worse than all of them by {by}"]
    lines = [*(below or none), *altered, *_confidence(report.calibration)]
    return "".join(f"- {_safe(line)}.\n" for line in lines)


def _confidence(calibration: Calibration | None) -> list[str]:
    """Return how far the confidence can be believed, if there is one."""
    if calibration is None:
        return []
    plain, scaled = calibration.as_it_is, calibration.scaled
    better = f"divided by the temperature {scaled.temperature:.3g}, by {scaled.error:.3f}"
    mended = better if scaled.error < plain.error else "no temperature mends that"
    return [f"Its confidence is off by {plain.error:.3f} on average; {mended}"]


def _price(cost: Cost | None) -> str:
    """Return what scoring costs, if that was measured."""
    if cost is None:
        return ""
    return f"""
## Cost

Measured by register: one row alone takes {cost.latency_p50_ms:.3g} ms, \
95% of rows at most {cost.latency_p95_ms:.3g} ms;
{cost.rows_per_second:,.0f} rows a second in batches; \
{cost.peak_memory_mib:,.0f} MiB of memory; {cost.megabytes:.3g} MB of files.
"""


def _interval(interval: Interval, digits: int) -> str:
    low, high = f"{interval.low:.{digits}f}", f"{interval.high:.{digits}f}"
    return f"{interval.value:.{digits}f} ({low} to {high})"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table; the head is ours, every cell is escaped."""
    lines = [head, ("---",) * len(head), *(tuple(map(_safe, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _drift(drift: Drift | None) -> str:
    """Return how far the data is from that of the version judged against."""
    if drift is None:
        return "There is no earlier version whose data this data could be compared with."
    rows = [
        (
            one["measure"],
            f"{one['distance']:.3g}",
            f"{one['limit']:.3g}",
            "far" if one["far"] else "near",
            one["seen"],
        )
        for one in drift.measures
    ]
    table = _table(("measure", "distance", "limit", "", "seen"), rows)
    return f"Its data beside that of {_safe(drift.against)}:\n\n{table}"


def _safe(value: object) -> str:
    """Return text that Markdown shows as it is.

    It makes no HTML, link, picture, emphasis, code or cell of a table.
    """
    return re.sub(r"([\\`*_\[\]()!|~])", r"\\\1", escape(one_line(value), quote=False))
