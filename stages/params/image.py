"""Pictures: what x is, how it is altered, and the cheap model that reads it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from stages.params.types import Count, Positive, Range, Strict, Text, all_different

View = Literal["as_is", "mirrored", "upside_down", "half_turn"]


@dataclass(frozen=True)
class ImageModality(Strict):
    """x is a picture: JPEG, PNG, WEBP, GIF, BMP or TIFF by content."""

    READS = "image"

    name: Literal["image"]
    sides: Range
    """[least, most] pixels of each side; a picture outside goes to quarantine"""
    max_pixels: Count
    """width times height at most; checked before a picture is decoded"""
    median_side: Range
    """[least, most] of the set's median shorter side; a set outside stops the run"""
    shorter_side: Count
    """shorter side to which a picture is resized"""
    crop: Count
    """side of the square at the picture's centre, which the model reads"""
    views: Annotated[tuple[View, ...], Field(min_length=1), AfterValidator(all_different)]
    """views of a picture that is scored; their logits are averaged"""

    def __post_init__(self) -> None:
        if self.crop > self.shorter_side:
            raise ValueError("crop must not exceed shorter_side")


@dataclass(frozen=True)
class Albumentations(Strict):
    """A transform of albumentations; one that reads files or needs other targets is refused."""

    READS = "image"

    name: Literal["albumentations"]
    transform: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """its class in albumentations, such as HorizontalFlip"""
    arguments: dict[Text, JsonValue]
    """arguments of the class, such as {p: 0.5}"""


@dataclass(frozen=True)
class HogLogistic(Strict):
    """Histograms of oriented gradients and of colours, and a linear model."""

    READS = "image"

    name: Literal["hog_logistic"]
    c: Positive
    """inverse strength of regularisation"""
