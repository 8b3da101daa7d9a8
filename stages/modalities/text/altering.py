"""Alter texts with nlpaug; each draw depends only on what is altered."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import draws
from stages.modalities.text import reading
from stages.params.augment import Augment, Transform
from stages.params.image import Albumentations
from stages.params.text import (
    Case,
    Keyboard,
    Ocr,
    RandomCharacter,
    RandomWord,
    SplitWord,
    TextModality,
)

# Only nlpaug's language models draw with these.
NEED_TORCH = ("nlpaug.util.selection.filtering", "nlpaug.util.selection.randomness")
EVERY_WORD = 1_000_000  # nlpaug alters at most 10 words or characters by default


def faults(transforms: tuple[Transform, ...]) -> list[str]:  # noqa: ARG001
    """Return no faults: stages/params/text.py checks everything about transforms of texts."""
    return []


def alter(
    samples: pd.DataFrame,
    augment: Augment,
    settings: TextModality,
    files: Path,  # noqa: ARG001  (a text is not a file)
    below: str,  # noqa: ARG001
) -> pd.DataFrame:
    """Return altered copies of samples; each draw depends only on (seed, id, number).

    A copy is left out if it equals its original, or if no original may have its length.
    """
    drawn = [draws.uniform("chosen", augment.seed, i) < augment.share for i in samples["id"]]
    chosen = samples[drawn]
    if not augment.transforms or chosen.empty:
        return samples.iloc[:0]
    transforms = [_augmenter(t) for t in augment.transforms]
    copies = []
    for number in range(1, augment.copies + 1):
        copy = chosen.assign(id=chosen["id"] + f"+{number}", source_id=chosen["id"])
        copy["x"] = _altered(copy, "altered", augment.seed, transforms)
        looked = reading.look(copy["x"], settings)
        copy = copy.assign(content=draws.digest(looked["normal"]))
        copies.append(copy[(copy["x"] != chosen["x"]) & looked["code"].isna()])
    return pd.concat([samples.iloc[:0], *copies], ignore_index=True)


def worse(samples: pd.DataFrame, transform: Transform, seed: int) -> list[str]:
    """Return each text as one transform alters it; each draw depends only on (seed, id)."""
    return _altered(samples, "worse", seed, [_augmenter(transform)])


def _altered(
    samples: pd.DataFrame, purpose: str, seed: int, transforms: list[Callable[[str], Any]]
) -> list[str]:
    return [
        _alter_one(text, draws.integer(purpose, seed, i), transforms)
        for text, i in zip(samples["x"], samples["id"], strict=True)
    ]


def _alter_one(text: str, draw: int, transforms: list[Callable[[str], Any]]) -> str:
    which, python, numpy = np.random.SeedSequence(draw).generate_state(3).tolist()
    random.seed(python)  # nlpaug draws from both global generators
    np.random.seed(numpy)
    try:
        altered = transforms[which % len(transforms)](text)
    except (IndexError, ValueError, ZeroDivisionError):
        # The text is too short: nlpaug crops one word out of one (its issues 184 and 192).
        return text
    return " ".join(altered) if isinstance(altered, list) else str(altered)


def _augmenter(transform: Transform) -> Callable[[str], Any]:
    """Return the function that alters a text by a transform."""
    for name in NEED_TORCH:
        sys.modules.setdefault(name, ModuleType(name))
    import nlpaug.augmenter.char as char

    match transform:
        case Keyboard():
            return char.KeyboardAug(**_shares(transform)).augment
        case Ocr():
            return char.OcrAug(**_shares(transform)).augment
        case RandomCharacter():
            return char.RandomCharAug(action=transform.action, **_shares(transform)).augment
        case RandomWord() | SplitWord():
            return _of_words(transform)
        case Case():
            return str.upper if transform.to == "upper" else str.lower
        case Albumentations():
            raise AssertionError("params/task.py lets no picture's transform in")


def _of_words(transform: RandomWord | SplitWord) -> Callable[[str], Any]:
    import nlpaug.augmenter.word as words

    if isinstance(transform, SplitWord):
        return words.SplitAug(aug_p=transform.words, aug_max=EVERY_WORD).augment
    return words.RandomWordAug(
        action=transform.action, aug_p=transform.words, aug_max=EVERY_WORD
    ).augment


def _shares(transform: Keyboard | Ocr | RandomCharacter) -> dict[str, Any]:
    """Return the arguments of nlpaug for the shares of words, and of characters in them."""
    return {
        "aug_word_p": transform.words,
        "aug_char_p": transform.characters,
        "aug_word_max": EVERY_WORD,
        "aug_char_max": EVERY_WORD,
    }
