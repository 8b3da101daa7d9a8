"""Show texts to a person."""

from pathlib import Path

import pandas as pd

from stages.contract import receipts
from stages.params.text import TextModality


def show(samples: pd.DataFrame, settings: TextModality) -> list[str]:  # noqa: ARG001
    """Return the texts."""
    return samples["x"].tolist()


def preview(
    originals: pd.DataFrame,
    copies: pd.DataFrame,
    files: Path,  # noqa: ARG001  (a text is not a file)
    below: str,  # noqa: ARG001
    into: Path,
) -> None:
    """Write originals beside their copies to pairs.json."""
    pairs = [
        {"original": a, "altered": b, "y": y}
        for a, b, y in zip(originals["x"], copies["x"], copies["y"], strict=True)
    ]
    receipts.write_json(into / "pairs.json", pairs)
