"""Asks DVC for the graph of stages: it is written once, in dvc.yaml. The only door to DVC's Python API."""

from pathlib import Path


def stages(root: Path, keys: set[str] | None = None) -> dict[str, list[str]]:
    """Return stage -> the stages it waits for, in an order in which they can run; root is the working directory.

    What `dvc add` tracks has no command and is no stage. With keys only the stages of those tasks are returned, and those of the sources that they wait for.
    """
    import networkx
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        graph = repo.index.graph  # an edge points from a stage to one that it depends on
        wanted = {stage for stage in graph if keys is None or _key(stage.addressing) in keys}
        wanted |= {before for stage in wanted for before in networkx.descendants(graph, stage)}
        order = reversed(list(networkx.topological_sort(graph.subgraph(wanted))))
        waits = {stage: [before for before in graph.successors(stage) if before.cmd] for stage in order if stage.cmd}
        return {stage.addressing: sorted(before.addressing for before in befores) for stage, befores in waits.items()}


def _key(address: str) -> str:
    return address.rpartition("@")[2]
