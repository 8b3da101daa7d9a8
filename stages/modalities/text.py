"""Text: x is the text itself, altered by nlpaug, encoded by the base model's own tokenizer."""

import copy
import io
import random
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from stages.checks import characters, duplicates, encodings, groups, near_texts
from stages.contract import draws, receipts
from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.contract.params import Albumentations, Augment, Case, Encoding, Keyboard, Ocr, RandomCharacter, RandomWord, SplitWord, TextModality, Transform
from stages.contract.plugins import Encoded

VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model", "sentencepiece.model")  # Refit does without its library
NEED_TORCH = ("nlpaug.util.selection.filtering", "nlpaug.util.selection.randomness")  # by which its language models alone draw
EVERY_WORD = 1_000_000  # nlpaug alters at most 10 words or characters unless told otherwise
MOST_CHARACTERS = 1_000_000  # of a text, whatever params.yaml says: more is no sample
MAX_BYTES = 4 * MOST_CHARACTERS  # of one text file
UNKNOWN = "\U0001f9ff"  # a nazar amulet
ENCODED_AT_ONCE = 1000  # rows: what a tokenizer says beside the numbers takes ten times their memory


def read(files: "pd.Series[Any]", encoding: Encoding) -> pd.DataFrame:
    """Return the contents of text files; bytes that are not of the encoding become lone surrogates, which characters sets aside."""
    size = pd.Series([path.stat().st_size for path in files], index=files.index)
    large = size > MAX_BYTES
    found = pd.DataFrame({"x": "", "code": None, "reason": None}, index=files.index, dtype=object)
    found.loc[large, "code"] = "too_long"
    found.loc[large, "reason"] = [f"{number:,} bytes, at most {MAX_BYTES:,}" for number in size[large]]
    contents = [path.read_bytes() for path in files[~large]]
    if contents:
        encodings.require(encoding, encodings.recognise(contents), files[~large].iloc[0].parent)
    found.loc[~large, "x"] = [io.StringIO(_text(content, encoding), newline=None).read() for content in contents]
    return found


def _text(content: bytes, encoding: Encoding) -> str:
    if content.startswith(encodings.WIDE):
        with suppress(UnicodeDecodeError):
            return content.decode("utf-16")
    return encodings.decode(content, encoding)


def cite(cells: "pd.Series[str]", folder: Path, source: Path) -> pd.DataFrame:  # noqa: ARG001  (a text is no file)
    """Return the cells: they are the texts."""
    return pd.DataFrame({"x": cells, "code": None, "reason": None}, index=cells.index, dtype=object)


def look(x: "pd.Series[str]", settings: TextModality) -> pd.DataFrame:
    """Return each text's length in characters, white space at its ends left out, and code and reason where it is out of range.

    A text of which nothing can be seen has none. The normal form has no differences of case, width and white space (Unicode NFKC).
    """
    least, most = settings.characters
    length = x.str.strip().str.len().mask(x.map(characters.is_blank).astype(bool), 0)
    bad = (length < least) | (length > (most := min(most, MOST_CHARACTERS)))
    normal = normalise(x.mask(bad, ""))  # which takes a hundred times the memory of a text
    found = pd.DataFrame({"code": None, "reason": None, "note": None, "exact": x, "normal": normal, "characters": length.astype(int)}, index=x.index)
    found.loc[bad, "code"] = np.where(length[bad] < least, "too_short", "too_long")
    found.loc[bad, "reason"] = length[bad].astype(str) + f" characters, not {least} to {most}"
    return found


def alike(looked: pd.DataFrame) -> "pd.Series[Any]":
    """Return a number for each group of texts whose normal forms are equal or confirmed to be near."""
    code, texts = pd.factorize(looked["normal"], sort=True)
    return pd.Series(groups.linked(len(texts), near_texts.pairs(texts.tolist()))[code], index=looked.index)


def normalise(x: "pd.Series[str]") -> "pd.Series[str]":
    """Return texts without differences of case, width, white space (Unicode NFKC) and characters that nobody sees."""
    return x.map(lambda text: " ".join(unicodedata.normalize("NFKC", characters.visible(str(text))).casefold().split()))


