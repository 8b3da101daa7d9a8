"""Writes the model card: what the model is, what it learned from, how good it is, and what was decided."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from stages.contract.escape import one_line
from stages.judging import robustness
from stages.judging.cost import Cost
from stages.params.register import Card


def summary(decision: dict[str, Any], model: dict[str, Any]) -> str:
    """Return the head of the card as Markdown, every value from data escaped: what the model is, and the decision."""
    reasons = "\n".join(
        f"- {_safe(v['gate'])}: **{v['outcome']}**. {_safe(v['reason'])}"
        for v in decision["verdicts"]
    )
    data = decision["data"]
    return f"""# {_safe(decision["task"])}

Its task: {_safe(model["modality"]["name"])} {_safe(model["problem"])}. Fine-tuned from `{model["base"]["source"]}`.
Model sha256 `{decision["candidate"]["model_sha256"]}`. Data `{data["source"]}` (DVC md5 `{data["md5"]}`), {data["test_rows"]} test rows.

**Decision: {decision["outcome"]}**, judged against {_safe(decision["against"])}.{_damage(decision["damaged"])}

{reasons}
"""


@dataclass(frozen=True)
class Facts:
    """What the card tells beside decision and report."""

    labels: dict[str, Counter[str]]
    """a part: the labels that its rows bear"""
    parts: dict[str, int]
    """a part: its rows"""
    far: list[str]
    """what of the data is far from what the base model was pretrained on"""
    cost: Cost | None


def write(
    decision: dict[str, Any],
    model: dict[str, Any],
    report: dict[str, Any],
    stated: Card,
    facts: Facts,
) -> str:
    """Return the whole card (after Mitchell et al. 2019): its head, what it is for, its data, the models compared, and where it is weak."""
    candidate = report["models"]["candidate"]
    metric, slices_by = report["metric"], report["metric_of_slices"]
    models = [
        (name, _interval(of["intervals"][metric["name"]], 4), f"{of[slices_by]:.4f}")
        for name, of in report["models"].items()
    ]
    labels = [
        (
            name,
            f"{of['precision']:.3f}",
            f"{of['recall']:.3f}",
            _interval(candidate["intervals"]["parts"][name], 3),
            str(of["support"]),
        )
        for name, of in candidate.get("labels", {}).items()
    ]
    parts = [
        (
            part,
            str(rows),
            ", ".join(f"{label} {n}" for label, n in sorted(facts.labels[part].items())),
        )
        for part, rows in facts.parts.items()
    ]
    confidence = f"{candidate['intervals']['confidence']:.0%}"
    return f"""{summary(decision, model)}
## Intended use

{_safe(stated.intended_use)}

**Limits.** {_safe(stated.limits)}

## Data

{_table(("part", "rows", "labels"), parts)}

Rows that are alike stand in one part; altered copies in train alone. Far from what the base model was pretrained on:
{_safe("; ".join(facts.far) or "nothing that was measured")}.

{_drift(decision["drift"])}

## Results

On the test rows, with {confidence} intervals:

{_table(("model", metric["title"], slices_by), models)}

{_table(("label", "precision", "recall", "F1", "test rows"), labels) if labels else ""}

## Where it is weak

{_weak(report)}
{_price(facts.cost)}"""


def _weak(report: dict[str, Any]) -> str:
    """Return the weakest slices, what alterations cost, and how far the confidence can be believed, a line each."""
    by, calibration = report["metric_of_slices"], report["calibration"]
    of_all = report["models"]["candidate"][by]
    below = [
        f"{of['column']} {of['slice']}: {by} {_interval(of['of_rows'], 3)} on {of['rows']} rows, {of_all:.3f} on all"
        for of in report["slices"]
        if of["weak"]
    ]
    altered = [
        f"{robustness.name(of['transform'])}: {report['metric']['title']} drops by {_interval(of['drop'], 3)}"
        for of in report["robustness"]
    ]
    lines = [
        *(below or [f"No slice of the test rows is surely worse than all of them by {by}"]),
        *altered,
        *_confidence(calibration),
    ]
    return "".join(f"- {_safe(line)}.\n" for line in lines)


def _confidence(calibration: dict[str, Any] | None) -> list[str]:
    """Return how far the confidence can be believed, where there is one."""
    if calibration is None:
        return []
    plain, scaled = calibration["as_it_is"], calibration["scaled"]
    mended = f"divided by the temperature {scaled['temperature']:.3g}, by {scaled['error']:.3f}"
    return [
        f"Its confidence is off by {plain['error']:.3f} on average; {mended if scaled['error'] < plain['error'] else 'no temperature mends that'}"
    ]


def _price(cost: Cost | None) -> str:
    """Return what it costs to score with it, where that was measured."""
    if cost is None:
        return ""
    return f"""
## Cost

Measured by register: one row alone takes {cost.latency_p50_ms:.3g} ms, 95% of rows at most {cost.latency_p95_ms:.3g} ms;
{cost.rows_per_second:,.0f} rows a second in batches; {cost.peak_memory_mib:,.0f} MiB of memory; {cost.megabytes:.3g} MB of files.
"""


def _interval(of: dict[str, float], digits: int) -> str:
    return f"{of['value']:.{digits}f} ({of['low']:.{digits}f} to {of['high']:.{digits}f})"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table; the head is ours, every cell is escaped."""
    lines = [head, ("---",) * len(head), *(tuple(map(_safe, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _damage(damaged: str | None) -> str:
    """Return why it was not judged against the version that it should have been."""
    return f" {_safe(damaged)}." if damaged else ""


def _drift(drift: dict[str, Any] | None) -> str:
    """Return how far the data is from that of the version judged against."""
    if drift is None:
        return "There is no earlier version whose data this data could be compared with."
    rows = [
        (
            of["measure"],
            f"{of['distance']:.3g}",
            f"{of['limit']:.3g}",
            "far" if of["far"] else "near",
            of["seen"],
        )
        for of in drift["measures"]
    ]
    return f"Its data beside that of {_safe(drift['against'])}:\n\n{_table(('measure', 'distance', 'limit', '', 'seen'), rows)}"


def _safe(value: object) -> str:
    """Return text that Markdown shows as it is: no HTML, link, picture, emphasis, code or cell of a table."""
    return re.sub(r"([\\`*_\[\]()!|~])", r"\\\1", escape(one_line(value), quote=False))
