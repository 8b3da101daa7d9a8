"""How the candidate is measured, and what it is compared with."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.params.augment import Transform
from stages.params.image import HogLogistic
from stages.params.text import TfidfCharacters, TfidfLogistic
from stages.params.types import Count, Metric, Positive, Seed, Strict, distinct


@dataclass(frozen=True)
class Majority(Strict):
    """The most frequent answer of train: its label, each label that most rows bear, its mean."""

    name: Literal["majority"]


@dataclass(frozen=True)
class ProbeLogistic(Strict):
    """A linear model on what the base model, as it was pretrained, hands a new head."""

    name: Literal["probe_logistic"]
    c: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """inverse strengths of regularisation to try, for logistic regression or, for numbers, ridge
    regression; the one is used that makes labels which were not learned from likeliest"""
    max_rows: Count
    """rows of train that it learns from; the base model reads each of them"""


Linear = TfidfLogistic | TfidfCharacters | HogLogistic
Baseline = Majority | Linear | ProbeLogistic


@dataclass(frozen=True)
class LabelIssues(Strict):
    """Rows whose label may be wrong (confident learning).

    A cheap model that learned from the other rows believes another label.
    """

    model: Annotated[Linear, Field(discriminator="name")] | None
    """model that says how likely each label is; null looks for no wrong labels, for example if y is
    not one label"""
    folds: Annotated[int, Field(ge=2)]
    """folds into which train is cut; a label with fewer groups in train is not judged"""
    max_rows: Count
    """rows that are judged; if there are more, this many are drawn"""
    seed: Seed
    """draws rows and folds"""
    drop: bool
    """leave listed train rows out, with their copies; validation and test keep theirs"""


@dataclass(frozen=True)
class Slicing(Strict):
    """Slices of the test rows on which the candidate is measured.

    Rows are sliced by features of x, by the distance of x from the domain, and by the columns of
    meta.
    """

    bins: Annotated[int, Field(ge=2)]
    """slices of equally many rows into which a column of numbers is cut"""
    max_values: Annotated[int, Field(ge=2)]
    """a column of words is sliced by its values if it has no more values than this"""
    min_rows: Count
    """rows that a slice must have; a smaller one is left out"""
    distance_rows: Count
    """rows whose distance from the domain is measured; if there are more, this many are drawn,
    unless the base model sees them all for a baseline anyway"""


@dataclass(frozen=True)
class Alterations(Strict):
    """Test rows that are altered on purpose: how much does the metric drop?"""

    seed: Seed
    """draws the rows, and how they are altered"""
    rows: Count
    """test rows to alter; if there are more, this many are drawn"""
    transforms: tuple[Transform, ...]
    """transforms, each applied alone; a picture is altered at shorter_side"""


@dataclass(frozen=True)
class Evaluate(Strict):
    """How the candidate is measured, and what it is compared with on the same test rows."""

    metric: Metric | None = field(default=None, kw_only=True)
    """metric by which models are compared, one of the problem's (docs/evaluation.md); null, or
    without the key, its first"""
    baselines: Annotated[
        tuple[Annotated[Baseline, Field(discriminator="name")], ...],
        Field(min_length=1),
        AfterValidator(distinct),
    ]
    """cheap models; without a champion the candidate must beat them"""
    bins: Count
    """bins of equally many rows, in which confidence is compared with the share of right rows"""
    slices: Slicing
    """slices of the test rows"""
    robustness: Alterations
    """how well the candidate does on rows that are worse than the test rows"""
    cost_rows: Count | None
    """test rows with which seconds and memory are measured, in a separate process; null measures
    neither"""
