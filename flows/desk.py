"""Hand each stage to one of a few DVC processes that run side by side.

A stage that fails says its own line; a flow that is asked to stop asks its stages to.
"""

import queue
import re
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from flows.reproduce import Dvc
from stages.contract import stopping
from stages.contract.errors import RefitError
from stages.contract.escape import one_line
from stages.project import graph


class StageError(RefitError):
    """A stage's command failed; its own line says why.

    exit_code is the command's own, or 1 if DVC did not start it.
    """

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code


class Desk:
    """Hands each stage to one of a few DVC processes, and stops all when the flow is asked to."""

    def __init__(self, side_by_side: int) -> None:
        self.stopped = 0
        self.closed = threading.Event()
        self.ran: list[str] = []
        self.all = [Dvc() for _ in range(side_by_side)]
        self.free: queue.Queue[Dvc] = queue.Queue()
        for dvc in self.all:
            self.free.put(dvc)

    @contextmanager
    def borrowed(self) -> Generator[Dvc]:
        """Yield a DVC that is free; raises StageError once the flow was asked to stop."""
        dvc = self.free.get()
        try:
            if self.stopped:
                raise StageError(
                    f"not started: the flow was stopped by {signal.Signals(self.stopped).name}", 1
                )
            yield dvc
        finally:
            self.free.put(dvc)

    def stop(self, number: int, _: object) -> None:
        """Ask the stages that run to stop, and start no other."""
        if not self.stopped:
            self.stopped = number
            threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        """Ask each stage once, until the desk closes.

        DVC may still be hashing what a stage depends on, and start it only then.
        """
        asked = set[psutil.Process]()
        while not self.closed.wait(0.1):
            for child in [child for dvc in self.all for child in dvc.below() if child not in asked]:
                asked.add(child)
                with suppress(psutil.NoSuchProcess):
                    child.terminate()

    @contextmanager
    def open(self) -> Generator["Desk"]:
        """Stop the stages when this process is asked to; end the DVC processes at the end."""
        main = threading.current_thread() is threading.main_thread()
        before = (
            {number: signal.signal(number, self.stop) for number in stopping.SIGNALS}
            if main
            else {}
        )
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.closed.set()
            for dvc in self.all:
                dvc.close()


def update(dag: graph.Dag, dvc: Dvc, log: Any) -> None:
    """Bring what `dvc import-url` and `dvc import` track up to date.

    Raises StageError if that is not there.
    """
    for imported in dag.imports:
        with kept(dvc, log, imported):
            said(dvc, log, "--wait-for-lock", "update", imported)


@contextmanager
def kept(dvc: Dvc, log: Any, address: str) -> Generator[None]:
    """Bring back, if the block fails, what DVC took away before it asked a silent source."""
    try:
        yield
    except StageError:
        # it is logged; there was nothing to bring back, and the first reason is the one to report
        with suppress(StageError):
            said(dvc, log, "--wait-for-lock", "checkout", address)
        raise


def said(dvc: Dvc, log: Any, *arguments: str) -> bool:
    """Carry out an order and log each line; return whether a stage changed something.

    Raises StageError with the stage's own line.
    """
    last, changed, code = "", True, 1
    for line in dvc.order(*arguments):
        if isinstance(line, int):
            if line:
                raise StageError(f"{arguments[-1]}: {last or f'dvc ended with {line}'}", code)
            break
        log.info(one_line(line))
        if line.startswith(("refit: ", "ERROR: ")) and not last.startswith("refit: "):
            last = one_line(line)
        if match := re.search(r"exited with (\d+)$", line):
            code = int(match[1])
        changed &= "didn't change, skipping" not in line
    return changed
