"""Sets aside rows with characters that no table can hold: NUL, and bytes that are not UTF-8."""

import pandas as pd

from stages.contract.escape import extract

UNFIT = (  # C libraries cut a string at NUL; a lone surrogate stands for a byte that is not UTF-8
    ("\0", "nul_character", "a NUL character"),
    ("[\ud800-\udfff]", "not_utf8", "bytes that are not UTF-8"),
)


def set_aside(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows (x, y, meta, origin) as strings, with code and reason where they were null and a character is unfit."""
    rows = rows.astype(object)
    text = rows["x"] + rows["y"] + rows["meta"] + rows["origin"]
    for pattern, code, reason in UNFIT:
        bad = text.str.contains(pattern).astype(bool) & rows["code"].isna()
        rows.loc[bad, ["code", "reason"]] = [code, reason]
        rows.loc[bad, "x"] = rows.loc[bad, "x"].map(extract)
        rows.loc[bad, "origin"] = rows.loc[bad, "origin"].map(extract)
        rows.loc[bad, ["y", "meta"]] = ["", "{}"]
    return rows.astype({"x": "str", "y": "str", "meta": "str", "origin": "str"})  # Arrow strings, which hold no surrogate
