"""What promotion asks for."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from stages.params.types import Count, Finite, Metric, Positive, Share, Strict, Text


@dataclass(frozen=True)
class BeatsBaseline(Strict):
    """The one-sided lower bound of the difference in evaluate.metric must exceed the margin."""

    name: Literal["beats_baseline"]
    margin: Annotated[float, Field(gt=-1, lt=1)]
    """how much better it must be shown to be; below 0: how much worse it may be (non-inferiority)"""
    margins: dict[Text, Annotated[float, Field(gt=-1, lt=1)]]
    """baseline, by its name: its own margin"""
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    """chance of any false promotion over all uses of the same test rows; the first spends .61 of it, the k-th 1 / k^2 of that"""


@dataclass(frozen=True)
class EachLabel(Strict):
    """The F1 of every label on the test rows must reach `least`; a label without test rows does not."""

    name: Literal["each_label"]
    least: Share
    """what each must reach"""


@dataclass(frozen=True)
class Calibration(Strict):
    """The candidate's confidence must be near the share of rows that it gets right (expected calibration error)."""

    name: Literal["calibration"]
    bins: Count
    """of equally many test rows"""
    most: Share
    """that confidence and share may lie apart, on average"""


@dataclass(frozen=True)
class Floor(Strict):
    """A metric of the candidate on the test rows, of which more is better, must reach `least`."""

    name: Literal["floor"]
    metric: Metric
    """which"""
    least: Finite
    """what it must reach"""


@dataclass(frozen=True)
class Ceiling(Strict):
    """A metric of the candidate on the test rows, of which less is better, must not exceed `most`."""

    name: Literal["ceiling"]
    metric: Metric
    """which"""
    most: Finite
    """what it must not exceed"""


@dataclass(frozen=True)
class Slices(Strict):
    """The candidate must be right often enough on every slice of the test rows that evaluate made."""

    name: Literal["slices"]
    least: Share
    """accuracy that each must reach; below it by no more than chance allows is inconclusive"""


@dataclass(frozen=True)
class Robustness(Strict):
    """No alteration of the test rows may cost the candidate more than so much of evaluate.metric."""

    name: Literal["robustness"]
    most: Share
    """that the metric may drop"""


@dataclass(frozen=True)
class Budget(Strict):
    """What the candidate may cost, measured by register itself in a process of its own; null is not asked."""

    name: Literal["budget"]
    rows: Annotated[int, Field(ge=20)]
    """test rows with which it is measured"""
    latency_p95_ms: Positive | None
    """95th percentile of the milliseconds that one row takes alone"""
    peak_memory_mib: Positive | None
    """of the process that loads the model and scores the rows"""
    megabytes: Positive | None
    """of the model's files (1,000,000 bytes)"""


Gate = BeatsBaseline | EachLabel | Calibration | Floor | Ceiling | Slices | Robustness | Budget


@dataclass(frozen=True)
class Card(Strict):
    """What the model card says that no stage can know."""

    intended_use: Text
    """for what, by whom"""
    limits: Text
    """for what not"""


@dataclass(frozen=True)
class Register(Strict):
    """What promotion asks for."""

    card: Card
    """of the model card"""
    gates: Annotated[tuple[Annotated[Gate, Field(discriminator="name")], ...], Field(min_length=1)]
    """all must say promote"""
