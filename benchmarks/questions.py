"""Fine-tunes the task `questions` with several seeds and prints the median on the official test rows.

    python -m benchmarks.questions [SEED ...]

Needs `dvc repro split@questions fetch@minilm` first. Only the seed differs from params.yaml; nothing is registered.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path.cwd()


def run(seed: int, folder: Path) -> dict[str, float]:
    """Fine-tune and evaluate in a folder of its own, on the very split of this project."""
    (folder / "data").mkdir()
    for shared in ("data/raw", "data/split"):
        (folder / shared).symlink_to(ROOT / shared)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["tasks"]["questions"]["finetune"]["seed"] = seed
    yaml.dump(params, folder / "params.yaml")
    for stage in ("finetune", "evaluate"):
        command = [sys.executable, "-m", f"stages.{stage}", "questions"]
        subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.DEVNULL)
    made = folder / "data"
    metrics, validation, timing = (
        json.loads((made / name).read_text())
        for name in ("evaluate/questions/metrics.json", "finetune/questions/metrics.json", "finetune/questions/timing.json")
    )
    return {
        "seed": seed,
        "accuracy": metrics["accuracy"],
        "macro_f1": metrics["macro_f1"],
        "validation_macro_f1": validation["macro_f1"],
        "best_epoch": validation["best_epoch"],
        "seconds": timing["seconds_of_work"],
    }


def main() -> None:
    """Print a line a seed, then the medians."""
    found = []
    for seed in [int(s) for s in sys.argv[1:]] or range(5):
        with tempfile.TemporaryDirectory() as folder:
            found.append(run(seed, Path(folder)))
        print(json.dumps(found[-1]), flush=True)
    print("median", json.dumps({k: statistics.median(f[k] for f in found) for k in found[0] if k != "seed"}))


if __name__ == "__main__":
    main()