def traits(x: "pd.Series[str]", looked: pd.DataFrame, base: Path) -> pd.DataFrame:
    """Return what domains are told apart by: characters and script; where the base has a tokenizer.json also its tokens.

    tokens counts them, uncut; tokens_unknown is the share of those that it does not know, tokens_a_word how many a word is cut
    into, tokens_rank the mean logarithm of their place in the vocabulary, which lists the frequent first.
    """
    found = looked[["characters"]].assign(script=x.map(_script).astype(object))
    if not (base / "tokenizer.json").is_file():
        return found
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    except Exception as error:  # the library raises no other type
        raise ModelError(f"{base}/tokenizer.json: {one_line(error, 300)}; bring the base model's own") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")
    ids = [np.array(of.ids or [0]) for of in tokenizer.encode_batch(x.tolist(), add_special_tokens=False)]
    return found.assign(
        tokens=[len(of) for of in ids],
        tokens_unknown=[float((of == unknown).mean()) if unknown is not None else 0.0 for of in ids],
        tokens_a_word=[len(of) / max(len(text.split()), 1) for of, text in zip(ids, x, strict=True)],
        tokens_rank=[float(np.log1p(of).mean()) for of in ids],
    )


def _script(text: str) -> str:
    """Return the script of most letters of a text, as Unicode names it (LATIN, CJK, CYRILLIC), or `none`."""
    scripts = Counter(_script_of(letter) for letter in text if letter.isalpha())
    return min(scripts, key=lambda script: (-scripts[script], script)) if scripts else "none"


@cache
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "UNNAMED").split()[0]


def faults(transforms: tuple[Transform, ...]) -> list[str]:  # noqa: ARG001
    """Return nothing: contract/params.py says all there is to say of transforms of texts."""
    return []


def expectations(settings: TextModality) -> list[dict[str, Any]]:
    """Return what lengths must satisfy: the least and the most of one text, and the median of all."""
    least, most = settings.characters
    low, high = settings.median_characters
    return [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "characters", "min_value": least, "max_value": most}},
        {"type": "expect_column_median_to_be_between", "kwargs": {"column": "characters", "min_value": low, "max_value": high}},
    ]


def alter(samples: pd.DataFrame, augment: Augment, settings: TextModality, files: Path, below: str) -> pd.DataFrame:  # noqa: ARG001  (a text is no file)
    """Return altered copies of samples; a draw depends on (seed, id, number) and on nothing else.

    A copy that came out equal to its original, or of a length that no original may have, is left out.
    """
    chosen = samples[[draws.uniform("chosen", augment.seed, i) < augment.share for i in samples["id"]]]
    if not augment.transforms or chosen.empty:
        return samples.iloc[:0]
    transforms = [_augmenter(t) for t in augment.transforms]
    copies = []
    for number in range(1, augment.copies + 1):
        copy = chosen.assign(id=chosen["id"] + f"+{number}", source_id=chosen["id"])
        copy["x"] = [_alter_one(text, draws.integer("altered", augment.seed, i), transforms) for text, i in zip(copy["x"], copy["id"], strict=True)]
        looked = look(copy["x"], settings)
        copies.append(copy.assign(content=duplicates.digest(looked["normal"]))[(copy["x"] != chosen["x"]) & looked["code"].isna()])
    return pd.concat([samples.iloc[:0], *copies], ignore_index=True)


def preview(originals: pd.DataFrame, copies: pd.DataFrame, files: Path, below: str, into: Path) -> None:  # noqa: ARG001  (a text is no file)
    """Write pairs.json: originals beside their copies."""
    pairs = [{"original": a, "altered": b, "y": y} for a, b, y in zip(originals["x"], copies["x"], copies["y"], strict=True)]
    receipts.write_json(into / "pairs.json", pairs)


def _alter_one(text: str, draw: int, transforms: list[Callable[[str], Any]]) -> str:
    which, python, numpy = np.random.SeedSequence(draw).generate_state(3).tolist()
    random.seed(python)  # nlpaug draws from both global generators
    np.random.seed(numpy)
    try:
        altered = transforms[which % len(transforms)](text)
    except (IndexError, ValueError, ZeroDivisionError):  # a text too short for it: nlpaug crops one word out of one (its issues 184 and 192)
        return text
    return " ".join(altered) if isinstance(altered, list) else str(altered)


def _augmenter(transform: Transform) -> Callable[[str], Any]:
    """Return what alters a text."""
    for name in NEED_TORCH:
        sys.modules.setdefault(name, ModuleType(name))
    import nlpaug.augmenter.char as char

    def share(words: float, characters: float) -> dict[str, Any]:
        return {"aug_word_p": words, "aug_char_p": characters, "aug_word_max": EVERY_WORD, "aug_char_max": EVERY_WORD}

    match transform:
        case Keyboard():
            return char.KeyboardAug(**share(transform.words, transform.characters)).augment
        case Ocr():
            return char.OcrAug(**share(transform.words, transform.characters)).augment
        case RandomCharacter():
            return char.RandomCharAug(action=transform.action, **share(transform.words, transform.characters)).augment
        case RandomWord():
            import nlpaug.augmenter.word as words

            return words.RandomWordAug(action=transform.action, aug_p=transform.words, aug_max=EVERY_WORD).augment
        case SplitWord():
            import nlpaug.augmenter.word as words

            return words.SplitAug(aug_p=transform.words, aug_max=EVERY_WORD).augment
        case Case():
            return str.upper if transform.to == "upper" else str.lower
        case Albumentations():
            raise AssertionError("contract/params.py lets no picture's transform in")


