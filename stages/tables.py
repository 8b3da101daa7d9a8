"""Reads tables strictly: every row keeps its file and line, strings stay strings, a bad row costs one row.

pandas would drop labels NA and null, make 01 and 1.0 one class, and lose a row to an unclosed quote without a word.
"""

import codecs
import csv
import io
import itertools
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract.errors import TableError
from stages.contract.escape import extract
from stages.contract.params import Data, DataFile

MAX_BYTES = 4 * 1024**3  # a table larger than this is no table for one machine
COLUMNS = ["x", "y", "given_part", "origin", "meta", "code", "reason"]
WIDE = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def read(folder: Path, data: Data) -> pd.DataFrame:
    """Read the files of a data set: one row a data row, columns COLUMNS; code and reason are null where it is good.

    origin is file:line; meta is JSON of the other columns. Raises TableError for what no row can be blamed for.
    """
    frames = [_read_file(folder, file, data) for file in data.files]
    return pd.concat(frames, ignore_index=True).astype({"x": "str", "y": "str", "meta": "str", "origin": "str"})


def _read_file(folder: Path, file: DataFile, data: Data) -> pd.DataFrame:
    path = _inside(folder, file.path)
    match path.suffix.lower():
        case ".csv":
            rows = _csv_rows(path, data)
        case ".jsonl" | ".ndjson":
            rows = _jsonl_rows(path, data)
        case other:
            raise TableError(f"{path}: a table is a .csv or a .jsonl, not '{extract(other)}'; convert it")
    first, last = file.rows or (1, None)
    found = pd.DataFrame(itertools.islice(rows, first - 1, last), columns=["line", "x", "y", "meta", "code", "reason"], dtype=object)
    for _ in rows:  # to the end of the file, which may be wrong after the slice too
        pass
    if found.empty or (last is not None and len(found) < last - first + 1):
        fact = (
            f"holds {len(found)} of the data rows {first} to {last}" if last else "holds a header and no data row" if path.suffix == ".csv" else "holds no row"
        )
        raise TableError(f"{path}: {fact}; look at the file, or mend data.files")
    found["origin"] = file.path + ":" + found["line"].astype(str)
    found["given_part"] = file.part
    _flag_unfit_characters(found)
    return found[COLUMNS]


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        have = ", ".join(sorted(extract(p.name) for p in path.parent.iterdir())[:20]) if path.parent.is_dir() else "no such folder"
        raise TableError(f"{path}: is not there (found: {have}); mend data.files in params.yaml")
    roots = (folder.resolve(), Path(".dvc/cache").resolve())  # DVC may link into its cache
    if not any(path.resolve().is_relative_to(root) for root in roots) or not stat.S_ISREG(path.stat().st_mode):
        raise TableError(f"{path}: is not a regular file inside {folder}; copy the file itself there")
    if path.stat().st_size > MAX_BYTES:
        raise TableError(f"{path}: {path.stat().st_size:,} bytes, at most {MAX_BYTES:,}; split it into several files")
    return path


def _open(path: Path) -> io.TextIOWrapper:
    """Open as UTF-8, with or without a byte-order mark; bytes that are not UTF-8 become lone surrogates."""
    with path.open("rb") as file:
        start = file.read(2)
    if start in WIDE:
        raise TableError(f"{path}: is {WIDE[start]}, not UTF-8; save it as UTF-8 (in Excel: 'CSV UTF-8')")
    if not start:
        raise TableError(f"{path}: is empty (0 bytes); look at where it came from")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _csv_rows(path: Path, data: Data) -> Iterator[tuple[Any, ...]]:
    csv.field_size_limit(2**31 - 1)  # a long text is the modality's to refuse, row by row
    with _open(path) as file:
        reader, began = csv.reader(file, strict=True), 1
        try:
            header = next(reader, [])
            x, y = (_column(header, name, path) for name in (data.columns.x, data.columns.y))
            others = [(i, name) for i, name in enumerate(header) if i not in (x, y)]
            began = reader.line_num + 1
            for row in reader:
                if row:
                    if len(row) == len(header):
                        meta = json.dumps({name: row[i] for i, name in others if name}, ensure_ascii=False)
                        yield began, row[x], row[y], meta, None, None
                    else:
                        yield began, "", "", "{}", "field_count", f"{len(row)} fields where the header has {len(header)}"
                began = reader.line_num + 1
        except csv.Error as error:
            raise TableError(f"{path}:{began}: not strict CSV ({error}); close or double the quotes of the record that begins there") from None


def _column(header: list[str], name: str, path: Path) -> int:
    if header.count(name) != 1:
        found = ", ".join(extract(c) for c in header[:50])
        raise TableError(
            f"{path}: column '{extract(name)}' stands {header.count(name)} times in the header (found: {found}); name the right one in data.columns"
        )
    return header.index(name)


def _jsonl_rows(path: Path, data: Data) -> Iterator[tuple[Any, ...]]:
    seen: set[str] = set()
    with _open(path) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            x, y, meta, code, reason = "", "", "{}", None, None
            try:
                row = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
            except (ValueError, RecursionError) as error:
                row, code, reason = None, "not_json", f"not a JSON object ({type(error).__name__})"
            if isinstance(row, dict):
                seen |= row.keys()
                x, y = row.pop(data.columns.x, None), row.pop(data.columns.y, None)
                meta = json.dumps(row, ensure_ascii=False)
                if not isinstance(x, str) or not isinstance(y, str):
                    name = data.columns.x if not isinstance(x, str) else data.columns.y
                    x, y, meta, code, reason = "", "", "{}", "missing_value", f"'{extract(name)}' is missing or not a string or number"
            elif code is None:
                code, reason = "not_json", "not a JSON object"
            yield line, x, y, meta, code, reason
    absent = [name for name in (data.columns.x, data.columns.y) if name not in seen]
    if absent:
        raise TableError(
            f"{path}: no row has '{extract(absent[0])}' (found: {', '.join(extract(c) for c in sorted(seen)[:50])}); name the right one in data.columns"
        )


def _flag_unfit_characters(rows: pd.DataFrame) -> None:
    """Set code and reason for rows with a NUL (C libraries cut the string there) or bytes that are not UTF-8."""
    text = rows["x"] + rows["y"] + rows["meta"]
    for pattern, code, reason in (
        ("\0", "nul_character", "a NUL character"),
        ("[\ud800-\udfff]", "not_utf8", "bytes that are not UTF-8"),
    ):
        bad = text.str.contains(pattern).astype(bool) & rows["code"].isna()
        rows.loc[bad, ["code", "reason"]] = [code, reason]
        rows.loc[bad, "x"] = rows.loc[bad, "x"].map(extract)
        rows.loc[bad, ["y", "meta"]] = ["", "{}"]
