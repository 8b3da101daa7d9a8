"""Keep two processes from doing the same work at the same time, and name the one that does it.

All containers of one host see a flock, and it is free as soon as its holder ends, however it ended.
DVC's own lock is a process number, which means nothing in another container (measured with
DVC 3.67).
"""

import fcntl
import json
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from stages.contract.errors import BusyError
from stages.contract.escape import one_line

STORE = Path("data/.work/registry.lock")  # of MLflow's store: one process of this project at a time


class Lock:
    """The lock file of a folder: it names the holder, and contains what `says` adds.

    `before` is what the last holder wrote, also after it let go: the next one may have to end what
    that one had begun.
    """

    def __init__(self, work: Path, **says: str) -> None:
        self.work, self.says = work, says
        self.before: dict[str, Any] = {}
        work.mkdir(parents=True, exist_ok=True)
        self.file = (work / "lock").open("a+", encoding="utf-8")

    def take(self) -> None:
        """Take the lock until the file is closed, and write nothing.

        Raises BusyError, which names the holder.
        """
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._read()
            holder = (
                f"process {owner['pid']} on {owner['host']} "
                f"has held it since {owner['since']} ({owner['command']})"
                if owner
                else "another process holds it"
            )
            raise BusyError(
                f"{self.work}/lock: {one_line(holder, 400)}; wait for it, or stop it"
            ) from None

    def __enter__(self) -> Path:
        self.take()
        self.before = self._read()
        command = " ".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(
            json.dumps(
                {
                    **process(os.getpid()),
                    "since": since,
                    "command": one_line(command, 200),
                    **self.says,
                }
            )
        )
        return self.work

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _read(self) -> dict[str, Any]:
        self.file.seek(0)
        try:
            return json.loads(self.file.read() or "{}")
        except ValueError:  # killed while it wrote
            return {}

    def _write(self, text: str) -> None:
        self.file.truncate(0)
        self.file.write(text)
        self.file.flush()


def process(pid: int) -> dict[str, Any]:
    """Return what tells a process from every other: pid, host, and when it started.

    The start is in seconds since boot, because clocks are set while a process runs.
    """
    started = psutil.Process(pid).create_time() - psutil.boot_time()
    return {"pid": pid, "host": socket.gethostname(), "started": round(started, 2)}


def lives(record: dict[str, Any]) -> bool:
    """Return whether the process that a record names runs on this host.

    Another process of the same number does not count, nor does what is left of the process if no
    parent waits for it.
    """
    try:
        return (
            process(record["pid"]).items() <= record.items()
            and psutil.Process(record["pid"]).status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def holder(work: Path) -> dict[str, Any]:
    """Return what the process that works in a folder wrote into its lock; nothing if none does.

    The lock is not tried, or a process that wants it at this moment would be refused.
    """
    try:
        record = json.loads((work / "lock").read_bytes())
    except (OSError, ValueError):  # there is none, or it is being written
        return {}
    return record if lives(record) else {}


@contextmanager
def alone(path: Path) -> Generator[None]:
    """Wait until no process of this host is in a block with the same file, and keep others out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
