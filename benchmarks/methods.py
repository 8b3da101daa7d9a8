"""Fine-tune a task in each way and print what it reaches on the test rows, and what that costs.

    python -m benchmarks.methods TASK [METHOD ...]

Needs `dvc repro split@TASK` and its base model first. Only the way to tune, the objective and the
learning rate differ from params.yaml; of the baselines only the majority is kept. Nothing is
registered. `lost` is the share of the score that is lost in the mean over the task's alterations
(evaluate.robustness); a row's milliseconds are those of a batch of one.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import elsewhere
from benchmarks.elsewhere import ROOT

LORA = {"name": "lora", "rank": 8, "alpha": 16.0, "dropout": 0.0, "targets": "all-linear"}
ATTACK = {"name": "adversarial", "radius": 0.05, "share": 0.5}
METHODS: dict[str, dict[str, Any]] = {
    "linear_probe": {"tune": {"name": "linear_probe"}},
    "full": {"tune": {"name": "full", "embeddings": False}},
    "freeze": {"tune": {"name": "freeze", "layers": 2}},
    "gradual": {"tune": {"name": "gradual", "epochs_a_layer": 1, "decay": 0.8}, "epochs": 6},
    "lora": {"tune": LORA | {"rslora": False, "dora": False}, "learning_rate": 5e-4},
    "lora, rslora and dora": {"tune": LORA | {"rslora": True, "dora": True}, "learning_rate": 5e-4},
    "ia3": {
        "tune": {"name": "ia3", "targets": None, "feedforward": []},
        "learning_rate": 5e-3,
    },
    "bitfit": {"tune": {"name": "bitfit"}, "learning_rate": 2e-3},
    "focal": {"objective": {"name": "focal", "gamma": 2.0, "class_weights": "none"}},
    "contrastive": {"objective": {"name": "contrastive", "temperature": 0.3, "share": 0.2}},
    "consistency": {"objective": {"name": "consistency", "weight": 1.0}, "dropout": 0.1},
    "fgm": {"objective": ATTACK | {"attack": "pgd", "norm": "l2", "steps": 1}},
    "freelb": {"objective": ATTACK | {"attack": "freelb", "norm": "l2", "steps": 2}},
    "mixup": {"objective": {"name": "mixup", "alpha": 0.2, "cut": False}},
    "cutmix": {"objective": {"name": "mixup", "alpha": 1.0, "cut": True}},
}
FULL = {"tune": {"name": "full", "embeddings": False}}


def measure(task: str, changed: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fine-tune and evaluate in a folder of its own, on this project's own split."""
    (folder / "data").mkdir()
    for shared in ("raw", "augment", "split", "validate"):
        (folder / "data" / shared).symlink_to(ROOT / "data" / shared)
    params = elsewhere.read_params()
    of = params["tasks"][task]
    of["finetune"] |= {**FULL, **changed}
    if of["modality"]["name"] == "image" and of["finetune"]["tune"]["name"] == "full":
        of["finetune"]["tune"]["embeddings"] = True
    of["evaluate"]["baselines"] = [{"name": "majority"}]
    elsewhere.write_params(folder, **params | {"tasks": {task: of}})
    for stage in ("finetune", "export", "evaluate"):
        elsewhere.run(folder, f"stages.{stage}", task)
    report = elsewhere.read(folder, "evaluate", task, "report.json")
    spent = elsewhere.read(folder, "finetune", task, "timing.json")
    cost = elsewhere.read(folder, "evaluate", task, "timing.json")["models"]["candidate"]
    model, metric = report["models"]["candidate"], report["metric"]["name"]
    score = model["scores"][metric]
    interval = model["intervals"][metric]
    lost = [one["drop"]["value"] / one["as_it_is"] for one in report["robustness"]]
    return {
        "score": round(score, 4),
        "interval": [round(interval[end], 3) for end in ("low", "high")],
        "lost": round(sum(lost) / len(lost), 3) if lost else None,
        "seconds": round(spent["seconds_of_work"], 1),
        "peak_memory_mib": spent["peak_memory_mib"],
        "milliseconds_a_row": round(cost["latency_p50_ms"], 1),
        "megabytes": round(cost["megabytes"], 1),
    }


def main() -> None:
    """Print a line for each method, in JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("methods", nargs="*", help=f"all unless named: {', '.join(METHODS)}")
    given = parser.parse_args()
    for name in given.methods or METHODS:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(given.task, METHODS[name], Path(folder))
        print(json.dumps({"method": name} | found), flush=True)


if __name__ == "__main__":
    main()
