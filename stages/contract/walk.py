"""Walk data before DVC does.

A named pipe would hang DVC for ever, and a name that is not UTF-8 would break it.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.contract import tracked
from stages.contract.errors import DataError
from stages.contract.escape import extract

MAX_FILES = 1_000_000
SHOWN = 10
NO_UTF8, NOWHERE = (
    "has a name that is not UTF-8",
    "is a link that leads nowhere, or may not be looked at",
)


@dataclass(frozen=True)
class Walked:
    """The regular files below a root (relative to it, sorted), and their bytes in all."""

    files: list[Path]
    size: int


def walk(root: Path, hidden: bool = True) -> Walked:
    """Look at every file in a folder, or at one file.

    Raises one DataError that names everything that must not be there. Hidden files and folders are
    passed over unless DVC would track them too.
    """
    if not root.exists():
        raise DataError(f"{extract(root)}: is not there; name a folder, a table or an address")
    if root.is_file():
        if fact := _wrong(root, root.parent):
            raise DataError(f"{extract(root)}: {fact}; mend it")
        return Walked([Path(root.name)], root.stat().st_size)
    if not root.is_dir():
        raise DataError(
            f"{extract(root)}: is neither a file nor a folder (a named pipe or a device?); "
            "name a folder or a table"
        )
    files, size, wrong = list[Path](), 0, list[str]()
    for paths in _by_folder(root, hidden, wrong):
        for path in paths:
            if fact := _wrong(path, root):
                wrong.append(f"{extract(path.relative_to(root))} {fact}")
            else:
                files.append(path.relative_to(root))
                size += path.stat().st_size
        if len(files) > MAX_FILES:
            raise DataError(
                f"{extract(root)}: more than {MAX_FILES:,} files; "
                "make one table of them (.parquet or .jsonl)"
            )
    _refuse(root, wrong)
    if not files:
        raise DataError(f"{extract(root)}: has no file")
    return Walked(sorted(files), size)


def _by_folder(root: Path, hidden: bool, wrong: list[str]) -> Iterator[list[Path]]:
    """Yield the files and links in each folder; note in `wrong` a folder that cannot be read."""
    for folder, folders, names in os.walk(
        root, onerror=lambda error: wrong.append(f"{extract(error.filename)} cannot be read")
    ):
        if not hidden:
            folders[:], names = (
                [name for name in each if not name.startswith(".")] for each in (folders, names)
            )
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield [Path(folder, name) for name in [*links, *names]]


def require_whole(root: Path) -> None:
    """Raise DataError for what nobody can read in data that came without `refit add`.

    That is a link that leads nowhere, or a name that is not UTF-8.
    """
    facts = (
        (path, _wrong(path, root))
        for folder, folders, names in os.walk(root)
        for path in (Path(folder, name) for name in [*folders, *names])
    )
    _refuse(
        root,
        [
            f"{extract(path.relative_to(root))} {fact}"
            for path, fact in facts
            if fact in (NO_UTF8, NOWHERE)
        ],
    )


def _refuse(root: Path, wrong: list[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - SHOWN:,} more" if len(wrong) > SHOWN else ""
        raise DataError(
            f"{extract(root)}: {len(wrong):,} file(s) that cannot be tracked: "
            f"{'; '.join(wrong[:SHOWN])}{more}; mend or remove them"
        )


def require_space(size: int, into: Path) -> None:
    """Raise DataError unless twice the size is free, for the data and for DVC's copy of it."""
    free = shutil.disk_usage(into).free
    if free < 2 * size:
        raise DataError(
            f"{into}: {free / 1e9:.2f} GB free, {2 * size / 1e9:.2f} GB are needed "
            "(the data and DVC's copy of it); make room"
        )


def _wrong(path: Path, root: Path) -> str | None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return NO_UTF8
    try:
        if path.is_symlink() and not any(
            path.resolve().is_relative_to(each) for each in (root.resolve(), tracked.real_store())
        ):
            return "is a link that leads outside"
        mode = path.stat().st_mode
    except (OSError, RuntimeError):  # a link to itself
        return NOWHERE
    if stat.S_ISDIR(mode):
        return "is a link to a folder"
    if not stat.S_ISREG(mode):
        return "is not a regular file"
    return None if os.access(path, os.R_OK) else "cannot be read"
