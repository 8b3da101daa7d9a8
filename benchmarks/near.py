"""Measures what is done with pictures, on the pictures of a folder.

    python -m benchmarks.near near --pictures FOLDER

`near`: which copies are found, which originals are merged, and what 100,000 pictures cost.
"""

import argparse
import io
import json
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image

from stages.checks import near

Picture = npt.NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
MANY = 100_000


def decode(source: Path | io.BytesIO) -> Picture:
    """Return a picture as (height, width, 3)."""
    return np.asarray(Image.open(source).convert("RGB"))


def encoded(kind: str, quality: int) -> Callable[[Picture], Picture]:
    """Return a copier that writes and reads a file of this kind."""

    def copy(picture: Picture) -> Picture:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind, quality=quality)
        return decode(file)

    return copy


def resized(share: float, by: Image.Resampling) -> Callable[[Picture], Picture]:
    """Return a copier that changes both sides by a share."""

    def copy(picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        return np.asarray(Image.fromarray(picture).resize((max(1, round(width * share)), max(1, round(height * share))), by))

    return copy


COPIES: dict[str, Callable[[Picture], Picture]] = {
    **{f"JPEG {quality}": encoded("JPEG", quality) for quality in (30, 50, 75, 95)},
    **{f"WEBP {quality}": encoded("WEBP", quality) for quality in (50, 80)},
    **{f"x {share} {by.name}": resized(share, by) for share in (0.5, 0.75, 1.5, 2) for by in Image.Resampling},
    "x 0.5 BICUBIC, JPEG 30": lambda picture: encoded("JPEG", 30)(resized(0.5, Image.Resampling.BICUBIC)(picture)),
}


@contextmanager
def measured(name: str) -> Generator[None]:
    """Print the seconds and the MiB above what the process held before."""
    process, over = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        over.set()
        watcher.join()
    print(json.dumps({"what": name, "seconds": round(wall, 2), "seconds_of_cpu": round(cpu, 2), "mib": (peak - before) >> 20}), flush=True)


def crops(picture: Picture, count: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Yield crops of 40 to 90 % of both sides, from anywhere."""
    height, width = picture.shape[:2]
    for share in rng.uniform(0.4, 0.9, count):
        tall, wide = int(height * share), int(width * share)
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        yield np.ascontiguousarray(picture[top : top + tall, left : left + wide])


def near_duplicates(paths: list[Path]) -> None:
    """Print the share of copies that come into their original's group, merged originals, and the cost of many pictures."""
    pictures = [decode(path) for path in paths]
    originals = np.array([near.fingerprint(picture) for picture in pictures])
    merged = near.pairs(originals)
    print(json.dumps({"pictures": len(paths), "merged": [[paths[a].name, paths[b].name] for a, b in merged.tolist()]}))
    for kind, copy in COPIES.items():
        both = np.concatenate([originals, [near.fingerprint(copy(picture)) for picture in pictures]])
        group = near.groups(len(both), near.pairs(both))
        print(json.dumps({"copy": kind, "found": round(float((group[: len(paths)] == group[len(paths) :]).mean()), 4)}), flush=True)

    rng = np.random.default_rng(0)
    many = np.array([near.fingerprint(crop) for picture in pictures for crop in crops(picture, -(-MANY // len(paths)), rng)])[:MANY]
    with measured(f"{len(many)} crops"):
        near.groups(len(many), near.pairs(many))
    blank = many[rng.permutation(len(many))[: MANY // 2]]
    blank[:, near.LUMA] = np.round(rng.normal(245, 0.6, (len(blank), near.FINE**2)))
    many[: len(blank)] = blank
    with measured(f"the same, {len(blank)} of them nearly blank"):
        near.groups(len(many), near.pairs(many))


BENCHMARKS: dict[str, Callable[[list[Path]], None]] = {"near": near_duplicates}


def main() -> None:
    """Run one benchmark on a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("--pictures", type=Path, required=True, metavar="FOLDER")
    given = parser.parse_args()
    BENCHMARKS[given.benchmark](sorted(path for path in given.pictures.rglob("*") if path.suffix.lower() in SUFFIXES))


if __name__ == "__main__":
    main()
