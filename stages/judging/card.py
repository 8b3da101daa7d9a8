"""Writes the model card: what the model is, what it learned from, how good it is, and what was decided."""

from html import escape
from typing import Any

from stages.contract.escape import one_line


def write(decision: dict[str, Any], model: dict[str, Any], report: dict[str, Any]) -> str:
    """Return the card as Markdown; every value from data is escaped."""
    rows = "\n".join(
        f"| {_safe(name)} | {of['precision']:.3f} | {of['recall']:.3f} | {of['f1']:.3f} | {of['support']} |"
        for name, of in report["candidate"]["labels"].items()
    )
    others = "\n".join(f"| {_safe(name)} | {of['accuracy']:.4f} | {of['macro_f1']:.4f} |" for name, of in report.items())
    reasons = "\n".join(f"- {_safe(v['gate'])}: **{v['outcome']}**. {_safe(v['reason'])}" for v in decision["verdicts"])
    data = decision["data"]
    return f"""# {_safe(decision["task"])}

A {_safe(model["modality"]["name"])} {_safe(model["problem"])} model, fine-tuned from `{_safe(model["base"]["source"])}`.
Model sha256 `{model["sha256"]}`. Data `{_safe(data["source"])}` (DVC md5 `{data["md5"]}`), {data["test_rows"]} test rows.

**Decision: {decision["outcome"]}**, judged against {_safe(decision["against"])}.

{reasons}

| model | accuracy | macro-F1 |
|---|---|---|
{others}

| label | precision | recall | F1 | test rows |
|---|---|---|---|---|
{rows}
"""


def _safe(value: object) -> str:
    return escape(one_line(value)).replace("|", "&#124;").replace("`", "&#96;")
