"""How train rows are copied and altered, and how rows are parted."""

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
    """draws which rows, and how"""
    share: Share
    """of the train rows get copies"""
    copies: Annotated[int, Field(ge=0)]
    """of each such row"""
    on_the_fly: bool
    """pictures are altered anew in each epoch too, by the same transforms"""
    transforms: tuple[Transform, ...]
    """what a copy is altered by: one drawn for a text, all in turn (each as its p says) for a picture"""


@dataclass(frozen=True)
class Split(Strict):
    """Shares of the groups of equal samples, where the data set gives no such part."""

    seed: Seed
    """draws where a group falls"""
    validation: Fraction
    """chooses the epoch"""
    test: Fraction
    """judges the model"""

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test must leave a share for train")
