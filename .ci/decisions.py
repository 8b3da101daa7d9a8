"""Check the examples' decisions against their own numbers.

What was decided must follow from what was measured, and each example must be promoted. The scores
are scikit-learn's, computed from the predictions that evaluate wrote. No score is asserted, because
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


def main() -> None:
    """Print a line for each gate; exit with 1 if a decision lacks support or does not promote.

    A decision lacks support if its own numbers do not give it.
    """
    faults = [f"{task}: {fault}" for task in TASKS for fault in _faults(task)]
    print(
        "\n".join(faults)
        or f"the decisions on {' and '.join(TASKS)} follow from their numbers, and both promote"
    )
    sys.exit(bool(faults))


def _faults(task: str) -> list[str]:
    decision = json.loads(Path(f"data/register/{task}/decision.json").read_text("utf-8"))
    predictions = pd.read_parquet(f"data/evaluate/{task}/predictions.parquet")
    faults = [] if decision["outcome"] == "promote" else [f"it was decided: {decision['outcome']}"]
    faults += (
        []
        if {verdict["outcome"] for verdict in decision["verdicts"]} == {"promote"}
        else ["not every gate promotes"]
    )
    for verdict in decision["verdicts"]:
        facts = verdict["facts"]
        print(f"{task}: {verdict['gate']}: {verdict['reason']}")
        if verdict["gate"] == "floor":
            score = _score(predictions, "candidate")
            faults += (
                []
                if np.isclose(score, facts["value"]) and score >= facts["least"]
                else [f"its floor is of {facts['value']}, not {score}"]
            )
        if verdict["gate"] == "beats_baseline":
            faults += [
                fault
                for name, numbers in facts["against"].items()
                for fault in _unsupported(predictions, name, numbers)
            ]
    return faults


def _unsupported(predictions: pd.DataFrame, name: str, numbers: dict[str, Any]) -> list[str]:
    """Return where a comparison with a baseline contradicts its own predictions and bounds."""
    scores = [_score(predictions, column) for column in ("candidate", name)]
    same = np.allclose(
        [*scores, scores[0] - scores[1]],
        [numbers[key] for key in ("candidate", "baseline", "difference")],
    )
    faults = [] if same else [f"{name}: the scores are {scores}"]
    faults += (
        []
        if numbers["lower"] < numbers["difference"] < numbers["upper"]
        else [f"{name}: the bounds do not hold the difference"]
    )
    return faults + (
        []
        if numbers["lower"] > numbers["margin"]
        else [f"{name}: the bound {numbers['lower']:.4f} does not exceed {numbers['margin']}"]
    )


def _score(rows: pd.DataFrame, model: str) -> float:
    return float(f1_score(rows["y"], rows[model], average="macro"))


if __name__ == "__main__":
    main()
