"""Encode texts with the base model's own tokenizer."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.contract.learning import Encoded, Inputs
from stages.modalities.text import altering
from stages.params.augment import Augment, Transform
from stages.params.text import TextModality

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
# Refit does without the library that reads these.
SENTENCEPIECE = (
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
)
UNKNOWN = "\U0001f9ff"  # a nazar amulet
# Rows: what a tokenizer returns beside the numbers takes ten times their memory.
ENCODED_AT_ONCE = 1000


def processor(folder: Path) -> Any:
    """Load the tokenizer of a model folder; no code of the folder is run.

    Raises ModelError if the folder has no tokenizer.
    """
    from transformers import AutoTokenizer

    # Without any of these files transformers would make a tokenizer of five tokens.
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise _no_tokenizer(folder)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # Anybody may have written the files: tokenizers raises no narrower type, and others any.
        raise ModelError(
            f"{folder}: its tokenizer cannot be loaded ({one_line(error, 300)}); check its files"
        ) from error


def _no_tokenizer(folder: Path) -> ModelError:
    if pieces := [name for name in SENTENCEPIECE if (folder / name).is_file()]:
        make = f"AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')"
        return ModelError(
            f"{folder}: its tokenizer is {pieces[0]} (SentencePiece); make a tokenizer.json of "
            f"it where sentencepiece is installed: {make}"
        )
    return ModelError(
        f"{folder}: has no tokenizer (none of {', '.join(VOCABULARIES)}); bring the base "
        "model's own"
    )


def encode(samples: pd.DataFrame, processor: Any, settings: TextModality) -> list[Inputs]:
    """Return input_ids, attention_mask and what else the tokenizer states for each text.

    Texts are cut to max_tokens and not padded.
    """
    if settings.max_tokens > processor.model_max_length or processor.pad_token is None:
        raise _unfit(processor, settings)
    texts, rows = samples["x"].tolist(), list[Inputs]()
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        encoded = processor(
            texts[start : start + ENCODED_AT_ONCE], truncation=True, max_length=settings.max_tokens
        )
        rows += [
            dict(zip(encoded.keys(), row, strict=True))
            for row in zip(*encoded.values(), strict=True)
        ]
    return rows


def _unfit(processor: Any, settings: TextModality) -> ModelError:
    limit = (
        f"reads at most {processor.model_max_length} tokens"
        if processor.pad_token
        else "has no padding token"
    )
    return ModelError(
        f"the base model's tokenizer {limit}, and modality.max_tokens is {settings.max_tokens}; "
        "lower it, or take another base"
    )


def encode_anew(
    samples: pd.DataFrame,
    processor: Any,
    settings: TextModality,
    augment: Augment,  # noqa: ARG001
) -> list[Inputs]:
    """Return what encode returns: only the stage augment alters texts."""
    return encode(samples, processor, settings)


def encode_altered(
    samples: pd.DataFrame, processor: Any, settings: TextModality, transform: Transform, seed: int
) -> list[Inputs]:
    """Return what encode returns for altered texts."""
    return encode(samples.assign(x=altering.worse(samples, transform, seed)), processor, settings)


def largest(processor: Any, settings: TextModality, rows: int) -> Encoded:
    """Return a row of max_tokens tokens, and shorter rows, which are padded beside it.

    The rows contain a character that hardly any base model knows, and the last token.
    """
    texts = [f"{UNKNOWN} " * (i > 0) + "a " * max(1, settings.max_tokens >> i) for i in range(rows)]
    encoded = encode(pd.DataFrame({"x": texts}), processor, settings)
    encoded[0]["input_ids"][-1] = max(processor.get_vocab().values())
    return encoded


def within(settings: TextModality, passes: Callable[[TextModality], bool]) -> TextModality | None:
    """Return settings with the most tokens that pass, up to theirs; None if one token fails."""
    least, most = 0, settings.max_tokens + 1
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (
            (middle, most) if passes(replace(settings, max_tokens=middle)) else (least, middle)
        )
    return replace(settings, max_tokens=least) if least else None


def stated(processor: Any, settings: TextModality) -> Any:
    """Return a tokenizer that cuts a text where the model's own texts were cut.

    The tokenizer that is passed keeps its own limit.
    """
    made = copy.copy(processor)
    made.model_max_length = settings.max_tokens
    return made


def encoding(settings: TextModality) -> tuple[int]:
    """Return the settings that the inputs of a text depend on."""
    return (settings.max_tokens,)


def lengths(encoded: Encoded) -> list[int]:
    """Return the number of tokens of each text."""
    return [len(encoded[i]["input_ids"]) for i in range(len(encoded))]


def views(inputs: Inputs, settings: TextModality) -> list[Inputs]:  # noqa: ARG001
    """Return the batch unchanged: a text has one view."""
    return [inputs]


def collate(processor: Any) -> Callable[[list[Inputs]], Inputs]:
    """Return a function that pads rows to the longest of their batch."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(processor)
