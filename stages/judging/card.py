"""Writes the model card: what the model is, what it learned from, how good it is, and what was decided."""

import re
from html import escape
from typing import Any

from stages.contract.escape import one_line


def summary(decision: dict[str, Any], model: dict[str, Any]) -> str:
    """Return the head of the card as Markdown, every value from data escaped: what the model is, and the decision."""
    reasons = "\n".join(f"- {_safe(v['gate'])}: **{v['outcome']}**. {_safe(v['reason'])}" for v in decision["verdicts"])
    data = decision["data"]
    return f"""# {_safe(decision["task"])}

A {_safe(model["modality"]["name"])} {_safe(model["problem"])} model, fine-tuned from `{model["base"]["source"]}`.
Model sha256 `{decision["candidate"]["model_sha256"]}`. Data `{data["source"]}` (DVC md5 `{data["md5"]}`), {data["test_rows"]} test rows.

**Decision: {decision["outcome"]}**, judged against {_safe(decision["against"])}.{_damage(decision["damaged"])}

{reasons}
"""


def write(decision: dict[str, Any], model: dict[str, Any], report: dict[str, Any]) -> str:
    """Return the whole card: its head, the models compared, and the candidate's scores by label."""
    others = "\n".join(f"| {_safe(name)} | {of['accuracy']:.4f} | {of['macro_f1']:.4f} |" for name, of in report.items())
    rows = "\n".join(
        f"| {_safe(name)} | {of['precision']:.3f} | {of['recall']:.3f} | {of['f1']:.3f} | {of['support']} |"
        for name, of in report["candidate"]["labels"].items()
    )
    return f"""{summary(decision, model)}
| model | accuracy | macro-F1 |
|---|---|---|
{others}

| label | precision | recall | F1 | test rows |
|---|---|---|---|---|
{rows}

{_drift(decision["drift"])}
"""


def _damage(damaged: str | None) -> str:
    """Return why it was not judged against the version that it should have been."""
    return f" {_safe(damaged)}." if damaged else ""


def _drift(drift: dict[str, Any] | None) -> str:
    """Return how far the data is from that of the version judged against."""
    if drift is None:
        return "There is no earlier version whose data this data could be compared with."
    rows = "\n".join(
        f"| {_safe(of['measure'])} | {of['distance']:.3g} | {of['limit']:.3g} | {'**far**' if of['far'] else 'near'} | {_safe(of['seen'])} |"
        for of in drift["measures"]
    )
    return f"""Its data beside that of {_safe(drift["against"])}:

| measure | distance | limit | | seen |
|---|---|---|---|---|
{rows}"""


def _safe(value: object) -> str:
    """Return text that Markdown shows as it is: no HTML, link, picture, emphasis, code or cell of a table."""
    return re.sub(r"([\\`*_\[\]()!|~])", r"\\\1", escape(one_line(value), quote=False))
