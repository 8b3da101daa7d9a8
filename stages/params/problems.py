"""What y is.

Beside its keys each type says what other sections must agree with (task.py).
"""

from dataclasses import dataclass
from typing import Literal

from stages.params.types import Finite, Strict, Text


@dataclass(frozen=True)
class Classification(Strict):
    """y is one label."""

    METRICS = ("macro_f1", "accuracy")
    HEADLINES = (*METRICS, "weighted_f1")
    LESS = ()  # metrics for which less is better
    LABELS = "one"

    name: Literal["classification"]
    labels: dict[Text, Text] | None
    """value in the data: name; a row with another value goes to quarantine; null uses the values as
    names"""


@dataclass(frozen=True)
class MultiLabel(Strict):
    """y is any number of labels."""

    METRICS = ("macro_f1", "micro_f1", "accuracy")
    HEADLINES = METRICS
    LESS = ()
    LABELS = "several"

    name: Literal["multi_label"]
    labels: dict[Text, Text] | None
    """value in the data: name; a row with another value goes to quarantine; null uses the values as
    names"""
    separator: Text
    """what separates labels in a cell that is neither a JSON list nor made of several columns, such
    as |"""
    unlabelled: bool
    """an empty cell means that no label applies; false sends rows with one to quarantine"""


@dataclass(frozen=True)
class Regression(Strict):
    """y is a number."""

    METRICS = ("r2", "mae", "rmse")
    HEADLINES = METRICS
    LESS = ("mae", "rmse")
    LABELS = "none"

    name: Literal["regression"]
    range: tuple[Finite, Finite] | None
    """[least, most] that a number may be; any other goes to quarantine; null takes every number"""

    def __post_init__(self) -> None:
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("range must be [least, most]")


Problem = Classification | MultiLabel | Regression
