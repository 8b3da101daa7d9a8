"""Escapes data for the places where a person meets it: a line of a log, a message, a cell of a spreadsheet."""

import re


def one_line(text: object, limit: int = 2000) -> str:
    """Return text with control characters and lone surrogates escaped, so that data never starts a line of a log."""
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return escaped if len(escaped) <= limit else f"{escaped[: limit - 1]}…"


def extract(text: object) -> str:
    """Return at most 80 escaped characters of a data value, for a message or a list."""
    return one_line(str(text)[:81], 80)


def redact(text: object) -> str:
    """Return text with the user and password of every address taken out, a password with / or @ in it too."""
    return re.sub(r"//(?:[^/\s:@]*:\S*|[^/\s]*)@", "//", str(text))


def cell(text: object) -> str:
    """Return text that a spreadsheet shows and does not run (OWASP, CSV injection: = + - @ tab return)."""
    return f"'{text}" if str(text).startswith(("=", "+", "-", "@", "\t", "\r")) else str(text)
