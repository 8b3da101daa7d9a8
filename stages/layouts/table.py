"""Read tables strictly: every row keeps its file and line, and a bad row costs only one row.

Strings stay strings. pandas would drop labels NA and null, make 01 and 1.0 one class, and lose a
row to an unclosed quote without a word.
"""

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contract import characters, encodings, manifest, paths
from stages.contract.errors import TableError
from stages.contract.escape import extract, one_line
from stages.contract.plugins import Modality
from stages.params.data import Dialect, Table
from stages.params.types import Encoding

MAX_BYTES = 4 * 1024**3  # unpacked: a larger table is not for one machine
MAX_LINE = 2**24  # characters of a line, and of a cell: more is no row
# rows that show a delimiter, and the share of them that must have as many fields as the header
PEEKED, LEAST_FITTING = 200, 0.9
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
UNLABELLED = (*TABLES, ".txt")
COLUMNS = ["x", "y", "given_part", "origin", "meta", "code", "reason"]
GZIP = b"\x1f\x8b"
# latin-1 has a byte for each character, so that each line is decoded by itself
CODECS: dict[Encoding, str] = {"utf-8": "utf-8-sig", "gb18030": "latin-1"}
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


def read(source: Path, layout: Table, encoding: Encoding, of_x: Modality) -> pd.DataFrame:
    """Read the files of a data set: one row for each data row, with the columns of plugins.Layout.

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
    if suffix(path) == ".parquet":
        return None
    with _whole(path), _stream(path) as stream:
        return None if _is_wide(stream) else encodings.recognise(_lines(stream, path))


def header(path: Path, encoding: Encoding, dialect: Dialect | None) -> list[str]:
    """Return the names of a table's columns.

    They are its header, the header of its dialect, or the keys of the first 1,000 objects of a
    JSONL.
    """
    if dialect:
        if dialect.header:
            return list(dialect.header)
        return _first_rows(path, encoding, 0, DELIMITERS[dialect.delimiter])[0]
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
    return head.map(
        lambda value: (
            value.encode("utf-8", "backslashreplace").decode()
            if isinstance(value, str) and not value.isascii()
            else value
        )
    )


def _peek(path: Path, encoding: Encoding, rows: int, dialect: Dialect | None) -> pd.DataFrame:
    match suffix(path):
        case ".parquet":
            return manifest.foreign_head(path, rows)
        case ".jsonl" | ".ndjson":
            with _whole(path), _open(path, encoding) as file:
                return pd.DataFrame(
                    [found for text in itertools.islice(file, rows) if (found := _object(text)[0])],
                    dtype=object,
                )
        case other:
            names, found = _first_rows(
                path,
                encoding,
                rows,
                DELIMITERS[dialect.delimiter] if dialect else TSV if other == ".tsv" else CSV,
            )
            return pd.DataFrame(
                [row for row in found if len(row) == len(names)], columns=names, dtype=object
            )


def _first_rows(
    path: Path, encoding: Encoding, rows: int, how: dict[str, Any]
) -> tuple[list[str], list[list[str]]]:
    """Return the header and the first rows of a delimited text."""
    csv.field_size_limit(MAX_LINE)
    try:
        with _whole(path), _open(path, encoding) as file:
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

    def fits(how: dict[str, Any]) -> float:
        try:
            names, rows = _first_rows(path, encoding, PEEKED, how)
        except TableError:
            return 0.0
        return (
            sum(len(row) == len(names) for row in rows) / max(len(rows), 1)
            if len(names) > 1
            else 0.0
        )

    stated = fits(TSV if suffix(path) == ".tsv" else CSV)
    others = {name: fits(DELIMITERS[name]) for name in ("semicolon", "tab", "comma")}
    best = max(others, key=lambda name: others[name])
    return (
        Dialect(best, None)  # pyright: ignore[reportArgumentType]
        if others[best] > max(stated, LEAST_FITTING)
        else None
    )


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
    if path.stat().st_size > MAX_BYTES:
        raise TableError(
            f"{path}: {path.stat().st_size:,} bytes, at most {MAX_BYTES:,}; "
            "split it into several files"
        )
    match "dialect" if dialect else suffix(path):
        case "dialect":
            rows = _delimited_rows(
                path,
                wanted,
                encoding,
                DELIMITERS[dialect.delimiter],  # pyright: ignore[reportOptionalMemberAccess]
                dialect.header,  # pyright: ignore[reportOptionalMemberAccess]
            )
        case ".csv":
            rows = _delimited_rows(path, wanted, encoding, CSV)
        case ".tsv":
            rows = _delimited_rows(path, wanted, encoding, TSV)
        case ".jsonl" | ".ndjson":
            rows = _jsonl_rows(path, wanted, encoding)
        case ".parquet":
            rows = _parquet_rows(path, wanted)
        case ".txt" if len(wanted) == 1:
            rows = _text_rows(path, wanted[0], encoding)
        case other:
            raise TableError(
                f"{path}: a table is a .csv, .tsv, .jsonl (each also as .gz) or .parquet, "
                f"not '{extract(other)}'; convert it"
            )
    encodings.require(encoding, written(path), path)
    first, last = span or (1, None)
    with _whole(path):
        found = pd.DataFrame(
            itertools.islice(rows, first - 1, last),
            columns=["line", "x", "y", "meta", "code", "reason"],
            dtype=object,
        )
        for _ in rows:  # read to the end of the file: it may be wrong after the slice too
            pass
    if found.empty or (last is not None and len(found) < last - first + 1):
        if last:
            fact = f"holds {len(found)} of the data rows {first} to {last}; mend data.layout.files"
        else:
            fact = (
                "holds "
                f"{'a header and no data row' if suffix(path) in ('.csv', '.tsv') else 'no row'}; "
                "look at the file"
            )
        raise TableError(f"{path}: {fact}")
    return found.assign(origin=name + ":" + found["line"].astype(str))


@contextmanager
def _whole(path: Path) -> Generator[None]:
    """Turn what gzip or UTF-16 says of a file that was cut off or damaged into a TableError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path}: not whole UTF-16 ({error.reason}); save it as UTF-8 (in Excel: 'CSV UTF-8')"
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(
            f"{path}: not a whole gzip file ({one_line(error, 100)}); fetch it anew"
        ) from None


