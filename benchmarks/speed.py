"""Measure how fast Refit is beside what one would use without it, and what the machine can do.

python -m benchmarks.speed     at most 20 minutes; `--quick` at most 5, `--full` whole data sets
                               (an hour and more)

Every figure is a ratio within one run: the ways take turns (A B A B), and medians are compared.
Trainings are measured on two subsets of their data set: the difference gives what a row costs, and
from both follows an estimate of the whole set's time. Sources that are not below data/raw are
fetched; data sets that no package brings are read from --data, if they are there.
"""

import argparse
import json
import os
import shutil
import statistics as numbers
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import checks, elsewhere, images, page, stock
from benchmarks.elsewhere import Cost
from stages.commands import bases
from stages.contract import manifest, plugins, receipts, runner, settings
from stages.judging import evidence
from stages.models import scoring
from stages.params.compute import Compute
from stages.problems.classification import METRICS

image = plugins.modality("image")

STOCK, BARE = "the stock script", "a bare loop"
PROBE = {  # of `refit add`
    "tune": {"name": "linear_probe"},
    "head": {"name": "probe", "c": [0.01, 0.1, 1.0, 10.0]},
}
ALL = {"tune": {"name": "full", "embeddings": True}, "learning_rate": 3.0e-4, "schedule": "cosine"}
TOKENS = 64  # of each text whose arithmetic is measured
SQUARES = {  # sides of the matrices whose product is the ceiling
    "cpu": (1024, 2048),
    "cuda": (4096, 8192),
}
MINUTES, QUICK_MINUTES = 20, 5
QUICK_EPOCHS = 2


# ---- a figure ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One ratio: Refit's cost over the other way's, or a share of a ceiling."""

    name: str
    against: str
    unit: str
    refit: float
    other: float
    ratio: float
    low: float
    high: float
    rounds: int
    by_cpu: float | None = None
    """the ratio of the seconds of cores"""
    goal: float | None = None
    at_least: bool = False
    """whether the goal is a floor"""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        return (
            None
            if self.goal is None
            else (self.ratio >= self.goal if self.at_least else self.ratio <= self.goal)
        )


def figure(
    name: str, against: str, unit: str, refit: list[float], other: list[float], **goal: Any
) -> Figure:
    """Return the ratio of the medians; low and high are the least and greatest ratio of a round."""
    of_rounds = [a / b for a, b in zip(refit, other, strict=True)]
    ours, theirs = numbers.median(refit), numbers.median(other)
    return Figure(
        name,
        against,
        unit,
        ours,
        theirs,
        ours / theirs,
        min(of_rounds),
        max(of_rounds),
        len(refit),
        **goal,
    )


# ---- data sets and trainings ---------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One data set, trained on two subsets by several ways in turn."""

    name: str
    set: str
    """a task of params.yaml, or a name of BROUGHT"""
    rows: tuple[int, int]
    """of train, copies included"""
    finetune: dict[str, Any] = field(default_factory=dict[str, Any])
    """other values than the task's own"""
    base: str | None = None
    epochs: int | None = None
    """other ones on subsets; the estimate of the whole set is of as many"""
    probes: bool = False
    """whether a linear probe is measured too"""
    goal: float = 0.5
    """of a row's time"""
    quick: bool = False
    """whether it is one of the few that a quick run measures, in QUICK_EPOCHS and without probes"""
    whole: bool = True
    """whether the whole set is worth comparing"""


CASES = (
    Case("questions", "questions", (160, 640), probes=True, quick=True),
    Case("solar_cells", "solar_cells", (32, 128), epochs=5, quick=True),
    Case("banking77", "banking77", (154, 616), epochs=4),
    Case("financial_phrasebank", "financial_phrasebank", (96, 384), epochs=4),
    Case("hymenoptera", "hymenoptera", (32, 96), ALL | {"epochs": 10}, epochs=6, probes=True),
    Case(
        "MobileNetV2, all layers", "solar_cells", (32, 160), ALL, epochs=3, goal=0.45, whole=False
    ),
    Case(
        "ResNet, all layers",
        "solar_cells",
        (32, 160),
        ALL,
        "resnet",
        epochs=3,
        goal=0.45,
        whole=False,
    ),
)
BROUGHT = {  # the path below --data, the base model, and the options of `refit add`
    "banking77": ("banking77", "minilm", []),
    "financial_phrasebank": (
        "financial_phrasebank/all-data.csv",
        "minilm",
        ["--text", "news", "--label", "label"],
    ),
    "hymenoptera": ("hymenoptera/hymenoptera_256.zip", "mobilenet", []),
}


