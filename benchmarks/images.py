"""Measures what pictures cost.

python -m benchmarks.images reading --pictures FOLDER
"""

import argparse
import hashlib
import math
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from stages.contract import pictures

OPPONENTS = np.array([[1, -1, 0], [0.5, 0.5, -1]], np.float32)  # Hasler and Suesstrunk 2003: red-green and yellow-blue
BARE = ("bare, threads", "bare, processes")
LIMITS = pictures.Limits(least_side=8, most_side=20_000, most_pixels=100_000_000)


def bare(path: Path) -> None:
    """Decode, and nothing else."""
    with Image.open(path) as image:
        image.convert("RGB")


def plain(path: Path) -> None:
    """Read."""
    pictures.read(path, LIMITS)


def describe(path: Path, digest: str | None) -> tuple[str, bytes, list[float]]:
    """Read and check: a digest of the pixels (None: of the file's bytes), a 32 x 32 thumbnail, brightness, contrast, colourfulness."""
    rgb = pictures.read(path, LIMITS).rgb
    pixels = hashlib.new(digest or "sha256", repr(rgb.shape).encode())
    pixels.update(rgb if digest else path.read_bytes())
    small = cv2.resize(halved(halved(rgb)), (32, 32), interpolation=cv2.INTER_AREA)
    brightness, contrast = (float(value[0, 0]) for value in cv2.meanStdDev(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)))
    means, spreads = cv2.meanStdDev(cv2.transform(small.astype(np.float32), OPPONENTS))
    return pixels.hexdigest(), small.tobytes(), [brightness, contrast, math.hypot(*spreads.flat) + 0.3 * math.hypot(*means.flat)]


def halved(rgb: Any) -> Any:
    """Return means of 2 x 2 pixels, for which INTER_AREA is many times faster; pictures under 128 pixels as they are."""
    height, width = rgb.shape[0] // 2, rgb.shape[1] // 2
    return cv2.resize(rgb[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA) if min(height, width) >= 64 else rgb


def in_threads(paths: list[Path], workers: int) -> Iterator[None]:
    """Decode in threads."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(bare, paths)


def in_processes(paths: list[Path], workers: int) -> Iterator[None]:
    """Decode in forked processes, the cheapest ones to start."""
    with get_context("fork").Pool(workers) as pool:
        yield from pool.imap(bare, paths, chunksize=16)


def reading(options: argparse.Namespace) -> None:
    """Print pictures a second, bare and with Refit's reader, in turns of one run, and each as a share of the faster bare loop."""
    workers = options.workers or len(os.sched_getaffinity(0))
    found = sorted(p for p in options.pictures.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))
    paths = list(islice(cycle(found), options.number))
    ways: dict[str, Callable[[], Iterable[object]]] = {
        BARE[0]: lambda: in_threads(paths, workers),
        BARE[1]: lambda: in_processes(paths, workers),
        "read": lambda: pictures.each(paths, plain, workers),
        "read, thumbnail, numbers, sha256 of the file": lambda: pictures.each(paths, partial(describe, digest=None), workers),
        "read, thumbnail, numbers, sha256 of pixels": lambda: pictures.each(paths, partial(describe, digest="sha256"), workers),
        "read, thumbnail, numbers, blake2b of pixels": lambda: pictures.each(paths, partial(describe, digest="blake2b"), workers),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began, used = time.perf_counter(), seconds_of_cores()
            refused = sum(isinstance(value, pictures.PictureError) for value in way())
            rates[name].append(len(paths) / (time.perf_counter() - began))
            costs[name].append((seconds_of_cores() - used) / len(paths))
            assert not refused, f"{refused} pictures are refused"
    # What else the machine does only slows. Where it does much, the seconds of a core are the fairer number.
    rate = max(max(rates[name]) for name in BARE)
    cost = min(min(costs[name]) for name in BARE)
    print(
        f"{len(paths):,} pictures ({len(found):,} files), {workers} workers, best of {options.rounds} rounds; share of bare by the clock, by seconds of a core"
    )
    for name in ways:
        share = f"{cost / min(costs[name]):6.0%}" if name in BARE or workers <= pictures.THREADS_REACH else "     -"  # a fork server's children are not seen
        print(f"{max(rates[name]):8,.0f}/s {max(rates[name]) / rate:6.0%} {share}  {name}")


def seconds_of_cores() -> float:
    """Return the seconds that cores have worked for this process and for the children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> None:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("reading", help=reading.__doc__)
    command.add_argument("--pictures", type=Path, required=True)
    command.add_argument("--number", type=int, default=4000, help="files are read again and again up to so many")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--workers", type=int)
    command.set_defaults(run=reading)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
