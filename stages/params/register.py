"""What promotion requires."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from stages.params.types import Count, Finite, Metric, Positive, Share, Strict, Text


@dataclass(frozen=True)
class BeatsBaseline(Strict):
    """The one-sided lower bound of the difference in evaluate.metric must exceed the margin."""

    name: Literal["beats_baseline"]
    margin: Annotated[float, Field(gt=-1, lt=1)]
    """how much better the candidate must be shown to be; below 0: how much worse it may be
    (non-inferiority)"""
    margins: dict[Text, Annotated[float, Field(gt=-1, lt=1)]]
    """name of a baseline: its own margin"""
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    """chance of any false promotion over all uses of the same test rows; the first use spends .61
    of it, the k-th 1 / k^2 of that"""


@dataclass(frozen=True)
class EachLabel(Strict):
    """The F1 of every label on the test rows must reach `least`; a label without any fails."""

    name: Literal["each_label"]
    least: Share
    """F1 that each label must reach"""


@dataclass(frozen=True)
class Calibration(Strict):
    """Confidence must be near the share of right rows (expected calibration error)."""

    name: Literal["calibration"]
    bins: Count
    """bins of equally many test rows"""
    most: Share
    """how far the candidate's confidence and share of right rows may lie apart, on average"""


@dataclass(frozen=True)
class Floor(Strict):
    """The candidate's metric, one for which more is better, must reach `least` on test rows."""

    name: Literal["floor"]
    metric: Metric
    """name of the metric"""
    least: Finite
    """value that the metric must reach"""


@dataclass(frozen=True)
class Ceiling(Strict):
    """The candidate's metric, one for which less is better, must not exceed `most` on test rows."""

    name: Literal["ceiling"]
    metric: Metric
    """name of the metric"""
    most: Finite
    """value that the metric must not exceed"""


@dataclass(frozen=True)
class Slices(Strict):
    """The candidate must be right often enough on every slice of test rows that evaluate made."""

    name: Literal["slices"]
    least: Share
    """accuracy that each slice must reach; below it by no more than chance allows is
    inconclusive"""


@dataclass(frozen=True)
class Robustness(Strict):
    """No alteration of the test rows may cost the candidate more than `most` of evaluate.metric."""

    name: Literal["robustness"]
    most: Share
    """how much the metric may drop"""


@dataclass(frozen=True)
class Budget(Strict):
    """What the candidate may cost, measured by register in a process of its own; null: no limit."""

    name: Literal["budget"]
    rows: Annotated[int, Field(ge=20)]
    """test rows with which the cost is measured"""
    latency_p95_ms: Positive | None
    """95th percentile of the milliseconds that one row takes alone"""
    peak_memory_mib: Positive | None
    """peak memory of the process that loads the model and scores the rows"""
    megabytes: Positive | None
    """size of the model's files (1,000,000 bytes)"""


Gate = BeatsBaseline | EachLabel | Calibration | Floor | Ceiling | Slices | Robustness | Budget


@dataclass(frozen=True)
class Card(Strict):
    """What the model card says that no stage can know."""

    intended_use: Text
    """what the model is to be used for, and by whom"""
    limits: Text
    """what the model is not to be used for"""


@dataclass(frozen=True)
class Register(Strict):
    """What promotion requires."""

    card: Card
    """texts of the model card"""
    gates: Annotated[tuple[Annotated[Gate, Field(discriminator="name")], ...], Field(min_length=1)]
    """gates, all of which must say promote"""
