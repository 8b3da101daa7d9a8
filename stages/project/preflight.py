"""Look, before DVC does, for what would hang it, break it, or stop the work after hours.

It looks at the data, dvc.lock and the disk. `python -m stages.project.preflight [COMMAND]` does it
for every task, and then runs the command, alone; make and the flows call it before DVC.
"""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.contract import location, locks, receipts, settings, walk
from stages.contract.errors import DagError, DataError, told
from stages.contract.escape import one_line
from stages.params.task import Params

ALONE = Path("data/.work/flow")  # lock of the only run of a DAG in this project
LOCK, KEPT = Path("dvc.lock"), Path("data/.work/dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
# copies of the base model: its cache, and the best checkpoint, the last and the next, each with two
# moments of its optimiser; later it is less
COPIES = 10
LEAST = 100_000_000  # bytes that stay free for logs and for MLflow's and DVC's own files


def look(params: Params, keys: Collection[str]) -> list[str]:
    """Look at everything that these tasks need; return what was mended.

    Raises a RefitError for what a person must mend.
    """
    require_writable()
    _require_idle()
    mended = mend()
    folders = {
        name: Path("data/raw", name)
        for key in keys
        for name in (params.tasks[key].base, params.tasks[key].data.source)
    }
    walked = {name: walk.walk(folder).size for name, folder in folders.items() if folder.exists()}
    require_space(params, sizes(params, keys, walked))
    return mended


def sizes(
    params: Params, keys: Collection[str], walked: dict[str, int]
) -> dict[str, tuple[int, int]]:
    """Return the bytes of each task's base model and data.

    walked has the bytes of the sources that are here; what is not here yet counts 0.
    """
    return {
        key: (walked.get(params.tasks[key].base, 0), walked.get(params.tasks[key].data.source, 0))
        for key in keys
    }


def require_space(params: Params, found: dict[str, tuple[int, int]]) -> str:
    """Compare what is free with what the tasks that run side by side may need.

    Returns the comparison in words. found has the bytes of each task's base model and data.
    """
    each = sorted(
        (max(0, COPIES * base + 2 * data - _held(key)) for key, (base, data) in found.items()),
        reverse=True,
    )
    need, free = LEAST + sum(each[: params.flows.side_by_side]), shutil.disk_usage(".").free
    if free < need:
        raise DataError(
            f"{Path.cwd()}: {free:,} bytes are free, {need:,} may be needed; "
            "make room, or run `dvc gc -w`"
        )
    return f"{free / 1e9:.1f} GB free, {need / 1e9:.1f} GB may be needed"


def _held(key: str) -> int:
    """Return the bytes that a stopped fine-tuning of a task left.

    The next fine-tuning goes on with them, or removes them.
    """
    size = 0
    for path in Path("data/.work/finetune", key).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a fine-tuning may be running
            size += path.stat().st_size
    return size


def require_writable() -> None:
    """Raise DataError if the project cannot be written to."""
    try:
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        (KEPT.parent / "writable").touch()
    except OSError as error:
        raise DataError(
            f"{KEPT.parent.resolve()}: {error.strerror}; "
            "the project's folder must be one that this user can write to"
        ) from None


def mend() -> list[str]:
    """Keep a copy of dvc.lock, or restore it; remove DVC's list of locks if it cannot be read.

    dvc.lock is restored if it cannot be read. DVC writes both files in place: a full disk or a kill
    leaves them cut off, and then every later command of DVC's fails (measured with DVC 3.67). What
    the copy lacks costs seconds, because DVC's run cache has it. Raises DagError if a person must
    choose.
    """
    mended = list[str]()
    if LOCK.exists() and (not KEPT.exists() or LOCK.read_bytes() != KEPT.read_bytes()):
        if _is_whole(LOCK):
            _copy(LOCK, KEPT)
        else:
            mended.append(_restore())
    if moved := _moved_site():
        mended.append(moved)
    if RWLOCK.exists() and not _is_json(RWLOCK):
        RWLOCK.unlink()
        mended.append(
            f"{RWLOCK}: could not be read (a kill or a full disk while DVC wrote it); removed"
        )
    return mended


def _moved_site() -> str | None:
    """Point DVC's state folder at this project if it was moved; return a line that says so.

    DVC's settings then still name the folder in the place that the project was moved from.
    """
    config, here = Path(".dvc/config.local"), Path(".dvc/site").absolute()
    named = (
        re.search(r"(?m)^(\s*site_cache_dir\s*=\s*)(/.*/\.dvc/site)\s*$", config.read_text("utf-8"))
        if config.is_file()
        else None
    )
    if not named or Path(named[2]) == here or location.home() != Path.cwd():
        return None
    config.write_text(named.string.replace(named[0], f"{named[1]}{here}"), "utf-8")
    return (
        f"{config}: named {one_line(named[2], 200)}, from where the project was moved; "
        f"names {here} now"
    )


def _require_idle() -> None:
    """Raise BusyError if a stage runs, in another container too.

    DVC would take away the stage's outputs before the stage's own lock refuses.
    """
    for lock in sorted(Path("data/.work").glob("*/*/lock")):
        probe = locks.Lock(lock.parent)
        probe.take()
        probe.file.close()


def _restore() -> str:
    size = LOCK.stat().st_size
    if b"<<<<<<<" in LOCK.read_bytes():
        raise DagError(
            f"{LOCK}: contains the marks of a merge; take one side (`git checkout --ours {LOCK}`), "
            "and what differs is run or replayed"
        )
    if not KEPT.exists():
        raise DagError(
            f"{LOCK}: cannot be read ({size:,} bytes), and no copy is kept; remove it, "
            f"or `git checkout {LOCK}`: what has run is replayed from DVC's run cache"
        )
    LOCK.replace(KEPT.with_name("dvc.lock.damaged"))
    _copy(KEPT, LOCK)
    return (
        f"{LOCK}: could not be read ({size:,} bytes: a kill or a full disk while DVC wrote it); "
        f"brought back from {KEPT}"
    )


def _is_whole(lock: Path) -> bool:
    try:
        document = YAML(typ="safe").load(lock)
    except (YAMLError, ValueError):
        return False
    return isinstance(document, dict) and isinstance(document.get("stages"), dict)


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that the target is whole at any moment."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    beside.write_bytes(source.read_bytes())
    receipts.flush(beside)
    beside.replace(target)


def main() -> None:
    """Look at what every task needs, then become the named command, if any.

    No other command of this project runs beside it. What a person must mend ends as one line and an
    exit code.
    """
    with told():
        params = settings.load()
        for line in look(params, params.tasks):
            print(one_line(line))
        if sys.argv[1:]:
            sys.stdout.flush()
            with (lock := locks.Lock(ALONE)):
                os.set_inheritable(lock.file.fileno(), True)  # keep the lock until the command ends
                os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  (what make names)


if __name__ == "__main__":
    main()
