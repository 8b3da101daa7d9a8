"""Find pictures, decode each once, and describe what tells them apart.

x is the path of a picture below data/.
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import xxhash
from numpy.typing import NDArray

from stages.contract import draws, groups, paths, progress
from stages.contract.errors import ReceiptError
from stages.contract.escape import extract, one_line
from stages.modalities.image import near, pictures
from stages.modalities.image.files import PictureError
from stages.modalities.image.pictures import Limits, Rgb
from stages.params.image import ImageModality
from stages.params.types import Encoding

FILES = True
DATA = Path("data")
# Red-green and yellow-blue, of red, green, blue.
OPPONENTS = np.array([[1, -1, 0], [0.5, 0.5, -1]], np.float32)
NUMBERS = ("shorter_side", "longer_side", "brightness", "contrast", "colourfulness")
LEAST_SIDE, MOST_PIXELS = 8, 100_000_000  # of a picture, whatever params.yaml says


def read(files: "pd.Series[Any]", encoding: Encoding) -> pd.DataFrame:  # noqa: ARG001  (a picture has none)
    """Return each file's path; the file is opened when it is looked at."""
    return pd.DataFrame(
        {"x": [_below_data(path) for path in files], "code": None, "reason": None},
        index=files.index,
        dtype=object,
    )


def cite(cells: "pd.Series[str]", folder: Path, source: Path) -> pd.DataFrame:
    """Return the path of the file that each cell names, relative to its table.

    A file is bad if it does not exist or lies outside the source.
    """
    rows = pd.DataFrame({"x": cells, "code": None, "reason": None}, index=cells.index, dtype=object)
    for i, cell in cells.items():
        if not str(cell).strip():
            rows.loc[i] = [cell, "empty", "names no picture"]
            continue
        code, reason = _wrong(cell, folder, source)
        rows.loc[i] = (
            [_below_data(folder / cell), None, None]
            if code is None
            else [cell, code, f"'{extract(cell)}' {reason}"]
        )
    return rows


def _wrong(cell: str, folder: Path, source: Path) -> tuple[str | None, str | None]:
    if Path(cell).is_absolute():
        return "outside", "is no path relative to its table"
    path = folder / cell
    if not Path(path.parent).resolve().is_relative_to(source.resolve()):
        return "outside", "leads out of the data set"
    try:
        return (
            (None, None)
            if paths.regular(path, source)
            else ("not_regular", "is not a regular file inside the data set")
        )
    except (FileNotFoundError, NotADirectoryError):
        return "missing_file", "is not there"
    except OSError as error:
        return "missing_file", f"cannot be looked at ({one_line(error.strerror, 100)})"


def _below_data(path: Path) -> str:
    """Return a path relative to data/, or the whole path if the file is elsewhere."""
    return (
        path.relative_to(DATA).as_posix()
        if path.is_relative_to(DATA)
        else path.absolute().as_posix()
    )


def look(x: "pd.Series[str]", settings: ImageModality) -> pd.DataFrame:
    """Decode each picture once, and return its numbers, a digest of its pixels and a fingerprint.

    The numbers are its size and its cells' brightness, contrast and colourfulness. Equal pixels are
    exact duplicates, however they are encoded.
    """
    columns = ["code", "reason", "note", "exact", "normal", "fingerprint", *NUMBERS]
    seen = pictures.each([DATA / name for name in x], partial(_describe, limits=limits(settings)))
    described = [
        {"code": outcome.code, "reason": outcome.reason}
        if isinstance(outcome, PictureError)
        else outcome
        for outcome in progress.follow(seen, "look at", len(x), "pictures")
    ]
    rows = pd.DataFrame(described, columns=columns, index=x.index, dtype=object)
    return rows.where(rows.notna(), None).astype(dict.fromkeys(NUMBERS, float))


def limits(settings: ImageModality) -> Limits:
    """Return the sizes that a picture may have: those of params.yaml that Refit itself takes."""
    least, most = settings.sides
    return Limits(max(least, LEAST_SIDE), most, min(settings.max_pixels, MOST_PIXELS))


