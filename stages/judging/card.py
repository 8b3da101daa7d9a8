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

**Decision: {decision["outcome"]}**, judged against {_safe(decision["against"])}.

{reasons}
"""


def write(decision: dict[str, Any], model: dict[str, Any], report: dict[str, Any]) -> str:
    """Return the whole card: its head, the models compared, and the candidate's scores by label."""
    others = "\n".join(f"| {_safe(name)} | {of['accuracy']:.4f} | {of['macro_f1']:.4f} |" for name, of in report.items())
    rows = "\n".join(
        f"| {_safe(name)} | {of['precision']:.3f} | {of['recall']:.3f} | {of['f1']:.3f} | {of['support']} |"
        for name, of in report["candidate"]["labels"].items()
    )
    drift = decision["drift"]
    distances = "\n".join(
        f"| {_safe(of['measure'])} | {of['distance']:.3g} | {of['limit']:.3g} | {'**far**' if of['far'] else 'near'} | {_safe(of['seen'])} |"
        for of in (drift or {"measures": []})["measures"]
    )
    against = f"Its data beside that of {_safe(drift['against'])}" if drift else "No earlier version left a profile of its data"
    return f"""{summary(decision, model)}
| model | accuracy | macro-F1 |
|---|---|---|
{others}

| label | precision | recall | F1 | test rows |
|---|---|---|---|---|
{rows}

{against}:

| measure | distance | limit | | seen |
|---|---|---|---|---|
{distances}
"""


def _safe(value: object) -> str:
    """Return text that Markdown shows as it is: no HTML, link, picture, emphasis, code or cell of a table."""
    return re.sub(r"([\\`*_\[\]()!|~])", r"\\\1", escape(one_line(value), quote=False))
