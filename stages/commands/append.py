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
from stages.contract import locks, plugins, settings, tracked, walk
from stages.contract.errors import DataError
from stages.contract.escape import extract
from stages.params.data import DataFile, Table
from stages.params.task import Task
from stages.project import tracking

SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Appended:
    """How many rows were brought, how many of them cannot be used, and the files they are in.

    tasks are all that read the source.
    """

    task: str
    tasks: list[str]
    source: str
    rows: int
    bad: int
    files: list[str]


def append(name: str, where: str) -> Appended:
    """Bring the rows of a table or a folder of the user's own into the source of a task.

    A table becomes one more of the tables of each task that reads the source. Raises a RefitError
    if the rows are not like those of these tasks, or if their files would replace others, and
    leaves everything as it was.
    """
    if transfer.HUB.fullmatch(where) or transfer.REMOTE.fullmatch(where):
        raise DataError("--append takes a table or a folder of this machine; fetch the rows first")
    with locks.Lock(Path("data/.work/add")):
        task, lies = settings.task(name), Path(where)
        folder = Path("data/raw", task.data.source)
        _require_own(folder)
        tasks = {
            key: of
            for key, of in settings.load().tasks.items()
            if of.data.source == task.data.source
        }
        looked = {key: _look(of, lies) for key, of in tasks.items()}
        rows = {key: _rows(tasks[key], data) for key, data in looked.items()}
        data = looked[name]
        new = _new(folder, data)
        for key, of in tasks.items():
            _require_known(of, folder, data.lies, rows[key])
        with _all_or_nothing(folder, new):
            transfer.copy(lies, new, folder)
            tracking.dvc("add", str(folder))
            files = _state(tasks, looked) or [extract(file) for file in data.wanted]
    bad = int(rows[name]["code"].notna().sum())
    return Appended(name, [*tasks], str(folder), len(rows[name]), bad, files)


def told(done: Appended) -> list[str]:
    """Return what was brought as lines for a person to read."""
    others = [f"params.yaml: tasks.{key} reads them too" for key in done.tasks if key != done.task]
    return [
        f"{done.source}: {done.rows:,} more rows, {done.bad:,} bad, in {_some(done.files)}",
        *others,
        f"next: dvc repro register@{done.task}",
    ]


def _look(task: Task, lies: Path) -> Guess:
    """Return how new data is laid out; raises DataError unless it is as the task's."""
    files, layout = walk.walk(lies, hidden=False).files, task.data.layout
    if isinstance(layout, Table) != any(map(guess.is_table, files)):
        raise DataError(
            f"{extract(lies)}: is not like the task's data: one of them is in tables, the other "
            "has a folder for each label"
        )
    if isinstance(layout, Table):
        data = guess.data(lies, files, layout.columns.x, layout.columns.y)
        if data.layout.dialect != layout.dialect:  # pyright: ignore[reportAttributeAccessIssue]
            raise DataError(
                f"{extract(lies)}: is not like the task's data: fields are separated in another way"
            )
    else:
        pictured = guess.of_pictures(lies, layout)
        wanted = guess.wanted(lies, files, layout, pictured)
        data = Guess(lies, files, wanted, layout, guess.encoding(lies, layout, wanted), pictured)
    if data.encoding not in ("utf-8", task.data.encoding):
        raise DataError(f"{extract(lies)}: is {data.encoding}, and the task's data is not")
    return data


def _require_own(folder: Path) -> None:
    """Raise DataError unless the source is one that `dvc add` tracks."""
    stated = tracked.stated(folder)
    if not stated.is_file() or "deps" in settings.read_yaml(stated):
        raise DataError(
            f"{folder}: is fetched or imported, and what is put there would be lost; append the "
            "rows where it comes from, or add them as a source of their own"
        )


def _rows(task: Task, data: Guess) -> pd.DataFrame:
    """Return the new rows, junk left out; raises DataError if too many are bad."""
    of_x = plugins.modality(task.modality.name)
    rows = proposal.read(replace(data, encoding=task.data.encoding), of_x)
    proposal.mark(rows, _y(task, rows))
    if task.modality.name == "image" and rows["code"].isna().any():
        proposal.mark(rows, proposal.look(of_x, rows.loc[rows["code"].isna(), "x"]))
    bad = rows[rows["code"].notna()]
    if len(bad) > proposal.MOST_BAD * len(rows):
        raise DataError(f"{extract(data.lies)}: {proposal.unusable(bad, len(rows))}; mend them")
    return rows


def _new(folder: Path, data: Guess) -> list[Path]:
    """Return the files to copy: an append that was cut off may have copied some already.

    Raises a RefitError if the source is not what DVC tracks, or has other files by these names.
    """
    walk.require_whole(folder)
    tracked.require(folder)
    listed, lies = tracked.listed(folder), guess.root(data.lies)
    if lost := [file for file in listed if not file.is_file()]:
        raise DataError(
            f"{folder}: lacks {_some(lost)}; bring it back: dvc checkout {tracked.stated(folder)}"
        )
    there = [file for file in data.wanted if (folder / file).exists()]
    copied = [
        file
        for file in there
        if folder / file not in listed and tracked.md5(folder / file) == tracked.md5(lies / file)
    ]
    if others := [file for file in there if file not in copied]:
        raise DataError(f"{folder}: has {_some(others)} already; rename what is new")
    return [file for file in data.wanted if file not in copied]


def _require_known(task: Task, folder: Path, lies: Path, rows: pd.DataFrame) -> None:
    """Raise DataError for labels that the task does not have."""
    layout, encoding = task.data.layout, task.data.encoding
    of_x = plugins.modality(task.modality.name)
    has = plugins.layout(layout.name).read(folder, layout, encoding, of_x)
    if new := _labels(task, rows) - _labels(task, has):
        raise DataError(
            f"{extract(lies)}: has labels that {folder} does not have: {_some(sorted(new))}; "
            "mend them, or add all rows as a new task"
        )


def _labels(task: Task, rows: pd.DataFrame) -> set[str]:
    of_y, y = plugins.problem(task.problem.name), _y(task, rows)
    return set(of_y.borne(of_y.values(y.loc[y["code"].isna(), "y"])))


def _y(task: Task, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what the task's problem reads in the rows that are good so far."""
    of_y = plugins.problem(task.problem.name)
    return of_y.read(rows.loc[rows["code"].isna(), "y"], task.problem)


def _state(tasks: dict[str, Task], looked: dict[str, Guess]) -> list[str]:
    """Name new tables in the block of each task, and return them, each with its part.

    If a task's tables say what their rows are for, a new one is for what its name says, else for
    training.
    """
    stated = list[str]()
    for key, task in tasks.items():
        has, new = task.data.layout, looked[key].layout
        if isinstance(has, Table) and isinstance(new, Table):
            parted = any(file.part for file in has.files)
            files = [
                DataFile(of.path, (guess.part(Path(of.path)) or "train") if parted else None, None)
                for of in new.files
            ]
            blocks.extend(key, ("data", "layout", "files"), [asdict(file) for file in files])
            stated = [extract(of.path) + (f" ({of.part})" if of.part else "") for of in files]
    return stated


def _some(names: Iterable[Any]) -> str:
    shown = [extract(name) for name in itertools.islice(names, SHOWN + 1)]
    return ", ".join(shown[:SHOWN]) + (", ..." if len(shown) > SHOWN else "")


@contextmanager
def _all_or_nothing(folder: Path, new: list[Path]) -> Generator[None]:
    """Put everything back as it was if the block within fails."""
    kept = {path: path.read_bytes() for path in (blocks.PARAMS, tracked.stated(folder))}
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
