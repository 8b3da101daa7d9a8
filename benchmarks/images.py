"""Measure what pictures cost, which copies are found, and what pretraining brings.

python -m benchmarks.images reading    --pictures FOLDER
python -m benchmarks.images augmenting --pictures FOLDER
python -m benchmarks.images near       --pictures FOLDER
python -m benchmarks.images memory
python -m benchmarks.images probe      --pictures FOLDER
"""

import argparse
import io
import json
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
from PIL import Image

from benchmarks import elsewhere
from stages.contract import draws, groups, plugins
from stages.modalities.image import near, pictures
from stages.params.augment import Augment
from stages.params.image import Albumentations, ImageModality

image = plugins.modality("image")

Picture = npt.NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
BARE = ("bare, threads", "bare, processes")
SETTINGS = ImageModality("image", (8, 20_000), 100_000_000, (8, 20_000), 224, 224, ("as_is",))
LIMITS = pictures.Limits(*SETTINGS.sides, SETTINGS.max_pixels)
TRANSFORMS = (
    Albumentations("albumentations", "HorizontalFlip", {"p": 0.5}),
    Albumentations("albumentations", "RandomBrightnessContrast", {"p": 1.0}),
)
POLICY = Augment(seed=7, share=1.0, copies=1, on_the_fly=False, transforms=TRANSFORMS)
MANY = 100_000


def files(folder: Path) -> list[Path]:
    """Return the pictures below a folder, by suffix."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


# ---- reading and augmenting, beside a bare loop --------------------------------------------------


def bare(path: Path) -> Image.Image:
    """Decode, and nothing else."""
    with Image.open(path) as picture:
        return picture.convert("RGB")


def bare_copy(path: Path, into: Path) -> None:
    """Decode, transform and encode, and nothing else."""
    transformed = transforms()(image=np.asarray(bare(path)))["image"]
    Image.fromarray(transformed).save(
        into / f"{path.stem}-{threading.get_ident()}.png", "PNG", compress_level=1
    )


def transforms() -> Any:
    """Return the transforms of POLICY as albumentations has them, made once for each thread."""
    import albumentations

    if not hasattr(MADE, "compose"):
        MADE.compose = albumentations.Compose(
            [getattr(albumentations, of.transform)(**of.arguments) for of in TRANSFORMS]
        )
    return MADE.compose


MADE = threading.local()


def in_threads(paths: list[Path], workers: int, work: Callable[[Path], Any]) -> Iterator[Any]:
    """Do the work in threads."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, paths)


def in_processes(paths: list[Path], workers: int, work: Callable[[Path], Any]) -> Iterator[Any]:
    """Do the work in forked processes, the cheapest to start; results stay where they are made."""
    with get_context("fork").Pool(workers) as pool:
        yield from pool.imap(partial(_finish, work), paths, chunksize=16)


def _finish(work: Callable[[Path], Any], path: Path) -> None:
    work(path)


Ways = dict[str, Callable[[], Iterable[object]]]


def ways_of_reading(paths: list[Path], workers: int) -> Ways:
    """Return ways to read pictures: bare, and as validate reads and checks them."""
    return {
        BARE[0]: lambda: in_threads(paths, workers, bare),
        BARE[1]: lambda: in_processes(paths, workers, bare),
        "read": lambda: pictures.each(paths, partial(pictures.read, limits=LIMITS), workers),
        "read and checked": lambda: pictures.each(
            paths,
            partial(image.reading._describe, limits=LIMITS),  # pyright: ignore[reportPrivateUsage]
            workers,
        ),
    }


def ways_of_augmenting(paths: list[Path], workers: int, into: Path) -> Ways:
    """Return ways to write altered copies: a bare loop, and as augment does."""
    looked = image.reading.look(pd.Series([path.absolute().as_posix() for path in paths]), SETTINGS)
    samples = pd.DataFrame({
        "id": [f"{i:06}" for i in range(len(paths))],
        "x": [path.absolute().as_posix() for path in paths],
        "content": looked["normal"].map(draws.digest_one), "y": [["any"]] * len(paths),
    })  # fmt: skip
    return {
        BARE[0]: lambda: in_threads(paths, workers, partial(bare_copy, into=into)),
        BARE[1]: lambda: in_processes(paths, workers, partial(bare_copy, into=into)),
        "augment": lambda: [image.altering.alter(samples, POLICY, SETTINGS, into, "below")],
    }


def reading(options: argparse.Namespace) -> None:
    """Print pictures per second, bare and as validate reads and checks them."""
    paths = list(islice(cycle(files(options.pictures)), options.number))
    compare(paths, options.workers, options.rounds, ways_of_reading(paths, options.workers))


def augmenting(options: argparse.Namespace) -> None:
    """Print altered copies per second, by a bare loop and as augment makes them."""
    paths = list(islice(cycle(files(options.pictures)), options.number))
    with tempfile.TemporaryDirectory() as folder:
        compare(
            paths,
            options.workers,
            options.rounds,
            ways_of_augmenting(paths, options.workers, Path(folder)),
        )


