"""Ask DVC for the graph of stages, and for what it finds changed.

Both are written once, in dvc.yaml. No other module uses DVC's Python API.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contract.errors import DagError
from stages.contract.escape import one_line


@dataclass(frozen=True)
class Dag:
    """The stages, what DVC finds changed, and the .dvc files of imports.

    waits maps each stage to the stages that it waits for, in an order in which they can run.
    changed maps a stage to DVC's own list of reasons. A stage behind a changed one is changed only
    if that one will write other bytes. busy are the stages that DVC cannot look at, because they or
    what they read are being written. What `dvc add` tracks has no command and is no stage.
    """

    waits: dict[str, list[str]]
    changed: dict[str, list[Any]]
    busy: list[str]
    imports: list[str]

    def may_run(self, forced: tuple[str, ...] = ()) -> set[str]:
        """Return the stages that changed, those whose address starts as in forced, and all behind.

        No other stage runs.
        """
        found = set[str]()
        for stage, befores in self.waits.items():
            if stage in self.changed or stage.startswith(forced) or not found.isdisjoint(befores):
                found.add(stage)
        return found


def ask(root: Path, keys: set[str] | None = None, idle: bool = True) -> Dag:
    """Return the DAG of all tasks, or of those with a key; root is the working directory.

    Raises DagError with DVC's own words, also if a stage runs that must be idle.
    """
    with _repo(root) as repo:
        graph = repo.index.graph
        ordered = _ordered(graph, keys)
        stages = [stage for stage in ordered if stage.cmd]
        waits = {
            stage.addressing: sorted(of.addressing for of in graph.successors(stage) if of.cmd)
            for stage in stages
        }
        changed, busy = _status(repo, stages, idle)
        return Dag(waits, changed, busy, [stage.addressing for stage in ordered if stage.is_import])


def _status(repo: Any, stages: list[Any], idle: bool) -> tuple[dict[str, list[Any]], list[str]]:
    """Return what DVC finds changed, and what it cannot look at.

    It is asked for each stage: Repo.status looks for each target anew, which takes five times as
    long, and says nothing at all while a stage runs.
    """
    from dvc.lock import LockError

    changed, busy = dict[str, list[Any]](), list[str]()
    with repo.lock:
        for stage in stages:
            try:
                changed |= stage.status()
            except LockError:
                if idle:
                    raise
                busy.append(stage.addressing)
    return changed, busy


@contextmanager
def _repo(root: Path) -> Generator[Any]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root), _wait_for_lock=True) as repo:
            yield repo
    except DvcException as error:
        raise DagError(f"dvc: {one_line(' '.join(str(error).split()), 600)}") from error


def _ordered(graph: Any, keys: set[str] | None) -> list[Any]:
    """Return the stages of these tasks, and what they wait for, in an order that can run."""
    import networkx

    # an edge points from a stage to one that it depends on
    wanted = {stage for stage in graph if keys is None or _key(stage.addressing) in keys}
    wanted |= {before for stage in wanted for before in networkx.descendants(graph, stage)}
    return list(reversed(list(networkx.topological_sort(graph.subgraph(wanted)))))


def reduced(waits: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what each stage waits for, without what one of those already waits for."""
    import networkx

    graph = networkx.DiGraph((of, before) for of, befores in waits.items() for before in befores)
    graph.add_nodes_from(waits)
    least = networkx.transitive_reduction(graph)
    return {stage: list(least.successors(stage)) for stage in waits}


def _key(address: str) -> str:
    return address.rpartition("@")[2]
