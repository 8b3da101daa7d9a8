"""How train rows are copied and altered, and how rows are assigned to parts."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from stages.params.image import Albumentations
from stages.params.text import Case, Keyboard, Ocr, RandomCharacter, RandomWord, SplitWord
from stages.params.types import Fraction, Seed, Share, Strict

Transform = Annotated[
    Keyboard | Ocr | RandomCharacter | RandomWord | SplitWord | Case | Albumentations,
    Field(discriminator="name"),
]


@dataclass(frozen=True)
class Augment(Strict):
    """Altered copies of train rows, every copy by one of the transforms."""

    seed: Seed
    """draws which rows are copied, and how they are altered"""
    share: Share
    """share of the train rows that get copies"""
    copies: Annotated[int, Field(ge=0)]
    """copies of each of these rows"""
    on_the_fly: bool
    """also alter pictures anew in each epoch, by the same transforms"""
    transforms: tuple[Transform, ...]
    """what alters a copy: one drawn for a text, all in turn (each as its p says) for a picture"""


@dataclass(frozen=True)
class Split(Strict):
    """Shares of the groups of equal samples, for parts that the data set does not give."""

    seed: Seed
    """draws the part of each group"""
    validation: Fraction
    """share that chooses the epoch"""
    test: Fraction
    """share that judges the model"""

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test must leave a share for train")
