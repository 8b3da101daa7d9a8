"""Estimate how long a task takes on this machine, before it runs.

A person sees the estimate, and `refit add` uses it to choose what learns (defaults.faster).
"""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import plugins, progress, receipts, runner
from stages.contract.errors import RefitError
from stages.methods import layers
from stages.models import device, loading
from stages.params.finetune import Freeze, LinearProbe, Lora, ProbeHead, ZeroShot
from stages.params.task import Task
from stages.project.lineage import STAGES

STARTING = 30.0  # seconds that seven stages spend on neither training nor scoring
LORA = 1.5  # times what a row costs forwards: weights that stay the same need no gradients
# Rows, and how often they are timed: the first time warms up, and the least time counts.
MEASURED, ROUNDS = 32, 4
LEAST, MOST = 0.7, 1.6  # times the estimate, which is shown as a range


def say(key: str, task: Task, measured: "Measured | None" = None) -> str:
    """Return about how long the task takes, or why that cannot be known yet.

    The estimate comes from the task's last run if that was alike, else from a measurement.
    """
    lacking = [
        name for name in (task.data.source, task.base) if not Path("data/raw", name).is_dir()
    ]
    if lacking:
        return f"can be said once data/raw/{lacking[0]} is here"
    try:
        x = rows(task)
        seconds = by_last_run(key, task, len(x))
        if seconds is not None:
            return f"{spell_range(seconds)}, by its last run"
        if x.empty:
            return "cannot be said (no row can be read)"
        base = measured or measure(task, x)
    except RefitError as error:
        return f"cannot be said ({error})"
    return (
        f"{spell_range(by_measurement(task, len(x), base))}, by a measurement of its base model "
        f"on this machine ({1000 * base.row:.1f} ms a row)"
    )


def by_last_run(key: str, task: Task, rows: int) -> float | None:
    """Return the seconds that the last run took, scaled by rows and epochs.

    Return None if there was no last run, or if it learned in another way.
    """
    folders = {stage: Path("data", stage, key) for stage in STAGES}
    if not all((folder / "timing.json").is_file() for folder in folders.values()):
        return None
    then = receipts.read_json(folders["finetune"] / "provenance.json")["params"]
    how = (then["finetune"]["tune"]["name"], then["compute"]["dtype"])
    if how != (task.finetune.tune.name, task.compute.dtype):
        return None
    parts = receipts.read_json(folders["split"] / "leakage.json")["parts"]
    more, total = rows / max(1, sum(part["rows"] for part in parts.values())), 0.0
    for stage, folder in folders.items():
        timing, longer = receipts.read_json(folder / "timing.json"), more
        if stage == "finetune":
            longer = more * task.finetune.epochs / then["finetune"]["epochs"]
        total += timing["seconds_before_work"] + longer * timing["seconds_of_work"]
    return total


@dataclass(frozen=True)
class Measured:
    """What a row costs with the base model.

    row is the seconds that it takes to encode a row and send it through the base model, views the
    number of views in which a row is scored, and layers the number of layers that could be frozen.
    """

    row: float
    views: int
    layers: int


def by_measurement(task: Task, rows: int, base: Measured) -> float:
    """Return the seconds that a run takes, from the number of its rows."""
    _, validation, test = _parts(task, rows)
    worse = len(task.evaluate.robustness.transforms) * min(test, task.evaluate.robustness.rows)
    scored = worse + base.views * (validation + test)
    sampled = 2 * min(rows, task.validate.domain.sample) if task.validate.domain.run_base else 0
    probed = sum(
        min(rows - test, getattr(baseline, "max_rows", 0)) for baseline in task.evaluate.baselines
    )
    return STARTING + training(task, rows, base) + base.row * (scored + sampled + probed)


def training(task: Task, rows: int, base: Measured) -> float:
    """Return the seconds that the training takes.

    Backwards costs twice what forwards does, and nothing below the lowest layer that learns.
    """
    train, validation, _ = _parts(task, rows)
    tune = task.finetune.tune
    begun = (train + validation) * isinstance(task.finetune.head, ProbeHead)
    if isinstance(tune, LinearProbe | ZeroShot):
        return base.row * begun
    share = min(1.0, tune.layers / max(base.layers, 1)) if isinstance(tune, Freeze) else 1.0
    # the outputs of frozen layers are computed once
    kept = isinstance(tune, Freeze) and not task.augment.on_the_fly
    forwards = share if kept else 1.0
    backwards = LORA if isinstance(tune, Lora) else 2 * share
    return base.row * (
        begun
        + kept * (train + validation)
        + task.finetune.epochs * ((forwards + backwards) * train + forwards * validation)
    )


def _parts(task: Task, rows: int) -> tuple[float, float, float]:
    """Return about how many rows train (with its copies), validation and test have."""
    validation, test = rows * task.split.validation, rows * task.split.test
    copies = 0.0 if task.augment.on_the_fly else task.augment.share * task.augment.copies
    return (rows - validation - test) * (1 + copies), validation, test


def measure(task: Task, x: "pd.Series[Any]") -> Measured:
    """Send a few rows through the base model, which has to be here, and time it.

    The time is the processor's, which other programs hardly change.
    """
    runner.quiet()
    of_y, folder = plugins.problem(task.problem.name), Path("data/raw", task.base)
    # one thread, because several would wait for one another on a busy processor
    on = device.set_up(replace(task.compute, threads=1))
    model, _ = loading.load(of_y, folder, task.modality.name, ["0", "1"], new_head=True)
    model = model.eval().to(on)
    processor = plugins.modality(task.modality.name).encoding.processor(folder)
    samples = pd.DataFrame({"x": x.iloc[:: -(-len(x) // MEASURED)]}).reset_index(drop=True)
    clock, threads = time.monotonic, 1
    if on == "cpu":
        clock, threads = time.process_time, min(task.compute.threads, len(os.sched_getaffinity(0)))
    taken, views = list[float](), 1
    for _ in range(ROUNDS):
        began = clock()
        views = _send(samples, task, model, processor)
        taken.append((clock() - began) / threads / len(samples))
    return Measured(min(taken), views, len(layers.stack(model)[1]))


def _send(samples: pd.DataFrame, task: Task, model: Any, processor: Any) -> int:
    """Send rows through a model, and return the number of views in which one is scored."""
    import torch

    encoding, views = plugins.modality(task.modality.name).encoding, 1
    encoded = encoding.encode(samples, processor, task.modality)
    lengths, collate = encoding.lengths(encoded), encoding.collate(processor)
    with torch.inference_mode(), device.arithmetic(task.compute):
        for _, inputs in device.batches(encoded, lengths, collate, task.finetune.batch_size):
            model(**inputs)
            views = len(encoding.views(inputs, task.modality))
    return views


def spell_range(seconds: float) -> str:
    """Return an estimate as a rough range."""
    least, most = progress.spell(LEAST * seconds), progress.spell(MOST * seconds)
    if least == most:
        return f"about {most}"
    (number, _, unit), other = least.partition(" "), most.partition(" ")[2]
    return f"about {number if unit == other else least} to {most}"


def rows(task: Task) -> "pd.Series[Any]":
    """Return x of the rows that can be read."""
    of_x, folder = plugins.modality(task.modality.name), Path("data/raw", task.data.source)
    read = plugins.layout(task.data.layout.name).read(
        folder, task.data.layout, task.data.encoding, of_x
    )
    return read.loc[read["code"].isna(), "x"]
