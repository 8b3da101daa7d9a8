"""The one table that passes between stages, and other Parquet files: columns, checks, bytes.

This is the only door to pyarrow. Equal data gives equal bytes: rows are in the order of their ids,
and the file contains no library's metadata.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.contract.errors import ManifestError, TableError
from stages.contract.escape import extract, one_line

MANIFEST = pa.schema([
    pa.field("id", pa.string(), nullable=False),
    pa.field("source_id", pa.string(), nullable=False),
    pa.field("group", pa.string(), nullable=False),
    pa.field("content", pa.string(), nullable=False),
    pa.field("given_part", pa.string()),
    pa.field("x", pa.string(), nullable=False),
    pa.field("context", pa.string()),
    pa.field("y", pa.list_(pa.string()), nullable=False),
    pa.field("stratum", pa.string()),
    pa.field("query", pa.string()),
    pa.field("origin", pa.string(), nullable=False),
    pa.field("meta", pa.string(), nullable=False),
])  # fmt: skip
PARTS = ("train", "validation", "test")


def write(samples: pd.DataFrame, path: Path) -> None:
    """Check samples (columns as in MANIFEST) and write them in the order of their ids."""
    samples = samples.sort_values("id", kind="stable", ignore_index=True)[MANIFEST.names]
    check(samples, path)
    write_table(samples, path, MANIFEST)


def read(path: Path) -> pd.DataFrame:
    """Read and check a manifest: a row for each sample, columns of MANIFEST, y lists of strings."""
    table = pq.read_table(path)
    if not table.schema.equals(MANIFEST):
        raise ManifestError(
            f"{path}: its columns are {table.schema.names}, not {MANIFEST.names}; "
            "run its stage anew"
        )
    samples = table.to_pandas()
    samples["y"] = [list(cell) for cell in samples["y"]]
    check(samples, path)
    return samples


def check(samples: pd.DataFrame, path: Path) -> None:
    """Raise ManifestError for a table that breaks the contract.

    Ids must be unique, copies must name an original's group, and parts must be known.
    """

    def refuse(bad: "pd.Series[bool]", fact: str) -> None:
        if bad.any():
            first = samples.loc[bad, "id"].iloc[0]
            raise ManifestError(f"{path}: {int(bad.sum())} row(s), first {extract(first)}: {fact}")

    refuse(samples["id"].duplicated(), "the id occurs twice")
    of_original = samples["group"].where(samples["source_id"] == samples["id"])
    copies = of_original.isna()
    if copies.any():
        of_original[copies] = samples.loc[copies, "source_id"].map(samples.set_index("id")["group"])
    refuse(of_original.isna(), "its original is not here")
    refuse(
        samples["given_part"].notna() & ~samples["given_part"].isin(PARTS),
        f"given_part is not one of {PARTS}",
    )
    refuse(samples["y"].isna(), "y is missing")
    refuse(of_original != samples["group"], "a copy is not in the group of its original")
    if not samples["id"].is_monotonic_increasing:
        raise ManifestError(f"{path}: rows are not in the order of their ids")


def predictions_schema(predictions: pd.DataFrame, models: list[str]) -> pa.Schema:
    """Return the columns of a table of predictions: id, y, a value for each model, confidence.

    The confidence is the candidate's, and null if it has none.
    """
    value = _value(predictions["y"])
    values = [pa.field(name, value, nullable=False) for name in ("y", *models)]
    sure = pa.field(
        "confidence", pa.float64(), nullable=bool(predictions["confidence"].isna().any())
    )
    return pa.schema([pa.field("id", pa.string(), nullable=False), *values, sure])


def _value(values: "pd.Series[Any]") -> Any:
    """Return the type of values: numbers or texts."""
    return pa.float64() if values.dtype == float else pa.string()


def predicted_schema(rows: pd.DataFrame) -> pa.Schema:
    """Return the columns of a table that `refit predict` writes.

    A table that is kept also says when and by which model.
    """
    kept = "time" in rows
    stated = [
        pa.field(name, pa.string(), nullable=False)
        for name in ("origin", "x", "meta", *(("time", "model", "model_sha256") if kept else ()))
    ]
    found = [pa.field("predicted", _value(rows["predicted"])), pa.field("confidence", pa.float64())]
    found += [pa.field(name, pa.string()) for name in ("code", "reason")]
    likely = [
        pa.field(name, pa.float64()) for name in rows.columns if name.startswith("probability ")
    ]
    return pa.schema([*stated[:2], *found, *likely, *stated[2:]])


def write_table(frame: pd.DataFrame, path: Path, schema: pa.Schema) -> None:
    """Write a frame as Parquet with exactly these columns."""
    table = pa.Table.from_pandas(
        frame, schema=schema, preserve_index=False
    ).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet file that a stage wrote."""
    return pq.read_table(path).to_pandas()


@contextmanager
def _refusing(path: Path, fact: str, advice: str) -> Generator[None]:
    """Raise a TableError for Arrow's errors about a damaged file or a type without plain text.

    Arrow raises OSError for damaged pages.
    """
    try:
        yield
    # Not all come from Arrow: Python lacks a date, or does not know a time zone.
    except (pa.ArrowException, ValueError, OverflowError, LookupError, OSError) as error:
        raise TableError(f"{path}: {fact} ({one_line(error, 200)}); {advice}") from None


def foreign_columns(path: Path) -> list[str]:
    """Return the names of the columns of a Parquet file that no stage wrote.

    Raises TableError if it is not a Parquet file.
    """
    with _refusing(path, "not a Parquet file", "write it anew"):
        return pq.read_schema(path).names


def foreign_head(path: Path, rows: int) -> pd.DataFrame:
    """Return the first rows of a Parquet file that no stage wrote.

    Raises TableError if it is not a Parquet file.
    """
    columns = foreign_columns(path)
    with _refusing(path, "cannot be read", "write it anew"):
        first = next(pq.ParquetFile(path).iter_batches(batch_size=rows), None)
        head = pd.DataFrame(columns=columns) if first is None else first.to_pandas()
        return head.map(lambda value: repr(value) if isinstance(value, bytes) else value)


def _texts(column: Any, lists: bool) -> list[Any]:
    if lists and (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        rows = column.cast(pa.list_(pa.string())).to_pylist()
        return [
            None if row is None or None in row else json.dumps(row, ensure_ascii=False)
            for row in rows
        ]
    return column.cast(pa.string()).to_pylist()


def read_foreign(path: Path, names: list[str], limit: int) -> dict[str, list[Any]]:
    """Return the named columns of a Parquet file that no stage wrote, and `meta`.

    Cells are strings or null; meta is JSON of the other columns. Lists become JSON, but not in the
    first column. Raises TableError for more than `limit` unpacked bytes, and for a column that has
    no plain text (bytes).
    """
    with _refusing(path, "cannot be read as text", "write strings or numbers"):
        held = pq.read_metadata(path)
        size = sum(held.row_group(i).total_byte_size for i in range(held.num_row_groups))
        if max(size, held.num_rows) > limit:
            raise TableError(
                f"{path}: {held.num_rows:,} rows of {size:,} bytes, at most {limit:,}; "
                "split it into several files"
            )
        table = pq.read_table(path, use_threads=False)
        found: dict[str, list[Any]] = {
            name: _texts(table[name], lists=name != names[0]) for name in names
        }
        others = table.drop_columns(names).to_pylist()
    return found | {"meta": [json.dumps(row, ensure_ascii=False, default=str) for row in others]}
