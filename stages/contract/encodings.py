"""Tell UTF-8 from Chinese text in GB18030, and decode both line by line.

GBK and GB2312 are parts of GB18030.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

from stages.contract.errors import TableError
from stages.params.types import Encoding

NAMES: dict[Encoding, str] = {"utf-8": "UTF-8", "gb18030": "GB18030 (GBK)"}
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LOOKED_AT = 10_000  # lines that are not ASCII
FAR = re.compile("[\u0800-\U0010ffff]")  # three or four bytes in UTF-8
# Share of the characters that are not ASCII: frequent ones are more than this in Chinese, and less
# in other text that is read as if it were Chinese.
SHARE = 0.05
# The most frequent characters of modern Chinese (Jun Da 2004), with their traditional forms.
FREQUENT = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子"
    "那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面"
    "起看定天分还进好小部其些主样理心她本前开但因只从想实日很"
    "這個們來為國說時會對過發後種經學樣開從實沒動當現還進"
)


def recognise(lines: Iterable[bytes]) -> Encoding | None:
    """Return the encoding of text, judged by its first 10,000 lines that are not ASCII.

    Return None if all lines are ASCII, or if the encoding is neither of the two. It is GB18030 if
    nine of ten lines that are not UTF-8 can be decoded as GB18030 and contain characters that are
    frequent in Chinese: Big5, Shift JIS and Korean may pass for it byte by byte. A file of few
    lines may be taken for neither.
    """
    votes, characters = Counter[str](), Counter[str]()
    for line in islice((line for line in lines if not line.isascii()), LOOKED_AT):
        written = _written(line)
        votes[written] += 1
        if written == "gb18030":
            characters.update(line.decode(written))
    if votes["utf-8"] >= votes["gb18030"]:
        return "utf-8" if votes["utf-8"] else None
    frequent, far = (
        sum(characters[c] for c in FREQUENT),
        sum(number for c, number in characters.items() if not c.isascii()),
    )
    return (
        "gb18030" if votes["gb18030"] >= 9 * votes["neither"] and frequent > SHARE * far else None
    )


def require(encoding: Encoding, found: Encoding | None, where: Path) -> None:
    """Raise TableError if the encoding that was found is not the one that params.yaml names."""
    if found and found != encoding:
        raise TableError(
            f"{where}: is written in {NAMES[found]}; "
            f"set data.encoding in params.yaml to {found}, or save it in {NAMES[encoding]}"
        )


def decode(line: bytes, encoding: Encoding) -> str:
    """Return the text of a line, or of a file that is not UTF-16.

    Bytes outside the encoding become lone surrogates, which characters.py sets aside.
    """
    if encoding == "gb18030" and not line.isascii() and _written(line) == "utf-8":
        # Byte by byte the line may be GB18030 too, but nonsense.
        return line.decode("ascii", "surrogateescape")
    return line.decode(encoding, "surrogateescape").removeprefix("\ufeff")


def _written(line: bytes) -> Encoding | Literal["either", "neither"]:
    """Return the encoding of a line.

    UTF-8 with a character of three bytes or more is not GB18030; a line that is not UTF-8 may be.
    Two bytes of GB18030 are often a letter of UTF-8 too, Latin or Cyrillic.
    """
    try:
        return "utf-8" if FAR.search(line.decode("utf-8")) else "either"
    except UnicodeDecodeError:
        try:
            line.decode("gb18030")
        except UnicodeDecodeError:
            return "neither"
        return "gb18030"