@dataclass
class Bench:
    """A project in a folder of its own, and the place of data that is not this project's."""

    folder: Path
    data: Path
    parts: dict[str, dict[str, pd.DataFrame]] = field(
        default_factory=dict[str, dict[str, pd.DataFrame]]
    )
    """of each task that is split, whole"""
    tasks: dict[str, Any] = field(default_factory=dict[str, Any])
    """the blocks of params.yaml, as they were before a case changed them"""

    def lay_out(self) -> None:
        """Make the project: without a task, but with DVC for `refit add`."""
        for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(elsewhere.ROOT / name, self.folder)
        elsewhere.run(self.folder, "dvc", "init", "--quiet", "--no-scm")
        elsewhere.write_params(
            self.folder, elsewhere.read_params()["sources"] | settings.read_yaml(bases.KNOWN), {}
        )

    def bring(self, source: str) -> None:
        """Bring a source of params.yaml, from this project's own files if they are here."""
        there = self.folder / "data/raw" / source
        if there.exists():
            return
        there.parent.mkdir(parents=True, exist_ok=True)
        own = elsewhere.ROOT / "data/raw" / source
        if (own / "source.json").is_file():
            there.symlink_to(own)
        else:
            elsewhere.run(self.folder, "stages.fetch", source)

    def there(self, name: str) -> bool:
        """Return whether a data set is available."""
        return name not in BROUGHT or (self.data / BROUGHT[name][0]).exists()

    def prepare(self, name: str) -> None:
        """Bring a data set and split it, once."""
        if name in self.parts:
            return
        if name in BROUGHT:
            self._add(name)
        else:
            task = elsewhere.read_params()["tasks"][name]
            self.bring(task["data"]["source"])
            self.bring(task["base"])
            self.write(name, task)
        self.split(name)

    def _add(self, name: str) -> None:
        where, base, said = BROUGHT[name]
        given = self.data / where
        if given.suffix == ".zip":
            with zipfile.ZipFile(given) as archive:
                archive.extractall(given := self.folder / "unpacked" / name)
        self.bring(base)
        elsewhere.run(
            self.folder, "stages.cli", "add", name, str(given.absolute()), "--base", base, *said
        )
        self.tasks[name] = elsewhere.read_params(self.folder)["tasks"][name]
        # PyTorch's tutorial tests on val.
        for folder in self.tasks[name]["data"]["layout"].get("folders", []):
            folder["part"] = {"train": "train", "val": "test"}.get(folder["path"], folder["part"])
        self.write(name, self.tasks[name])

    def split(self, name: str) -> None:
        """Run the stages before finetune and keep the parts."""
        for stage in ("validate", "augment", "split"):
            elsewhere.run(self.folder, f"stages.{stage}", name)
        below = self.folder / "data/split" / name
        self.parts[name] = {
            part: manifest.read(below / f"{part}.parquet") for part in manifest.PARTS
        }

    def write(self, name: str, task: Any) -> None:
        """Write a task into params.yaml beside the others."""
        params = elsewhere.read_params(self.folder)
        task["validate"]["domain"]["run_base"] = False  # this benchmark does not measure it
        self.tasks.setdefault(name, task)
        elsewhere.write_params(
            self.folder, params["sources"], params["tasks"] | {name: task}, params["flows"]
        )

    def cut(self, name: str, rows: int | None) -> int:
        """Leave so many rows of train and as large a share of validation; return the number.

        Labels keep their shares.
        """
        below, whole = self.folder / "data/split" / name, self.parts[name]
        share = 1.0 if rows is None else rows / len(whole["train"])
        kept = {
            part: whole[part] if rows is None else thinned(whole[part], share)
            for part in ("train", "validation")
        }
        signed = receipts.read_json(below / "receipt.json")
        for part, frame in kept.items():
            manifest.write(frame, below / f"{part}.parquet")
        receipts.write_json(below / "receipt.json", receipts.files(below, signed))
        return len(kept["train"])

    def settings(self, case: Case, probe: bool = False) -> Any:
        """Return the task's block with the values of a case."""
        task = self.tasks[case.set]
        fewer = {"epochs": case.epochs} if case.epochs else {}
        changed = PROBE if probe else case.finetune | fewer
        # All epochs run, as in the stock script.
        changed = changed | {"early_stopping_patience": None}
        return task | {"base": case.base or task["base"], "finetune": task["finetune"] | changed}

    def refit(self, case: Case, probe: bool = False) -> Cost:
        """Run the stage finetune on the rows that `cut` left."""
        self.write(case.set, self.settings(case, probe))
        return elsewhere.run(self.folder, "stages.finetune", case.set)

    def stock(self, case: Case, kind: str | None = None, test: str = "validation") -> Cost:
        """Run another script on the same rows and settings."""
        task = self.settings(case)
        modality, finetune, below = (
            task["modality"],
            task["finetune"],
            self.folder / "data/split" / case.set,
        )
        spec = stock.Spec(
            base=str(self.folder / "data/raw" / task["base"]),
            train=self._plain(below / "train.parquet"),
            test=self._plain(below / f"{test}.parquet"),
            out=str(self.folder / "stock.json"),
            epochs=finetune["epochs"],
            batch_size=finetune["batch_size"],
            learning_rate=finetune["learning_rate"],
            max_tokens=modality.get("max_tokens", 0),
            side=modality.get("crop", 0),
            transforms=task["augment"]["transforms"] if task["augment"]["on_the_fly"] else [],
        )
        (self.folder / "spec.json").write_text(json.dumps(asdict(spec)))
        kind = kind or {"text": "texts", "image": "pictures"}[modality["name"]]
        return elsewhere.run(self.folder, "benchmarks.stock", kind, "spec.json")

    def _plain(self, path: Path) -> str:
        """Write the rows of a part as a script without Refit would have them.

        Each copy of a picture is a file.
        """
        rows = manifest.read(path)[["x", "y"]]
        for pack in {Path("data", x).parent for x in rows["x"] if f"{image.altering.COPIES}/" in x}:
            if not (files := self.folder / pack.with_suffix("")).exists():
                with zipfile.ZipFile(self.folder / pack) as archive:
                    archive.extractall(files)
        written = self.folder / f"plain_{path.name}"
        rows.assign(
            x=rows["x"].str.replace(
                f"/{image.altering.COPIES}/", f"/{Path(image.altering.COPIES).stem}/"
            )
        ).to_parquet(written)
        return str(written)

    def ways(self, case: Case) -> dict[str, Callable[[], Cost]]:
        """Return the ways that take turns on a case, by name."""
        found: dict[str, Callable[[], Cost]] = {
            "refit": partial(self.refit, case), "stock": partial(self.stock, case),
        }  # fmt: skip
        if case.probes:
            found["refit probe"] = partial(self.refit, case, probe=True)
            if self.tasks[case.set]["modality"]["name"] == "text":
                found["plain probe"] = partial(self.stock, case, "probe")
        return found


