"""Bring more labelled rows for a task that is there, beside those that it has."""

import itertools
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from stages.commands import blocks, guess, proposal, transfer
from stages.commands.guess import Guess
from stages.contract import locks, plugins, settings, walk
from stages.contract.errors import DataError
from stages.contract.escape import extract
from stages.params.data import DataFile, Folders, Table
from stages.params.task import Task
from stages.project import tracking

SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Appended:
    """How many rows were brought, how many of them cannot be used, and the files they are in."""

    task: str
    source: str
    rows: int
    bad: int
    files: list[str]


def append(name: str, where: str) -> Appended:
    """Bring the rows of a table or a folder of the user's own into the source of a task.

    A table becomes one more of the task's tables. Raises a RefitError if the rows are not like
    those of the task, or if their files would replace others, and leaves everything as it was.
    """
    with locks.Lock(Path("data/.work/add")):
        task, lies = settings.task(name), Path(where)
        folder = Path("data/raw", task.data.source)
        _require_own(folder)
        data = _look(task.data.layout, lies)
        _require_like(task, data)
        rows = _rows(task, data)
        _require_new(task, folder, data, rows)
        with _all_or_nothing(folder, data.wanted):
            transfer.copy(lies, data.wanted, folder)
            tracking.dvc("add", str(folder))
            if isinstance(data.layout, Table):
                _state(task.data.source, data.layout)
    bad = int(rows["code"].notna().sum())
    return Appended(name, str(folder), len(rows), bad, [file.as_posix() for file in data.wanted])


def told(done: Appended) -> list[str]:
    """Return what was brought as lines for a person to read."""
    return [
        f"{done.source}: {done.rows:,} more rows, {done.bad:,} bad, in {_some(done.files)}",
        f"next: dvc repro register@{done.task}",
    ]


def _look(layout: Table | Folders, lies: Path) -> Guess:
    """Return how new data is laid out; in tables the columns are those of the task."""
    files = walk.walk(lies, hidden=False).files
    if isinstance(layout, Table) and any(map(guess.is_table, files)):
        return guess.data(lies, files, layout.columns.x, layout.columns.y)
    return guess.data(lies, files, None, None)


def _require_own(folder: Path) -> None:
    """Raise DataError unless the source is one that `dvc add` tracks."""
    stated = tracking.stated(folder)
    if not stated.is_file() or "deps" in settings.read_yaml(stated):
        raise DataError(
            f"{folder}: is fetched or imported, and what is put there would be lost; append the "
            "rows where it comes from, or add them as a source of their own"
        )


def _require_like(task: Task, data: Guess) -> None:
    """Raise DataError unless data is laid out as the task's."""
    has, layout = task.data.layout, data.layout
    if isinstance(has, Table) and isinstance(layout, Table):
        wrong = {
            "the columns are others": layout.columns != has.columns,
            "fields are separated in another way": layout.dialect != has.dialect,
            f"its encoding is {data.encoding}": data.encoding not in ("utf-8", task.data.encoding),
        }
    elif isinstance(has, Folders) and isinstance(layout, Folders):
        folders = {folder.path for folder in has.folders}
        wrong = {
            f"its labels are not below {' or '.join(sorted(map(extract, folders)))}": not {
                folder.path for folder in layout.folders
            }
            <= folders,
            f"the task reads {', '.join(has.suffixes)}, not {', '.join(layout.suffixes)}": not set(
                layout.suffixes
            )
            <= set(has.suffixes),
        }
    else:
        wrong = {"one of them is in tables, the other has a folder for each label": True}
    if facts := [fact for fact, holds in wrong.items() if holds]:
        raise DataError(f"{extract(data.lies)}: is not like the task's data: {'; '.join(facts)}")


def _rows(task: Task, data: Guess) -> pd.DataFrame:
    """Return the new rows, junk left out; raises DataError if too many are bad."""
    rows = proposal.read(
        replace(data, encoding=task.data.encoding), plugins.modality(task.modality.name)
    )
    y = _y(task, rows)
    rows.loc[y.index, ["code", "reason"]] = y[["code", "reason"]]
    bad = rows[rows["code"].notna()]
    if len(bad) > proposal.MOST_BAD * len(rows):
        raise DataError(f"{extract(data.lies)}: {proposal.unusable(bad, len(rows))}")
    return rows


def _require_new(task: Task, folder: Path, data: Guess, rows: pd.DataFrame) -> None:
    """Raise DataError for labels that the task does not have, and for files that are there."""
    if there := [file for file in data.wanted if (folder / file).exists()]:
        raise DataError(f"{folder}: has {_some(there)} already; rename what is new")
    layout, encoding = task.data.layout, task.data.encoding
    has = plugins.layout(layout.name).read(
        folder, layout, encoding, plugins.modality(task.modality.name)
    )
    if new := _labels(task, rows) - _labels(task, has):
        raise DataError(
            f"{extract(data.lies)}: has labels that {folder} does not have: {_some(sorted(new))}; "
            "mend them, or add all rows as a new task"
        )


def _labels(task: Task, rows: pd.DataFrame) -> set[str]:
    of_y, y = plugins.problem(task.problem.name), _y(task, rows)
    return set(of_y.borne(of_y.values(y.loc[y["code"].isna(), "y"])))


def _y(task: Task, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what the task's problem reads in the rows that are good so far."""
    of_y = plugins.problem(task.problem.name)
    return of_y.read(rows.loc[rows["code"].isna(), "y"], task.problem)


def _state(source: str, new: Table) -> None:
    """Name the new tables in each task that reads the source.

    They are read for training if the data set itself says which rows are for what.
    """
    for key, task in settings.load().tasks.items():
        layout = task.data.layout
        if task.data.source == source and isinstance(layout, Table):
            part = "train" if any(file.part for file in layout.files) else None
            files = [DataFile(file.path, part, None) for file in new.files]
            blocks.extend(key, ("data", "layout", "files"), [asdict(file) for file in files])


def _some(names: Iterable[Any]) -> str:
    shown = [extract(name) for name in itertools.islice(names, SHOWN + 1)]
    return ", ".join(shown[:SHOWN]) + (", ..." if len(shown) > SHOWN else "")


@contextmanager
def _all_or_nothing(folder: Path, new: list[Path]) -> Generator[None]:
    """Put everything back as it was if the block within fails."""
    kept = {path: path.read_bytes() for path in (blocks.PARAMS, tracking.stated(folder))}
    before = {path for path in folder.rglob("*") if path.is_dir()}
    try:
        yield
    except BaseException:
        for path, content in kept.items():
            path.write_bytes(content)
        for file in new:
            (folder / file).unlink(missing_ok=True)
        made = {path for path in folder.rglob("*") if path.is_dir()} - before
        for path in sorted(made, reverse=True):
            path.rmdir()
        raise
