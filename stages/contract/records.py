"""Read the records of a table one by one: of delimited text, JSON lines, Parquet, or plain text."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contract import lines, manifest
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.params.types import Encoding

NAME_IT = "name the right one (data.layout.columns in params.yaml, --text of refit predict)"

# A TSV has no quotes: its fields contain no tab and no new line (IANA, text/tab-separated-values).
CSV: dict[str, Any] = {"strict": True}
TSV: dict[str, Any] = {"strict": True, "delimiter": "\t", "quoting": csv.QUOTE_NONE}
DELIMITERS: dict[str, dict[str, Any]] = {
    "comma": CSV,
    "semicolon": CSV | {"delimiter": ";"},
    "tab": TSV,
    "spaces": CSV | {"delimiter": " ", "skipinitialspace": True},
}

ENCODE = json.JSONEncoder(ensure_ascii=False).encode
# line, x, y, meta, code, reason; y repeats x if only x is wanted, and is a JSON object if there are
# several columns
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns, and where the wanted ones and the others are."""

    names: list[str]
    wanted: list[str]
    at: list[int]
    others: list[tuple[int, str]]


def column(names: list[str], name: str, path: Path) -> int:
    """Return the index of a column; raises TableError unless the header has it once."""
    if names.count(name) != 1:
        found = ", ".join(extract(c) for c in names[:50])
        raise TableError(
            f"{path}: column '{extract(name)}' occurs {names.count(name)} times in the header "
            f"(found: {found}); {NAME_IT}"
        )
    return names.index(name)


def delimited(
    path: Path,
    wanted: list[str],
    encoding: Encoding,
    how: dict[str, Any],
    header: tuple[str, ...] | None = None,
) -> Iterator[Row]:
    """Yield the records of a delimited text; the header is its first line unless it is given."""
    csv.field_size_limit(lines.MAX_LINE)
    with lines.opened(path, encoding) as file:
        texts = (
            (line.rstrip(" \r\n") + "\n" for line in file) if how.get("skipinitialspace") else file
        )
        reader, began = csv.reader(texts, **how), 1
        try:
            columns = _columns(list(header) if header else next(reader, []), wanted, path)
            began = reader.line_num + 1
            for fields in reader:
                if fields:
                    yield _record(began, fields, columns)
                began = reader.line_num + 1
        except csv.Error as error:
            raise TableError(
                f"{path}:{began}: not strict CSV ({error}); "
                "close or double the quotes of the record that begins there"
            ) from None


def _columns(names: list[str], wanted: list[str], path: Path) -> Columns:
    at = [column(names, name, path) for name in wanted]
    others = [(i, name) for i, name in enumerate(names) if name and i not in at]
    return Columns(names, wanted, at, others)


def _record(line: int, fields: list[str], columns: Columns) -> Row:
    names, at = columns.names, columns.at
    if len(fields) == len(names):
        others = {name: fields[i] for i, name in columns.others}
        y = _y(columns.wanted, [fields[i] for i in at])
        return line, fields[at[0]], y, ENCODE(others) if others else "{}", None, None
    fact = f"{len(fields)} fields where the header has {len(names)}"
    return line, "", "", "{}", "field_count", fact


def cell_of_y(columns: Sequence[str], cells: Sequence[str]) -> str:
    """Return the cell of y or, for several columns, a JSON object of their cells."""
    return cells[-1] if len(columns) <= 1 else ENCODE(dict(zip(columns, cells, strict=True)))


def _y(wanted: list[str], cells: list[str]) -> str:
    """Return the cell of y from those of the wanted columns; x is the first of them."""
    return cells[-1] if len(wanted) <= 2 else cell_of_y(wanted[1:], cells[1:])


def jsonl(path: Path, wanted: list[str], encoding: Encoding) -> Iterator[Row]:
    """Yield the records of JSON lines; raises TableError for a column that no object has."""
    seen: set[str] = set()
    with lines.opened(path, encoding) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            found, code, reason = json_object(text)
            if found is None:
                yield line, "", "", "{}", code, reason
            else:
                seen |= found.keys()
                yield line, *_of_object(found, wanted)
    absent = [name for name in wanted if name not in seen]
    if absent:
        raise TableError(
            f"{path}: no row has '{extract(absent[0])}' "
            f"(found: {', '.join(extract(c) for c in sorted(seen)[:50])}); {NAME_IT}"
        )


def _of_object(row: dict[str, Any], wanted: list[str]) -> Row:
    """Return x, y, meta, code and reason of an object."""
    found = {name: row.pop(name, None) for name in wanted}
    # booleans as Parquet has them
    found |= {name: str(value).lower() for name, value in found.items() if isinstance(value, bool)}
    found |= {name: ENCODE(found[name]) for name in wanted[1:] if _is_list(found[name])}
    lacking = [name for name, value in found.items() if not isinstance(value, str)]
    if lacking:
        fact = f"'{extract(lacking[0])}' is missing or not a string or number"
        return "", "", "{}", "missing_value", fact
    return found[wanted[0]], _y(wanted, list(found.values())), ENCODE(row), None, None


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def json_object(text: str) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """Return the object of a line, its numbers as written; or null with code and reason."""
    try:
        row = json.loads(
            text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_once
        )
    except KeyError as error:
        return None, "repeated_name", f"'{extract(error.args[0])}' occurs twice in an object"
    except (ValueError, RecursionError) as error:
        return None, "not_json", f"not a JSON object ({type(error).__name__})"
    return (row, None, None) if isinstance(row, dict) else (None, "not_json", "not a JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raises KeyError for a repeated name.

    Readers differ in which of its values they take.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise KeyError(next(name for i, (name, _) in enumerate(pairs) if name in dict(pairs[:i])))
    return found


def parquet(path: Path, wanted: list[str]) -> Iterator[Row]:
    """Yield the records of a Parquet file, numbered from 1."""
    names = manifest.foreign_columns(path)
    for name in wanted:
        column(names, name, path)
    for line, (*cells, meta) in enumerate(
        zip(*manifest.read_foreign(path, wanted, lines.MAX_BYTES).values(), strict=True), 1
    ):
        if None in cells:
            fact = f"'{extract(wanted[cells.index(None)])}' is null"
            yield line, "", "", "{}", "missing_value", fact
        else:
            yield line, cells[0], _y(wanted, cells), meta, None, None


def plain_text(path: Path, x: str, encoding: Encoding) -> Iterator[Row]:
    """Yield the lines of a text, whose one column is `text`, an empty line too."""
    column(["text"], x, path)
    with lines.opened(path, encoding) as file:
        for line, content in enumerate(file, 1):
            yield line, content.rstrip("\r\n"), "", "{}", None, None
