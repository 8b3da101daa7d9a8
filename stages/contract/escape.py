"""Escapes data for the places where a person meets it: a line of a log, a message, a cell of a spreadsheet."""

import io
import re
import sys


def one_line(text: object, limit: int = 2000) -> str:
    """Return text with control characters and lone surrogates escaped, so that data never starts a line of a log."""
    escaped = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)
    )
    return escaped if len(escaped) <= limit else f"{escaped[: limit - 1]}…"


def to_streams() -> None:
    """Have stdout and stderr escape what their encoding lacks: a label must not end a command where a terminal has ASCII alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace", line_buffering=True
            )  # who watches through a pipe sees each line when it is said


def extract(text: object) -> str:
    """Return at most 80 escaped characters of a data value, for a message or a list."""
    return one_line(str(text)[:81], 80)


def redact(text: object) -> str:
    """Return text with the user and password of every address taken out, a password with / or @ in it too."""
    return re.sub(r"//(?:[^/\s:@]*:\S*|[^/\s]*)@", "//", str(text))


def parted(address: str) -> tuple[str, str, str]:
    """Return an address without user and password, and these, as they are written.

    They stand before the last @ of the part before the path (RFC 3986). Where that part holds no @ and is no host and port
    either, a password holds a slash that should be %2F: then they stand before the last @ of all.
    """
    scheme, rest = re.fullmatch(r"((?:[A-Za-z][\w+.-]*:)?/*)(.*)", address, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest or ("@" not in authority and re.fullmatch(r"[^:]*(:\d*)?", authority)):
        return address, "", ""
    at = (authority if "@" in authority else rest).rindex("@")
    user, _, password = rest[:at].partition(":")
    return scheme + rest[at + 1 :], user, password


def address(text: str) -> str:
    """Return an address for a person to read: without user and password, and without what its query says."""
    return one_line(re.sub(r"([?&][^=&#]*=)[^&#]*", r"\1…", parted(text)[0]), 200)


def cell(text: object) -> str:
    """Return text that a spreadsheet shows and does not run (OWASP, CSV injection: = + - @ tab return), nor a page it is put into as it is.

    `dvc plots show` writes a table's cells into a script of its page: a label with </script> would end it.
    """
    shown = str(text).replace("<", "\\u003c")
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@", "\t", "\r")) else shown
