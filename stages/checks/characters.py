"""Sets aside rows with characters that no table can hold: NUL, and bytes that are not of the encoding."""

import re

import pandas as pd

from stages.checks import encodings
from stages.contract.escape import extract
from stages.contract.params import Encoding

SURROGATE = re.compile("[\ud800-\udfff]")


def set_aside(rows: pd.DataFrame, encoding: Encoding) -> pd.DataFrame:
    """Return rows (x, y, meta, origin) as strings, with code and reason where they were null and a character is unfit."""
    unfit = (  # C libraries cut a string at NUL; a lone surrogate stands for a byte that could not be decoded
        (lambda cells: "\0" in cells, "nul_character", "a NUL character"),
        (lambda cells: not cells.isascii() and SURROGATE.search(cells), f"not_{encoding.replace('-', '')}", f"bytes that are not {encodings.NAMES[encoding]}"),
    )
    rows = rows.astype(object)
    text = rows["x"] + rows["y"] + rows["meta"] + rows["origin"]
    for is_in, code, reason in unfit:
        bad = pd.Series([bool(is_in(cells)) for cells in text], index=rows.index) & rows["code"].isna()
        rows.loc[bad, ["code", "reason"]] = [code, reason]
        rows.loc[bad, "x"] = rows.loc[bad, "x"].map(extract)
        rows.loc[bad, "origin"] = rows.loc[bad, "origin"].map(extract)
        rows.loc[bad, ["y", "meta"]] = ["", "{}"]
    return rows.astype({"x": "str", "y": "str", "meta": "str", "origin": "str"})  # Arrow strings, which hold no surrogate
