"""Provide what cheap models learn from a picture: histograms of gradients and colours."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.modalities.image import pictures, reading
from stages.modalities.image.files import PictureError

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

    rgb = pictures.read(path, pictures.ANY).rgb
    small = np.asarray(cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
    colours = [
        np.histogram(small[..., channel], bins=32, range=(0, 256), density=True)[0]
        for channel in range(3)
    ]
    return np.concatenate([_gradients(small), *colours])


def _gradients(rgb: Array) -> Array:
    """Return histograms of a reduced picture's gradients: a cell counts in four blocks of 2 x 2."""
    down, across = np.gradient(rgb.mean(axis=2))
    bins = (np.arctan2(down, across) % np.pi / np.pi * ANGLES).astype(int).clip(max=ANGLES - 1)
    at, cells = np.arange(SIDE) // CELL * ANGLES, SIDE // CELL
    histograms = np.bincount(
        (at[:, None] * cells + at[None, :] + bins).ravel(),
        np.hypot(down, across).ravel(),
        cells**2 * ANGLES,
    )
    grid = histograms.reshape(cells, cells, ANGLES)
    blocks = np.stack(
        [grid[i : i + cells - 1, j : j + cells - 1] for i in (0, 1) for j in (0, 1)], axis=2
    )
    return (blocks / np.sqrt((blocks**2).sum(axis=(2, 3), keepdims=True) + 1)).ravel()