class _Bounded(io.RawIOBase):
    """Reads a gzip stream, and stops if it unpacks to more than MAX_BYTES."""

    def __init__(self, path: Path) -> None:
        self.stream = gzip.open(path, "rb")  # noqa: SIM115  (closed by close)
        self.path, self.left = path, MAX_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self.stream.read(len(buffer))
        self.left -= len(got)
        if self.left < 0:
            raise TableError(
                f"{self.path}: unpacks to more than {MAX_BYTES:,} bytes; "
                "split it into several files"
            )
        buffer[: len(got)] = got
        return len(got)

    def close(self) -> None:
        self.stream.close()
        super().close()


def _stream(path: Path) -> io.BufferedReader:
    """Open a file, packed or not."""
    with path.open("rb") as file:
        packed = file.read(2) == GZIP
    stream: io.BufferedReader = (
        io.BufferedReader(_Bounded(path), 1 << 20) if packed else path.open("rb")
    )
    try:
        if not stream.peek(1):
            raise TableError(f"{path}: is empty (0 bytes); look at where it came from")
    except (TableError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        stream.close()
        raise (
            error
            if isinstance(error, TableError)
            else TableError(f"{path}: not a gzip file ({one_line(error, 100)}); fetch it anew")
        ) from None
    return stream


def _is_wide(stream: io.BufferedReader) -> bool:
    return stream.peek(2)[:2] in encodings.WIDE


@contextmanager
def _open(path: Path, encoding: Encoding) -> Generator[Iterator[str]]:
    """Yield the lines of a file in an encoding.

    The file may have a byte-order mark, or be in UTF-16 with one. Bytes that are not of the
    encoding become lone surrogates.
    """
    stream = _stream(path)
    codec, errors = (
        ("utf-16", "surrogatepass") if _is_wide(stream) else (CODECS[encoding], "surrogateescape")
    )
    with io.TextIOWrapper(stream, encoding=codec, errors=errors, newline="") as file:
        lines = _lines(file, path)
        yield (
            (encodings.decode(line.encode("latin-1"), encoding) for line in lines)
            if codec == "latin-1"
            else lines
        )


def _lines(file: Any, path: Path) -> Iterator[Any]:
    """Yield the lines of a file, as text or bytes.

    Raises TableError for a line that is longer than MAX_LINE, before it is read whole.
    """
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE and line[-1:] not in ("\n", b"\n", "\r"):
            raise TableError(
                f"{path}:{number}: a line of more than {MAX_LINE:,} characters; "
                "look at the file: that is no row"
            )
        yield line


def _delimited_rows(
    path: Path,
    wanted: list[str],
    encoding: Encoding,
    dialect: dict[str, Any],
    header: tuple[str, ...] | None = None,
) -> Iterator[Row]:
    csv.field_size_limit(MAX_LINE)
    with _open(path, encoding) as file:
        lines = (
            (line.rstrip(" \r\n") + "\n" for line in file)
            if dialect.get("skipinitialspace")
            else file
        )
        reader, began = csv.reader(lines, **dialect), 1
        try:
            names = list(header) if header else next(reader, [])
            at = [column(names, name, path) for name in wanted]
            others = [(i, name) for i, name in enumerate(names) if name and i not in at]
            began = reader.line_num + 1
            for row in reader:
                if row:
                    if len(row) == len(names):
                        meta = ENCODE({name: row[i] for i, name in others}) if others else "{}"
                        yield began, row[at[0]], _y(wanted, [row[i] for i in at]), meta, None, None
                    else:
                        yield (
                            began,
                            "",
                            "",
                            "{}",
                            "field_count",
                            f"{len(row)} fields where the header has {len(names)}",
                        )
                began = reader.line_num + 1
        except csv.Error as error:
            raise TableError(
                f"{path}:{began}: not strict CSV ({error}); "
                "close or double the quotes of the record that begins there"
            ) from None


def _y(wanted: list[str], cells: list[str]) -> str:
    """Return the cell of y, or a JSON object of the cells of its columns.

    cells are those of the wanted columns.
    """
    return cells[-1] if len(wanted) <= 2 else ENCODE(dict(zip(wanted[1:], cells[1:], strict=True)))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def column(names: list[str], name: str, path: Path) -> int:
    """Return the index of a column; raises TableError unless the header has it once."""
    if names.count(name) != 1:
        found = ", ".join(extract(c) for c in names[:50])
        raise TableError(
            f"{path}: column '{extract(name)}' stands {names.count(name)} times in the header "
            f"(found: {found}); {NAME_IT}"
        )
    return names.index(name)


def _jsonl_rows(path: Path, wanted: list[str], encoding: Encoding) -> Iterator[Row]:
    seen: set[str] = set()
    with _open(path, encoding) as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            row, code, reason = _object(text)
            x, y, meta = "", "", "{}"
            if row is not None:
                seen |= row.keys()
                found = {name: row.pop(name, None) for name in wanted}
                # booleans as Parquet has them
                found |= {
                    name: str(value).lower()
                    for name, value in found.items()
                    if isinstance(value, bool)
                }
                found |= {name: ENCODE(found[name]) for name in wanted[1:] if _is_list(found[name])}
                lacking = [name for name, value in found.items() if not isinstance(value, str)]
                if lacking:
                    code, reason = (
                        "missing_value",
                        f"'{extract(lacking[0])}' is missing or not a string or number",
                    )
                else:
                    x, y, meta = found[wanted[0]], _y(wanted, list(found.values())), ENCODE(row)
            yield line, x, y, meta, code, reason
    absent = [name for name in wanted if name not in seen]
    if absent:
        raise TableError(
            f"{path}: no row has '{extract(absent[0])}' "
            f"(found: {', '.join(extract(c) for c in sorted(seen)[:50])}); {NAME_IT}"
        )


def _object(text: str) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """Return the object of a line, its numbers as written; or null with code and reason."""
    try:
        row = json.loads(
            text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_once
        )
    except KeyError as error:
        return None, "repeated_name", f"'{extract(error.args[0])}' stands twice in an object"
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


def _parquet_rows(path: Path, wanted: list[str]) -> Iterator[Row]:
    names = manifest.foreign_columns(path)
    for name in wanted:
        column(names, name, path)
    for line, (*cells, meta) in enumerate(
        zip(*manifest.read_foreign(path, wanted, MAX_BYTES).values(), strict=True), 1
    ):
        if None in cells:
            yield (
                line,
                "",
                "",
                "{}",
                "missing_value",
                f"'{extract(wanted[cells.index(None)])}' is null",
            )
        else:
            yield line, cells[0], _y(wanted, cells), meta, None, None


def _text_rows(path: Path, x: str, encoding: Encoding) -> Iterator[Row]:
    column(["text"], x, path)
    with _open(path, encoding) as file:
        for line, text in enumerate(file, 1):
            yield line, text.rstrip("\r\n"), "", "{}", None, None
