"""Sets aside rows with characters that no table can hold: NUL, and bytes that are not of the encoding."""

import re

import pandas as pd

from stages.contract import encodings
from stages.contract.escape import extract
from stages.params.types import Encoding

# What takes no place on a page: Default_Ignorable_Code_Point of Unicode 15, and the empty pattern of Braille.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Return text without the characters that nobody sees; white space stays."""
    return text if text.isascii() else INVISIBLE.sub("", text)


def is_blank(text: str) -> bool:
    """Say whether a person sees nothing of a text."""
    return not visible(text).strip()


def set_aside(rows: pd.DataFrame, encoding: Encoding) -> pd.DataFrame:
    """Return rows (x, y, meta, origin) as strings, with code and reason where they were null and a character is unfit."""
    unfit = (  # C libraries cut a string at NUL; a lone surrogate stands for a byte that could not be decoded
        (lambda cells: "\0" in cells, "nul_character", "a NUL character"),
        (
            lambda cells: not cells.isascii() and SURROGATE.search(cells),
            f"not_{encoding.replace('-', '')}",
            f"bytes that are not {encodings.NAMES[encoding]}",
        ),
    )
    rows = rows.astype(object)
    text = rows["x"] + rows["y"] + rows["meta"] + rows["origin"]
    for is_in, code, reason in unfit:
        bad = (
            pd.Series([bool(is_in(cells)) for cells in text], index=rows.index)
            & rows["code"].isna()
        )
        rows.loc[bad, ["code", "reason"]] = [code, reason]
        rows.loc[bad, "x"] = rows.loc[bad, "x"].map(extract)
        rows.loc[bad, "origin"] = rows.loc[bad, "origin"].map(extract)
        rows.loc[bad, ["y", "meta"]] = ["", "{}"]
    return rows.astype(
        {"x": "str", "y": "str", "meta": "str", "origin": "str"}
    )  # Arrow strings, which hold no surrogate
