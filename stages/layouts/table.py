"""Reads tables strictly: every row keeps its file and line, strings stay strings, a bad row costs one row.

pandas would drop labels NA and null, make 01 and 1.0 one class, and lose a row to an unclosed quote without a word.
"""

import codecs
import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pandas as pd

from stages.checks import characters
from stages.contract import manifest, paths
from stages.contract.errors import TableError
from stages.contract.escape import extract, one_line
from stages.contract.params import Columns, DataFile, Table
from stages.contract.plugins import Modality

MAX_BYTES = 4 * 1024**3  # unpacked: a table larger than this is no table for one machine
COLUMNS = ["x", "y", "given_part", "origin", "meta", "code", "reason"]
WIDE = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
GZIP = b"\x1f\x8b"

# A TSV has no quotes: its fields hold no tab and no new line (IANA, text/tab-separated-values).
CSV: dict[str, Any] = {"strict": True}
TSV: dict[str, Any] = {"strict": True, "delimiter": "\t", "quoting": csv.QUOTE_NONE}

Row = tuple[Any, ...]  # line, x, y, meta, code, reason


def read(source: Path, layout: Table, of_x: Modality) -> pd.DataFrame:  # noqa: ARG001  (x stands in the table itself)
    """Read the files of a data set: one row a data row, columns as plugins.Layout says.

    origin is file:line, or file:row of a Parquet file. Raises TableError for what no row can be blamed for.
    """
    rows = pd.concat([_read_file(source, file, layout.columns) for file in layout.files], ignore_index=True)
    return characters.set_aside(rows)


def suffix(path: Path) -> str:
    """Return what kind of table a name says it is, in lower case and without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def header(path: Path) -> list[str]:
    """Return the names of a table's columns: its header, or the keys of the first 1,000 objects of a JSONL."""
    match suffix(path):
        case ".parquet":
            return manifest.foreign_columns(path)
        case ".jsonl" | ".ndjson":
            with _open(path) as file:
                objects = [_object(text)[0] for text in itertools.islice(file, 1000)]
            return sorted({key for found in objects if found for key in found})
        case other:
            with _open(path) as file:
                return next(csv.reader(file, **(TSV if other == ".tsv" else CSV)), [])


def _read_file(folder: Path, file: DataFile, columns: Columns) -> pd.DataFrame:
    path = paths.inside(folder, file.path)
    if path.stat().st_size > MAX_BYTES:
        raise TableError(f"{path}: {path.stat().st_size:,} bytes, at most {MAX_BYTES:,}; split it into several files")
    match suffix(path):
        case ".csv":
            rows = _delimited_rows(path, columns, CSV)
        case ".tsv":
            rows = _delimited_rows(path, columns, TSV)
        case ".jsonl" | ".ndjson":
            rows = _jsonl_rows(path, columns)
        case ".parquet":
            rows = _parquet_rows(path, columns)
        case other:
            raise TableError(f"{path}: a table is a .csv, .tsv, .jsonl (each also as .gz) or .parquet, not '{extract(other)}'; convert it")
    first, last = file.rows or (1, None)
    try:
        found = pd.DataFrame(itertools.islice(rows, first - 1, last), columns=["line", "x", "y", "meta", "code", "reason"], dtype=object)
        for _ in rows:  # to the end of the file, which may be wrong after the slice too
            pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(f"{path}: not a whole gzip file ({one_line(error, 100)}); fetch it anew") from None
    if found.empty or (last is not None and len(found) < last - first + 1):
        if last:
            fact = f"holds {len(found)} of the data rows {first} to {last}"
        else:
            fact = "holds a header and no data row" if suffix(path) in (".csv", ".tsv") else "holds no row"
        raise TableError(f"{path}: {fact}; look at the file, or mend data.layout.files")
    found["origin"] = file.path + ":" + found["line"].astype(str)
    found["given_part"] = file.part
    return found[COLUMNS]


