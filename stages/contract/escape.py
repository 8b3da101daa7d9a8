"""Escape data for what a person reads: a line of a log, a message, a cell of a spreadsheet."""

import io
import re
import sys


def one_line(text: object, limit: int = 2000) -> str:
    """Return text with control characters and lone surrogates escaped.

    Data therefore never starts a line of a log.
    """
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)
    )
    return escaped if len(escaped) <= limit else f"{escaped[: limit - 1]}…"


def to_streams() -> None:
    """Have stdout and stderr escape the characters that their encoding lacks.

    A label must not end a command because a terminal knows only ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Line by line, so that a person who watches through a pipe sees each line in time.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def extract(text: object) -> str:
    """Return at most 80 escaped characters of a data value, for a message or a list."""
    return one_line(str(text)[:81], 80)


def redact(text: object) -> str:
    """Return text without the user and password of any address, even a password with / or @."""
    return re.sub(r"//(?:[^/\s:@]*:\S*|[^/\s]*)@", "//", str(text))


def parted(address: str) -> tuple[str, str, str]:
    """Return an address without user and password, the user, and the password, as written.

    User and password are before the last @ of the part before the path (RFC 3986). If that part
    contains no @ and is not a host and port either, a password contains a slash that should be
    %2F: then they are before the last @ of the whole address.
    """
    scheme, rest = re.fullmatch(
        r"((?:[A-Za-z][\w+.-]*:)?/*)(.*)",
        address,
        re.DOTALL,
    ).groups()  # pyright: ignore[reportOptionalMemberAccess]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest or ("@" not in authority and re.fullmatch(r"[^:]*(:\d*)?", authority)):
        return address, "", ""
    at = (authority if "@" in authority else rest).rindex("@")
    user, _, password = rest[:at].partition(":")
    return scheme + rest[at + 1 :], user, password


def address(text: str) -> str:
    """Return an address for a person to read, without user, password and the query's values."""
    return one_line(re.sub(r"([?&][^=&#]*=)[^&#]*", r"\1…", parted(text)[0]), 200)


def cell(text: object) -> str:
    """Return text that neither a spreadsheet nor a page runs.

    A spreadsheet runs a cell that begins with = + - @ tab or return (OWASP, CSV injection).
    `dvc plots show` writes a table's cells as they are into a script of its page: a label with
    </script> would end the script.
    """
    shown = str(text).replace("<", "\\u003c")
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@", "\t", "\r")) else shown
