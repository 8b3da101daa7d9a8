"""Reads cells of a table that hold more than one value: a list or an object, as JSON."""

import json
from typing import Any


def as_list(cell: str) -> list[str] | None:
    """Return the strings of a JSON list of strings and numbers, numbers as they are written; null where it is none.

    Single quotes, as Python prints a list, are read where there is no other quote and no backslash.
    """
    found = _parsed(cell, "[")
    if found is None and not {'"', "\\"} & set(cell):
        found = _parsed(cell.replace("'", '"'), "[")
    return found if found is not None and all(isinstance(of, str) for of in found) else None


def as_object(cell: str) -> dict[str, str] | None:
    """Return a JSON object of strings and numbers, numbers as they are written; null where it is none."""
    found = _parsed(cell, "{")
    return (
        found if found is not None and all(isinstance(of, str) for of in found.values()) else None
    )


def _parsed(cell: str, begins: str) -> Any:
    if not cell.lstrip().startswith(begins):
        return None
    try:
        return json.loads(cell, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
