"""End a stage that a signal stops.

It ends immediately or, if it can go on later, when it has kept what it has reached.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, parent_process

from stages import PARENT

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """Say which signal it was and what is left.

    The exit code is the one that a shell gives: 128 plus the signal's number.
    """

    def __init__(self, number: int, left: str) -> None:
        super().__init__(128 + number)
        self.line = f"stopped by {signal.Signals(number).name}; {left}"


@dataclass
class Wish:
    """The number of the signal that asks to stop, once one did."""

    number: int | None = None


def with_parent() -> None:
    """Die, from now on, as soon as the thread that started this process does.

    Linux does this by PR_SET_PDEATHSIG. Exit immediately if the parent is gone already.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    if os.getppid() != PARENT:
        sys.exit(f"refit: the parent process {PARENT} is gone")


def end_with_parent() -> None:
    """Make a worker process end with its parent, kill -9 included."""
    parent = parent_process()
    if parent is not None:
        threading.Thread(
            target=lambda: connection.wait([parent.sentinel]) and os._exit(1), daemon=True
        ).start()


def at_once() -> None:
    """Raise Stopped, from now on, wherever the process is when a signal comes."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number, "what was half made is removed")

    for signum in SIGNALS:
        signal.signal(signum, stop)


@contextmanager
def deferred(seconds: int, left: str) -> Generator[Wish]:
    """Note the first signal, so that the block can raise Stopped at a point to go on from.

    Raise Stopped with `left` if the block takes longer than `seconds` to do so.
    """
    wish = Wish()

    def note(number: int, _: object) -> None:
        if wish.number is None:
            wish.number = number
            signal.alarm(seconds)

    def end(*_: object) -> None:
        raise Stopped(wish.number or signal.SIGALRM, left)

    before = {signum: signal.signal(signum, note) for signum in SIGNALS} | {
        signal.SIGALRM: signal.signal(signal.SIGALRM, end)
    }
    try:
        yield wish
    finally:
        signal.alarm(0)
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if wish.number is not None:  # the signal came when the block was all but done
        raise Stopped(wish.number, left)
