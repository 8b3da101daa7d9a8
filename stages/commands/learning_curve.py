"""Measure how a task's score grows with its labels, and say what more of them would bring.

The task's own settings learn from growing parts of train, and validation measures. An inverse power
law of the error is fitted to the points (Hestness et al. 2017).
"""

import json
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path

import pandas as pd

from stages.commands import trials
from stages.commands.trials import Bench
from stages.contract.errors import ModelError
from stages.contract.progress import follow
from stages.report import search as page

LEAST = 1e-3  # an error below which nothing is left to be fitted
FAR = 1000  # times the rows: beyond that a law says nothing
POINT = 0.01  # of the metric: what the next rows are asked to bring


@dataclass(frozen=True)
class Point:
    """What was reached with so many rows: the mean of the draws, and the widest of their bounds."""

    rows: int
    score: float
    low: float
    high: float
    seconds: float


@dataclass(frozen=True)
class Curve:
    """The points, and about how many more rows the next hundredth costs (null if none would)."""

    task: str
    metric: str
    points: list[Point]
    law: tuple[float, float] | None
    """a and b of error = a * rows^-b; null for a metric without a greatest value"""
    more: int | None
    picture: str


def learning_curve(name: str, sizes: int, repeats: int) -> Curve:
    """Train on 1/2^(sizes - 1), ..., 1/4, 1/2 and all of the train rows, and write the curve.

    Each part but the whole is drawn several times. Raises ModelError if fewer than two sizes
    taught anything.
    """
    with trials.opened("learning_curve", name) as bench:
        shares = [2.0**-i for i in reversed(range(sizes))]
        points = [
            point
            for share in follow(shares, "learn", len(shares), "sizes")
            if (point := _point(bench, share, repeats if share < 1 else 1))
        ]
        if len(points) < 2:
            raise ModelError(f"{name}: nothing was learned from a part of the rows; label more")
        title, metric = bench.metric[1].title, bench.metric[1]
        law = _law(points) if metric.range == (0.0, 1.0) and not metric.less else None
        folder = Path("data/learning_curve", name)
        folder.mkdir(parents=True, exist_ok=True)
        picture = folder / "learning_curve.png"
        made = Curve(name, title, points, law, _more(points, law), str(picture))
        page.curve(picture, pd.DataFrame([asdict(point) for point in points]), title, law)
        (folder / "learning_curve.json").write_text(json.dumps(asdict(made), indent=1), "utf-8")
    return made


def _point(bench: Bench, share: float, repeats: int) -> Point | None:
    """Return what a share of the rows teaches, or None if it teaches nothing."""
    outcomes = list[trials.Outcome]()
    for draw in range(repeats):
        rows = trials.subset(bench.train, share, draw=draw)
        try:
            outcomes.append(trials.run(bench, bench.task.finetune, rows)[0])
        except ModelError:  # no better than chance, or a label of one row
            continue
    if not outcomes:
        return None
    return Point(
        outcomes[0].rows,
        sum(one.score.value for one in outcomes) / len(outcomes),
        min(one.score.low for one in outcomes),
        max(one.score.high for one in outcomes),
        sum(one.seconds for one in outcomes) / len(outcomes),
    )


def _law(points: list[Point]) -> tuple[float, float] | None:
    """Return a and b of error = a * rows^-b by least squares of logarithms; None if it rises."""
    x = [log(point.rows) for point in points]
    y = [log(max(1 - point.score, LEAST)) for point in points]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((one - mean_x) ** 2 for one in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    return (exp(mean_y - slope * mean_x), -slope) if slope < 0 else None


def _more(points: list[Point], law: tuple[float, float] | None) -> int | None:
    """Return how many more rows the law asks for the next POINT beyond what it says of all."""
    if law is None:
        return None
    (a, b), rows = law, points[-1].rows
    error = a * rows**-b - POINT
    if error <= LEAST or log(a / error) / b > log(FAR * rows):
        return None
    return round(exp(log(a / error) / b)) - rows


def told(made: Curve) -> list[str]:
    """Return a result as lines for a person to read."""
    lines = [
        f"{point.rows:>9,} rows: {made.metric} {point.score:.4f} "
        f"({point.low:.4f} to {point.high:.4f}), {point.seconds:.0f} s"
        for point in made.points
    ]
    if made.more is None:
        lines.append("more rows: no law fits these points, so nothing can be said")
    else:
        lines.append(
            f"more rows: about {made.more:,} for the next {POINT:g}, if it goes on as it did"
        )
    return [*lines, f"picture: {made.picture}"]
