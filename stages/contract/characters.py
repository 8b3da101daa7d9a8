"""Set aside rows with characters that no table can store: NUL, and bytes outside the encoding."""

import re

import pandas as pd

from stages.contract import encodings
from stages.contract.escape import extract
from stages.params.types import Encoding

# Characters that take no place on a page: Default_Ignorable_Code_Point of Unicode 15, and the empty
# pattern of Braille.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """Return text without its invisible characters; white space stays."""
    return text if text.isascii() else INVISIBLE.sub("", text)


def is_blank(text: str) -> bool:
    """Return whether a text contains nothing that a person can see."""
    return not visible(text).strip()


def set_aside(rows: pd.DataFrame, encoding: Encoding) -> pd.DataFrame:
    """Return rows (x, y, meta, origin) as strings, and set aside those with an unfit character.

    A row that is set aside gets a code and a reason, unless it has them already.
    """
    # C libraries cut a string at NUL; a lone surrogate is a byte that could not be decoded.
    unfit = (
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
    # "str" is an Arrow string, which cannot contain a surrogate.
    return rows.astype({"x": "str", "y": "str", "meta": "str", "origin": "str"})
