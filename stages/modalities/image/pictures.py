"""Read pictures: the one door to Pillow, so that all stages and services see the same pixels."""

import ctypes
import logging
import os
import re
import struct
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from stages.contract import stopping
from stages.contract.escape import one_line
from stages.modalities.image.files import PictureError, opened

S = TypeVar("S")
T = TypeVar("T")
Rgb = NDArray[np.uint8]

PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    WebPImagePlugin.WebPImageFile,
    GifImagePlugin.GifImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
)
BILINEAR = int(Image.Resampling.BILINEAR)
FORMATS = [str(plugin.format) for plugin in PLUGINS]  # no EPS: it would start Ghostscript
# The second picture of a JPEG (MPO) is a preview or a gain map, not a frame.
PAGED = ("PNG", "WEBP", "GIF", "TIFF")
MAX_BYTES = 2**30  # of one file: Pillow reads a whole WEBP into memory before it knows its size
# What Pillow 13 raises on bad bytes: types of the first line came up in 190,000 altered files of 33
# kinds, those of the second can be raised by its source.
BAD_BYTES = (OSError, SyntaxError, ValueError, TypeError, LookupError,
             EOFError, ArithmeticError, MemoryError, struct.error)  # fmt: skip
TURNS: dict[int, Callable[[Rgb], Rgb]] = {  # EXIF orientation -> the picture as it was seen
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.swapaxes(0, 1),
    6: lambda rgb: rgb[::-1].swapaxes(0, 1),
    7: lambda rgb: rgb[::-1, ::-1].swapaxes(0, 1),
    8: lambda rgb: rgb[:, ::-1].swapaxes(0, 1),
}
# Pillow and NumPy occupy the interpreter for a third of the time: more threads would wait for it.
THREADS_REACH = 2
BATCH = 8  # pictures given to a worker at a time
AHEAD = 3  # batches in flight for each worker

# Pictures are worked on side by side: threads of OpenCV for each would cost more than they bring.
cv2.setNumThreads(1)
# Refit reports Pillow's errors itself; whoever has set up logging still gets them.
logging.getLogger("PIL").addHandler(logging.NullHandler())
# Pillow's libtiff writes straight to stderr without naming a file.
for _handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
    if _set := getattr(ctypes.CDLL(str(Image.core.__file__)), _handler, None):
        _set(None)


@dataclass(frozen=True)
class Limits:
    """The size that a picture may have, in pixels: least and most of a side, and most in all."""

    least_side: int
    most_side: int
    most_pixels: int


@dataclass(frozen=True, eq=False)
class Picture:
    """The pixels of a picture, and what a person should know of how they were read.

    The pixels are uint8 (height, width, 3) and read-only.
    """

    rgb: Rgb
    note: str | None


ANY = Limits(1, 65_535, 2**28)  # for pictures that were looked at before


def read(path: Path, limits: Limits) -> Picture:
    """Return the picture in a file, or its first frame, turned as its EXIF says.

    The content says what a file is, not its name. Transparency is laid on white. 16-bit grey is
    divided by 257 (12-bit: by 4095/255), 32-bit integers are taken as 16-bit ones and floats as 0
    to 1; other values are refused. Colour profiles are not applied; CMYK is turned into RGB without
    one. Raises PictureError.
    """
    with opened(path) as file, _silence:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size == 0:
            raise PictureError("empty_file", "has no bytes")
        if size > MAX_BYTES:
            raise PictureError("too_large", f"{size:,} bytes, at most {MAX_BYTES:,}")
        rgb, frames = _decoded(file, limits)
    rgb.flags.writeable = False
    return Picture(rgb, f"first of {frames:,} frames" if frames > 1 else None)


