"""Writes the page that a person opens after evaluate: how good and how weak the model is.

One file that asks for nothing beyond itself: pictures are data: addresses, the style is inline,
there is no script, and its Content-Security-Policy lets a browser fetch and run nothing.
"""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract.escape import one_line
from stages.judging.evidence import Comparison, Interval
from stages.judging.report import Report

TEMPLATE = Path(__file__).with_name("page.html")
KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
}  # how a file begins: what the page shows as a picture
TEXT = 600  # characters of a text that is shown
SLICES = 24  # that are shown


@dataclass(frozen=True)
class Mistake:
    """A test row that the model gets wrong, with a map of where the model looked, if there is one.

    x is a text, or a picture as PNG or JPEG.
    """

    x: str | bytes
    true: str | float
    predicted: str | float
    confidence: float
    """NaN where nothing is known of it"""
    origin: str
    saliency: bytes | None = None


@dataclass(frozen=True)
class Doubt:
    """A row whose label may be wrong; x is a text, or a picture as PNG or JPEG."""

    x: str | bytes
    label: str
    suggested: str
    probability_of_label: float
    probability_of_suggested: float
    origin: str
    part: str
    dropped: bool
    """from train"""


@dataclass(frozen=True)
class Findings:
    """What the page tells. Pictures are PNG or JPEG."""

    task: str
    facts: Mapping[str, object]
    """the lines under the title: name, value"""
    titles: Mapping[str, str]
    """by metric: its name"""
    less: Collection[str]
    """metrics of which less is better"""
    report: Report
    cost: Mapping[str, Mapping[str, float]]
    """by model, as timing.json has it; the candidate is missing if it was not measured"""
    taken_for: Mapping[str, tuple[str, int]]
    """as taken_for returns it"""
    confusion: bytes
    curves: bytes
    reliability: bytes | None
    """null if there is no confidence"""
    mistakes: Sequence[Mistake]
    """the worst first"""
    wrong: int
    """test rows that are wrong in all"""
    doubts: Sequence[Doubt]
    """the least believed first"""
    doubted: int
    """rows whose label may be wrong in all"""
    judged: Mapping[str, int]
    """by part: rows whose label was judged"""
    agreed: Mapping[str, float]
    """share of them, by part, to which the cheap model that judged gives their own label"""
    judge_fits: bool
    """whether that share is large enough for its doubt to say something"""


def write(path: Path, findings: Findings) -> None:
    """Write the page; equal findings give equal bytes.

    Raises ValueError for a picture that is neither PNG nor JPEG.
    """
    import jinja2

    page: Any = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.filters |= {
        "extract": lambda text: one_line(text, TEXT),
        "picture": _address,
        "place": _place,
        "value": lambda value: (value or "(none)") if isinstance(value, str) else f"{value:.4g}",
        "first_upper": lambda text: text[:1].upper() + text[1:],
    }
    page.tests["picture"] = lambda x: isinstance(x, bytes)
    report = findings.report
    candidate, *baselines = report.models
    model = report.models[candidate]
    lowest = min((interval.low for interval in model.parts.values()), default=0.0)
    written = page.from_string(
        TEMPLATE.read_text(encoding="utf-8")
    ).render(
        f=findings,
        report=report,
        model=model,
        shown=[name for name in findings.titles if name in model.scores],
        baselines={name: report.models[name] for name in baselines},
        start=min(floor(10 * lowest), 9) / 10,  # of the scale of a part's score
        labels=sorted(model.labels.items(), key=lambda item: (item[1].f1, item[0])),
        alone=findings.cost.get(candidate),
        enough=enough(report.beside, findings.cost),
        weak=[one for one in report.slices if one.weak],
        metric=report.metric,
        by=findings.titles[report.metric_of_slices],
        slices=report.slices[:SLICES],
        alterations=[(_call(one.transform), one) for one in report.robustness],
    )
    path.write_text(written, encoding="utf-8", newline="\n")


def enough(beside: Mapping[str, Comparison], cost: Mapping[str, Mapping[str, float]]) -> str | None:
    """Return the smallest baseline that the candidate is not shown to beat, if there is one.

    A baseline that learned nothing does not count.
    """
    equal = [name for name, one in beside.items() if not one.lower > 0 and cost[name]["megabytes"]]
    return min(equal, key=lambda name: cost[name]["megabytes"], default=None)


def worst(predictions: pd.DataFrame, severity: "pd.Series[float]", number: int) -> pd.DataFrame:
    """Return the rows (y, candidate, confidence) that are wrong, the worst first.

    At most `number` of them.
    """
    wrong = severity[severity > 0].sort_values(ascending=False, kind="stable")
    return predictions.loc[wrong.head(number).index]


def taken_for(pairs: pd.DataFrame) -> dict[str, tuple[str, int]]:
    """Return, for each true label, the wrong one that it got most often, and how often.

    pairs has the columns actual and predicted; ties go to the first by name.
    """
    wrong = pairs[pairs["actual"] != pairs["predicted"]]
    counts = wrong.value_counts(["actual", "predicted"]).rename("rows").reset_index()
    counts = counts.sort_values(["rows", "predicted"], ascending=[False, True])
    most = counts.drop_duplicates("actual").sort_values("actual")
    triples = most[["actual", "predicted", "rows"]].itertuples(index=False)
    return {label: (other, int(rows)) for label, other, rows in triples}


def _plain(value: object) -> object:
    """Return text with control and bidi characters escaped: the template prints all through it."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return one_line(value, len(value) * 10)


def _address(picture: bytes) -> str:
    kind = next((kind for start, kind in KINDS.items() if picture.startswith(start)), None)
    if kind is None:
        raise ValueError(f"neither PNG nor JPEG: {picture[:12]!r}")
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


def _call(transform: Mapping[str, Any]) -> str:
    """Return a transform as one writes a call."""
    settings = dict(transform)
    name = settings.pop("transform", None) or settings["name"].replace("_", " ")
    arguments = settings.pop("arguments", None)
    if not arguments:
        arguments = {key: value for key, value in settings.items() if key != "name"}
    shown = [f"{key} {value}" for key, value in arguments.items() if (key, value) != ("p", 1.0)]
    return f"{name} ({', '.join(shown)})"


def _place(interval: Interval, start: float) -> dict[str, str]:
    """Return where an interval lies on a scale from start to 1, in percent of its length."""
    low, high, value = (
        100 * (bound - start) / (1 - start)
        for bound in (interval.low, interval.high, interval.value)
    )
    return {"low": f"{low:.2f}", "width": f"{high - low:.2f}", "value": f"{value:.2f}"}
