"""Draws pictures as PNG: equal data gives equal bytes, and text from data is no mathematics."""

from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract.escape import one_line
from stages.contract.history import History
from stages.judging.report import Calibration

COLOURS = {"train": "#8a94a6", "validation": "#2457a6", "interval": "#b9cdec"}


def confusion(pairs: pd.DataFrame, labels: list[str], path: Path) -> None:
    """Draw the confusion matrix of pairs (actual, predicted) as PNG.

    Rows are true labels, shades are shares of the row, numbers are counts.
    """
    labels = [*labels, *sorted({*pairs["actual"], *pairs["predicted"]} - set(labels))]
    counts = pd.crosstab(
        pd.Categorical(pairs["actual"], labels),
        pd.Categorical(pairs["predicted"], labels),
        dropna=False,
    ).to_numpy()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = min(4 + 0.45 * len(labels), 30)
    figure, axes = _figure(1, (size, size))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks, names = range(len(labels)), [one_line(label, 40) for label in labels]
    axes.set_xticks(ticks, names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(ticks, names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    right = int(counts.trace())
    axes.set_title(f"{right} of {counts.sum()} right", fontsize="medium")
    if len(labels) <= 30:  # beyond that the numbers cannot be read
        for i in ticks:
            for j in ticks:
                axes.text(
                    j,
                    i,
                    str(counts[i, j]),
                    ha="center",
                    va="center",
                    color="white" if shares[i, j] > 0.5 else "black",
                )
    path.write_bytes(_png(figure))


def scatter(y: "pd.Series[float]", predicted: "pd.Series[float]", path: Path) -> None:
    """Draw predicted beside true numbers as PNG; on the dashed line they are equal."""
    figure, axes = _figure(1, (5.5, 5.5))
    ends = [min(y.min(), predicted.min()), max(y.max(), predicted.max())]
    axes.plot(ends, ends, color=COLOURS["train"], linewidth=1, linestyle="--")
    axes.plot(
        y, predicted, "o", color=COLOURS["validation"], markersize=4, alpha=0.35, markeredgewidth=0
    )
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title(f"{len(y)} test rows", fontsize="medium")
    _plain(axes)
    path.write_bytes(_png(figure))


def learning_curves(history: History, metric: str, title: str) -> bytes:
    """Draw losses by epoch and, beside them, the validation metric.

    A circle marks the epoch that finetune kept.
    """
    train = [entry for entry in history.entries if "loss" in entry.training]
    epochs = history.epochs
    score = next(one.validation[metric] for one in epochs if one.epoch == history.kept)
    figure, (losses, scores) = _figure(2, (9, 3.4))
    dots: dict[str, Any] = {"marker": "o", "markersize": 4}
    blue: dict[str, Any] = {"color": COLOURS["validation"], **dots}
    grey: dict[str, Any] = {"color": COLOURS["train"], **(dots if len(train) < 8 else {})}
    taken, lost = [one.epoch for one in train], [one.training["loss"] for one in train]
    losses.plot(taken, lost, label="train", **grey)
    steps, measured = [one.epoch for one in epochs], [one.validation[metric] for one in epochs]
    losses.plot(steps, [one.validation["loss"] for one in epochs], label="validation", **blue)
    losses.set_title("loss", fontsize="medium")
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False)
    scores.plot(steps, measured, **blue)
    circle = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": "#b3261e"}
    scores.plot(history.kept, score, "o", markeredgewidth=1.6, **circle)
    line = f"validation {title}: {score:.4f} in epoch {history.kept:g}, which is kept"
    scores.set_title(line, fontsize="medium", parse_math=False)
    for axes in (losses, scores):
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        _plain(axes)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _png(figure)


def reliability(calibration: Calibration) -> bytes:
    """Draw the share of right rows beside the confidence, as it is and with the temperature."""
    figure, panels = _figure(2, (9, 3.9))
    named = {"as it is": calibration.as_it_is, "scaled": calibration.scaled}
    for axes, (name, one) in zip(panels, named.items(), strict=True):
        lowest = min(value for row in one.bins for value in (row.confidence, row.low))
        confidence, right = [row.confidence for row in one.bins], [row.right for row in one.bins]
        axes.plot([0, 1], [0, 1], color=COLOURS["train"], linewidth=1, linestyle="--")
        for row in one.bins:
            ends = [row.low, row.high]
            axes.plot([row.confidence] * 2, ends, color=COLOURS["interval"], linewidth=3)
        axes.plot(confidence, right, "o", color=COLOURS["validation"], markersize=5)
        title = f"{name}: temperature {one.temperature:.3g}, error {one.error:.4f}"
        axes.set_title(title, fontsize="medium", parse_math=False)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share of rows that are right")
        axes.set_xlim(max(lowest - 0.03, 0), 1.01)
        axes.set_ylim(max(lowest - 0.03, 0), 1.01)
        _plain(axes)
    return _png(figure)


def trials(done: list[dict[str, Any]], chosen: int, metric: str) -> bytes:
    """Draw the score of each trial of a search, with its interval, in their order.

    Filled dots are trials on all train rows, and a circle marks the one that is chosen.
    """
    shown = [one for one in done if one["outcome"]]
    figure, axes = _figure(1, (9, 3.6))
    for place, one in enumerate(shown):
        score, whole = one["outcome"]["score"], one["whole"]
        axes.plot(
            [place] * 2, [score["low"], score["high"]], color=COLOURS["interval"], linewidth=3
        )
        fill = COLOURS["validation"] if whole else "white"
        axes.plot(place, score["value"], "o", color=COLOURS["validation"], markerfacecolor=fill)
        if one["number"] == chosen:
            circle = {"markersize": 13, "markerfacecolor": "none", "markeredgecolor": "#b3261e"}
            axes.plot(place, score["value"], "o", markeredgewidth=1.6, **circle)
    names = [one_line(one["way"], 20) for one in shown]
    axes.set_xticks(range(len(shown)), names, rotation=45, ha="right", parse_math=False)
    title = f"validation {metric}; filled: on all rows; circled: chosen"
    axes.set_title(title, fontsize="medium", parse_math=False)
    _plain(axes)
    return _png(figure)


def importances(shares: dict[str, float]) -> bytes:
    """Draw the share of the score's variance that depends on each setting, the largest on top."""
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure, axes = _figure(1, (7, 0.8 + 0.35 * len(ordered)))
    axes.barh(range(len(ordered)), [share for _, share in ordered], color=COLOURS["validation"])
    names = [one_line(name, 40) for name, _ in ordered]
    axes.set_yticks(range(len(ordered)), names, parse_math=False)
    axes.set_xlim(0, 1)
    _plain(axes)
    return _png(figure)


def sizes(points: pd.DataFrame, metric: str, law: tuple[float, float] | None) -> bytes:
    """Draw score and interval (rows, score, low, high) by rows on a logarithmic scale.

    The dashed line is the law error = a * rows^-b.
    """
    figure, axes = _figure(1, (7, 4))
    for point in points.itertuples():
        ends = [point.low, point.high]
        axes.plot([point.rows] * 2, ends, color=COLOURS["interval"], linewidth=3)
    axes.plot(points["rows"], points["score"], "o-", color=COLOURS["validation"])
    if law:
        rows = [points["rows"].iloc[0] * (4 * points["rows"].iloc[-1] / points["rows"].iloc[0])
                ** (i / 40) for i in range(41)]  # fmt: skip
        fitted = [1 - law[0] * of ** -law[1] for of in rows]
        axes.plot(rows, fitted, color=COLOURS["train"], linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("train rows")
    axes.set_title(f"validation {metric}", fontsize="medium", parse_math=False)
    _plain(axes)
    return _png(figure)


def _plain(axes: Any) -> None:
    """Leave out what is no data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e8ec")
    axes.set_axisbelow(True)


def _figure(panels: int, size: tuple[float, float]) -> Any:
    """Return a figure and its axes (one, or an array of them)."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt.subplots(1, panels, figsize=size, layout="constrained")


def _png(figure: Any) -> bytes:
    import matplotlib.pyplot as plt

    file = BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    plt.close(figure)
    return file.getvalue()
