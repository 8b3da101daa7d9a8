"""Bring labelled data: look at it, let DVC track it, and write a complete block of params.yaml."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.commands import bases, blocks, defaults, estimate, guess, problems, proposal, transfer
from stages.commands.blocks import PARAMS
from stages.commands.guess import Guess
from stages.commands.proposal import Found
from stages.contract import locks, settings, walk
from stages.contract.escape import extract, one_line
from stages.params.data import Folders, Table
from stages.params.sources import Hub, Source
from stages.params.task import Task
from stages.params.types import Encoding

LOCK = Path("dvc.lock")
STARTERS = {
    "text": Path(__file__).with_name("text_classification.yaml"),
    "image": Path(__file__).with_name("image_classification.yaml"),
}


@dataclass(frozen=True)
class Added:
    """What was seen, brought and written.

    read says what was taken for x and y; notes are what a person should know; chosen says which
    settings the data chose, and why; bad counts the rows that cannot be used; problem names what y
    was taken for, and of_y describes its values; unread lists the tables that were left aside;
    takes says how long a run takes.
    """

    task: str
    read: str
    notes: list[str]
    chosen: list[str]
    layout: Table | Folders
    encoding: Encoding
    rows: int
    bad: int
    problem: str
    of_y: str
    labels: dict[str, int]
    unread: list[str]
    base: str
    block: str
    takes: str


def add(
    name: str,
    where: str,
    base: str | None,
    x: str | None,
    y: str | tuple[str, ...] | None,
    problem: str | None = None,
) -> Added:
    """Bring a folder, a table, an address or a hub data set as the source and the task `name`.

    x and y are columns, and problem is what y is, if the user named them. The user's own data is
    looked at in its place, before anything is brought. Raises a RefitError that says what is wrong
    with the name, the data or its columns, and leaves everything as it was.
    """
    settings.load(PARAMS)  # fails before anything is made in a folder that is no project
    with locks.Lock(Path("data/.work/add")):
        params = settings.load(PARAMS)
        hub, remote = transfer.HUB.fullmatch(where), transfer.REMOTE.fullmatch(where)
        folder = Path("data/raw", name)
        fresh = bool(hub or remote) or Path(where).resolve() != folder.resolve()
        blocks.require_name(name, params, folder, fresh)
        problems.require(problem)
        source = transfer.hub("dataset", hub) if hub else None
        model, brought = bases.find(base, params, name)
        made = [*([folder] if fresh else []), *([Path("data/raw", model)] if brought else [])]
        with _all_or_nothing(made):
            if source:
                transfer.fetch(name, source)
            elif remote:
                transfer.import_address(where, folder)
            lies = folder if source or remote else Path(where)
            data = guess.data(lies, walk.walk(lies, hidden=not fresh).files, x, y)
            start = settings.read_yaml(STARTERS["image" if data.of_pictures else "text"])
            task, found = proposal.task(data, name, model, start, problem)
            task = proposal.tried(task, bases.bring(task.base, brought, params))
            if not (source or remote):
                transfer.track(lies, folder, data.wanted)
            if isinstance(brought, Path):
                transfer.track(brought, Path("data/raw", model), walk.walk(brought).files)
            task, why, measured = _fast_enough(task, start["slower"])
            block = blocks.write("tasks", name, task)
        takes = estimate.say(name, task, measured)
        chosen = [*_pinned(source, brought), *found.chosen, *why]
        return _added(name, data, task, replace(found, chosen=chosen), block, takes)


def _pinned(*brought: Source | Path | None) -> list[str]:
    """Return a line for each source of a hub: the commit that params.yaml names."""
    origins = [source.origin for source in brought if isinstance(source, Source)]
    return [f"commit {of.revision} of {of.repo}" for of in origins if isinstance(of, Hub)]


def _fast_enough(
    task: Task, slower: list[dict[str, Any]]
) -> tuple[Task, list[str], estimate.Measured | None]:
    """Return the task with a way to learn that is fast enough here, why, and what was measured.

    Nothing is measured if the base model is not here.
    """
    if not Path("data/raw", task.base).is_dir():
        return task, [], None
    samples = estimate.rows(task)
    measured = estimate.measure(task, samples)
    return *defaults.faster(task, slower, len(samples), measured), measured


def _added(name: str, data: Guess, task: Task, found: Found, block: str, takes: str) -> Added:
    return Added(
        task=name,
        read=_read(data.layout, data.of_pictures),
        notes=found.notes,
        chosen=found.chosen,
        layout=data.layout,
        encoding=data.encoding,
        rows=found.rows,
        bad=found.bad,
        problem=task.problem.name,
        of_y=found.of_y,
        labels=found.labels,
        unread=data.unread,
        base=task.base,
        block=block,
        takes=takes,
    )


def told(added: Added) -> list[str]:
    """Return what was added as lines for a person to read."""
    name, encoding = added.task, added.encoding
    unread = one_line(", ".join(added.unread), 300)
    return [
        f"read: {one_line(added.read, 300)}",
        *(f"note: {one_line(note, 400)}" for note in added.notes),
        *(f"chosen: {one_line(why, 400)}" for why in added.chosen),
        f"data/raw/{name}: {added.problem}, {added.rows:,} rows of {added.of_y}, {added.bad:,} bad",
        *(
            [f"read as {encoding}, which is what it looks like; tasks.{name}.data.encoding says so"]
            if encoding != "utf-8"
            else []
        ),
        *([f"not read: {unread} (other columns, or no part beside train)"] if unread else []),
        f"params.yaml: tasks.{name} is written, with every setting; the base model is {added.base}",
        f"how long it takes: {one_line(added.takes, 300)}",
        f"next: dvc repro register@{name}",
    ]


@contextmanager
def _all_or_nothing(made: list[Path]) -> Generator[None]:
    """Undo what was done if the block within fails.

    The folders that were made are removed, and params.yaml and dvc.lock are put back.
    """
    kept = {path: path.read_bytes() if path.exists() else None for path in (PARAMS, LOCK)}
    try:
        yield
    except BaseException:
        for path, content in kept.items():
            if content is None:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != content:
                path.write_bytes(content)
        for folder in made:
            _remove(folder)
        raise


def _remove(folder: Path) -> None:
    """Remove a folder of data/raw, and what bringing it has left elsewhere."""
    folder.with_name(f"{folder.name}.dvc").unlink(missing_ok=True)
    of_fetch = (Path("data", of, folder.name) for of in ("fetch", ".work/fetch"))
    for path in (folder, transfer.partial(folder), *of_fetch):
        path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def _read(layout: Table | Folders, pictures: bool) -> str:
    """Say what was taken for x and y."""
    what = "pictures" if pictures else "texts"
    if isinstance(layout, Folders):
        return f"{what} ({', '.join(layout.suffixes)}), each labelled by the name of its folder"
    parted = f", fields parted by a {layout.dialect.delimiter}" if layout.dialect else ""
    files = ", ".join(extract(file.path) for file in layout.files[:5]) + (
        ", ..." if len(layout.files) > 5 else ""
    )
    names = "', '".join(map(extract, layout.columns.ys))
    labels = (
        f"labels of column '{names}'"
        if len(layout.columns.ys) == 1
        else f"a label each of columns '{names}'"
    )
    return f"{what} of column '{extract(layout.columns.x)}', {labels} of {files}{parted}"
