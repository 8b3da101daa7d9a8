"""Measure which compute settings a task runs fastest with on this machine, and write them.

The settings are threads, arithmetic, memory format and batch; they are written into params.yaml. A
run never chooses by a clock, so that its result does not depend on what else a machine does: this
module is the only place that reads one.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from stages.contract import locks, manifest, plugins, runner, settings
from stages.contract.errors import ParamsError
from stages.contract.learning import LABELS, Learning, Rows
from stages.contract.runner import Job
from stages.methods import optimisers, training
from stages.methods.training import Recipe
from stages.models import device, loading
from stages.params.compute import Compute
from stages.params.task import Task

PARAMS = Path("params.yaml")
Raw = Callable[[str], tuple[Path, str]]  # a source -> its folder and sha256
Work = Callable[[], int]  # that is timed; it returns the number of rows that it worked on
# Each candidate is timed once a round, in turn, so that a busy minute falls on all of them.
ROUNDS = 3
BATCHES = (16, 64, 256)  # rows scored together
ROWS = 256  # of train that are scored; a step of training takes finetune.batch_size of them
WORTH = 0.05  # share of the time that a change must save


@dataclass(frozen=True)
class Trial:
    """The settings that were tried, and the median seconds that 1,000 rows take.

    training is the time to learn from them, scoring the time to score them.
    """

    compute: Compute
    training: float | None
    scoring: float | None


@dataclass(frozen=True)
class Calibrated:
    """The settings that params.yaml has now, the settings it had before, and every trial."""

    task: str
    compute: Compute
    before: Compute
    trials: list[Trial]


def calibrate(name: str) -> Calibrated:
    """Time training steps and scoring batches of a task, and write what is faster.

    The timings use the task's own base model and rows. A change has to save more than WORTH.
    """
    runner.quiet()
    task = settings.task(name)
    with locks.Lock(Path("data/.work/finetune", name)) as work, TemporaryDirectory(dir=work) as out:
        job = Job("calibrate", name, Path(out), work)
        train = (
            manifest.read(job.take("split", "train.parquet"))
            .sort_values("id")
            .head(max(ROWS, task.finetune.batch_size))
        )
        folder, _ = job.raw(task.base)
        recipe = Recipe(
            name, task.modality, task.problem, folder, task.augment, task.compute, task.finetune
        )
        compute, trials = _tried(task, recipe, train, job.raw)
    if compute != task.compute:
        _write(name, task.compute, compute)
    return Calibrated(name, compute, task.compute, trials)


def told(found: Calibrated) -> list[str]:
    """Return a result as lines for a person to read."""
    stays = "stays" if found.compute == found.before else "is now"
    return [
        *(
            f"training {trial.training:.2f} s for 1,000 rows: {_spelled(trial.compute)}"
            if trial.training is not None
            else f"scoring {trial.scoring:.2f} s for 1,000 rows: {_spelled(trial.compute)}"
            for trial in found.trials
        ),
        f"params.yaml: tasks.{found.task}.compute {stays} {_spelled(found.compute)}",
    ]


def _spelled(compute: Compute) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(compute).items())


def _tried(
    task: Task, recipe: Recipe, train: pd.DataFrame, raw: Raw
) -> tuple[Compute, list[Trial]]:
    """Return the fastest settings, and how long training, then scoring took with each."""
    folder = recipe.base
    trainings = _timed(
        [(of, _training(recipe, train, raw, of)) for of in _candidates(task, folder)]
    )
    compute = _best(trainings, task.compute)
    sized = [replace(compute, batch_size=size) for size in sorted({*BATCHES, compute.batch_size})]
    scorings = _timed([(of, _scoring(task, folder, train, of)) for of in sized])
    return _best(scorings, compute), [
        *(Trial(of, seconds, None) for of, seconds in trainings),
        *(Trial(of, None, seconds) for of, seconds in scorings),
    ]


def _candidates(task: Task, folder: Path) -> list[Compute]:
    """Return every combination of settings that makes sense here.

    `auto` stands for the arithmetic that it means on this machine.
    """
    import torch

    model, _ = loading.load(
        plugins.problem(task.problem.name), folder, task.modality.name, ["0", "1"], new_head=True
    )
    convolves = any(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    cores = len(os.sched_getaffinity(0))
    threads = sorted({1, max(1, cores // 2), cores, task.compute.threads})
    arithmetic = ["auto", *(["float32"] if device.has_bfloat16() else [])]
    formats = ["contiguous_format", "channels_last"] if convolves else [task.compute.memory_format]
    return [
        replace(task.compute, threads=n, dtype=dtype, memory_format=of)
        for n, dtype, of in product(threads, arithmetic, formats)
    ]


def _training(recipe: Recipe, train: pd.DataFrame, raw: Raw, compute: Compute) -> Work:
    """Return a function that takes one step of training and returns the number of its rows."""
    import torch

    rows, learner, learning = _learning(recipe, train, raw)
    learns = len(learning.train) > 0  # else a step only sends rows through the base model
    learner = learner.to(device.find(), memory_format=getattr(torch, compute.memory_format)).train()
    device.avoid_slow_kernels(learner, compute)
    optimizer = optimisers.optimiser(learner, recipe.finetune, learning) if learns else None
    if not learns:
        learning = replace(learning, train=rows)
    number = min(recipe.finetune.batch_size, len(rows))
    return partial(_step, learner, learning, number, optimizer, compute)


def _learning(recipe: Recipe, train: pd.DataFrame, raw: Raw) -> tuple[Rows, Any, Learning]:
    """Return rows, and the model and the way in which it learns from them."""
    finetune, start = recipe.finetune, training.loaded(recipe, train, raw)
    rows = training.encoder(start)(train, recipe.augment)
    learning = training.prepared(recipe, start, rows, rows)
    return rows, *plugins.tune(finetune.tune.name).prepare(start, learning, finetune.tune)


def _step(learner: Any, learning: Learning, number: int, optimizer: Any, compute: Compute) -> int:
    """Take a step with so many rows; without an optimizer, only send them through the model."""
    import torch
    from accelerate.utils import send_to_device

    device.set_up(compute)
    rows = learning.collate(learning.train.__getitems__(range(number)))
    batch: Any = send_to_device(rows, device.find())
    targets = batch.pop(LABELS)
    with device.arithmetic(compute), torch.set_grad_enabled(optimizer is not None):
        loss, _ = learning.loss(learner, batch, targets)
    if optimizer is None:
        return number
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return number


def _scoring(task: Task, folder: Path, rows: pd.DataFrame, compute: Compute) -> Work:
    """Return a function that scores the rows and returns how many there are."""
    import torch

    of_x, of_y = plugins.modality(task.modality.name), plugins.problem(task.problem.name)
    model, _ = loading.load(of_y, folder, task.modality.name, ["0", "1"], new_head=True)
    model = model.to(device.find(), memory_format=getattr(torch, compute.memory_format)).eval()
    encoding, processor = of_x.encoding, of_x.encoding.processor(folder)

    def score() -> int:
        device.set_up(compute)
        encoded = encoding.encode(rows, processor, task.modality)
        lengths, collate = encoding.lengths(encoded), encoding.collate(processor)
        with torch.inference_mode(), device.arithmetic(compute):
            for _, inputs in device.batches(encoded, lengths, collate, compute.batch_size):
                model(**inputs).logits.float().cpu()
        return len(rows)

    return score


def _timed(works: list[tuple[Compute, Work]]) -> list[tuple[Compute, float]]:
    """Return each work's settings and the median seconds that it takes for 1,000 rows.

    Each work is warmed up once; then they take turns.
    """
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(ROUNDS + 1):
        for of, (_, work) in zip(taken, works, strict=True):
            began = time.perf_counter()
            rows = work()
            of += [1000 * (time.perf_counter() - began) / rows] if turn else []
    return [(compute, median(of)) for (compute, _), of in zip(works, taken, strict=True)]


def _best(timed: list[tuple[Compute, float]], now: Compute) -> Compute:
    """Return the fastest settings, or the current ones if a change would save too little."""
    fastest, least = min(timed, key=lambda of: of[1])
    same = (
        replace(now, dtype="auto")
        if device.dtype(now) == device.dtype(replace(now, dtype="auto"))
        else now
    )
    today = next((seconds for of, seconds in timed if of in (now, same)), None)
    return now if today is not None and least > (1 - WORTH) * today else fastest


def _write(name: str, before: Compute, after: Compute) -> None:
    """Set the values of tasks.NAME.compute that changed; every other byte of params.yaml stays."""
    written = PARAMS.with_suffix(".yaml.new")
    written.write_bytes(_changed(PARAMS.read_bytes().decode(), name, before, after).encode())
    try:
        if settings.load(written).tasks[name].compute != after:
            raise ParamsError(
                f"{PARAMS}: tasks.{name}.compute is not written a value a key; set it to "
                f"{asdict(after)}"
            )
        written.replace(PARAMS)
    finally:
        written.unlink(missing_ok=True)


def _changed(text: str, name: str, before: Compute, after: Compute) -> str:
    """Return the text of params.yaml with the values of tasks.NAME.compute that changed."""
    lines = text.split("\n")
    # ruamel's round-trip reader builds no objects
    held = YAML().load(text)["tasks"][name]["compute"]
    changed = [
        (held.lc.value(key), str(value))
        for key, value in asdict(after).items()
        if value != asdict(before)[key]
    ]
    # from the right, because a new value moves what follows it
    for (line, column), value in sorted(changed, reverse=True):
        lines[line] = lines[line][:column] + re.sub(
            r"^[^\s,}#]+", value, lines[line][column:], count=1
        )
    return "\n".join(lines)
