"""Measure how the stages' time and memory grow with the rows, and what an idle `dvc repro` costs.

python -m benchmarks.growth texts    [--rows 1000 10000 100000 1000000]
python -m benchmarks.growth pictures [--rows 100 1000 10000 100000]
python -m benchmarks.growth whole    [--rows 1000 10000 100000] [--kind texts | pictures]
python -m benchmarks.growth idle     [--rows 1000 20000]

Each adds its measurements to docs/performance/growth.json; `python -m benchmarks.page` draws it.
"""

import argparse
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from benchmarks import checks, elsewhere, page

LABELS = np.array(["left", "right"])
PREPARING = ("validate", "augment", "split")
ALL = (*PREPARING, "finetune", "export", "evaluate", "register")
FROM = 10_000  # rows; below it, what a stage costs before its first row hides the growth
SIDE = 64  # pixels
LOOSE = {
    "min_rows": 1, "min_rows_per_label": 1, "max_group_fraction": 1.0, "max_bad_fraction": 0.2,
    "label_distribution": {"name": "uniform", "max_kl": 0.1},
}  # fmt: skip


def text_project(folder: Path, rows: int) -> None:
    """Lay out a task `texts` of two labels, in which a tenth of the texts is nearly repeated.

    The words are as frequent as Zipf's law says.
    """
    written, _ = checks.planted(rows, np.random.default_rng(0))
    table = pd.DataFrame({"text": written, "label": LABELS[np.arange(rows) % 2]})
    elsewhere.texts(
        folder, table.to_csv(index=False).encode(), {"x": "text", "y": "label"}, validate=LOOSE
    )


def picture_project(folder: Path, rows: int) -> None:
    """Lay out a task `pictures` of two labels: JPEG files of coarse noise.

    A third of train has a copy.
    """
    drawn = np.random.default_rng(0)
    for i in range(rows):
        below = folder / "data/raw/pictures" / LABELS[i % 2]
        if i < len(LABELS):
            below.mkdir(parents=True)
        coarse = drawn.integers(0, 255, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8)
        noise = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(below / f"{i}.jpg"), noise)
    params = elsewhere.read_params()
    task = params["tasks"]["solar_cells"]
    task["problem"]["labels"] = None
    folders = [{"path": ".", "part": None}]
    task["data"] = {
        "source": "pictures", "encoding": "utf-8",
        "layout": {"name": "folders", "folders": folders, "suffixes": [".jpg"]},
    }  # fmt: skip
    task["modality"] |= {
        "sides": [SIDE, SIDE],
        "median_side": [SIDE, SIDE],
        "shorter_side": SIDE,
        "crop": SIDE,
    }
    task["validate"] |= LOOSE
    task["validate"]["domain"]["run_base"] = False
    task["augment"]["share"] = 0.33
    elsewhere.tiny(folder / "data/raw" / task["base"], "pictures")
    elsewhere.write_params(folder, params["sources"], {"pictures": task})


PROJECTS = {"texts": text_project, "pictures": picture_project}


