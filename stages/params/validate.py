"""What a data set must satisfy."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from stages.params.types import Count, Key, Positive, Range, Seed, Share, Strict, Text


@dataclass(frozen=True)
class Uniform(Strict):
    """All labels are equally frequent."""

    name: Literal["uniform"]
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels from this, in nats"""


@dataclass(frozen=True)
class Declared(Strict):
    """Labels are as frequent as declared here."""

    name: Literal["declared"]
    weights: dict[Text, Positive]
    """label: how frequent it is, in any unit"""
    max_kl: Positive
    """greatest Kullback-Leibler divergence of the labels from this, in nats"""


@dataclass(frozen=True)
class Pretrained(Strict):
    """Labels are as frequent as their classes in pretraining, by the base model's profile."""

    name: Literal["pretrained"]
    classes: dict[Text, tuple[Range, ...]]
    """label: [first, last] of the classes that it covers, from 0; [] if the base model knows none
    of its classes"""
    max_kl: Positive
    """greatest Kullback-Leibler divergence from this, in nats, of the labels that the base model
    knows"""


@dataclass(frozen=True)
class Domain(Strict):
    """How far the data may lie from what the base model was pretrained on."""

    profile: Key
    """what is known of that data: data/profiles/PROFILE.json; `unknown` is empty, `refit profile`
    makes one"""
    run_base: bool
    """run the base model too: embeddings and activations are compared, and kept for `refit drift`;
    imports torch"""
    sample: Annotated[int, Field(ge=25)]
    """rows that are compared, drawn by the seed; labels are compared over all rows"""
    false_alarms: Annotated[float, Field(gt=0, le=0.2)]
    """share of data sets of the very same domain that are found far all the same"""
    severity: Literal["critical", "warning", "info"]
    """severity of a distance beyond its limit; critical stops the run"""
    seed: Seed
    """seed of the sample, and of the draws that set the limits"""


@dataclass(frozen=True)
class Expectation(Strict):
    """One of Great Expectations' own expectations, by its name."""

    expectation: Annotated[str, Field(pattern=r"^expect_[a-z0-9_]+$")]
    """name of the expectation, such as expect_column_values_to_match_regex"""
    table: Literal["samples", "labels"]
    """samples has x, label, meta.NAME and the features of x (characters, or sizes and brightness);
    labels has label, rows and ratio"""
    arguments: dict[str, JsonValue]
    """arguments, as Great Expectations names them"""
    severity: Literal["critical", "warning", "info"]
    """severity; a critical one stops the run"""

    def __post_init__(self) -> None:
        # pandas would run what these arguments say.
        if refused := {"row_condition", "condition_parser"} & self.arguments.keys():
            raise ValueError(f"{', '.join(sorted(refused))}: an expression is never run")


@dataclass(frozen=True)
class Validate(Strict):
    """What a data set must satisfy."""

    max_bad_fraction: Share
    """share of rows that may go to quarantine"""
    min_rows: Count
    """good rows that the set must have"""
    min_rows_per_label: Count | None
    """good rows that each label must have; null requires nothing, for example for numbers"""
    max_label_ratio: Annotated[float, Field(ge=1)] | None
    """rows of the largest label over rows of the smallest; null requires nothing, for example for
    numbers"""
    max_group_fraction: Share
    """share of rows that may be in one group of equal or nearly equal samples"""
    max_unknown_tokens: Share | None
    """share of a text's tokens that the base model's tokenizer may not know, in the mean of texts;
    null requires nothing, for example for pictures"""
    label_distribution: (
        Annotated[Uniform | Declared | Pretrained, Field(discriminator="name")] | None
    )
    """what the labels are compared with; null compares nothing, for example for numbers"""
    domain: Domain
    """what the data is compared with"""
    expectations: tuple[Expectation, ...]
    """further expectations that the set must satisfy"""
