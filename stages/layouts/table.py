"""Read tables strictly: every row keeps its file and line, and a bad row costs only one row.

Strings stay strings. pandas would drop labels NA and null, make 01 and 1.0 one class, and lose a
row to an unclosed quote without a word.
"""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import characters, encodings, lines, manifest, paths, records
from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.contract.modality import Modality
from stages.params.data import Dialect, Table
from stages.params.types import Encoding

# rows that show a delimiter, and the share of them that must have as many fields as the header
PEEKED, LEAST_FITTING = 200, 0.9
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
UNLABELLED = (*TABLES, ".txt")
READ = ["line", "x", "y", "meta", "code", "reason"]  # of a record
COLUMNS = ["x", "y", "given_part", "origin", "meta", "code", "reason"]

column = records.column  # for those who only look at a table


def read(source: Path, layout: Table, encoding: Encoding, of_x: Modality) -> pd.DataFrame:
    """Read the files of a data set: a row for each data row, with the columns of protocols.Layout.

    origin is file:line, or file:row of a Parquet file. Raises TableError for what no row can be
    blamed for.
    """
    wanted, tables = [layout.columns.x, *layout.columns.ys], list[pd.DataFrame]()
    for file in layout.files:
        path = paths.inside(source, file.path)
        rows = _read_file(path, file.path, wanted, encoding, file.rows, layout.dialect).assign(
            given_part=file.part
        )
        tables.append(
            _cite(characters.set_aside(rows[COLUMNS], encoding), path.parent, source, of_x)
        )
    return pd.concat(tables, ignore_index=True)


def _cite(rows: pd.DataFrame, folder: Path, source: Path, of_x: Modality) -> pd.DataFrame:
    """Return rows with x as the modality finds it by the cell: the text itself, or a file."""
    good = rows["code"].isna()
    rows.loc[good, ["x", "code", "reason"]] = of_x.reading.cite(rows.loc[good, "x"], folder, source)
    return rows


def read_unlabelled(
    path: Path, x: str, encoding: Encoding, dialect: Dialect | None, of_x: Modality
) -> pd.DataFrame:
    """Read a table, wherever it is, in which only x is known.

    The columns are those of read, with y empty. A .txt is a table of one column, `text`: every line
    is a row, an empty one too.
    """
    rows = _read_file(path, path.name, [x], encoding, None, dialect).assign(y="", given_part=None)
    return _cite(characters.set_aside(rows[COLUMNS], encoding), path.parent, path.parent, of_x)


def suffix(path: Path) -> str:
    """Return the kind of table that a name says it is, in lower case and without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def written(path: Path) -> Encoding | None:
    """Return the encoding in which a table is written.

    The result is null if the table is ASCII, UTF-16, Parquet, or in no encoding that Refit knows.
    """
    return None if suffix(path) == ".parquet" else lines.written(path)


def header(path: Path, encoding: Encoding, dialect: Dialect | None) -> list[str]:
    """Return the names of a table's columns.

    They are its header, the header of its dialect, or the keys of the first 1,000 objects of a
    JSONL.
    """
    if dialect:
        if dialect.header:
            return list(dialect.header)
        return _first_rows(path, encoding, 0, records.DELIMITERS[dialect.delimiter])[0]
    return ["text"] if suffix(path) == ".txt" else list(peek(path, encoding, 1000).columns)


def peek(path: Path, encoding: Encoding, rows: int, dialect: Dialect | None = None) -> pd.DataFrame:
    """Return the first rows of a table, every column as it is written (object).

    Rows of another length are skipped. Bytes that are not of the encoding are escaped in values,
    and refused in the names of columns.
    """
    try:
        head = _peek(path, encoding, rows, dialect)
    except UnicodeEncodeError as error:
        name = encodings.NAMES[encoding]
        raise TableError(
            f"{path}: the name of a column, {extract(error.object)}, is not {name}; "
            "save it as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from None
    return head.map(_escaped)


def _escaped(value: Any) -> Any:
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def _peek(path: Path, encoding: Encoding, rows: int, dialect: Dialect | None) -> pd.DataFrame:
    match suffix(path):
        case ".parquet":
            return manifest.foreign_head(path, rows)
        case ".jsonl" | ".ndjson":
            with lines.whole(path), lines.opened(path, encoding) as file:
                objects = [records.json_object(text)[0] for text in itertools.islice(file, rows)]
            return pd.DataFrame([found for found in objects if found], dtype=object)
        case other:
            stated = records.TSV if other == ".tsv" else records.CSV
            how = records.DELIMITERS[dialect.delimiter] if dialect else stated
            names, found = _first_rows(path, encoding, rows, how)
            fitting = [row for row in found if len(row) == len(names)]
            return pd.DataFrame(fitting, columns=names, dtype=object)


def _first_rows(
    path: Path, encoding: Encoding, rows: int, how: dict[str, Any]
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the first rows of a delimited text."""
    csv.field_size_limit(lines.MAX_LINE)
    try:
        with lines.whole(path), lines.opened(path, encoding) as file:
            reader = csv.reader(file, **how)
            return next(reader, []), list(itertools.islice(reader, rows))
    except csv.Error as error:
        raise TableError(f"{path}: not strict CSV ({error}); close or double the quotes") from None


