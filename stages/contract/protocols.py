"""Define what each kind of plug-in must offer; modality.py does for a modality."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.contract.learning import Learning
from stages.contract.metrics import Metric
from stages.contract.modality import Modality
from stages.params.types import Encoding

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]


class Source(Protocol):
    """Where raw data comes from."""

    def fetch(self, origin: Any, into: Path, temporary: Path) -> dict[str, str]:
        """Write the files below `into`; return facts for source.json (version, address, sha256)."""
        ...


class Format(Protocol):
    """What the files of a source are."""

    def convert(self, folder: Path, settings: Any, /) -> None:
        """Turn what the source brought into files that Refit reads, in place.

        The folder contains nothing else.
        """
        ...


class Layout(Protocol):
    """How samples lie in a data set."""

    def read(self, source: Path, layout: Any, encoding: Encoding, of_x: Modality) -> "pd.DataFrame":
        """Return a row for each sample: x, y (as written), given_part, origin, meta, code, reason.

        meta is JSON. code and reason are null if the row is good; origin says where the row is, for
        every message.
        """
        ...


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

        code and reason are null if y is good. The stratum is the class by which samples are parted
        alike, null if there is none.
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


class Tune(Protocol):
    """Chooses what learns."""

    def prepare(
        self, model: Any, new: frozenset[str], learning: Learning, settings: Any, /
    ) -> tuple[Any, Learning]:
        """Return what learns (the model itself, one around it, or its head), and what from.

        Parameters named in `new` always learn.
        """
        ...

    def finish(self, learner: Any, /) -> Any:
        """Return the whole model, to be saved, from what learned."""
        ...


class Objective(Protocol):
    """What is minimised."""

    def loss(self, settings: Any, model: Any, targets: list[Any], /) -> Callable[..., Any]:
        """Return a function: (outputs, labels, num_items_in_batch) -> a scalar tensor.

        model is what learns, and targets are the targets of all train rows.
        """
        ...


class Loop(Protocol):
    """Takes the steps."""

    def fit(
        self, model: Any, learning: Learning, finetune: Any, compute: Any, work: Path
    ) -> list[dict[str, float]]:
        """Train in place, leave the best epoch's weights in the model, and return the history.

        work outlives a kill: if a run that was the same in everything left checkpoints there,
        training goes on from them. work is removed when the model is published.
        """
        ...
