"""Find labels that a person would take for one label.

They differ only in case, spaces or look-alike letters.
"""

import re
import unicodedata
from decimal import Decimal
from functools import partial
from itertools import groupby

from stages.contract import characters
from stages.contract.escape import extract

# no plain integers: 01 and 1 may be codes
NUMBER = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+)|\+[0-9]+")
DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
# the common Cyrillic and Greek letters that look like Latin ones
# (Unicode Technical Standard 39, confusables)
LATIN = str.maketrans(
    dict(zip("авеһіјкмнорԛсѕтухԝԁɡαβεηικνορτυχı", "abehijkmhopqcstyxwdgabenikvoptuxi", strict=True))
)


def skeleton(label: str) -> str:
    """Return a label without the differences that a person overlooks.

    Those are case, width, spaces, unseen characters and the alphabet of its letters. If the label
    is a number, how it is written makes no difference either.
    """
    # repeated, because each step may put combining marks in another order
    apart = partial(unicodedata.normalize, "NFKD")
    left = apart(
        "".join(apart(apart(characters.visible(label)).casefold()).split()).translate(LATIN)
    ).translate(DASHES)
    # pandas turns 1 into 1.0 if a column has an empty cell
    return f"{Decimal(left).normalize():f}" if NUMBER.fullmatch(left) else left


def clashes(labels: list[str]) -> list[str]:
    """Return a message for each set of labels that have the same skeleton."""
    groups = [[*group] for _, group in groupby(sorted(labels, key=skeleton), key=skeleton)]
    return [
        f"the labels {' and '.join(ascii(extract(label)) for label in same)} look like one; "
        "make them one, or rename one"
        for same in groups
        if len(same) > 1
    ]
