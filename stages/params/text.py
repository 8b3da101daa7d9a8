"""Texts: what x is, how it is altered, and the cheap models that read it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from stages.params.types import Count, Positive, Range, Share, Strict, ascending


@dataclass(frozen=True)
class TextModality(Strict):
    """x is a text."""

    READS = "text"
    views = ("as_is",)  # a text is scored as it is

    name: Literal["text"]
    characters: Range
    """[least, most] characters of one text; a text outside goes to quarantine"""
    median_characters: Range
    """[least, most] of the set's median; a set outside stops the run"""
    max_tokens: Count
    """tokens of a text at most; a longer text is cut"""


@dataclass(frozen=True)
class Keyboard(Strict):
    """Replace characters by their neighbours on a keyboard."""

    READS = "text"

    name: Literal["keyboard"]
    words: Share
    """share of the words that are altered"""
    characters: Share
    """share of the characters of each of these words"""


@dataclass(frozen=True)
class Ocr(Strict):
    """Replace characters by those that optical character recognition takes them for."""

    READS = "text"

    name: Literal["ocr"]
    words: Share
    """share of the words that are altered"""
    characters: Share
    """share of the characters of each of these words"""


@dataclass(frozen=True)
class RandomCharacter(Strict):
    """Alter characters at random."""

    READS = "text"

    name: Literal["random_character"]
    action: Literal["insert", "substitute", "swap", "delete"]
    """what is done to a character"""
    words: Share
    """share of the words that are altered"""
    characters: Share
    """share of the characters of each of these words"""


@dataclass(frozen=True)
class RandomWord(Strict):
    """Alter words at random."""

    READS = "text"

    name: Literal["random_word"]
    action: Literal["swap", "delete", "crop"]
    """what is done to a word"""
    words: Share
    """share of the words that are altered"""


@dataclass(frozen=True)
class SplitWord(Strict):
    """Split words in two."""

    READS = "text"

    name: Literal["split_word"]
    words: Share
    """share of the words that are split"""


@dataclass(frozen=True)
class Case(Strict):
    """Write the whole text in one case."""

    READS = "text"

    name: Literal["case"]
    to: Literal["lower", "upper"]
    """the case"""


@dataclass(frozen=True)
class TfidfLogistic(Strict):
    """TF-IDF over words and a linear model."""

    READS = "text"

    name: Literal["tfidf_logistic"]
    ngrams: Annotated[tuple[Count, Count], AfterValidator(ascending)]
    """[shortest, longest] in words"""
    c: Positive
    """inverse strength of regularisation"""


@dataclass(frozen=True)
class TfidfCharacters(Strict):
    """TF-IDF over characters within words and a linear model."""

    READS = "text"

    name: Literal["tfidf_characters"]
    ngrams: Annotated[tuple[Count, Count], AfterValidator(ascending)]
    """[shortest, longest] in characters"""
    c: Positive
    """inverse strength of regularisation"""
