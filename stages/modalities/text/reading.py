"""Read texts, look at each, and describe what tells them apart; x is the text itself."""

import io
import unicodedata
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import characters, encodings, groups
from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.modalities.text import near
from stages.params.text import TextModality
from stages.params.types import Encoding

FILES = False
MOST_CHARACTERS = 1_000_000  # of a text, whatever params.yaml says: a longer one is no sample
MAX_BYTES = 4 * MOST_CHARACTERS  # of one text file


def read(files: "pd.Series[Any]", encoding: Encoding) -> pd.DataFrame:
    """Return the contents of text files.

    Bytes that are not of the encoding become lone surrogates, which the module characters sets
    aside.
    """
    size = pd.Series([path.stat().st_size for path in files], index=files.index)
    large = size > MAX_BYTES
    rows = pd.DataFrame({"x": "", "code": None, "reason": None}, index=files.index, dtype=object)
    rows.loc[large, "code"] = "too_long"
    rows.loc[large, "reason"] = [
        f"{number:,} bytes, at most {MAX_BYTES:,}" for number in size[large]
    ]
    contents = [path.read_bytes() for path in files[~large]]
    if contents:
        encodings.require(encoding, encodings.recognise(contents), files[~large].iloc[0].parent)
    rows.loc[~large, "x"] = [
        io.StringIO(_text(content, encoding), newline=None).read() for content in contents
    ]
    return rows


def _text(content: bytes, encoding: Encoding) -> str:
    if content.startswith(encodings.WIDE):
        with suppress(UnicodeDecodeError):
            return content.decode("utf-16")
    return encodings.decode(content, encoding)


def cite(cells: "pd.Series[str]", folder: Path, source: Path) -> pd.DataFrame:  # noqa: ARG001  (a text is not a file)
    """Return the cells, which are the texts."""
    return pd.DataFrame({"x": cells, "code": None, "reason": None}, index=cells.index, dtype=object)


def look(x: "pd.Series[str]", settings: TextModality) -> pd.DataFrame:
    """Return each text's length in characters, and code and reason if it is out of range.

    White space at the ends of a text does not count, and a text in which nothing can be seen has no
    characters. The normal form has no differences of case, width and white space (Unicode NFKC).
    """
    least, most = settings.characters
    length = x.str.strip().str.len().mask(x.map(characters.is_blank).astype(bool), 0)
    bad = (length < least) | (length > (most := min(most, MOST_CHARACTERS)))
    normal = normalise(x.mask(bad, ""))  # takes a hundred times the memory of a text
    known = {"exact": x, "normal": normal, "characters": length.astype(int)}
    rows = pd.DataFrame({"code": None, "reason": None, "note": None, **known}, index=x.index)
    rows.loc[bad, "code"] = np.where(length[bad] < least, "too_short", "too_long")
    rows.loc[bad, "reason"] = length[bad].astype(str) + f" characters, not {least} to {most}"
    return rows


def alike(looked: pd.DataFrame) -> "pd.Series[Any]":
    """Return each text's group number: equal or confirmed near normal forms share a group."""
    code, texts = pd.factorize(looked["normal"], sort=True)
    return pd.Series(
        groups.linked(len(texts), near.pairs(texts.tolist()))[code], index=looked.index
    )


def normalise(x: "pd.Series[str]") -> "pd.Series[str]":
    """Return texts without differences of case, width, white space and unseen characters.

    The form is Unicode NFKC.
    """
    return x.map(
        lambda text: " ".join(
            unicodedata.normalize("NFKC", characters.visible(str(text))).casefold().split()
        )
    )


def traits(x: "pd.Series[str]", looked: pd.DataFrame, base: Path) -> pd.DataFrame:
    """Return the traits that tell domains apart: characters, script and, if possible, tokens.

    Tokens are described if the base model has a tokenizer.json: tokens is their number in the uncut
    text; tokens_unknown is the share that the tokenizer does not know; tokens_a_word is the number
    of tokens that a word is cut into; tokens_rank is the mean logarithm of their places in the
    vocabulary, which lists frequent tokens first.
    """
    rows = looked[["characters"]].assign(script=x.map(_script).astype(object))
    if not (base / "tokenizer.json").is_file():
        return rows
    ids, unknown = _tokens(x.tolist(), base / "tokenizer.json")
    words = [max(len(text.split()), 1) for text in x]
    return rows.assign(
        tokens=[len(of) for of in ids],
        tokens_unknown=[0.0 if unknown is None else float((of == unknown).mean()) for of in ids],
        tokens_a_word=[len(of) / number for of, number in zip(ids, words, strict=True)],
        tokens_rank=[float(np.log1p(of).mean()) for of in ids],
    )


def _tokens(texts: list[str], file: Path) -> tuple[list["np.ndarray[Any, Any]"], int | None]:
    """Return the numbers of each text's tokens, and that of an unknown token if there is one."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no other type
        raise ModelError(f"{file}: {one_line(error, 300)}; bring the base model's own") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")
    return [np.array(tokens.ids or [0]) for tokens in encoded], unknown


def _script(text: str) -> str:
    """Return the script of most letters of a text, or `none`.

    Unicode names the script (LATIN, CJK, CYRILLIC).
    """
    scripts = Counter(_script_of(letter) for letter in text if letter.isalpha())
    return min(scripts, key=lambda script: (-scripts[script], script)) if scripts else "none"


@cache
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "UNNAMED").split()[0]


def expectations(settings: TextModality) -> list[dict[str, Any]]:
    """Return what lengths must satisfy: the bounds of each text, and those of the median."""
    least, most = settings.characters
    low, high = settings.median_characters
    return [
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "characters", "min_value": least, "max_value": most},
        },
        {
            "type": "expect_column_median_to_be_between",
            "kwargs": {"column": "characters", "min_value": low, "max_value": high},
        },
    ]


def suggest(x: "pd.Series[str]", _: pd.DataFrame) -> dict[str, Any]:
    """Return the settings that suit the texts."""
    length, size = x.str.len(), x.map(lambda text: len(str(text).encode()))
    return {
        "characters": [1, min(MOST_CHARACTERS, max(1000, 2 * int(length.max())))],
        "median_characters": [max(1, int(length.median()) // 3), 3 * int(length.median()) + 3],
        # Three bytes a token, with 2 % of the texts cut.
        "max_tokens": min(256, 32 * (1 + int(size.quantile(0.98)) // 96)),
    }
