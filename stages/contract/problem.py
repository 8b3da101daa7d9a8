"""Define what a problem must offer: what y is, and everything that follows from it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from stages.contract.metrics import Metric

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]


class Problem(Protocol):
    """What y is.

    In the manifest y is a list of strings, which the problem alone reads; its values are what
    people read and metrics compare.

    HEADS says which class of transformers reads a modality. KIND is what its configuration calls
    the problem. METRICS are the metrics by which models can be compared; the first is used unless
    evaluate.metric names another. HEADLINES are the results of measure that are shown, with the
    names that people know them by. OF_SLICES is the metric by which a few rows are measured.
    CONFLICTS says whether one of two y is wrong if x is the same.
    """

    HEADS: Mapping[str, str]
    KIND: str
    METRICS: Mapping[str, Metric]
    HEADLINES: Mapping[str, str]
    OF_SLICES: str
    CONFLICTS: bool

    def read(self, cells: "pd.Series[str]", settings: Any) -> "pd.DataFrame":
        """Return y (list of string), stratum, code and reason (same index).

        code and reason are null if y is good. The stratum is the class by which split
        stratifies, null if there is none.
        """
        ...

    def values(self, y: "pd.Series[Any]") -> "pd.Series[Any]":
        """Return each row's y as people read it and metrics compare it: a text or a number."""
        ...

    def borne(self, values: "pd.Series[Any]") -> "pd.Series[str]":
        """Return the labels that values name, one a row (index repeated); none if y has none."""
        ...

    def targets(self, y: "pd.Series[Any]", labels: list[str]) -> list[Any]:
        """Return the targets with which the objective compares the outputs."""
        ...

    def truth(self, targets: "Array", labels: list[str]) -> list[Any]:
        """Return the values from which the targets were made."""
        ...

    def decode(self, outputs: "Array", labels: list[str]) -> "pd.DataFrame":
        """Return predicted (a value) and confidence for each row of outputs (rows, outputs).

        The confidence is NaN if there is none.
        """
        ...

    def probabilities(self, outputs: "Array") -> "Array":
        """Return the probability of each label (rows, labels); no column if there are no labels."""
        ...

    def likelihood(self, outputs: "Array", targets: "Array") -> "Array":
        """Return the log-likelihood of each row's targets under outputs (rows, outputs).

        A term that all rows share may be missing.
        """
        ...

    def fit(
        self, features: Any, targets: "Array", outputs: int, c: float, balanced: bool
    ) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
        """Return weights (outputs, width) and bias (outputs) of a linear model.

        features (rows, width) may be sparse; c is the inverse strength of the model's
        regularisation; balanced gives all labels the same weight.
        """
        ...

    def constant(self, values: "pd.Series[Any]") -> Any:
        """Return the value that is the best guess for all rows."""
        ...

    def measure(self, y: list[Any], predicted: list[Any], labels: list[str]) -> dict[str, Any]:
        """Return the report on values: HEADLINES and others by name, and rows.

        If there are labels, it also has precision, recall, f1 and support of each.
        """
        ...

    def at_chance(self, targets: "Array", outputs: "Array") -> bool:
        """Return whether outputs know no more of targets than chance, if enough rows show it."""
        ...

    def confusions(self, y: "pd.Series[Any]", predicted: "pd.Series[Any]") -> "pd.DataFrame":
        """Return the pairs (columns actual and predicted, texts) that a confusion matrix counts."""
        ...
