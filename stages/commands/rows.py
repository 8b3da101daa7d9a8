"""Read the rows of a table of texts or the pictures of a folder, and measure them like validate."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.commands import pictures
from stages.contract import plugins, records, walk
from stages.contract.errors import DataError, ProfileError, TableError
from stages.contract.escape import extract, one_line
from stages.domain import profiles
from stages.domain.profiles import Profile
from stages.layouts import table
from stages.models.activations import Seen
from stages.params.data import Dialect, Folders, Table
from stages.params.task import Task
from stages.params.types import Encoding

DELIMITING = (";", "\t", "|")
WORDS = 3  # of a column's name, at most


def read(source: Path, column: str | None, task: Task, modality: str) -> pd.DataFrame:
    """Return a row for each sample of a source.

    The samples are the rows of a table or, for a model of pictures, the pictures of a folder.
    """
    of_x = plugins.modality(modality)
    if is_table(source):
        of = reading(source, column, task)
        return table.read_unlabelled(source, of.column, of.encoding, of.dialect, of_x)
    if not of_x.reading.FILES:
        raise TableError(
            f"{extract(source)}: the model reads texts; name a table of them "
            f"({', '.join(table.UNLABELLED)})"
        )
    root = source if source.is_dir() else source.parent
    walked = (root / file for file in walk.walk(source, hidden=False).files)
    files = pd.Series([file for file in walked if pictures.is_picture(file)], dtype=object)
    if files.empty:
        raise TableError(f"{extract(source)}: has no picture ({', '.join(pictures.SUFFIXES)})")
    return of_x.reading.read(files, task.data.encoding).assign(
        y="", origin=[path.relative_to(root).as_posix() for path in files], meta="{}"
    )


@dataclass(frozen=True)
class Reading:
    """How to read a table: the column of x, how the table is written, and why it is read so."""

    column: str
    encoding: Encoding
    dialect: Dialect | None
    why: str


def is_table(source: Path) -> bool:
    """Say whether a file's name is the name of a table, with labels or without."""
    return not source.is_dir() and table.suffix(source) in table.UNLABELLED


def reading(source: Path, column: str | None, task: Task) -> Reading:
    """Return how to read a table of new rows.

    The column is the one that is named, else the one of the task's own table, else the only one.
    Raises TableError if it cannot be determined: a header that another delimiter separates is not
    the name of one column.
    """
    layout = task.data.layout
    # either UTF-8, or the encoding of the data that the model has learned from
    encoding: Encoding = "utf-8" if table.written(source) == "utf-8" else task.data.encoding
    wanted = column or (layout.columns.x if isinstance(layout, Table) else None)
    readable, wrong = list[list[str]](), list[TableError]()
    for dialect in _dialects(source, encoding, layout):
        try:
            readable.append(names := table.header(source, encoding, dialect))
        except TableError as error:  # not strict CSV with this delimiter
            wrong.append(error)
            continue
        if wanted in names and (
            dialect is None or dialect.header is None or _has_fields(source, encoding, dialect)
        ):
            parted = f", fields parted by a {dialect.delimiter}" if dialect else ""
            why = "as named" if column else "as the task was trained"
            return Reading(wanted, encoding, dialect, f"column '{extract(wanted)}'{parted}, {why}")
    if not readable:
        raise wrong[0]
    if column is None and len(readable[0]) == 1:
        return _only(source, readable[0][0], encoding)
    found = ", ".join(extract(name) for name in readable[0][:50]) or "none"
    reason = (
        f"has no column '{extract(column)}'" if column else "cannot tell which column is the text"
    )
    raise TableError(f"{extract(source)}: {reason} (found: {found}); name it: --text COLUMN")


def _dialects(source: Path, encoding: Encoding, layout: Table | Folders) -> list[Dialect | None]:
    """Return the dialects in which a table may be written, the likeliest first."""
    own = (
        [layout.dialect]
        if isinstance(layout, Table) and layout.dialect and table.suffix(source) in (".csv", ".tsv")
        else []
    )
    with_header = (replace(of, header=None) for of in own)
    return [None, *with_header, table.dialect(source, encoding), *own]


