"""Show pictures to a person."""

from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract.escape import extract
from stages.modalities.image import encoding, pictures, reading
from stages.modalities.image.pictures import Rgb
from stages.params.image import ImageModality

SIDE = 224  # pixels of a picture on a page
SHEET_ROWS = 30  # labels of a contact sheet


def show(samples: pd.DataFrame, settings: ImageModality) -> list[bytes]:
    """Return the square of each picture that the model sees, as a small JPEG."""
    content = samples["content"] if "content" in samples else [None] * len(samples)
    return [
        pictures.thumbnail(encoding.seen(reading.verified(x, digest), settings), SIDE)
        for x, digest in zip(samples["x"], content, strict=True)
    ]


def preview(
    originals: pd.DataFrame, copies: pd.DataFrame, files: Path, below: str, into: Path
) -> None:
    """Write contact_sheet.png: a row for each label, each original (bold) beside its copies."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    cells = _by_label(originals, copies, files, below)
    shown, width = list(cells.items())[:SHEET_ROWS], max(map(len, cells.values()), default=1)
    height = max(1, len(shown))
    size = (1.5 * width + 1, 1.6 * height)
    figure, axes = plt.subplots(height, width, figsize=size, squeeze=False, layout="constrained")
    for at in axes.flat:
        at.set_axis_off()
    for row, (label, pair) in zip(axes, shown, strict=False):
        for at, (name, rgb) in zip(row, pair, strict=False):
            _draw(at, name, label, rgb)
    figure.savefig(into / "contact_sheet.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def _by_label(
    originals: pd.DataFrame, copies: pd.DataFrame, files: Path, below: str
) -> dict[str, list[tuple[str, Rgb]]]:
    """Return the pictures of each label with their ids, each original before its copies."""
    cells = dict[str, list[tuple[str, Rgb]]]()
    for (_, original), (_, copy) in zip(originals.iterrows(), copies.iterrows(), strict=True):
        row = cells.setdefault(", ".join(copy["y"]), [])
        if not any(name == original["id"] for name, _ in row):
            row.append((original["id"], reading.verified(original["x"], original["content"])))
        path = files / Path(copy["x"]).relative_to(below)
        row.append((copy["id"], pictures.read(path, pictures.ANY).rgb))
    return cells


def _draw(at: Any, name: str, label: str, rgb: Rgb) -> None:
    is_copy = "+" in name
    at.imshow(rgb)
    at.set_title(
        "altered" if is_copy else extract(label),
        fontsize="small",
        fontweight="normal" if is_copy else "bold",
        parse_math=False,
    )
