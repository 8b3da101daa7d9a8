"""Write predicted rows: as Parquet, JSON a line, or CSV, to a file or to stdout."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from stages.contract import manifest
from stages.contract.errors import DataError
from stages.contract.escape import cell, extract, one_line

KINDS = (".parquet", ".jsonl", ".csv")


def require_writable(out: Path, source: Path | None, force: bool) -> None:
    """Raise DataError for output that cannot or must not be written, before any work."""
    if out.suffix.lower() not in KINDS:
        raise DataError(f"--out {extract(out)}: must end in {', '.join(KINDS)}")
    if not out.parent.is_dir():
        raise DataError(
            f"--out {extract(out)}: there is no folder {extract(out.parent)}; make it first"
        )
    if out.exists() and (out.is_dir() or (source is not None and out.samefile(source))):
        raise DataError(
            f"--out {extract(out)}: is {'a folder' if out.is_dir() else 'the input itself'}; name "
            "another file"
        )
    if out.exists() and not force:
        raise DataError(
            f"{extract(out)}: is there already; say --force to write over it, or --out to name "
            "another file"
        )


def to_file(rows: pd.DataFrame, path: Path) -> None:
    """Write rows in the format of the suffix, all of them or nothing."""
    schema = manifest.predicted_schema(rows)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix.lower() == ".parquet":
            manifest.write_table(rows, beside, schema)
        else:
            with beside.open("w", encoding="utf-8", newline="") as file:
                (_csv if path.suffix.lower() == ".csv" else _lines)(rows[schema.names], file)
        beside.replace(path)
    except OSError as error:
        raise DataError(
            f"{extract(path)}: cannot be written ({one_line(error.strerror, 100)}); name another "
            "place"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def to_stdout(rows: pd.DataFrame) -> None:
    """Print rows as JSON, a line a row; a reader that stops, such as head, ends it quietly."""
    try:
        _lines(rows[manifest.predicted_schema(rows).names], sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would flush once more when it ends, and tell of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(rows: pd.DataFrame, file: TextIO) -> None:
    for document in _documents(rows):
        # as text, because infinity is not JSON
        document["meta"] = json.loads(document["meta"], parse_constant=str)
        file.write(json.dumps(document, ensure_ascii=False) + "\n")


def _csv(rows: pd.DataFrame, file: TextIO) -> None:
    """Write rows so that no spreadsheet runs a cell; what is missing is empty."""
    writer = csv.writer(file)
    writer.writerow([cell(name) for name in rows.columns])
    for document in _documents(rows):
        writer.writerow(
            [
                "" if value is None else cell(value) if isinstance(value, str) else value
                for value in document.values()
            ]
        )


def _documents(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield each row by column; null where a value is missing."""
    names, filled = [*map(str, rows.columns)], rows.astype(object).mask(rows.isna(), None)
    for row in filled.itertuples(index=False, name=None):
        yield dict(zip(names, row, strict=True))
