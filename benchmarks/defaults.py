"""Run ten public sets as a newcomer would, and see whether the default wins.

A newcomer runs `refit add` and `dvc repro` and changes not one setting.

    python -m benchmarks.defaults run FOLDER [--sets banking77 ...] [--rows 8 64 all]
    python -m benchmarks.defaults noise FOLDER [--draws 20]
    python -m benchmarks.defaults table

The sets lie in ../shared/data. `run` clones the committed project into FOLDER, or continues there,
and adds to docs/measured/defaults.json what it has not run yet; `noise` does the same with
sentences whose labels are drawn, and keeps nothing; `table` prints what docs/measured.md shows.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path.cwd()
DATA = ROOT.parent / "shared/data"
MEASURED = ROOT / "docs/measured/defaults.json"
ROWS = ("8", "64", "all")  # a label
TEST = 5  # one row in so many, for a set that states no test part
MOST = 12_000  # rows of the largest set of texts
SEED = 0

Parts = dict[str, pd.DataFrame]
"""part: x (a text, or the bytes of a JPEG or PNG) and y"""


def banking77() -> Parts:
    """Return 77 intents of bank customers, the published parts."""
    return {
        part: pd.read_csv(DATA / f"banking77/{part}.csv", names=["x", "y"], header=0)
        for part in ("train", "test")
    }


def sst2() -> Parts:
    """Return sentences of film reviews, the published parts."""
    return {
        part: pd.read_csv(DATA / f"sst2/{part}.tsv", sep="\t", names=["x", "y"], quoting=3)
        for part in ("train", "test")
    }


def financial_phrasebank() -> Parts:
    """Return sentences of financial news, on whose sentiment at least half the annotators agree."""
    return _drawn(
        pd.read_csv(DATA / "financial_phrasebank/all-data.csv", names=["y", "x"], header=0)
    )


def sms_spam() -> Parts:
    """Return text messages, spam or not."""
    return _drawn(
        pd.read_csv(DATA / "sms_spam/SMSSpamCollection.tsv", sep="\t", names=["y", "x"], quoting=3)
    )


def hotel_reviews() -> Parts:
    """Return Chinese reviews of hotels, good or bad."""
    return _drawn(
        pd.read_csv(DATA / "zh_reviews/ChnSentiCorp_htl_all.csv", names=["y", "x"], header=0)
    )


def shopping_reviews() -> Parts:
    """Return Chinese reviews of goods; the label is one of ten kinds of goods."""
    with zipfile.ZipFile(DATA / "zh_reviews/online_shopping_10_cats.zip") as archive:
        table = pd.read_csv(
            io.BytesIO(archive.read(archive.namelist()[0])), names=["y", "good", "x"], header=0
        )
    return _drawn(table.sample(MOST, random_state=SEED))


def hymenoptera() -> Parts:
    """Return photographs of ants and bees."""
    return _pictures("hymenoptera/hymenoptera_256.zip", {"train": "train", "val": "test"})


def cats_dogs_birds() -> Parts:
    """Return small photographs of three animals: all the ones that CIFAR-10 has."""
    return _pictures("cifar10_jpg/cifar10_catdogbird.zip", {"train": "train", "test": "test"})


def cifar10() -> Parts:
    """Return small photographs of ten things; train has 1,000 of each."""
    return _pictures("cifar10_jpg/cifar10_20k.zip", {"train": "train", "test": "test"})


def pneumonia() -> Parts:
    """Return small X-rays of chests, healthy or not."""
    from PIL import Image

    def png(pixels: Any) -> bytes:
        Image.fromarray(pixels).save(made := io.BytesIO(), "PNG")
        return made.getvalue()

    with np.load(DATA / "pneumoniamnist/pneumoniamnist.npz") as held:
        return {
            part: pd.DataFrame(
                {
                    "x": [png(of) for of in held[f"{part}_images"]],
                    "y": np.where(held[f"{part}_labels"].ravel(), "pneumonia", "sound"),
                }
            )
            for part in ("train", "test")
        }


SETS: dict[str, Callable[[], Parts]] = {
    of.__name__: of
    for of in (
        banking77,
        sst2,
        financial_phrasebank,
        sms_spam,
        hotel_reviews,
        shopping_reviews,
        hymenoptera,
        cats_dogs_birds,
        cifar10,
        pneumonia,
    )
}


def noise(seed: int) -> Parts:
    """Return 500 sentences on films to learn from and 500 to be judged by.

    Each has one of two labels, by a coin toss.
    """
    rows = sst2()["train"].sample(1000, random_state=seed)
    rows["y"] = np.random.default_rng(seed).choice(["heads", "tails"], len(rows))
    return {"train": rows.iloc[:500], "test": rows.iloc[500:]}


def _drawn(table: pd.DataFrame) -> Parts:
    """Split a table that states no parts."""
    rows = table.dropna().sample(frac=1, random_state=SEED)[["x", "y"]]
    return {"train": rows.iloc[len(rows) // TEST :], "test": rows.iloc[: len(rows) // TEST]}


def _pictures(archive: str, parts: dict[str, str]) -> Parts:
    found: dict[str, list[tuple[bytes, str]]] = {part: [] for part in parts.values()}
    with zipfile.ZipFile(DATA / archive) as held:
        for name in sorted(held.namelist()):
            if name.endswith(".jpg"):
                part, label, _ = name.split("/")
                found[parts[part]].append((held.read(name), label))
    return {part: pd.DataFrame(rows, columns=["x", "y"]) for part, rows in found.items()}


def lay_out(parts: Parts, rows: str, folder: Path) -> None:
    """Write train and test as a person would bring them: a table each, or a folder for each label.

    Of train, keep only so many rows of each label.
    """
    train = parts["train"].sample(frac=1, random_state=SEED)
    if rows != "all":
        train = train.groupby("y").head(int(rows))
    for part, of in {"train": train, "test": parts["test"]}.items():
        if isinstance(of["x"].iloc[0], str):
            folder.mkdir(exist_ok=True)
            of.rename(columns={"x": "text", "y": "label"}).to_csv(
                folder / f"{part}.csv", index=False
            )
            continue
        for i, (content, label) in enumerate(of[["x", "y"]].itertuples(index=False)):
            suffix = "png" if content.startswith(b"\x89PNG") else "jpg"
            path = folder / part / label / f"{i}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def run(project: Path, name: str, rows: str, parts: Parts) -> dict[str, Any]:
    """Add a set and reproduce it; return the verdict, the scores and what it took."""
    task, brought = f"{name}_{rows}", project.parent / "brought"
    shutil.rmtree(brought, ignore_errors=True)
    lay_out(parts, rows, brought)
    said = json.loads(
        _command(project, sys.executable, "-m", "stages.cli", "add", task, str(brought), "--json")
    )
    began = time.monotonic()
    failed = None
    try:
        _command(project, "dvc", "repro", f"register@{task}")
    except subprocess.CalledProcessError as error:
        failed = next(
            (line for line in error.stderr.splitlines() if line.startswith("refit: ")), "failed"
        )
    minutes = (time.monotonic() - began) / 60
    of = {
        "set": name,
        "rows": rows,
        "base": said["base"],
        "chosen": said["chosen"],
        "minutes": round(minutes, 1),
    }
    if failed:
        return of | {"verdict": failed}
    metrics, report, decision, timing = (
        json.loads((project / "data" / stage / task / file).read_text())
        for stage, file in (
            ("evaluate", "metrics.json"),
            ("evaluate", "report.json"),
            ("register", "decision.json"),
            ("finetune", "timing.json"),
        )
    )
    best = max(
        metrics["baselines"], key=lambda baseline: metrics["baselines"][baseline]["macro_f1"]
    )
    interval = report["models"]["candidate"]["intervals"]["macro_f1"]
    return of | {
        "verdict": decision["outcome"],
        "accuracy": round(metrics["accuracy"], 4),
        "macro_f1": [round(interval[at], 4) for at in ("value", "low", "high")],
        "best_baseline": best,
        "baselines": {
            baseline: round(scores["macro_f1"], 4)
            for baseline, scores in metrics["baselines"].items()
        },
        "training_minutes": round(timing["seconds_of_work"] / 60, 1),
        "test_rows": metrics["rows"],
    }


def _command(project: Path, *command: str) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def table(measured: list[dict[str, Any]]) -> str:
    """Return the measurements as a Markdown table, with a line for each run."""
    lines = [
        (
            "| set | rows a label | verdict | macro-F1 (95 %) | accuracy | best cheap baseline "
            "| minutes (training) |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    order = [(name, rows) for name in SETS for rows in ROWS]
    for of in sorted(measured, key=lambda of: order.index((of["set"], of["rows"]))):
        if "macro_f1" in of:
            value, low, high = of["macro_f1"]
            scores = (
                f"{value:.3f} ({low:.3f} to {high:.3f}) | {of['accuracy']:.3f} | "
                f"{of['best_baseline']} {of['baselines'][of['best_baseline']]:.3f}"
            )
        else:
            scores = "| |"
        took = (
            f"{of['minutes']:g}"
            + (f" ({of['training_minutes']:g})" if "training_minutes" in of else "")
            if of["minutes"]
            else ""
        )
        lines.append(f"| {of['set']} | {of['rows']} | {of['verdict']} | {scores} | {took} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not measured yet, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    running.add_argument("--rows", nargs="*", choices=ROWS, default=ROWS)
    drawing = commands.add_parser("noise")
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--draws", type=int, default=20)
    commands.add_parser("table")
    given = parser.parse_args()
    measured: list[dict[str, Any]] = json.loads(MEASURED.read_text()) if MEASURED.is_file() else []
    if given.command == "table":
        print(table(measured))
        return
    project = given.folder.resolve() / "project"
    if not project.is_dir():
        subprocess.run(["git", "clone", "-q", ROOT, project], check=True)
    if given.command == "noise":
        verdicts = Counter[str]()
        for seed in range(given.draws):
            verdicts[run(project, f"noise_{seed}", "all", noise(seed))["verdict"]] += 1
            print(json.dumps(verdicts), flush=True)
        return
    for rows in given.rows:
        for name in given.sets:
            if not any((of["set"], of["rows"]) == (name, rows) for of in measured):
                measured.append(run(project, name, rows, SETS[name]()))
                print(json.dumps(measured[-1]), flush=True)
                MEASURED.parent.mkdir(exist_ok=True)
                MEASURED.write_text("[\n" + ",\n".join(map(json.dumps, measured)) + "\n]\n")


if __name__ == "__main__":
    main()
