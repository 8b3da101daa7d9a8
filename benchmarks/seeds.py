"""Fine-tune a task with several seeds and print the mean on its test rows, and the best baseline.

    python -m benchmarks.seeds TASK [SEED ...] [--dtype float32]

Needs `dvc repro split@TASK` and its base model first. Only the seed, and the arithmetic if asked
for, differ from params.yaml; nothing is registered.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import elsewhere
from benchmarks.elsewhere import ROOT


def measure(task: str, seed: int, dtype: str | None, folder: Path) -> dict[str, float]:
    """Fine-tune and evaluate in a folder of its own, on this project's own split."""
    (folder / "data").mkdir()
    for shared in ("raw", "augment", "split", "validate"):
        (folder / "data" / shared).symlink_to(ROOT / "data" / shared)
    params = elsewhere.read_params()
    params["tasks"][task]["finetune"]["seed"] = seed
    params["tasks"][task]["compute"]["dtype"] = dtype or params["tasks"][task]["compute"]["dtype"]
    elsewhere.write_params(folder, **params)
    for stage in ("finetune", "export", "evaluate"):
        elsewhere.run(folder, f"stages.{stage}", task)
    test, validation = (
        elsewhere.read(folder, stage, task, "metrics.json") for stage in ("evaluate", "finetune")
    )
    return {
        "seed": seed,
        "accuracy": test["accuracy"],
        "macro_f1": test["macro_f1"],
        "best_baseline_macro_f1": max(of["macro_f1"] for of in test["baselines"].values()),
        "validation_macro_f1": validation["macro_f1"],
        "best_epoch": validation["best_epoch"],
        **{
            f"seconds_of_{stage}": elsewhere.read(folder, stage, task, "timing.json")[
                "seconds_of_work"
            ]
            for stage in ("finetune", "evaluate")
        },
    }


def main() -> None:
    """Print a line for each seed, then the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("seeds", nargs="*", type=int, default=range(5))
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], help="in place of compute.dtype"
    )
    given, found = parser.parse_args(), list[dict[str, float]]()
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(given.task, seed, given.dtype, Path(folder)))
        print(json.dumps(found[-1]), flush=True)
    print(
        "mean",
        json.dumps(
            {k: round(statistics.mean(f[k] for f in found), 4) for k in found[0] if k != "seed"}
        ),
    )


if __name__ == "__main__":
    main()