def _only(source: Path, name: str, encoding: Encoding) -> Reading:
    """Return how to read a table's only column; raise TableError if its name looks like none."""
    found = extract(name) or "none"
    if any(mark in name for mark in DELIMITING):
        raise TableError(
            f"{extract(source)}: the only column is called '{found}', which looks like "
            "several; save it with commas, or say --text COLUMN"
        )
    if len(name.split()) > WORDS:
        raise TableError(
            f"{extract(source)}: the only column is called '{found}', which looks like a "
            "text; put a line with a name above it"
        )
    return Reading(name, encoding, None, f"column '{found}', the only one")


def _has_fields(source: Path, encoding: Encoding, dialect: Dialect) -> bool:
    """Say whether the first line has as many fields as the header in the dialect.

    The task states that header for tables without one.
    """
    return len(table.header(source, encoding, replace(dialect, header=None))) == len(
        dialect.header or ()
    )


def labelled(source: Path, task: Task, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of a table, with y as the task's problem names labels.

    A row that validate would set aside has a code and a reason.
    """
    found = read(source, None, task, task.modality.name)
    cells = found["meta"].map(json.loads)
    if lacking := [name for name in columns if not any(name in of for of in cells)]:
        raise TableError(
            f"{extract(source)}: has no column '{extract(lacking[0])}', which has the label "
            "where the task learned from"
        )
    y = pd.Series([_y(dict(meta), columns) for meta in cells], cells.index)
    named = plugins.problem(task.problem.name).read(y, task.problem)
    x = found.loc[found["code"].isna(), "x"]
    looked = plugins.modality(task.modality.name).reading.look(x, task.modality)
    facts = [of[["code", "reason"]] for of in (found, named, looked)]
    wrong = facts[0].combine_first(facts[1]).combine_first(facts[2])
    return found.assign(y=named["y"], code=wrong["code"], reason=wrong["reason"])


def _y(meta: dict[str, Any], columns: tuple[str, ...]) -> str:
    """Return the cell of y from the other columns of a row, as a table's reader returns it."""
    found = {name: "" if meta.get(name) is None else meta[name] for name in columns}
    cells = [
        of if isinstance(of, str) else json.dumps(of, ensure_ascii=False) for of in found.values()
    ]
    return records.cell_of_y(columns, cells)


def measured(
    sources: list[Path], column: str | None, of: Task, settings: Any, run_base: bool
) -> tuple[Profile, Seen | None]:
    """Return the profile of a sample of the sources' rows, and what the base model saw.

    Each source is a group of its own. The second value is None unless the task's base model is run.
    settings are the modality's settings that the base model is run with.
    """
    base = Path("data/raw", of.base)
    if not base.is_dir():
        raise ProfileError(
            f"{base}: the base model is not here; run `dvc repro fetch@{of.base}` or `dvc pull`"
        )
    of_x, of_y = plugins.modality(of.modality.name), plugins.problem(of.problem.name)
    drawn = (
        _drawn(source, column, of, len(sources)).assign(group=i) for i, source in enumerate(sources)
    )
    taken = pd.concat(drawn, ignore_index=True)
    looked = of_x.reading.look(taken["x"], of.modality)
    good = looked["code"].isna()
    if not good.any():
        raise DataError(
            f"{extract(str(sources[0]))}: not one row is fit "
            f"({one_line(looked['reason'].iloc[0], 200)})"
        )
    run_with = (settings, of.compute)
    return profiles.take({}, taken[good], looked[good], (of_x, of_y), base, run_with, run_base)


def _drawn(source: Path, column: str | None, of: Task, sources: int) -> pd.DataFrame:
    """Return this source's share of the sample."""
    if not source.exists():
        raise DataError(f"{extract(str(source))}: is not there")
    found = read(source, column, of, of.modality.name)
    good = found[found["code"].isna()]
    if good.empty:
        raise DataError(f"{extract(str(source))}: has not one row that can be read")
    return good.sample(
        min(len(good), of.validate.domain.sample // sources), random_state=of.validate.domain.seed
    )
