"""Holds the examples' decisions to their own numbers: what was decided follows from what was measured, and each is promoted.

The scores are scikit-learn's and the bounds a bootstrap's, so that nothing here is Refit's own arithmetic. No score is asserted:
weights differ from machine to machine.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

TASKS = ("questions", "solar_cells")
DRAWS, SEED = 400, 7
NEAR = 0.015  # between the bound of the delta method and that of a bootstrap: half of a usual distance from the difference


def main() -> None:
    """Print a line a task, and exit with 1 where a decision is not supported by its numbers, or does not promote."""
    faults = [f"{task}: {fault}" for task in TASKS for fault in _faults(task)]
    print("\n".join(faults) or f"the decisions on {' and '.join(TASKS)} follow from their numbers, and both promote")
    sys.exit(bool(faults))


def _faults(task: str) -> list[str]:
    decision = json.loads(Path(f"data/register/{task}/decision.json").read_text("utf-8"))
    predictions = pd.read_parquet(f"data/evaluate/{task}/predictions.parquet")
    faults = [] if decision["outcome"] == "promote" else [f"it was decided: {decision['outcome']}"]
    faults += [] if {verdict["outcome"] for verdict in decision["verdicts"]} == {"promote"} else ["not every gate promotes"]
    for verdict in decision["verdicts"]:
        print(f"{task}: {verdict['gate']}: {verdict['reason']}")
        if verdict["gate"] == "floor":
            score = _score(predictions, "candidate")
            faults += [] if np.isclose(score, verdict["value"]) and score >= verdict["least"] else [f"its floor is of {verdict['value']}, not {score}"]
        if verdict["gate"] == "beats_baseline":
            faults += [fault for name, numbers in verdict["against"].items() for fault in _unsupported(predictions, name, numbers, verdict["level"])]
    return faults


def _unsupported(predictions: pd.DataFrame, name: str, numbers: dict[str, Any], level: float) -> list[str]:
    """Return what scikit-learn and a paired bootstrap of the test rows say against a comparison with a baseline."""
    draws = np.random.default_rng(SEED).integers(len(predictions), size=(DRAWS, len(predictions)))
    differences = [_score(rows, "candidate") - _score(rows, name) for rows in (predictions.iloc[drawn] for drawn in draws)]
    scores = [_score(predictions, of) for of in ("candidate", name)]
    faults = [] if np.allclose(scores, [numbers["candidate"], numbers["baseline"]]) else [f"{name}: the scores are {scores}"]
    bound = float(np.quantile(differences, level))
    faults += [] if abs(bound - numbers["lower"]) < NEAR else [f"{name}: the bound is {numbers['lower']:.4f}, by bootstrap {bound:.4f}"]
    return faults + ([] if numbers["lower"] > numbers["margin"] else [f"{name}: the bound {numbers['lower']:.4f} does not exceed {numbers['margin']}"])


def _score(rows: pd.DataFrame, model: str) -> float:
    return float(f1_score(rows["y"], rows[model], average="macro"))


if __name__ == "__main__":
    main()
