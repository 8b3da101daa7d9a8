"""Writes the page that a person opens after evaluate: how good the model is, where it is weak, what it gets wrong.

One file, which asks for nothing beyond itself: pictures are data: addresses, the style is inline, there is no script,
and its Content-Security-Policy lets a browser fetch and run nothing.
"""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract.escape import one_line

TEMPLATE = Path(__file__).with_name("page.html")
KINDS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
}  # how a file begins: what the page shows as a picture
TEXT = 600  # characters of a text that is shown
SLICES = 24  # that are shown


@dataclass(frozen=True)
class Mistake:
    """A test row that the model gets wrong; x is a text, or a picture as PNG or JPEG, with a map of where the model looked."""

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
    """what stands under the title: name, value"""
    titles: Mapping[str, str]
    """a metric: as people call it"""
    less: Collection[str]
    """metrics of which less is better"""
    headlines: Mapping[str, Mapping[str, float]]
    """a model's metrics by name; the first model is the candidate, the others its baselines"""
    confidence: float
    """of the intervals: 0.95"""
    found: Mapping[str, Any]
    """report.json: metric, models, beside, calibration, slices, robustness"""
    cost: Mapping[str, Mapping[str, float]]
    """what a model costs, by name, as timing.json has it; the candidate is missing where it was not measured"""
    taken_for: Mapping[str, tuple[str, int]]
    """as taken_for returns it"""
    confusion: bytes
    curves: bytes
    reliability: bytes | None
    """null where there is no confidence"""
    mistakes: Sequence[Mistake]
    """the worst first"""
    wrong: int
    """test rows that are wrong in all"""
    doubts: Sequence[Doubt]
    """the least believed first"""
    doubted: int
    """rows whose label may be wrong in all"""
    judged: Mapping[str, int]
    """rows a part whose label was looked at"""
    agreed: Mapping[str, float]
    """share of them, a part, to which the cheap model that judged gives their own label"""
    judge_fits: bool
    """whether that share is large enough for its doubt to say something"""


def write(path: Path, findings: Findings) -> None:
    """Write the page; equal findings give equal bytes. Raises ValueError for a picture that is neither PNG nor JPEG."""
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
        "value": lambda of: of if isinstance(of, str) else f"{of:.4g}",
        "first_upper": lambda text: text[:1].upper() + text[1:],
    }
    page.tests["picture"] = lambda x: isinstance(x, bytes)
    candidate, *baselines = findings.headlines
    model, by = findings.found["models"][candidate], findings.found["metric_of_slices"]
    intervals = model["intervals"]
    written = page.from_string(
        TEMPLATE.read_text(encoding="utf-8")
    ).render(
        f=findings,
        candidate=findings.headlines[candidate],
        baselines={name: findings.headlines[name] for name in baselines},
        intervals=intervals,
        start=min(floor(10 * min((of["low"] for of in intervals["parts"].values()), default=0)), 9)
        / 10,  # of the scale of a part's score
        labels=sorted(model.get("labels", {}).items(), key=lambda item: (item[1]["f1"], item[0])),
        alone=findings.cost.get(candidate),
        enough=enough(findings.found["beside"], findings.cost),
        weak=[of for of in findings.found["slices"] if of["weak"]],
        metric=findings.found["metric"],
        by=findings.titles[by],
        less=findings.less,
        slices=findings.found["slices"][:SLICES],
        alterations=[(_call(of["transform"]), of) for of in findings.found["robustness"]],
    )
    path.write_text(written, encoding="utf-8", newline="\n")


def enough(
    beside: Mapping[str, Mapping[str, Any]], cost: Mapping[str, Mapping[str, float]]
) -> str | None:
    """Return the smallest baseline that learned something and that the candidate is not shown to beat, if there is one."""
    equal = [name for name, of in beside.items() if not of["lower"] > 0 and cost[name]["megabytes"]]
    return min(equal, key=lambda name: cost[name]["megabytes"], default=None)


def worst(predictions: pd.DataFrame, severity: "pd.Series[float]", number: int) -> pd.DataFrame:
    """Return the rows (y, candidate, confidence) that are wrong, the worst first, at most `number` of them."""
    return predictions.loc[
        severity[severity > 0].sort_values(ascending=False, kind="stable").head(number).index
    ]


def taken_for(pairs: pd.DataFrame) -> dict[str, tuple[str, int]]:
    """Return for each true label of pairs (actual, predicted) the wrong one that it got most often, and how often; ties go to the first by name."""
    wrong = pairs[pairs["actual"] != pairs["predicted"]]
    counts = (
        wrong.value_counts(["actual", "predicted"])
        .rename("rows")
        .reset_index()
        .sort_values(["rows", "predicted"], ascending=[False, True])
    )
    most = counts.drop_duplicates("actual").sort_values("actual")
    return {
        label: (other, int(rows))
        for label, other, rows in most[["actual", "predicted", "rows"]].itertuples(index=False)
    }


def _plain(value: object) -> object:
    """Return text whose control and bidi characters are escaped: what the template prints, whatever it is."""
    return (
        value
        if not isinstance(value, str) or value.isprintable()
        else one_line(value, len(value) * 10)
    )


def _address(picture: bytes) -> str:
    kind = next((kind for start, kind in KINDS.items() if picture.startswith(start)), None)
    if kind is None:
        raise ValueError(f"neither PNG nor JPEG: {picture[:12]!r}")
    return f"data:image/{kind};base64,{b64encode(picture).decode()}"


def _call(transform: Mapping[str, Any]) -> str:
    """Return how a transform is made, as one writes a call."""
    settings = dict(transform)
    name = settings.pop("transform", None) or settings["name"].replace("_", " ")
    settings = settings.pop("arguments", None) or {
        key: value for key, value in settings.items() if key != "name"
    }
    return f"{name} ({', '.join(f'{key} {value}' for key, value in settings.items() if (key, value) != ('p', 1.0))})"


def _place(interval: Mapping[str, float], start: float) -> dict[str, str]:
    """Return where an interval lies on a scale from start to 1, in percent of its length."""
    low, high, value = (
        100 * (interval[at] - start) / (1 - start) for at in ("low", "high", "value")
    )
    return {"low": f"{low:.2f}", "width": f"{high - low:.2f}", "value": f"{value:.2f}"}