def stages(kind: str, rows: int, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield what each stage takes, each run by itself."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        PROJECTS[kind](folder, rows)
        for stage in names:
            cost = elsewhere.run(folder, f"stages.{stage}", kind)
            timing = elsewhere.read(folder, stage, kind, "timing.json")
            yield {
                "kind": kind, "stage": stage, "rows": rows, "seconds": round(cost.seconds, 2),
                "cpu_seconds": round(cost.cpu, 2), "peak_mib": timing["peak_memory_mib"],
            }  # fmt: skip


def exponents(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponent of each stage, from 10,000 rows up.

    It is the slope of log(seconds of cores) on log(rows). `beyond_start` is the slope of what a
    stage takes beyond its start, which is its cost at the smallest size measured.
    """
    found = []
    for stage, of in pd.DataFrame(measured).groupby("stage", sort=False):
        of = of.sort_values("rows")
        large = of[of["rows"] >= FROM]
        if len(large) > 1 and of["rows"].iloc[0] < FROM:
            rows, beyond = np.log(large["rows"]), large["cpu_seconds"] - of["cpu_seconds"].iloc[0]
            slope = (
                float(np.polyfit(rows[-2:], np.log(beyond[-2:]), 1)[0])
                if (beyond[-2:] > 0).all()
                else None
            )
            found.append({
                "stage": stage,
                "fitted": round(float(np.polyfit(rows, np.log(large["cpu_seconds"]), 1)[0]), 2),
                "beyond_start": slope if slope is None else round(slope, 2),
                "peak_mib": int(large["peak_mib"].iloc[-1]),
            })  # fmt: skip
    return found


def prepare(options: argparse.Namespace) -> None:
    """Print and keep what validate, augment and split take, by the number of rows."""
    for rows in options.rows:
        for row in stages(options.kind, rows, PREPARING):
            print(row, flush=True)
            keep(options.kind, [row])
    print(page.read("growth")[options.kind]["exponents"])


def keep(name: str, measured: list[dict[str, Any]]) -> None:
    """Add rows to docs/performance, and keep those of sizes that were measured only before."""
    now = {(row["stage"], row["rows"]) for row in measured}
    before = page.read("growth").get(name, {"stages": []})["stages"]
    rows = [row for row in before if (row["stage"], row["rows"]) not in now] + measured
    rows.sort(key=lambda row: (ALL.index(row["stage"]), row["rows"]))
    page.keep("growth", {name: page.machine() | {"stages": rows, "exponents": exponents(rows)}})


# ---- the whole DAG, and one with nothing to do ---------------------------------------------------


def with_dvc(folder: Path) -> None:
    """Make a project of a folder: a DVC repository with dvc.yaml over this project's stages."""
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(elsewhere.ROOT / name, folder)
    (folder / "stages").symlink_to(elsewhere.ROOT / "stages")
    elsewhere.run(folder, "dvc", "init", "--quiet", "--no-scm")


def whole(options: argparse.Namespace) -> None:
    """Print and keep what every stage takes with a base model so tiny that it hides nothing."""
    name = f"whole, {options.kind}"
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            PROJECTS[options.kind](folder, rows)
            with_dvc(folder)
            params = elsewhere.read_params(folder)
            task = params["tasks"][options.kind]
            elsewhere.tiny(folder / "data/raw" / task["base"], options.kind)
            task["finetune"] |= {"epochs": 1, "tune": {"name": "full", "embeddings": True}}
            task["evaluate"]["cost_rows"] = 1
            task["validate"]["domain"]["run_base"] = False
            elsewhere.write_params(folder, {}, params["tasks"])  # the base model is no download
            for source in (task["base"], options.kind):
                elsewhere.run(folder, "dvc", "add", f"data/raw/{source}")
            for stage in ALL:
                cost = elsewhere.run(
                    folder, "dvc", "repro", "--single-item", f"{stage}@{options.kind}"
                )
                peak = elsewhere.read(folder, stage, options.kind, "timing.json")["peak_memory_mib"]
                row = {"kind": options.kind, "stage": stage, "rows": rows,
                       "seconds": round(cost.seconds, 2),
                       "cpu_seconds": round(cost.cpu, 2), "peak_mib": peak}  # fmt: skip
                print(row, flush=True)
                keep(name, [row])
    print(page.read("growth")[name]["exponents"])


IDLE = """stages:
  copy:
    cmd: {command}
    deps: [data/raw/pictures]
    outs: [data/augment/pictures]
"""
COPIES = {
    "a file a copy": "cp -r data/raw/pictures data/augment/pictures",
    "one file of all": (
        "mkdir data/augment/pictures; tar -cf data/augment/pictures/files.tar data/raw/pictures"
    ),
}


def idle(options: argparse.Namespace) -> None:
    """Print and keep what DVC takes for many small files.

    The files are raw data, and also the out of a stage, one by one or packed as one file.
    """
    for rows, (way, command) in itertools.product(options.rows, COPIES.items()):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            raw = folder / "data/raw/pictures"
            raw.mkdir(parents=True)
            (folder / "data/augment").mkdir()
            for i in range(rows):
                (raw / f"{i}.jpg").write_bytes(np.random.default_rng(i).bytes(1000))
            (folder / "dvc.yaml").write_text(IDLE.format(command=command))
            elsewhere.run(folder, "dvc", "init", "--quiet", "--no-scm")
            elsewhere.run(
                folder, "dvc", "config", "--local", "core.site_cache_dir", str(folder / ".dvc/site")
            )
            row = {
                "files": rows,
                "out": way,
                "dvc add": vars(elsewhere.run(folder, "dvc", "add", "-q", "data/raw/pictures")),
            }
            row["first run"], *again = (
                vars(elsewhere.run(folder, "dvc", "repro", "-q")) for _ in range(4)
            )
            row["nothing to do"] = sorted(again, key=lambda cost: cost["cpu"])[1]
            shutil.rmtree(folder / "data/augment/pictures")
            row["checkout of the out"] = vars(
                elsewhere.run(folder, "dvc", "checkout", "-q", "copy")
            )
            print(row, flush=True)
            before = page.read("growth").get("idle", {"projects": []})["projects"]
            kept = [one for one in before if (one["files"], one["out"]) != (rows, way)]
            projects = sorted([*kept, row], key=lambda one: (one["files"], one["out"]))
            page.keep("growth", {"idle": page.machine() | {"projects": projects}})


def main() -> None:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for kind, rows in (
        ("texts", [1_000, 10_000, 100_000, 1_000_000]),
        ("pictures", [100, 1_000, 10_000, 100_000]),
    ):
        command = commands.add_parser(kind, help=prepare.__doc__)
        command.add_argument("--rows", type=int, nargs="+", default=rows)
        command.set_defaults(run=prepare, kind=kind)
    command = commands.add_parser("whole", help=whole.__doc__)
    command.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    command.add_argument("--kind", choices=PROJECTS, default="texts")
    command.set_defaults(run=whole)
    command = commands.add_parser("idle", help=idle.__doc__)
    command.add_argument("--rows", type=int, nargs="+", default=[1_000, 20_000])
    command.set_defaults(run=idle)
    options = parser.parse_args()
    options.run(options)
    page.write()


if __name__ == "__main__":
    main()
