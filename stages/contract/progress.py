"""Show how far long work has come and about how long the rest takes.

A terminal shows a bar, anything else gets plain lines.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

LONG = 10  # seconds: shorter work shows nothing
LOOK = 2  # seconds that the work must have taken before the rest is estimated
EVERY = 10  # seconds between two lines


class Progress:
    """How much of a piece of work is done, on the terminal or in the log.

    No result depends on it.
    """

    def __init__(
        self, what: str, total: int, unit: str = "rows", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.what, self.total, self.unit, self.clock = what, total, unit, clock
        self.done = 0
        self.began = clock()
        self.shown: float | None = None
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()

    def advance(self, count: int = 1) -> None:
        """Count work that was done, and show the progress if it is time to."""
        self.done += count
        now = self.clock()
        taken = now - self.began
        if self.bar:
            self.bar.update(self.task, completed=self.done)
        elif self.shown is not None:
            if now - self.shown >= EVERY and self.done < self.total:
                self._show(now)
        elif taken >= LOOK and self.done < self.total and taken * self.total >= LONG * self.done:
            self._show(now)

    def _show(self, now: float) -> None:
        self.shown = now
        if sys.stderr.isatty():
            self._draw()
            return
        left = (now - self.began) / self.done * (self.total - self.done)
        print(
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, about {spell(left)} left",
            flush=True,
        )

    def _draw(self) -> None:
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn(f"{self.unit}, left about"),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task(self.what, total=self.total, completed=self.done)
        self.bar.start()


def follow(
    items: Iterable[T],
    what: str,
    total: int,
    unit: str = "rows",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Yield the items, and show how many of them were worked on.

    An item counts once the next one is asked for.
    """
    with Progress(what, total, unit, clock) as progress:
        for item in items:
            yield item
            progress.advance()


def spell(seconds: float) -> str:
    """Return a duration as a person says it: 14 s, 3 min, 1 h 20 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