def rates(
    paths: list[Path], rounds: int, ways: Ways
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return each way's pictures per second and core-seconds per picture, a number for each round.

    The ways take turns.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began, used = time.perf_counter(), seconds_of_cores()
            refused = sum(isinstance(value, pictures.PictureError) for value in way())
            rates[name].append(len(paths) / (time.perf_counter() - began))
            costs[name].append((seconds_of_cores() - used) / len(paths))
            assert not refused, f"{refused} pictures are refused"
    return rates, costs


def compare(paths: list[Path], workers: int, rounds: int, ways: Ways) -> None:
    """Print the rate of each way, the ways in turn, also as a share of the faster bare loop's."""
    found, costs = rates(paths, rounds, ways)
    # Other work of the machine can only slow a way. Under much of it, core-seconds are the fairer
    # number.
    rate = max(max(found[name]) for name in BARE)
    cost = min(min(costs[name]) for name in BARE)
    print(
        f"{len(paths):,} pictures, {workers} workers, best of {rounds} rounds; "
        "share of bare by the clock, by seconds of a core"
    )
    for name in ways:
        # Without the children of a fork server, whose seconds are not seen.
        share = (
            f"{cost / min(costs[name]):6.0%}"
            if name in BARE or workers <= pictures.THREADS_REACH
            else "     -"
        )
        print(f"{max(found[name]):8,.0f}/s {max(found[name]) / rate:6.0%} {share}  {name}")


def seconds_of_cores() -> float:
    """Return the seconds of cores that this process and its ended children have used."""
    return sum(
        sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


# ---- near duplicates -----------------------------------------------------------------------------


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
        return np.asarray(
            Image.fromarray(picture).resize(
                (max(1, round(width * share)), max(1, round(height * share))), by
            )
        )

    return copy


COPIES: dict[str, Callable[[Picture], Picture]] = {
    **{f"JPEG {quality}": encoded("JPEG", quality) for quality in (30, 50, 75, 95)},
    **{f"WEBP {quality}": encoded("WEBP", quality) for quality in (50, 80)},
    **{
        f"x {share} {by.name}": resized(share, by)
        for share in (0.5, 0.75, 1.5, 2)
        for by in Image.Resampling
    },
    "x 0.5 BICUBIC, JPEG 30": lambda picture: encoded("JPEG", 30)(
        resized(0.5, Image.Resampling.BICUBIC)(picture)
    ),
}


@contextmanager
def measured(name: str) -> Generator[None]:
    """Print the seconds, and the MiB above what the process used before."""
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
    print(
        json.dumps(
            {
                "what": name,
                "seconds": round(wall, 2),
                "seconds_of_cpu": round(cpu, 2),
                "mib": (peak - before) >> 20,
            }
        ),
        flush=True,
    )


def crops(picture: Picture, count: int, rng: np.random.Generator) -> Iterator[Picture]:
    """Yield crops of 40 to 90 % of both sides, from any place."""
    height, width = picture.shape[:2]
    for share in rng.uniform(0.4, 0.9, count):
        tall, wide = int(height * share), int(width * share)
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        yield np.ascontiguousarray(picture[top : top + tall, left : left + wide])


def near_duplicates(options: argparse.Namespace) -> None:
    """Print the share of copies grouped with their original, merged originals, and the cost."""
    paths = files(options.pictures)
    originals_of = [decode(path) for path in paths]
    originals = np.array([near.fingerprint(picture) for picture in originals_of])
    merged = near.pairs(originals)
    print(
        json.dumps(
            {
                "pictures": len(paths),
                "merged": [[paths[a].name, paths[b].name] for a, b in merged.tolist()],
            }
        )
    )
    for kind, copy in COPIES.items():
        both = np.concatenate(
            [originals, [near.fingerprint(copy(picture)) for picture in originals_of]]
        )
        group = groups.linked(len(both), near.pairs(both))
        print(
            json.dumps(
                {
                    "copy": kind,
                    "found": round(float((group[: len(paths)] == group[len(paths) :]).mean()), 4),
                }
            ),
            flush=True,
        )

    rng = np.random.default_rng(0)
    many = np.array(
        [
            near.fingerprint(crop)
            for picture in originals_of
            for crop in crops(picture, -(-MANY // len(paths)), rng)
        ]
    )[:MANY]
    with measured(f"{len(many)} crops"):
        groups.linked(len(many), near.pairs(many))
    blank = many[rng.permutation(len(many))[: MANY // 2]]
    blank[:, near.LUMA] = np.round(rng.normal(245, 0.6, (len(blank), near.FINE**2)))
    many[: len(blank)] = blank
    with measured(f"the same, {len(blank)} of them nearly blank"):
        groups.linked(len(many), near.pairs(many))


# ---- the real stages -----------------------------------------------------------------------------


def memory(options: argparse.Namespace) -> None:
    """Print the peak memory of validate, augment and split, in MiB, for few and many pictures."""
    for number in options.numbers:
        with tempfile.TemporaryDirectory() as folder:
            print(
                json.dumps({"pictures": number, **peaks(Path(folder), number, options.side)}),
                flush=True,
            )


def peaks(folder: Path, number: int, side: int) -> dict[str, float]:
    """Return the peak memory of each stage, in MiB, for so many pictures of noise.

    They have two labels, and a third of train has a copy.
    """
    drawn = np.random.default_rng(0)
    for i in range(number):
        of = folder / "data/raw/noise" / ("left", "right")[i % 2]
        of.mkdir(parents=True, exist_ok=True)
        coarse = drawn.integers(0, 255, (side // 4, side // 4, 3), dtype=np.uint8)
        pictures.write(
            np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_NEAREST)),
            of / f"{i}.png",
        )
    params = elsewhere.read_params()
    task = params["tasks"]["solar_cells"]
    task["problem"]["labels"] = None
    task["data"] = {
        "source": "noise",
        "encoding": "utf-8",
        "layout": {
            "name": "folders",
            "folders": [{"path": ".", "part": None}],
            "suffixes": [".png"],
        },
    }
    task["modality"] |= {"sides": [side, side], "median_side": [side, side]}
    task["validate"] |= {
        "min_rows": number,
        "min_rows_per_label": 2,
        "label_distribution": {"name": "uniform", "max_kl": 0.1},
    }
    task["validate"]["domain"]["run_base"] = False
    elsewhere.tiny(folder / "data/raw" / task["base"], "pictures")
    task["augment"]["share"] = 0.33
    elsewhere.write_params(folder, params["sources"], {"noise": task})
    stages = ("validate", "augment", "split")
    for stage in stages:
        elsewhere.run(folder, f"stages.{stage}", "noise")
    return {
        stage: elsewhere.read(folder, stage, "noise", "timing.json")["peak_memory_mib"]
        for stage in stages
    }


def probe(options: argparse.Namespace) -> None:
    """Print what a linear probe reaches on FOLDER/val, with pretrained weights and random ones.

    The pretrained weights are the base model's. FOLDER/train and FOLDER/val have a folder for each
    label; `refit add` writes the settings, and val becomes the test part.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, found in probed(Path(folder), options.pictures, options.base):
            print(json.dumps({"weights": name, **found}), flush=True)


def probed(folder: Path, given: Path, base: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield accuracy and macro-F1 on FOLDER/val, and the seconds that finetune worked.

    The base model's weights come first, then random ones.
    """
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(elsewhere.ROOT / name, folder)
    elsewhere.run(folder, "dvc", "init", "--quiet", "--no-scm")
    elsewhere.write_params(folder, {}, {})
    elsewhere.run(
        folder, "stages.cli", "add", "probed", str(given.absolute()), "--base", str(base.absolute())
    )
    params = elsewhere.read_params(folder)
    for of in params["tasks"]["probed"]["data"]["layout"]["folders"]:
        of["part"] = {"train": "train", "val": "test"}[of["path"]]
    elsewhere.write_params(folder, **params)
    for stage in ("validate", "augment", "split"):
        elsewhere.run(folder, f"stages.{stage}", "probed")
    yield "pretrained", judged(folder)
    params["tasks"]["probed"]["base"] = randomised(base, folder / "data/raw").name
    elsewhere.write_params(folder, **params)
    yield "random", judged(folder)


def judged(folder: Path) -> dict[str, float]:
    """Return what the base model of params.yaml reaches on the pictures that split made."""
    for stage in ("finetune", "export", "evaluate"):
        elsewhere.run(folder, f"stages.{stage}", "probed")
    metrics = elsewhere.read(folder, "evaluate", "probed", "metrics.json")
    seconds = elsewhere.read(folder, "finetune", "probed", "timing.json")["seconds_of_work"]
    return {
        "accuracy": metrics["accuracy"],
        "macro_f1": metrics["macro_f1"],
        "test_rows": metrics["rows"],
        "seconds_of_finetune": seconds,
    }


def randomised(base: Path, folder: Path) -> Path:
    """Return a folder with a model of the same configuration and processor, and drawn weights.

    The weights are random, from seed 0.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification

    torch.manual_seed(0)
    made = folder / "random"
    AutoModelForImageClassification.from_config(
        AutoConfig.from_pretrained(base, local_files_only=True)
    ).save_pretrained(made)
    shutil.copy(base / "preprocessor_config.json", made)
    return made


def main() -> None:
    """Run the named benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for run in (reading, augmenting):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.add_argument(
            "--number", type=int, default=4000, help="files are read again and again up to so many"
        )
        command.add_argument("--rounds", type=int, default=5)
        command.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
        command.set_defaults(run=run)
    commands.add_parser("near", help=near_duplicates.__doc__).set_defaults(run=near_duplicates)
    command = commands.add_parser("probe", help=probe.__doc__)
    command.add_argument(
        "--base",
        type=Path,
        default=Path("data/raw/mobilenet"),
        help="a folder that transformers reads",
    )
    command.set_defaults(run=probe)
    for command in commands.choices.values():
        command.add_argument("--pictures", type=Path, required=True, metavar="FOLDER")
    command = commands.add_parser("memory", help=memory.__doc__)
    command.add_argument("--numbers", type=int, nargs="+", default=[100, 10_000])
    command.add_argument("--side", type=int, default=300, help="pixels")
    command.set_defaults(run=memory)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