def _decoded(file: BinaryIO, limits: Limits) -> tuple[Rgb, int]:
    """Return the pixels of a file's first frame, and the number of its frames."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            _measure(image.size, limits)
            image.load()
            rgb = _turned(_rgb(image), image)
            frames: int = getattr(image, "n_frames", 1) if image.format in PAGED else 1
            return rgb, frames
    except UnidentifiedImageError:
        raise PictureError(
            "not_a_picture", f"not one of {', '.join(FORMATS)}, or broken in its first bytes"
        ) from None
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise PictureError(
            "too_large",
            f"more than {most:,} pixels, at most {min(most, limits.most_pixels):,} in all",
        ) from None
    except BAD_BYTES as error:
        raise PictureError(
            _code(error), f"{type(error).__name__}: {one_line(error, 120)}"
        ) from None


def write(rgb: Rgb, into: Path | BinaryIO) -> None:
    """Write a picture as PNG: lossless, and equal pixels give equal bytes."""
    Image.fromarray(rgb).save(into, "PNG", compress_level=1)


def resize(rgb: Rgb, size: tuple[int, int], filter: int) -> Rgb:
    """Resize a picture to (width, height) with a filter of Pillow.

    transformers' image processors do the same.
    """
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling(filter)))


def thumbnail(rgb: Rgb, side: int) -> bytes:
    """Return a picture as JPEG, with its longer side reduced to `side` pixels.

    The picture is (height, width, 3), uint8.
    """
    picture = Image.fromarray(rgb)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def each(
    items: Iterable[S], work: Callable[[S], T], workers: int | None = None
) -> Iterator[T | PictureError]:
    """Yield what work returns for each item, in order, or the PictureError that it raised.

    An item is a path or what names one. workers is the most that work at a time (None: one per
    core); what is yielded does not depend on it. Up to 2 workers are threads; more are processes,
    which need work, items and values to be picklable. Items are taken as results are used: some 24
    per worker are in flight, however many items exist.
    """
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1:
        yield from (_attempt(work, item) for item in items)
        return
    executor, waiting = _executor(workers), deque[Future[list[T | PictureError]]]()
    remaining = iter(items)
    try:
        while True:
            while len(waiting) < AHEAD * workers and (batch := list(islice(remaining, BATCH))):
                waiting.append(executor.submit(_attempt_all, work, batch))
            if not waiting:
                return
            yield from waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


def _attempt_all(work: Callable[[S], T], items: list[S]) -> list[T | PictureError]:
    return [_attempt(work, item) for item in items]


def _attempt(work: Callable[[S], T], item: S) -> T | PictureError:
    try:
        return work(item)
    except PictureError as error:
        return error.with_traceback(None)  # the traceback would keep the pixels


def _executor(workers: int) -> Executor:
    if workers <= THREADS_REACH:
        return ThreadPoolExecutor(workers)
    # A fork of this process would copy locks that its threads own; the fork server is a fresh one.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(workers, context, stopping.end_with_parent)


def _measure(size: tuple[int, int], limits: Limits) -> None:
    """Refuse a picture by the size in its header, before memory is taken for it."""
    width, height = size
    if min(size) < limits.least_side:
        raise PictureError(
            "too_small", f"{width:,} x {height:,} pixels, each side at least {limits.least_side:,}"
        )
    if max(size) > limits.most_side:
        raise PictureError(
            "too_large", f"{width:,} x {height:,} pixels, each side at most {limits.most_side:,}"
        )
    if width * height > limits.most_pixels:
        raise PictureError(
            "too_large", f"{width:,} x {height:,} pixels, at most {limits.most_pixels:,} in all"
        )


def _rgb(image: Image.Image) -> Rgb:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(_eight_bit(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return np.array(
            Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        )
    if image.mode == "L":
        return _grey(np.asarray(image))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _grey(values: Rgb) -> Rgb:
    return cast(Rgb, cv2.cvtColor(values, cv2.COLOR_GRAY2RGB))


def _eight_bit(image: Image.Image) -> Rgb:
    """Return grey of more than 8 bits as uint8; Pillow's own conversion cuts all above 255."""
    values: NDArray[Any] = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    floats = image.mode == "F"
    white = 1 if floats else 2 ** min(max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))), 16) - 1
    least, most = values.min(), values.max()
    if not (least >= 0 and most <= white):
        raise PictureError(
            "unknown_scale", f"values from {least:g} to {most:g}, not 0 to {white:,}"
        )
    scaled = np.rint(values * (255 / white)).astype(np.uint8)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        # White is zero, which Pillow respects only up to 8 bits.
        scaled = 255 - scaled
    if (hidden := image.info.get("transparency")) is not None:
        scaled = np.where(values == hidden, np.uint8(255), scaled)
    return scaled


def _turned(rgb: Rgb, image: Image.Image) -> Rgb:
    turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return np.ascontiguousarray(turn(rgb)) if turn else rgb


def _code(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return "unreadable"
    return (
        "truncated"
        if isinstance(error, EOFError) or "truncated" in str(error).lower()
        else "broken"
    )


class _Silence:
    """Count the reads under way in all threads: the first adds the filter, the last removes it.

    warnings.catch_warnings is not thread-safe, and makes other libraries repeat the warnings that
    they give once.
    """

    filter = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reads = 0
        self.filters: list[Any] = []

    def __enter__(self) -> None:
        with self.lock:
            self.reads += 1
            if self.reads == 1:
                self.filters = cast(list[Any], warnings.filters)
                self.filters.insert(0, self.filter)

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.reads -= 1
            if self.reads == 0 and self.filter in self.filters:
                self.filters.remove(self.filter)


_silence = _Silence()