class _Bounded(io.RawIOBase):
    """Reads a gzip stream and stops where it unpacks to more than MAX_BYTES."""

    def __init__(self, path: Path) -> None:
        self.stream = gzip.open(path, "rb")  # noqa: SIM115  (closed by close)
        self.path, self.left = path, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self.stream.read(len(buffer))
        self.left -= len(got)
        if self.left < 0:
            raise TableError(f"{self.path}: unpacks to more than {MAX_BYTES:,} bytes; split it into several files")
        buffer[: len(got)] = got
        return len(got)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _open(path: Path) -> io.TextIOWrapper:
    """Open as UTF-8, packed or not, with or without a byte-order mark; bytes that are not UTF-8 become lone surrogates."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    stream: IO[bytes] = io.BufferedReader(_Bounded(path), 1 << 20) if packed else path.open("rb")  # pyright: ignore[reportAssignmentType]
    try:
        start = stream.peek(2)[:2]  # pyright: ignore[reportAttributeAccessIssue]  (both are buffered readers)
        if start in WIDE:
            raise TableError(f"{path}: is {WIDE[start]}, not UTF-8; save it as UTF-8 (in Excel: 'CSV UTF-8')")
        if not start:
            raise TableError(f"{path}: is empty (0 bytes); look at where it came from")
    except (TableError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        stream.close()
        raise error if isinstance(error, TableError) else TableError(f"{path}: not a gzip file ({one_line(error, 100)}); fetch it anew") from None
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _delimited_rows(path: Path, columns: Columns, dialect: dict[str, Any]) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # a long text is the modality's to refuse, row by row
    with _open(path) as file:
        reader, began = csv.reader(file, **dialect), 1
        try:
            names = next(reader, [])
            x, y = (_column(names, name, path) for name in (columns.x, columns.y))
            others = [(i, name) for i, name in enumerate(names) if i not in (x, y)]
            began = reader.line_num + 1
            for row in reader:
                if row:
                    if len(row) == len(names):
                        meta = json.dumps({name: row[i] for i, name in others if name}, ensure_ascii=False)
                        yield began, row[x], row[y], meta, None, None
                    else:
                        yield began, "", "", "{}", "field_count", f"{len(row)} fields where the header has {len(names)}"
                began = reader.line_num + 1
        except csv.Error as error:
            raise TableError(f"{path}:{began}: not strict CSV ({error}); close or double the quotes of the record that begins there") from None


def _column(names: list[str], name: str, path: Path) -> int:
    if names.count(name) != 1:
        found = ", ".join(extract(c) for c in names[:50])
        raise TableError(
            f"{path}: column '{extract(name)}' stands {names.count(name)} times in the header (found: {found}); name the right one in data.layout.columns"
        )
    return names.index(name)


def _jsonl_rows(path: Path, columns: Columns) -> Iterator[Row]:
    seen: set[str] = set()
    with _open(path) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            row, code, reason = _object(text)
            x, y, meta = "", "", "{}"
            if row is not None:
                seen |= row.keys()
                x, y = row.pop(columns.x, None), row.pop(columns.y, None)
                meta = json.dumps(row, ensure_ascii=False)
                if not isinstance(x, str) or not isinstance(y, str):
                    name = columns.x if not isinstance(x, str) else columns.y
                    x, y, meta, code, reason = "", "", "{}", "missing_value", f"'{extract(name)}' is missing or not a string or number"
            yield line, x, y, meta, code, reason
    absent = [name for name in (columns.x, columns.y) if name not in seen]
    if absent:
        raise TableError(
            f"{path}: no row has '{extract(absent[0])}' (found: {', '.join(extract(c) for c in sorted(seen)[:50])}); name the right one in data.layout.columns"
        )


def _object(text: str) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """Return the object of a line, its numbers as they are written; or null with code and reason."""
    try:
        row = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        return None, "not_json", f"not a JSON object ({type(error).__name__})"
    return (row, None, None) if isinstance(row, dict) else (None, "not_json", "not a JSON object")


def _parquet_rows(path: Path, columns: Columns) -> Iterator[Row]:
    names = manifest.foreign_columns(path)
    for name in (columns.x, columns.y):
        _column(names, name, path)
    table = manifest.read_foreign(path, [columns.x, columns.y], MAX_BYTES)
    for line, (x, y, meta) in enumerate(zip(table[columns.x], table[columns.y], table["meta"], strict=True), 1):
        if x is None or y is None:
            yield line, "", "", "{}", "missing_value", f"'{extract(columns.x if x is None else columns.y)}' is null"
        else:
            yield line, x, y, meta, None, None
