"""What the candidate is measured by and beside."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.params.augment import Transform
from stages.params.image import HogLogistic
from stages.params.text import TfidfCharacters, TfidfLogistic
from stages.params.types import Count, Metric, Positive, Seed, Strict, distinct


@dataclass(frozen=True)
class Majority(Strict):
    """The most frequent answer of train: its label, each label that most rows bear, the mean of numbers."""

    name: Literal["majority"]


@dataclass(frozen=True)
class ProbeLogistic(Strict):
    """The base model as it was pretrained, and a linear model on what it hands a new head: logistic regression, of numbers ridge regression."""

    name: Literal["probe_logistic"]
    c: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """inverse strengths of regularisation that are tried; the one that makes labels which were not learned from likeliest is taken"""
    max_rows: Count
    """of train that it learns from; the base model reads each"""


Linear = TfidfLogistic | TfidfCharacters | HogLogistic
Baseline = Majority | Linear | ProbeLogistic


@dataclass(frozen=True)
class LabelIssues(Strict):
    """Rows whose label may be wrong: a cheap model that learned from the other rows believes another (confident learning)."""

    model: Annotated[Linear, Field(discriminator="name")] | None
    """says how likely each label is; null looks for none, as where y is not one label"""
    folds: Annotated[int, Field(ge=2)]
    """train is cut in; a label with fewer groups in train is not judged"""
    max_rows: Count
    """that are judged; of more so many are drawn"""
    seed: Seed
    """draws rows and folds"""
    drop: bool
    """train rows that are listed are left out, with their copies; validation and test keep theirs"""


@dataclass(frozen=True)
class Slicing(Strict):
    """Slices of the test rows on which the candidate is measured: by features of x, its distance from the domain, and the columns of meta."""

    bins: Annotated[int, Field(ge=2)]
    """of equally many rows, for numbers"""
    max_values: Annotated[int, Field(ge=2)]
    """a column of words is sliced by its values if it has no more of them"""
    min_rows: Count
    """of a slice; a smaller one is left out"""
    distance_rows: Count
    """whose distance from the domain is measured; of more so many are drawn, unless the base model sees them all for a baseline anyway"""


@dataclass(frozen=True)
class Alterations(Strict):
    """Test rows that are altered on purpose: how much does the metric drop?"""

    seed: Seed
    """draws the rows, and how they are altered"""
    rows: Count
    """of the test rows; of more so many are drawn"""
    transforms: tuple[Transform, ...]
    """each alone; a picture is altered at shorter_side"""


@dataclass(frozen=True)
class Evaluate(Strict):
    """What the candidate is measured by and beside, on the same test rows."""

    metric: Metric | None = field(default=None, kw_only=True)
    """by which models are compared, one of the problem's (docs/evaluation.md); null, or left out, takes its first"""
    baselines: Annotated[
        tuple[Annotated[Baseline, Field(discriminator="name")], ...],
        Field(min_length=1),
        AfterValidator(distinct),
    ]
    """cheap models; without a champion they must be beaten"""
    bins: Count
    """of equally many rows, in which confidence is compared with the share of rows that are right"""
    slices: Slicing
    """of the test rows"""
    robustness: Alterations
    """how the candidate bears rows that are worse than these"""
    cost_rows: Count | None
    """test rows with which seconds and memory are measured, in a process of its own; null measures neither"""
