"""What a data set must satisfy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from stages.params.types import Count, Key, Positive, Range, Seed, Share, Strict, Text


@dataclass(frozen=True)
class Uniform(Strict):
    """All labels are as frequent."""

    name: Literal["uniform"]
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels from it, in nats"""


@dataclass(frozen=True)
class Declared(Strict):
    """Labels are as frequent as said here."""

    name: Literal["declared"]
    weights: dict[Text, Positive]
    """label: how frequent, in any unit"""
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels from it, in nats"""


@dataclass(frozen=True)
class Pretrained(Strict):
    """Labels are as frequent as the classes were that the base model was pretrained to tell, as its profile says."""

    name: Literal["pretrained"]
    classes: dict[Text, tuple[Range, ...]]
    """label: [first, last] of the classes that it covers, from 0; [] where the base model knows none such"""
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels that it knows from it, in nats"""


@dataclass(frozen=True)
class Domain(Strict):
    """How far the data may lie from what the base model was pretrained on."""

    profile: Key
    """what is known of that: data/profiles/PROFILE.json; `unknown` holds nothing, `refit profile` makes one"""
    run_base: bool
    """run the base model too: embeddings and activations are compared, and kept for `refit drift`; imports torch"""
    sample: Annotated[int, Field(ge=25)]
    """rows that are compared, drawn by the seed; labels are those of all rows"""
    false_alarms: Annotated[float, Field(gt=0, le=0.2)]
    """share of data sets of the very same domain that are found far all the same"""
    severity: Literal["critical", "warning", "info"]
    """of a distance beyond its limit; critical stops the run"""
    seed: Seed
    """draws the sample, and what the limits are made of"""


@dataclass(frozen=True)
class Expectation(Strict):
    """One of Great Expectations' own, by its name."""

    expectation: Annotated[str, Field(pattern=r"^expect_[a-z0-9_]+$")]
    """expect_column_values_to_match_regex, for one"""
    table: Literal["samples", "labels"]
    """samples has x, label, meta.NAME and the features of x (characters, or sizes and brightness); labels has label, rows and ratio"""
    arguments: dict[str, JsonValue]
    """as Great Expectations names them"""
    severity: Literal["critical", "warning", "info"]
    """a critical one stops the run"""

    def __post_init__(self) -> None:
        if (
            refused := {"row_condition", "condition_parser"} & self.arguments.keys()
        ):  # pandas would run what it says
            raise ValueError(f"{', '.join(sorted(refused))}: an expression is never run")


@dataclass(frozen=True)
class Validate(Strict):
    """What a data set must satisfy."""

    max_bad_fraction: Share
    """of rows may go to quarantine"""
    min_rows: Count
    """good rows that the set must have"""
    min_rows_per_label: Count | None
    """good rows that each label must have; null asks nothing, as of numbers"""
    max_label_ratio: Annotated[float, Field(ge=1)] | None
    """rows of the largest label over those of the smallest; null asks nothing, as of numbers"""
    max_group_fraction: Share
    """of rows may be in one group of equal or nearly equal samples"""
    max_unknown_tokens: Share | None
    """of the tokens of texts may be unknown to the base model's tokenizer, in the mean of texts; null asks nothing, as of pictures"""
    label_distribution: (
        Annotated[Uniform | Declared | Pretrained, Field(discriminator="name")] | None
    )
    """what the labels are compared with; null compares them with nothing, as numbers"""
    domain: Domain
    """what the data is compared with"""
    expectations: tuple[Expectation, ...]
    """more that the set must satisfy"""
