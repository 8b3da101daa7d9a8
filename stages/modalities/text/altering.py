"""Alters texts by nlpaug; a draw depends on what is altered and on nothing else."""

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

NEED_TORCH = (
    "nlpaug.util.selection.filtering",
    "nlpaug.util.selection.randomness",
)  # by which its language models alone draw
EVERY_WORD = 1_000_000  # nlpaug alters at most 10 words or characters unless told otherwise


def faults(transforms: tuple[Transform, ...]) -> list[str]:  # noqa: ARG001
    """Return nothing: stages/params/text.py says all there is to say of transforms of texts."""
    return []


def alter(
    samples: pd.DataFrame, augment: Augment, settings: TextModality, files: Path, below: str
) -> pd.DataFrame:  # noqa: ARG001  (a text is no file)
    """Return altered copies of samples; a draw depends on (seed, id, number) and on nothing else.

    A copy that came out equal to its original, or of a length that no original may have, is left out.
    """
    chosen = samples[
        [draws.uniform("chosen", augment.seed, i) < augment.share for i in samples["id"]]
    ]
    if not augment.transforms or chosen.empty:
        return samples.iloc[:0]
    transforms = [_augmenter(t) for t in augment.transforms]
    copies = []
    for number in range(1, augment.copies + 1):
        copy = chosen.assign(id=chosen["id"] + f"+{number}", source_id=chosen["id"])
        copy["x"] = [
            _alter_one(text, draws.integer("altered", augment.seed, i), transforms)
            for text, i in zip(copy["x"], copy["id"], strict=True)
        ]
        looked = reading.look(copy["x"], settings)
        copies.append(
            copy.assign(content=draws.digest(looked["normal"]))[
                (copy["x"] != chosen["x"]) & looked["code"].isna()
            ]
        )
    return pd.concat([samples.iloc[:0], *copies], ignore_index=True)


def worse(samples: pd.DataFrame, transform: Transform, seed: int) -> list[str]:
    """Return each text as one transform alters it; a draw depends on (seed, id) and on nothing else."""
    transforms = [_augmenter(transform)]
    return [
        _alter_one(text, draws.integer("worse", seed, i), transforms)
        for text, i in zip(samples["x"], samples["id"], strict=True)
    ]


def _alter_one(text: str, draw: int, transforms: list[Callable[[str], Any]]) -> str:
    which, python, numpy = np.random.SeedSequence(draw).generate_state(3).tolist()
    random.seed(python)  # nlpaug draws from both global generators
    np.random.seed(numpy)
    try:
        altered = transforms[which % len(transforms)](text)
    except (
        IndexError,
        ValueError,
        ZeroDivisionError,
    ):  # a text too short for it: nlpaug crops one word out of one (its issues 184 and 192)
        return text
    return " ".join(altered) if isinstance(altered, list) else str(altered)


def _augmenter(transform: Transform) -> Callable[[str], Any]:
    """Return what alters a text."""
    for name in NEED_TORCH:
        sys.modules.setdefault(name, ModuleType(name))
    import nlpaug.augmenter.char as char

    def share(words: float, characters: float) -> dict[str, Any]:
        return {
            "aug_word_p": words,
            "aug_char_p": characters,
            "aug_word_max": EVERY_WORD,
            "aug_char_max": EVERY_WORD,
        }

    match transform:
        case Keyboard():
            return char.KeyboardAug(**share(transform.words, transform.characters)).augment
        case Ocr():
            return char.OcrAug(**share(transform.words, transform.characters)).augment
        case RandomCharacter():
            return char.RandomCharAug(
                action=transform.action, **share(transform.words, transform.characters)
            ).augment
        case RandomWord():
            import nlpaug.augmenter.word as words

            return words.RandomWordAug(
                action=transform.action, aug_p=transform.words, aug_max=EVERY_WORD
            ).augment
        case SplitWord():
            import nlpaug.augmenter.word as words

            return words.SplitAug(aug_p=transform.words, aug_max=EVERY_WORD).augment
        case Case():
            return str.upper if transform.to == "upper" else str.lower
        case Albumentations():
            raise AssertionError("params/task.py lets no picture's transform in")
