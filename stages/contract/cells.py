"""Read cells of a table that contain several values: a list or an object, as JSON."""

import json
from typing import Any


def as_list(cell: str) -> list[str] | None:
    """Return the strings of a JSON list of strings and numbers, or None for any other cell.

    Numbers stay as they are written. Single quotes, as Python prints a list, are read too if the
    cell contains no other quote and no backslash.
    """
    parsed = _parsed(cell, "[")
    if parsed is None and not {'"', "\\"} & set(cell):
        parsed = _parsed(cell.replace("'", '"'), "[")
    return parsed if parsed is not None and all(isinstance(one, str) for one in parsed) else None


def as_object(cell: str) -> dict[str, str] | None:
    """Return a JSON object of strings and numbers, or None for any other cell.

    Numbers stay as they are written.
    """
    parsed = _parsed(cell, "{")
    return (
        parsed
        if parsed is not None and all(isinstance(one, str) for one in parsed.values())
        else None
    )


def _parsed(cell: str, begins: str) -> Any:
    if not cell.lstrip().startswith(begins):
        return None
    try:
        return json.loads(cell, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