def thinned(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Return a share of the originals of each label, at least one, and their copies.

    Ids are hashes, so their order is a draw.
    """
    originals = rows[rows["id"] == rows["source_id"]].sort_values("id")
    label = originals["y"].str.join(" ")
    place, size = label.groupby(label).cumcount(), label.groupby(label).transform("size")
    kept = originals["id"][place < np.ceil(share * size).clip(lower=1)]
    return rows[rows["source_id"].isin(kept)]


@dataclass
class Measured:
    """The costs of each way of a case, as a list of rounds for each number of rows."""

    case: Case
    whole: int
    """rows of train, uncut"""
    costs: dict[str, dict[int, list[Cost]]] = field(
        default_factory=dict[str, dict[int, list[Cost]]]
    )

    def a_row(self, way: str, of: str = "seconds") -> list[float]:
        """Return the milliseconds that one more row costs, with all epochs, in each round."""
        (few, short), (many, long) = self.costs[way].items()
        return [
            1000 * (getattr(b, of) - getattr(a, of)) / (many - few)
            for a, b in zip(short, long, strict=True)
        ]

    def all_rows(self, way: str, of: str = "seconds") -> list[float]:
        """Return the seconds that the whole set would take, with its start, in each round."""
        few, short = next(iter(self.costs[way].items()))
        more = [row / 1000 * (self.whole - few) for row in self.a_row(way, of)]
        return [getattr(a, of) + b for a, b in zip(short, more, strict=True)]

    def figures(self) -> Iterator[Figure]:
        """Yield the measurements as ratios."""
        name = self.case.name
        yield self._figure(
            f"{name}: training, a row", self.a_row, "ms", "refit", "stock", self.case.goal
        )
        if self.case.whole:
            yield self._figure(
                f"{name}: training, whole set (estimated)",
                self.all_rows,
                "s",
                "refit",
                "stock",
                0.5,
            )
        if self.case.probes:
            whole = f"{name}: linear probe, whole set (estimated)"
            yield self._figure(whole, self.all_rows, "s", "refit probe", "stock", 0.1)
        if "plain probe" in self.costs:
            yield self._figure(
                f"{name}: linear probe, a row", self.a_row, "ms", "refit probe", "plain probe", None
            )

    def _figure(
        self,
        name: str,
        of: Callable[..., list[float]],
        unit: str,
        ours: str,
        theirs: str,
        goal: float | None,
    ) -> Figure:
        against = "scikit-learn on frozen features" if theirs == "plain probe" else STOCK
        cpu = numbers.median(of(ours, "cpu")) / numbers.median(of(theirs, "cpu"))
        return figure(name, against, unit, of(ours), of(theirs), by_cpu=cpu, goal=goal)


def train(bench: Bench, measured: Measured) -> None:
    """Run a round of a case: each way once at each number of rows."""
    case = measured.case
    for rows in case.rows:
        cut = bench.cut(case.set, rows)
        for way, run in bench.ways(case).items():
            measured.costs.setdefault(way, {}).setdefault(cut, []).append(run())


# ---- arithmetic ----------------------------------------------------------------------------------


def ceiling(dtype: str) -> float:
    """Return the most floating-point operations per second in a product of square matrices.

    It is the median of several products.
    """
    import torch

    on = "cuda" if torch.cuda.is_available() else "cpu"
    rates = list[float]()
    for side in SQUARES[on]:
        a, b = (torch.randn(side, side, device=on, dtype=getattr(torch, dtype)) for _ in range(2))
        seconds = list[float]()
        for _ in range(5):
            began = time.perf_counter()
            torch.mm(a, b)
            if on == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        rates.append(2 * side**3 / numbers.median(seconds[1:]))
    return max(rates)


def flops(config: dict[str, Any], tokens: int, backward: bool) -> float:
    """Return the floating-point operations of a BERT's layers for one token of a text.

    The text has so many tokens. Forward it takes 2 N + 4 L s h, for N weights in the layers'
    matrices, L layers of width h, and s tokens: the second term is attention's two products. A
    training step takes three times as many (6 N + 12 L s h).
    """
    layers, width, inner = (
        config[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size")
    )
    weights = layers * (4 * width**2 + 2 * width * inner)
    return (3 if backward else 1) * (2 * weights + 4 * layers * tokens * width)


def dtypes() -> list[str]:
    """Return the dtypes worth measuring here: bfloat16 only if the machine computes in it."""
    import torch

    has = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ["float32", *(["bfloat16"] if has else [])]


ARITHMETIC = Case("MiniLM at 64 tokens", "long", (64, 320), epochs=2)
SHARES = {"float32": 0.7, "bfloat16": 0.5}


def lay_out_long(bench: Bench) -> None:
    """Make a task of texts that are all longer than TOKENS, with labels that say nothing."""
    task = elsewhere.read_params()["tasks"]["questions"]
    bench.bring(task["base"])
    words = checks.written(1600, np.random.default_rng(0))
    whole = [" ".join(words[i : i + 4]) for i in range(0, len(words), 4)]
    folder = bench.folder / "data/raw/long"
    folder.mkdir()
    pd.DataFrame({"text": whole, "label": ["a", "b"] * (len(whole) // 2)}).to_csv(
        folder / "long.csv", index=False
    )
    files = [{"path": "long.csv", "part": None, "rows": None}]
    layout = {
        "name": "table",
        "files": files,
        "columns": {"x": "text", "y": "label"},
        "dialect": None,
    }
    task["data"] = {"source": "long", "encoding": "utf-8", "layout": layout}
    task["problem"]["labels"] = None
    task["modality"] |= {
        "max_tokens": TOKENS,
        "characters": [1, 10_000],
        "median_characters": [1, 10_000],
    }
    task["validate"] |= {
        "min_rows": 1, "min_rows_per_label": 1,
        "label_distribution": {"name": "uniform", "max_kl": 0.1},
    }  # fmt: skip
    task["validate"]["domain"] |= {"profile": "unknown", "run_base": False}
    bench.write("long", task)
    bench.split("long")


def compute(
    bench: Bench, rates: dict[str, tuple[list[float], list[float]]], types: list[str]
) -> None:
    """Run a round: for each dtype, the ceiling and what training reaches.

    Both are in operations per second.
    """
    config = json.loads((bench.folder / "data/raw/minilm/config.json").read_text())
    epochs = ARITHMETIC.epochs or 1
    own = bench.tasks["long"]
    for dtype in types:
        bench.tasks["long"] = own | {"compute": own["compute"] | {"dtype": dtype}}
        work, seconds = list[float](), list[float]()
        for rows in ARITHMETIC.rows:
            cut = bench.cut("long", rows)
            asked = len(manifest.read(bench.folder / "data/split/long/validation.parquet"))
            one = [
                count * TOKENS * flops(config, TOKENS, back)
                for count, back in ((cut, True), (asked, False))
            ]
            work.append(epochs * sum(one))
            seconds.append(bench.refit(ARITHMETIC).seconds)
        reached, most = rates.setdefault(dtype, ([], []))
        reached.append((work[1] - work[0]) / (seconds[1] - seconds[0]) / 1e9)
        most.append(ceiling(dtype) / 1e9)
    bench.tasks["long"] = own


def of_ceiling(rates: dict[str, tuple[list[float], list[float]]]) -> Iterator[Figure]:
    """Yield each dtype's share of its ceiling."""
    for dtype, (reached, most) in rates.items():
        name = f"{ARITHMETIC.name}: training in {dtype}, share of the ceiling"
        yield figure(
            name, "matrix product", "GFLOP/s", reached, most, goal=SHARES[dtype], at_least=True
        )


# ---- pictures, and scoring -----------------------------------------------------------------------


def reading(bench: Bench, number: int, rounds: int) -> Iterator[Figure]:
    """Yield decoding and augmentation beside bare loops, in pictures per second.

    All have the same number of workers.
    """
    bench.prepare("solar_cells")
    paths = list(islice(cycle(images.files(bench.folder / "data/raw/elpv")), number))
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as into:
        for name, ways in (
            ("decoding", images.ways_of_reading(paths, workers)),
            ("augmentation", images.ways_of_augmenting(paths, workers, Path(into))),
        ):
            # Without the first round, which imports.
            rates = {way: of[1:] for way, of in images.rates(paths, 1 + rounds, ways)[0].items()}
            bare = max(images.BARE, key=lambda way: numbers.median(rates[way]))
            for way in ways.keys() - set(images.BARE):
                seconds = {of: [1000 / rate for rate in rates[of]] for of in (way, bare)}
                yield figure(
                    f"{name}: {way}",
                    f"{bare} (Pillow, albumentations)",
                    "ms",
                    seconds[way],
                    seconds[bare],
                )


def scored(bench: Bench, name: str, rows: int, rounds: int) -> Iterator[Figure]:
    """Yield scoring of test rows by finetune's model, beside a plain loop over the same rows.

    Each row has one view.
    """
    test = bench.parts[name]["test"]
    test = test.iloc[np.arange(rows) % len(test)].reset_index(drop=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        left = bench.folder / "data/finetune" / name
        shutil.copytree(left / "model", folder / "model")
        card = receipts.read_json(left / "model.json")
        if "views" in card["modality"]:
            card["modality"]["views"] = ["as_is"]
        receipts.write_json(folder / "model.json", card)
        settings, size = (
            Compute(**bench.tasks[name]["compute"]),
            bench.tasks[name]["compute"]["batch_size"],
        )
        ways: dict[str, Callable[[], Any]] = {
            "refit": lambda: scoring.predict(folder, test, settings)
        }
        if "max_tokens" in card["modality"]:
            tokens = card["modality"]["max_tokens"]
            ways["plain"] = lambda: stock.score_texts(
                folder / "model", test["x"].tolist(), tokens, size
            )
        else:
            paths = [Path("data", x) for x in test["x"]]
            ways["plain"] = lambda: stock.score_pictures(
                folder / "model", paths, card["modality"]["crop"], size
            )
        seconds = {way: list[float]() for way in ways}
        with elsewhere.inside(bench.folder):
            for _ in range(1 + rounds):
                for way, run in ways.items():
                    began = time.perf_counter()
                    run()
                    seconds[way].append(1000 * (time.perf_counter() - began) / rows)
    seconds = {way: of[1:] for way, of in seconds.items()}  # without the first, which imports
    yield figure(
        f"{name}: scoring {rows:,} rows, loading included",
        BARE,
        "ms a row",
        seconds["refit"],
        seconds["plain"],
    )


# ---- whole sets ----------------------------------------------------------------------------------


def whole(bench: Bench, case: Case, rounds: int) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Train a whole set by each way and evaluate it; return figures and scores.

    The scores are macro-F1 on the same test rows.
    """
    case = replace(case, epochs=None)
    bench.prepare(case.set)
    bench.cut(case.set, None)
    ways = {
        "refit": partial(bench.refit, case),
        "stock": partial(bench.stock, case, test="test"),
        **({"refit probe": partial(bench.refit, case, probe=True)} if case.probes else {}),
    }
    costs, judged = {way: list[Cost]() for way in ways}, list[Cost]()
    predicted = dict[str, "pd.Series[str]"]()
    test = bench.parts[case.set]["test"]
    for _ in range(rounds):
        for way, run in ways.items():
            costs[way].append(run())
            if way == "stock":
                given = json.loads((bench.folder / "stock.json").read_text())
                predicted[way] = pd.Series(given, index=test["id"])
                continue
            judged.append(elsewhere.run(bench.folder, "stages.evaluate", case.set))
            found = manifest.read_table(
                bench.folder / "data/evaluate" / case.set / "predictions.parquet"
            )
            predicted[way] = found.set_index("id")["candidate"].reindex(test["id"])
    truth = pd.Series(test["y"].str[0].to_numpy(), index=test["id"])
    labels = sorted(truth.unique())
    figures, scores = list[Figure](), list[dict[str, Any]]()
    for way, goal in (("refit", 0.5), ("refit probe", 0.1)):
        if way in ways:
            seconds, theirs = ([of.seconds for of in costs[which]] for which in (way, "stock"))
            cpu = numbers.median(of.cpu for of in costs[way]) / numbers.median(
                of.cpu for of in costs["stock"]
            )
            name = f"{case.name}: {'training' if way == 'refit' else 'linear probe'}, whole set"
            figures.append(figure(name, STOCK, "s", seconds, theirs, by_cpu=cpu, goal=goal))
            metric = METRICS["macro_f1"]
            tallies = (metric.tally(truth, predicted[of], labels) for of in (way, "stock"))
            beside = evidence.compare(*tallies, metric, margin=0.0, level=0.025)
            scores.append({
                "set": case.name, "way": way, "test_rows": len(test), "macro_f1": beside.candidate,
                "stock_macro_f1": beside.baseline, "difference": beside.difference,
                "low": beside.lower, "high": beside.upper,
            })  # fmt: skip
    trained = [of.seconds for of in costs["refit"]]
    evaluated = [of.seconds for of in judged[:: len(ways) - 1]]
    figures.append(
        figure(
            f"{case.name}: the stage evaluate",
            "the stage finetune",
            "s",
            evaluated,
            trained,
            goal=0.25,
        )
    )
    return figures, scores


# ---- the run -------------------------------------------------------------------------------------


def parts_of(bench: Bench, quick: bool, minutes: float) -> Iterator[Figure]:
    """Yield all figures on subsets: a round of everything, then trainings while time is left."""
    began = time.monotonic()
    cases = [case for case in CASES if bench.there(case.set)]
    if quick:
        cases = [replace(case, epochs=QUICK_EPOCHS, probes=False) for case in cases if case.quick]
    for case in CASES:
        if not bench.there(case.set):
            print(
                f"left out: {case.name} ({bench.data / BROUGHT[case.set][0]} is not there; "
                "say --data)",
                flush=True,
            )
    measured = list[Measured]()
    for case in cases:
        bench.prepare(case.set)
        bench.bring(case.base or bench.tasks[case.set]["base"])
        measured.append(Measured(case, len(bench.parts[case.set]["train"])))
    lay_out_long(bench)
    rates = dict[str, tuple[list[float], list[float]]]()
    yield from reading(bench, 300 if quick else 1000, 2 if quick else 3)
    longest = 0.0
    while not longest or time.monotonic() - began + longest < 60 * minutes:
        started = time.monotonic()
        for of in measured:
            train(bench, of)
            print(f"so far, {time.monotonic() - began:.0f} s after the start:", flush=True)
            show(list(of.figures()))
        compute(bench, rates, dtypes()[-1:] if quick else dtypes())
        longest = max(longest, time.monotonic() - started)
    for of in measured:
        yield from of.figures()
    yield from of_ceiling(rates)
    for name, rows in (("questions", 2000), ("solar_cells", 400)):
        bench.refit(replace(next(case for case in cases if case.set == name), epochs=1))
        yield from scored(bench, name, rows, 3)


def show(figures: list[Figure]) -> None:
    """Print the figures as a table."""
    for of in figures:
        goal = (
            ""
            if of.goal is None
            else f"{'>=' if of.at_least else '<='} {of.goal:g} {'met' if of.met else 'MISSED'}"
        )
        cpu = "" if of.by_cpu is None else f"cpu {of.by_cpu:.2f}"
        print(f"{of.ratio:6.2f}  {of.low:5.2f}-{of.high:<5.2f} {cpu:9} {goal:14} {of.name}: "
              f"{of.refit:,.4g} {of.unit}, "
              f"{of.against} {of.other:,.4g}")  # fmt: skip


def main() -> None:
    """Run the benchmark, print it, and keep it below docs/performance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer sets, one round")
    parser.add_argument(
        "--full", action="store_true", help="train and evaluate whole sets, and compare macro-F1"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of --full")
    parser.add_argument(
        "--sets",
        nargs="+",
        help="of --full: " + ", ".join(case.name for case in CASES if case.whole),
    )
    parser.add_argument(
        "--minutes", type=float, help=f"of subsets: {MINUTES}, quick {QUICK_MINUTES}"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data/bench"), help="a folder with banking77 and others"
    )
    options = parser.parse_args()
    runner.quiet()
    figures, scores = list[Figure](), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.data)
        bench.lay_out()
        if options.full:
            for case in CASES:
                if (
                    case.whole
                    and bench.there(case.set)
                    and case.name in (options.sets or [case.name])
                ):
                    several, compared = whole(bench, case, options.rounds)
                    figures, scores = figures + several, scores + compared
                    show(several)
        else:
            minutes = options.minutes or (QUICK_MINUTES if options.quick else MINUTES)
            for found in parts_of(bench, options.quick, minutes):
                figures.append(found)
                show([found])
    for score in scores:
        print(score)
    kind = "whole" if options.full else "quick" if options.quick else "subsets"
    page.keep(
        "speed",
        {
            kind: {
                **page.machine(),
                "figures": [asdict(of) | {"met": of.met} for of in figures],
                "scores": scores,
            }
        },
    )
    page.write()


if __name__ == "__main__":
    main()
