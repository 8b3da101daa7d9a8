"""Draws what people look at."""

from pathlib import Path

import pandas as pd


def confusion(y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str], path: Path) -> None:
    """Draw the confusion matrix as PNG: rows are true labels, shades are shares of the row, numbers are counts."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    counts = pd.crosstab(pd.Categorical(y, labels), pd.Categorical(predicted, labels), dropna=False).to_numpy()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    size = min(4 + 0.45 * len(labels), 30)
    figure, axes = plt.subplots(figsize=(size, size), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(labels))
    axes.set_xticks(ticks, labels, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(ticks, labels, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    right = int(counts.trace())
    axes.set_title(f"{right} of {counts.sum()} test rows right", fontsize="medium")
    if len(labels) <= 30:  # beyond that the numbers cannot be read
        for i in ticks:
            for j in ticks:
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
