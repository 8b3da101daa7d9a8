"""Finds labels that a person takes for one: they differ by case, spaces or look-alike letters alone."""

import re
import unicodedata
from decimal import Decimal
from functools import partial
from itertools import groupby

from stages.contract import characters
from stages.contract.escape import extract

# Cyrillic and Greek letters that look like Latin ones (Unicode Technical Standard 39, confusables), the common ones.
NUMBER = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)|\+[0-9]+")  # 01 and 1 may be codes
DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
LATIN = str.maketrans(
    dict(zip("авеһіјкмнорԛсѕтухԝԁɡαβεηικνορτυχı", "abehijkmhopqcstyxwdgabenikvoptuxi", strict=True))
)


def skeleton(label: str) -> str:
    """Return what is left of a label without case, width, spaces, unseen characters and the alphabet of its letters, or without how a number is written."""
    apart = partial(
        unicodedata.normalize, "NFKD"
    )  # each step may put marks where others stand first
    left = apart(
        "".join(apart(apart(characters.visible(label)).casefold()).split()).translate(LATIN)
    ).translate(DASHES)
    # 1 and 1.0: pandas makes the second of the first where a column has an empty cell
    return f"{Decimal(left).normalize():f}" if NUMBER.fullmatch(left) else left


def clashes(labels: list[str]) -> list[str]:
    """Return a line for each set of labels with one skeleton."""
    found = [[*of] for _, of in groupby(sorted(labels, key=skeleton), key=skeleton)]
    return [
        f"the labels {' and '.join(ascii(extract(label)) for label in same)} look like one; make them one, or rename one"
        for same in found
        if len(same) > 1
    ]
