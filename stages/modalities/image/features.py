"""Provide what cheap models learn from a picture: histograms of gradients and colours."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.modalities.image import pictures, reading
from stages.modalities.image.pictures import PictureError

Array = np.ndarray[Any, Any]

# Pixels of a reduced picture's side and of a cell's; bins of the unsigned direction.
SIDE, CELL, ANGLES = 64, 8, 9


def features(x: "pd.Series[str]") -> Array:
    """Return each picture's histograms of gradients and of colours (rows, 1,764 + 96).

    The gradients are oriented (Dalal & Triggs 2005).
    """
    rows = list(pictures.each([reading.DATA / name for name in x], _describe))
    if wrong := next((row for row in rows if isinstance(row, PictureError)), None):
        raise wrong
    return np.stack([row for row in rows if not isinstance(row, PictureError)])


def _describe(path: Path) -> Array:
    import cv2

    rgb = np.asarray(
        cv2.resize(
            pictures.read(path, pictures.ANY).rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA
        )
    )
    down, across = np.gradient(rgb.mean(axis=2))
    bins = (np.arctan2(down, across) % np.pi / np.pi * ANGLES).astype(int).clip(max=ANGLES - 1)
    at = np.arange(SIDE) // CELL * ANGLES
    cells = np.bincount(
        (at[:, None] * (SIDE // CELL) + at[None, :] + bins).ravel(),
        np.hypot(down, across).ravel(),
        (SIDE // CELL) ** 2 * ANGLES,
    )
    grid = cells.reshape(SIDE // CELL, SIDE // CELL, ANGLES)
    blocks = np.stack(
        [grid[i : i + SIDE // CELL - 1, j : j + SIDE // CELL - 1] for i in (0, 1) for j in (0, 1)],
        axis=2,
    )
    blocks = blocks / np.sqrt((blocks**2).sum(axis=(2, 3), keepdims=True) + 1)
    colours = [
        np.histogram(rgb[..., channel], bins=32, range=(0, 256), density=True)[0]
        for channel in range(3)
    ]
    return np.concatenate([blocks.ravel(), *colours])
