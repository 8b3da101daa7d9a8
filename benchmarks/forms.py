"""Write a trained model in each form; print what the form scores and costs.

    python -m benchmarks.forms TASK [FORM ...]

Needs `dvc repro finetune@TASK` first. Nothing is trained or registered. A row's milliseconds are
those of a batch of one; `faster` is how many times as fast as plain, measured in the same run.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import elsewhere
from benchmarks.elsewhere import ROOT

FORMS: dict[str, dict[str, Any]] = {
    "plain": {"name": "plain"},
    "pruned, a tenth of neurons": {"name": "pruned", "what": "neurons", "share": 0.1},
    "pruned, a quarter of neurons": {"name": "pruned", "what": "neurons", "share": 0.25},
    "pruned, a fifth of weights": {"name": "pruned", "what": "weights", "share": 0.2},
    "int8": {"name": "int8"},
    "onnx": {"name": "onnx", "rows": 100},
    "onnx_int8, dynamic": {"name": "onnx_int8", "rows": 100, "scales": "dynamic"},
    "onnx_int8, static": {"name": "onnx_int8", "rows": 200, "scales": "static"},
}
SHARED = ("raw", "augment", "split", "validate", "finetune")


def measure(task: str, form: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Export and evaluate in a folder of its own, in float32."""
    (folder / "data").mkdir()
    for shared in SHARED:
        (folder / "data" / shared).symlink_to(ROOT / "data" / shared)
    params = elsewhere.read_params()
    of = params["tasks"][task]
    of["export"] = form
    of["compute"]["dtype"] = "float32"
    of["evaluate"] |= {"baselines": [{"name": "majority"}], "cost_rows": 200}
    of["evaluate"]["robustness"]["transforms"] = []
    elsewhere.write_params(folder, **params | {"tasks": {task: of}})
    for stage in ("export", "evaluate"):
        elsewhere.run(folder, f"stages.{stage}", task)
    report = elsewhere.read(folder, "evaluate", task, "report.json")
    cost = elsewhere.read(folder, "evaluate", task, "timing.json")["models"]["candidate"]
    model, metric = report["models"]["candidate"], report["metric"]["name"]
    return {
        "score": round(model["scores"][metric], 4),
        "accuracy": round(model["scores"].get("accuracy", float("nan")), 4),
        "milliseconds_a_row": round(cost["latency_p50_ms"], 2),
        "rows_per_second": round(cost["rows_per_second"], 1),
        "peak_memory_mib": round(cost["peak_memory_mib"]),
        "megabytes": round(cost["megabytes"], 1),
    }


def main() -> None:
    """Print a line for each form, in JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    parser.add_argument("forms", nargs="*", help=f"all unless named: {'; '.join(FORMS)}")
    given = parser.parse_args()
    plain: float | None = None
    for name in given.forms or FORMS:
        with tempfile.TemporaryDirectory() as folder:
            found: dict[str, Any]
            try:
                found = measure(given.task, FORMS[name], Path(folder))
            except elsewhere.Failed as error:
                found = {"refused": str(error).strip().splitlines()[-1]}
        milliseconds = found.get("milliseconds_a_row")
        plain = milliseconds if name == "plain" else plain
        faster = {"faster": round(plain / milliseconds, 2)} if plain and milliseconds else {}
        print(json.dumps({"form": name} | found | faster), flush=True)


if __name__ == "__main__":
    main()
