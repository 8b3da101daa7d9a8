"""Show the DAG of a task in a terminal: what each stage waits for, and what DVC finds changed."""

from dataclasses import dataclass
from pathlib import Path

from stages.commands import status
from stages.contract import progress, settings
from stages.contract.escape import one_line
from stages.project import graph

HEAD = ("stage", "waits for", "last time", "state")


@dataclass(frozen=True)
class Node:
    """A stage: the stages that it waits for, how many seconds it took last time, and its state.

    A stage that another one of `after` waits for too is left out of it. seconds is null if the
    stage has not run.
    """

    stage: str
    after: list[str]
    seconds: float | None
    state: str


def dag(task: str | None) -> list[Node]:
    """Ask DVC for the stages of a task, or of all; sources come first, then one task after another.

    Each stage comes after those that it waits for. Raises ParamsError if there is no such task.
    """
    keys = {task} if task and settings.task(task) else None
    found = graph.ask(Path.cwd(), keys, idle=False)
    nodes = [
        Node(stage, sorted(after), status.seconds(stage), _state(stage, found))
        for stage, after in graph.reduced(found.waits).items()
    ]
    places = {key: place for place, key in enumerate(settings.load().tasks)}
    return sorted(nodes, key=lambda node: _place(node.stage, places))


def _place(stage: str, places: dict[str, int]) -> int:
    name, _, key = stage.partition("@")
    return -1 if name == "fetch" else places[key]


def told(nodes: list[Node]) -> list[str]:
    """Return the stages as lines of a table for a person to read."""
    rows = [HEAD, *map(_row, nodes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(node: Node) -> tuple[str, ...]:
    took = "" if node.seconds is None else progress.spell(node.seconds)
    return node.stage, ", ".join(node.after), took, one_line(node.state, 46)


def _state(stage: str, found: graph.Dag) -> str:
    if stage in found.busy:
        return status.running(stage)
    if stage in found.changed:
        return status.why(found.changed[stage])
    return "up to date"
