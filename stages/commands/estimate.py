"""Says about how long a task takes on this machine, before it runs. It is shown to a person, and nothing is chosen by it."""

import time
from pathlib import Path
from typing import Any

import pandas as pd

from stages import device
from stages.contract import plugins, progress, receipts, runner
from stages.contract.errors import RefitError
from stages.contract.params import ProbeHead, Task
from stages.lineage import UPSTREAM

STAGES = (*UPSTREAM, "register")
STARTING = 30.0  # seconds of six stages that are neither training nor scoring
LEARNING = {"full": 3.0, "lora": 2.5, "freeze": 2.0, "linear_probe": 0.0}  # times what a row costs forwards
MEASURED = 32  # rows
LEAST, MOST = 0.7, 1.6  # of the estimate: what is said is a range


def say(key: str, task: Task) -> str:
    """Return about how long the task takes, by its last run where that was alike, else by a measurement; or why it cannot be known yet."""
    lacking = [name for name in (task.data.source, task.base) if not Path("data/raw", name).is_dir()]
    if lacking:
        return f"can be said once data/raw/{lacking[0]} is here"
    try:
        x = _rows(task)
        seconds = by_last_run(key, task, len(x))
        if seconds is not None:
            return f"{spell_range(seconds)}, by its last run"
        if x.empty:
            return "cannot be said (no row can be read)"
        row, views = measure(task, x)
    except RefitError as error:
        return f"cannot be said ({error})"
    return f"{spell_range(by_measurement(task, len(x), row, views))}, by a measurement of its base model on this machine ({1000 * row:.1f} ms a row)"


def by_last_run(key: str, task: Task, rows: int) -> float | None:
    """Return the seconds that the last run took, scaled by rows and epochs; None where there was none, or where it learned in another way."""
    folders = {stage: Path("data", stage, key) for stage in STAGES}
    if not all((folder / "timing.json").is_file() for folder in folders.values()):
        return None
    then = receipts.read_json(folders["finetune"] / "provenance.json")["params"]
    if (then["finetune"]["tune"]["name"], then["compute"]["dtype"]) != (task.finetune.tune.name, task.compute.dtype):
        return None
    parts = receipts.read_json(folders["split"] / "leakage.json")["parts"]
    more = rows / max(1, sum(part["rows"] for part in parts.values()))
    total = 0.0
    for stage, folder in folders.items():
        timing = receipts.read_json(folder / "timing.json")
        longer = more * task.finetune.epochs / then["finetune"]["epochs"] if stage == "finetune" else more
        total += timing["seconds_before_work"] + longer * timing["seconds_of_work"]
    return total


def by_measurement(task: Task, rows: int, row: float, views: int) -> float:
    """Return seconds from the number of rows, and the seconds that one of them takes through the base model in one of so many views."""
    validation, test = rows * task.split.validation, rows * task.split.test
    train = (rows - validation - test) * (1 + task.augment.share * task.augment.copies)
    learning = LEARNING.get(task.finetune.tune.name, max(LEARNING.values()))
    begun = (train + validation) * isinstance(task.finetune.head, ProbeHead)  # features are worked out once
    trained = begun + train * learning * task.finetune.epochs
    worse = len(task.evaluate.robustness.transforms) * min(test, task.evaluate.robustness.rows)
    scored = validation * bool(learning) * task.finetune.epochs + worse + views * (validation + test)
    sampled = 2 * min(rows, task.validate.domain.sample) if task.validate.domain.run_base else 0
    probed = sum(min(train, getattr(baseline, "max_rows", 0)) for baseline in task.evaluate.baselines)
    return STARTING + row * (trained + scored + sampled + probed)


def measure(task: Task, x: "pd.Series[Any]") -> tuple[float, int]:
    """Return the seconds that a row takes to be encoded and sent through the base model, and in how many views it is scored."""
    runner.quiet()
    import torch

    of_x, of_y, folder = plugins.modality(task.modality.name), plugins.problem(task.problem.name), Path("data/raw", task.base)
    on = device.set_up(task.compute)
    model = of_y.load(folder, task.modality.name, ["0", "1"], new_head=True)[0].eval().to(on)
    processor = of_x.processor(folder)
    samples = pd.DataFrame({"x": x.iloc[:: -(-len(x) // MEASURED)]}).reset_index(drop=True)
    taken, views = list[float](), 1
    for _ in range(2):  # the first warms up
        began = time.monotonic()
        encoded = of_x.encode(samples, processor, task.modality)
        with torch.inference_mode(), device.arithmetic(task.compute):
            for _, inputs in device.batches(encoded, of_x.lengths(encoded), of_x.collate(processor), task.finetune.batch_size):
                model(**inputs)
                views = len(of_x.views(inputs, task.modality))
        taken.append((time.monotonic() - began) / len(samples))
    return min(taken), views


def spell_range(seconds: float) -> str:
    """Return an estimate as a rough range."""
    least, most = progress.spell(LEAST * seconds), progress.spell(MOST * seconds)
    if least == most:
        return f"about {most}"
    (number, _, unit), other = least.partition(" "), most.partition(" ")[2]
    return f"about {number if unit == other else least} to {most}"


def _rows(task: Task) -> "pd.Series[Any]":
    """Return x of the rows that can be read."""
    of_x, folder = plugins.modality(task.modality.name), Path("data/raw", task.data.source)
    rows = plugins.layout(task.data.layout.name).read(folder, task.data.layout, task.data.encoding, of_x)
    return rows.loc[rows["code"].isna(), "x"]