def processor(folder: Path) -> Any:
    """Load the tokenizer of a model folder; no code of the folder is run. Raises ModelError where it has none."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in VOCABULARIES):  # transformers would make one of five tokens
        if pieces := [name for name in SENTENCEPIECE if (folder / name).is_file()]:
            make = f"AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')"
            raise ModelError(f"{folder}: its tokenizer is {pieces[0]} (SentencePiece); make a tokenizer.json of it where sentencepiece is installed: {make}")
        raise ModelError(f"{folder}: has no tokenizer (none of {', '.join(VOCABULARIES)}); bring the base model's own")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # files of anybody's: tokenizers raises no narrower type, and others any
        raise ModelError(f"{folder}: its tokenizer cannot be loaded ({one_line(error, 300)}); check its files") from error


def encode(samples: pd.DataFrame, processor: Any, settings: TextModality) -> list[dict[str, Any]]:
    """Return input_ids, attention_mask and what else the tokenizer states for each text, cut to max_tokens, not padded."""
    if settings.max_tokens > processor.model_max_length or processor.pad_token is None:
        limit = f"reads at most {processor.model_max_length} tokens" if processor.pad_token else "has no padding token"
        raise ModelError(f"the base model's tokenizer {limit}, and modality.max_tokens is {settings.max_tokens}; lower it, or take another base")
    texts, rows = samples["x"].tolist(), list[dict[str, Any]]()
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        encoded = processor(texts[start : start + ENCODED_AT_ONCE], truncation=True, max_length=settings.max_tokens)
        rows += [dict(zip(encoded.keys(), row, strict=True)) for row in zip(*encoded.values(), strict=True)]
    return rows


def largest(processor: Any, settings: TextModality, rows: int) -> Encoded:
    """Return a row of max_tokens tokens, and shorter ones, which are padded beside it; a character that hardly any base knows and the last token are in it."""
    encoded = encode(pd.DataFrame({"x": [f"{UNKNOWN} " * (i > 0) + "a " * max(1, settings.max_tokens >> i) for i in range(rows)]}), processor, settings)
    encoded[0]["input_ids"][-1] = max(processor.get_vocab().values())
    return encoded


def within(settings: TextModality, passes: Callable[[TextModality], bool]) -> TextModality | None:
    """Return settings with the most tokens that pass, up to theirs; null where one token does not."""
    least, most = 0, settings.max_tokens + 1
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if passes(replace(settings, max_tokens=middle)) else (least, middle)
    return replace(settings, max_tokens=least) if least else None


def stated(processor: Any, settings: TextModality) -> Any:
    """Return a tokenizer that cuts a text where the model's own texts were cut; the one given keeps its own limit."""
    made = copy.copy(processor)
    made.model_max_length = settings.max_tokens
    return made


def encoding(settings: TextModality) -> tuple[int]:
    """Return what the inputs of a text depend on."""
    return (settings.max_tokens,)


def show(samples: pd.DataFrame, settings: TextModality) -> list[str]:  # noqa: ARG001
    """Return the texts."""
    return samples["x"].tolist()


def encode_anew(samples: pd.DataFrame, processor: Any, settings: TextModality, augment: Augment) -> list[dict[str, Any]]:  # noqa: ARG001
    """Return what encode returns: texts are altered in augment alone."""
    return encode(samples, processor, settings)


def encode_altered(samples: pd.DataFrame, processor: Any, settings: TextModality, transform: Transform, seed: int) -> list[dict[str, Any]]:
    """Return what encode returns, of altered texts."""
    transforms = [_augmenter(transform)]
    altered = [_alter_one(text, draws.integer("worse", seed, i), transforms) for text, i in zip(samples["x"], samples["id"], strict=True)]
    return encode(samples.assign(x=altered), processor, settings)


def lengths(encoded: Encoded) -> list[int]:
    """Return the number of tokens of each text."""
    return [len(encoded[i]["input_ids"]) for i in range(len(encoded))]


def views(inputs: dict[str, Any], settings: TextModality) -> list[dict[str, Any]]:  # noqa: ARG001
    """Return the batch as it is: a text has one view."""
    return [inputs]


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return what pads rows to the longest of their batch."""
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(processor)