def _describe(path: Path, limits: Limits) -> dict[str, Any]:
    picture = pictures.read(path, limits)
    content, cells = digest(picture.rgb), near.cells(picture.rgb)
    height, width = picture.rgb.shape[:2]
    fingerprint = near.fingerprint_of(cells, height, width)
    brightness, contrast = (float(value[0, 0]) for value in cv2.meanStdDev(fingerprint[near.LUMA]))
    return {
        "note": picture.note,
        "exact": content,
        "normal": content,
        "fingerprint": fingerprint,
        "shorter_side": min(width, height),
        "longer_side": max(width, height),
        "brightness": brightness / 255,
        "contrast": contrast / 255,
        "colourfulness": _colourfulness(cells),
    }


def digest(rgb: Rgb) -> str:
    """Return a hash of a picture's shape and pixels.

    XXH3 reveals accidents and costs a tenth of a SHA-256; it does not protect against a forger.
    """
    digest = xxhash.xxh3_128(f"{rgb.shape}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def _colourfulness(cells: "NDArray[np.float32]") -> float:
    """Return how colourful a picture is by its cells, from 0 (grey) to about 1.

    This is the measure of Hasler & Suesstrunk 2003, over 255.
    """
    means, spreads = cv2.meanStdDev(cv2.transform(cells, OPPONENTS))
    return (math.hypot(*spreads.flat) + 0.3 * math.hypot(*means.flat)) / 255


def alike(looked: pd.DataFrame) -> "pd.Series[Any]":
    """Return each picture's group number: exact and confirmed near duplicates share a group.

    Near duplicates are copies of another encoding or size.
    """
    fingerprints = (
        np.stack(looked["fingerprint"].tolist()) if len(looked) else np.empty((0, 1), np.uint8)
    )
    key = groups.linked(len(looked), near.pairs(fingerprints))
    return pd.Series(key, index=looked.index).groupby(looked["normal"]).transform("min")


def expectations(settings: ImageModality) -> list[dict[str, Any]]:
    """Return what sizes must satisfy: the bounds of each side, and of the median shorter side."""
    least, most = settings.sides
    low, high = settings.median_side
    return [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "shorter_side", "min_value": least},
        },
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "longer_side", "max_value": most},
        },
        {
            "type": "expect_column_median_to_be_between",
            "kwargs": {"column": "shorter_side", "min_value": low, "max_value": high},
        },
    ]


def traits(x: "pd.Series[str]", looked: pd.DataFrame, base: Path) -> pd.DataFrame:  # noqa: ARG001
    """Return the traits that tell domains apart.

    They are the shorter side, the longer side over the shorter, and what the cells look like.
    """
    light = looked[["shorter_side", "brightness", "contrast", "colourfulness"]]
    return light.assign(aspect=looked["longer_side"] / looked["shorter_side"]).astype(float)


def verified(x: str, content: str | None) -> Rgb:
    """Return the pixels of a picture that validate has seen.

    Raises ReceiptError if they are others now.
    """
    try:
        rgb = pictures.read(DATA / x, pictures.ANY).rgb
    except PictureError as error:
        raise ReceiptError(
            f"data/{extract(x)}: {error.reason}; it could be read before, run `dvc checkout` or "
            "validate anew"
        ) from None
    if content is not None and draws.digest_one(digest(rgb)) != content:
        raise ReceiptError(
            f"data/{extract(x)}: its pixels are not those that validate saw; run `dvc checkout`, "
            "or validate anew"
        )
    return rgb


def suggest(_: "pd.Series[str]", looked: pd.DataFrame) -> dict[str, Any]:
    """Return the settings that suit the pictures, by those looked at."""
    median, most = int(looked["shorter_side"].median()), int(looked["longer_side"].max())
    # ImageNet's models read 224, the crop unless the pictures are smaller.
    crop = 32 * max(3, min(7, round(median / 32)))
    return {
        "sides": [max(LEAST_SIDE, int(looked["shorter_side"].min()) // 2), min(65_535, 2 * most)],
        "max_pixels": min(MOST_PIXELS, 4 * most * most),
        "median_side": [max(1, median // 2), 2 * median],
        "shorter_side": crop * 8 // 7,
        "crop": crop,
    }