def dialect(path: Path, encoding: Encoding) -> Dialect | None:
    """Return how a .csv or .tsv is written if its suffix says otherwise.

    By the returned delimiter its rows have as many fields as its header, at least two. The result
    is null if the suffix is right, or if no delimiter is better.
    """
    if suffix(path) not in (".csv", ".tsv"):
        return None
    stated = _fitting(path, encoding, records.TSV if suffix(path) == ".tsv" else records.CSV)
    others = {
        name: _fitting(path, encoding, records.DELIMITERS[name])
        for name in ("semicolon", "tab", "comma")
    }
    best = max(others, key=lambda name: others[name])
    return (
        Dialect(best, None)  # pyright: ignore[reportArgumentType]
        if others[best] > max(stated, LEAST_FITTING)
        else None
    )


def _fitting(path: Path, encoding: Encoding, how: dict[str, Any]) -> float:
    """Return the share of the first rows that have as many fields as the header, at least two."""
    try:
        names, rows = _first_rows(path, encoding, PEEKED, how)
    except TableError:
        return 0.0
    if len(names) < 2:
        return 0.0
    return sum(len(row) == len(names) for row in rows) / max(len(rows), 1)


def _read_file(
    path: Path,
    name: str,
    wanted: list[str],
    encoding: Encoding,
    span: tuple[int, int] | None,
    dialect: Dialect | None,
) -> pd.DataFrame:
    """Return line, x, y, meta, code, reason and origin of the wanted columns.

    span selects the rows. The wanted columns are [x] or [x, y, ...].
    """
    if path.stat().st_size > lines.MAX_BYTES:
        raise TableError(
            f"{path}: {path.stat().st_size:,} bytes, at most {lines.MAX_BYTES:,}; "
            "split it into several files"
        )
    rows = _rows(path, wanted, encoding, dialect)
    encodings.require(encoding, written(path), path)
    first, last = span or (1, None)
    with lines.whole(path):
        found = pd.DataFrame(itertools.islice(rows, first - 1, last), columns=READ, dtype=object)
        for _ in rows:  # read to the end of the file: it may be wrong after the slice too
            pass
    if found.empty or (last is not None and len(found) < last - first + 1):
        raise TableError(f"{path}: {_too_few(path, len(found), span)}")
    return found.assign(origin=name + ":" + found["line"].astype(str))


def _rows(
    path: Path, wanted: list[str], encoding: Encoding, dialect: Dialect | None
) -> Iterator[records.Row]:
    if dialect:
        how = records.DELIMITERS[dialect.delimiter]
        return records.delimited(path, wanted, encoding, how, dialect.header)
    match suffix(path):
        case ".csv":
            return records.delimited(path, wanted, encoding, records.CSV)
        case ".tsv":
            return records.delimited(path, wanted, encoding, records.TSV)
        case ".jsonl" | ".ndjson":
            return records.jsonl(path, wanted, encoding)
        case ".parquet":
            return records.parquet(path, wanted)
        case ".txt" if len(wanted) == 1:
            return records.plain_text(path, wanted[0], encoding)
        case other:
            raise TableError(
                f"{path}: a table is a .csv, .tsv, .jsonl (each also as .gz) or .parquet, "
                f"not '{extract(other)}'; convert it"
            )


def _too_few(path: Path, found: int, span: tuple[int, int] | None) -> str:
    if span:
        return f"has {found} of the data rows {span[0]} to {span[1]}; mend data.layout.files"
    lack = "a header and no data row" if suffix(path) in (".csv", ".tsv") else "no row"
    return f"has {lack}; look at the file"
