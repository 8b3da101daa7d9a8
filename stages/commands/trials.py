"""Train on part of a task's train rows, and measure on validation: what `refit search` repeats.

The test rows are never read.
"""

import contextlib
import io
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from stages.contract import draws, locks, manifest, plugins, receipts, runner, settings
from stages.contract.metrics import Metric
from stages.contract.parts import ANY
from stages.contract.runner import Job
from stages.judging import evidence
from stages.judging.evidence import Interval
from stages.methods import training
from stages.methods.training import Recipe, Trained
from stages.models import device
from stages.params.finetune import Finetune
from stages.params.task import Task

CONFIDENCE = 0.95  # of the intervals
# Sections that a training reads beside finetune.
DEPENDS = ("modality", "problem", "compute", "augment")


@dataclass(frozen=True)
class Bench:
    """What the trials of a task learn from and are measured by.

    sha256 is of everything that they depend on but finetune; raw returns the folder of a source.
    """

    name: str
    task: Task
    folder: Path
    train: pd.DataFrame
    validation: pd.DataFrame
    raw: Callable[[str], tuple[Path, str]]
    work: Path
    sha256: str

    @property
    def metric(self) -> tuple[str, Metric]:
        """The metric that decides, and its name."""
        of_y = plugins.problem(self.task.problem.name)
        name = plugins.deciding(of_y, self.task.evaluate.metric)
        return name, of_y.METRICS[name]


@dataclass(frozen=True)
class Outcome:
    """What a training reached on validation, and what it took.

    rows are originals; seconds are of the clock, cpu of all cores; learns is the number of weights
    that learned.
    """

    score: Interval
    rows: int
    seconds: float
    cpu: float
    learns: int


@contextmanager
def opened(kind: str, name: str) -> Generator[Bench]:
    """Yield what the trials of a task need, once its split is verified; one at a time of a kind."""
    runner.quiet()
    task = settings.task(name)
    with ExitStack() as held:
        work = held.enter_context(locks.Lock(Path("data/.work", kind, name)))
        for left in work.glob("tmp*"):  # by a run that was killed
            shutil.rmtree(left)
        out = held.enter_context(TemporaryDirectory(dir=work))
        job = Job(kind, name, Path(out), Path(out))
        train, validation = (
            manifest.read(job.take("split", f"{part}.parquet")) for part in ("train", "validation")
        )
        folder, _ = job.raw(task.base)
        rest = {key: of for key, of in asdict(task).items() if key in DEPENDS}
        sha256 = receipts.digest([job.taken, rest, device.described(task.compute)])
        yield Bench(name, task, folder, train, validation, job.raw, Path(out), sha256)


def subset(train: pd.DataFrame, share: float | None, rows: int | None = None, draw: int = 0) -> Any:
    """Return a share of the train rows of each class, or so many of each, with their copies.

    A greater subset contains the smaller one. Another draw gives other rows.
    """
    originals = train[train["id"] == train["source_id"]]
    drawn = originals["id"].map(lambda name: draws.uniform("subset", draw, str(name)))
    strata = originals["stratum"].fillna(ANY)
    rank = drawn.groupby(strata).rank(method="first")
    most = rows or (strata.map(strata.value_counts()) * (share or 1.0)).map(ceil)
    return train[train["source_id"].isin(originals.loc[rank <= most, "id"])]


def run(bench: Bench, finetune: Finetune, train: pd.DataFrame) -> tuple[Outcome, Trained]:
    """Train on these rows and measure on validation; nothing is printed.

    Raises ModelError if the settings do not fit the model, or if nothing was learned.
    """
    task = bench.task
    recipe = Recipe(
        bench.name, task.modality, task.problem, bench.folder, task.augment, task.compute, finetune
    )
    device.set_up(task.compute)
    began, cpu = time.monotonic(), time.process_time()
    with TemporaryDirectory(dir=bench.work) as folder, contextlib.redirect_stdout(io.StringIO()):
        trained = training.train(recipe, train, bench.validation, bench.raw, lambda: Path(folder))
    spent = time.monotonic() - began, time.process_time() - cpu
    found = score(bench, trained, bench.validation)
    rows = int((train["id"] == train["source_id"]).sum())
    return Outcome(found, rows, *spent, trained.learns), trained


def score(bench: Bench, trained: Trained, rows: pd.DataFrame) -> Interval:
    """Return what a trained model scores on rows, with an interval."""
    of_y, (_, metric), labels = trained.start.of_y, bench.metric, trained.start.labels
    decoded = of_y.decode(training.outputs(trained, rows), labels).set_index(rows.index)
    tally = metric.tally(of_y.values(rows["y"]), decoded["predicted"], labels)
    return evidence.intervals(tally, metric, alpha=1 - CONFIDENCE).score


def good_enough(metric: Metric, score: float, best: Interval) -> bool:
    """Tell whether a score lies within the interval of the best one."""
    return score <= best.high if metric.less else score >= best.low


def changed(task: Task, finetune: dict[str, Any]) -> Task:
    """Return a task with settings of finetune, checked like those in params.yaml.

    Raises ValueError if they cannot work together.
    """
    from pydantic import TypeAdapter

    made = TypeAdapter(Finetune).validate_json(settings.as_json(finetune))
    return replace(task, finetune=made)
