"""Fine-tune a task in each way; print what it reaches on the test rows, and what that takes.

    python -m benchmarks.methods TASK [METHOD ...] [--labels N] [--draws N]
    python -m benchmarks.methods TASK --chooser

Needs `dvc repro split@TASK` and its base model first; nothing is written or registered. Only the
way to learn differs from params.yaml. With --labels so many train rows of each label are drawn, and
validation is as it is. Each training has a process of its own, whose memory counts.

--chooser trains each way that `refit search` knows on all rows, lets the search choose among them,
and compares scores on the test rows and processor time; --draws does not apply.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.commands import search, trials
from stages.commands.defaults import merge
from stages.contract import manifest, runner
from stages.contract.errors import RefitError
from stages.contract.runner import Job

PROBE = {"name": "probe", "c": [0.001, 0.01, 0.1, 1.0]}
RANDOM = {"name": "random"}
FULL = {"tune": {"name": "full", "embeddings": False}}
LORA = {"name": "lora", "rank": 8, "alpha": 16.0, "dropout": 0.0, "targets": "all-linear"}
ATTACK = {"name": "adversarial", "radius": 0.05, "share": 0.5}
PLAIN = {"name": "cross_entropy", "label_smoothing": 0.0, "class_weights": "none"}
METHODS: dict[str, dict[str, Any]] = {
    "zero_shot": {
        "tune": {
            "name": "zero_shot",
            "templates": ["{label}", "This is about {description}."],
            "descriptions": {},
            "temperature": 0.05,
        },
        "head": RANDOM,
    },
    "linear_probe": {"tune": {"name": "linear_probe"}, "head": PROBE},
    "few_shot": {
        "tune": {
            "name": "few_shot",
            "pairs": 1,
            "temperature": 0.1,
            "c": 0.1,
            "templates": ["{label}", "This is about {label}."],
        },
        "objective": PLAIN,
        "head": RANDOM,
        "best_metric": "last",
        "learning_rate": 5e-5,
        "batch_size": 32,
        "epochs": 4,
    },
    "full": FULL,
    "freeze": {"tune": {"name": "freeze", "layers": 2}},
    "gradual": {"tune": {"name": "gradual", "epochs_a_layer": 1, "decay": 0.8}, "epochs": 6},
    "lora": {"tune": LORA | {"rslora": False, "dora": False}, "learning_rate": 5e-4},
    "lora, rslora and dora": {"tune": LORA | {"rslora": True, "dora": True}, "learning_rate": 5e-4},
    "ia3": {"tune": {"name": "ia3", "targets": None, "feedforward": []}, "learning_rate": 5e-3},
    "bitfit": {"tune": {"name": "bitfit"}, "learning_rate": 2e-3},
    "prompt": {"tune": {"name": "prompt", "tokens": 10}, "learning_rate": 1e-2},
    "p_tuning": {"tune": {"name": "p_tuning", "tokens": 10, "width": 384}, "learning_rate": 1e-3},
    "prefix": {"tune": {"name": "prefix", "tokens": 10}, "learning_rate": 1e-2},
    "focal": FULL | {"objective": {"name": "focal", "gamma": 2.0, "class_weights": "none"}},
    "contrastive": FULL | {"objective": {"name": "contrastive", "temperature": 0.3, "share": 0.2}},
    "consistency": FULL
    | {"objective": {"name": "consistency", "of": "dropout", "weight": 1.0}, "dropout": 0.1},
    "copies": FULL | {"objective": {"name": "consistency", "of": "copies", "weight": 1.0}},
    "fgm": FULL | {"objective": ATTACK | {"attack": "pgd", "norm": "l2", "steps": 1}},
    "freelb": FULL | {"objective": ATTACK | {"attack": "freelb", "norm": "l2", "steps": 2}},
    "ema": FULL | {"averaging": {"name": "ema", "decay": 0.99}},
    "soup": FULL | {"averaging": {"name": "soup"}, "best_metric": "macro_f1"},
    "sgd": FULL | {"optimizer": {"name": "sgd", "momentum": 0.9}, "learning_rate": 5e-3},
    "one_cycle": FULL | {"schedule": "one_cycle", "warmup": 0.3},
    "mixup": FULL | {"objective": {"name": "mixup", "alpha": 0.2, "cut": False}},
    "cutmix": FULL | {"objective": {"name": "mixup", "alpha": 1.0, "cut": True}},
}
ROWS = 60  # that are timed alone


def measure(name: str, changed: dict[str, Any], labels: int | None, draw: int) -> dict[str, Any]:
    """Fine-tune with settings of finetune changed, and measure on the test rows."""
    with trials.opened("benchmark", name) as bench:
        finetune = asdict(bench.task.finetune)
        merge(finetune, changed)
        if bench.task.modality.name == "image" and finetune["tune"]["name"] == "full":
            finetune["tune"]["embeddings"] = True
        made = trials.changed(bench.task, finetune).finetune
        train = trials.subset(bench.train, None if labels else 1.0, labels, draw)
        if labels:
            train = train[train["id"] == train["source_id"]]
        outcome, trained = trials.run(bench, made, train)
        with TemporaryDirectory() as folder:
            job = Job("benchmark", name, Path(folder), Path(folder))
            test = manifest.read(job.take("split", "test.parquet"))
        score = trials.score(bench, trained, test)
        from stages.methods import training

        began = time.perf_counter()
        for i in range(ROWS):
            training.outputs(trained, test.iloc[[i % len(test)]])
        alone = 1000 * (time.perf_counter() - began) / ROWS
        return {
            "score": round(score.value, 4),
            "interval": [round(score.low, 3), round(score.high, 3)],
            "validation": round(outcome.score.value, 4),
            "accuracy": _accuracy(trained, test),
            "rows": outcome.rows,
            "seconds": round(outcome.seconds, 1),
            "cpu": round(outcome.cpu, 1),
            "learns": outcome.learns,
            "milliseconds_a_row": round(alone, 1),
            "peak_memory_mib": round(runner.peak_memory_mib()),
        }


def _accuracy(trained: Any, test: Any) -> float | None:
    from stages.methods import training

    of_y, labels = trained.start.of_y, trained.start.labels
    if not labels:
        return None
    decoded = of_y.decode(training.outputs(trained, test), labels)["predicted"]
    return round(float((decoded.to_numpy() == of_y.values(test["y"]).to_numpy()).mean()), 4)


def apart(*given: Any) -> dict[str, Any]:
    """Return what measure does in a process of its own, or why it was refused."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as process:
        try:
            return process.submit(measure, *given).result()
        except (RefitError, ValueError) as error:
            return {"refused": " ".join(str(error).split())[:300]}


