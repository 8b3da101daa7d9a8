"""Finds labels that a person takes for one: they differ by case, spaces or look-alike letters alone."""

import re
import unicodedata
from functools import partial
from itertools import groupby

from stages.checks import characters
from stages.contract.escape import extract

# Cyrillic and Greek letters that look like Latin ones (Unicode Technical Standard 39, confusables), the common ones.
DECIMAL = re.compile(r"[+-]?[0-9]+\.[0-9]*")
LATIN = str.maketrans(dict(zip("авеһіјкмнорԛсѕтухԝԁɡαβεηικνορτυχı", "abehijkmhopqcstyxwdgabenikvoptuxi", strict=True)))


def skeleton(label: str) -> str:
    """Return what is left of a label without case, width, spaces, unseen characters and the alphabet of its letters, or without how a number is written."""
    label = characters.visible(label)
    if DECIMAL.fullmatch(label.strip()):  # 1 and 1.0: pandas makes the second of the first where a column has an empty cell
        return label.strip().rstrip("0").rstrip(".")
    apart = partial(unicodedata.normalize, "NFKD")  # each step may put marks where others stand first
    return apart("".join(apart(apart(label).casefold()).split()).translate(LATIN))


def clashes(labels: list[str]) -> list[str]:
    """Return a line for each set of labels with one skeleton."""
    found = [[*of] for _, of in groupby(sorted(labels, key=skeleton), key=skeleton)]
    return [
        f"the labels {' and '.join(ascii(extract(label)) for label in same)} look like one; make them one, or rename one" for same in found if len(same) > 1
    ]
