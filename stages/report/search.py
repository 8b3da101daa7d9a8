"""Writes what `refit search` and `refit learning-curve` show: trials, and a curve."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pandas as pd

from stages.report import plots

TEMPLATE = Path(__file__).with_name("search.html")


def write(
    folder: Path,
    study: Any,
    done: list[dict[str, Any]],
    best: dict[str, Any],
    chosen: dict[str, Any],
    metric: str,
) -> Path:
    """Write search.html into a folder, and return its path.

    Trials are the JSON of commands/search.Trial; study is Optuna's.
    """
    import jinja2

    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    counts = importances(study)
    written = page.from_string(TEMPLATE.read_text("utf-8")).render(
        task=folder.name,
        metric=metric,
        trials=done,
        best=best,
        chosen=chosen,
        history=_address(plots.trials(done, chosen["number"], metric)),
        importances=_address(plots.importances(counts)) if counts else None,
    )
    path = folder / "search.html"
    path.write_text(written, encoding="utf-8", newline="\n")
    return path


def importances(study: Any) -> dict[str, float]:
    """Return how much of the score's variance depends on each setting; empty for too few trials.

    Optuna says so by a forest over whole trials (fANOVA, Hutter et al. 2014).
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    whole = study.get_trials(states=(TrialState.COMPLETE,))
    if len(whole) < 2 or len({trial.value for trial in whole}) < 2:
        return {}
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: share for name, share in found.items() if share == share}


def curve(path: Path, points: pd.DataFrame, metric: str, fit: Any) -> None:
    """Draw a learning curve as PNG: score and interval by rows, and the law that was fitted."""
    path.write_bytes(plots.sizes(points, metric, fit))


def _address(picture: bytes) -> str:
    return f"data:image/png;base64,{b64encode(picture).decode()}"