def choose(name: str, minutes: float) -> dict[str, Any]:
    """Compare what the search chooses with the best of all its ways, each trained on all rows."""
    with trials.opened("benchmark", name) as bench:
        known, task = search.ways(bench.task), bench.task
        whole = dict[str, dict[str, Any]]()
        for way, of in known.items():
            middle = {key: sqrt(low * high) for key, (low, high) in of.get("between", {}).items()}
            whole[way] = search.settings_of(task, of, middle)
    every = dict[str, dict[str, Any]]()
    for way, finetune in whole.items():
        every[way] = apart(name, finetune, None, 0)
        print(json.dumps({"way": way} | every[way]), flush=True)
    with trials.opened("benchmark", name) as bench, TemporaryDirectory() as folder:
        study = search.Study(bench, Path(folder, "journal.log"))
        began = time.process_time()
        for _ in study.run(60 * minutes, len(known)):
            pass
        spent = time.process_time() - began
        _, chosen = search.choose(study.trials(), bench.metric[1])
    best = max(one["score"] for one in every.values() if "score" in one)
    exhaustive = sum(one["cpu"] for one in every.values() if "cpu" in one)
    return {
        "chosen": chosen.way,
        "score": every[chosen.way]["score"],
        "of_the_best": round(every[chosen.way]["score"] / best, 4),
        "cpu": round(spent, 1),
        "of_all": round(spent / exhaustive, 3),
    }


def main() -> None:
    """Print a line for each method, in JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("methods", nargs="*", help=f"all unless named: {', '.join(METHODS)}")
    parser.add_argument("--labels", type=int, help="train rows of each label; all unless named")
    parser.add_argument("--draws", type=int, default=1, help="draws of them; the median is shown")
    parser.add_argument("--chooser", action="store_true", help="compare the search with all ways")
    parser.add_argument("--minutes", type=float, default=60.0, help="that the search may take")
    given = parser.parse_args()
    if given.chooser:
        print(json.dumps(choose(given.task, given.minutes)), flush=True)
        return
    for name in given.methods or METHODS:
        found = [
            apart(given.task, METHODS[name], given.labels, draw) for draw in range(given.draws)
        ]
        shown = found[0]
        if given.draws > 1 and all("score" in one for one in found):
            for key in ("score", "accuracy", "seconds"):
                shown[key] = round(statistics.median(one[key] for one in found), 4)
            shown["draws"] = given.draws
        print(json.dumps({"method": name, "labels": given.labels or "all"} | shown), flush=True)


if __name__ == "__main__":
    main()
