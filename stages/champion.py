"""Predict from Python: `load("questions").predict(["Who wrote Hamlet?"])`.

MLflow opens a registered version with this module too (python_function, loader_module).
"""

from pathlib import Path
from typing import Any

import pandas as pd

from stages.registry.serving import Predictor, Sample, load, portable

__all__ = ["Predictor", "Sample", "load"]


class MlflowModel:
    """A registered version as MLflow asks it: a table of one column -> a table."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return what Predictor.predict does, for the first column of a table, or for a list.

        params may have probabilities: true.
        """
        column = model_input.iloc[:, 0] if isinstance(model_input, pd.DataFrame) else model_input
        found = self.predictor.predict([*column], bool((params or {}).get("probabilities")))
        return found.astype(object).mask(found.isna(), None)  # NaN is no JSON


def _load_pyfunc(path: str) -> MlflowModel:  # pyright: ignore[reportUnusedFunction]  (MLflow calls it by this name)
    return MlflowModel(load(Path(path), portable()))
