"""Join rows into groups by confirmed pairs; pairs that were only proposed join nothing."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Rows = npt.NDArray[np.intp]

# Rows or pairs in one piece of work; fingerprints of pictures take 8 MiB as 32-bit floats.
CHUNK = 2048


def linked(rows: int, pairs: Rows) -> Rows:
    """Return each row's group, named by its smallest row.

    Rows are in one group if a chain of pairs (pairs, 2) joins them.
    """
    graph = csr_array(
        (np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows)
    )
    label = connected_components(graph, directed=False)[1]
    return np.unique(label, return_index=True)[1][label]


def confirmed(rows: int, proposals: Iterable[Rows], confirm: Callable[[Rows], Rows]) -> Rows:
    """Return confirmed pairs (pairs, 2), enough to link every group.

    `confirm` takes some pairs and returns those that are near. It is not asked about pairs that
    earlier proposals have already linked.
    """
    together, joined = np.arange(rows), np.empty((0, 2), np.intp)
    for proposed in proposals:
        fresh = proposed[together[proposed[:, 0]] != together[proposed[:, 1]]]
        near = np.concatenate(
            [np.empty((0, 2), np.intp), *(confirm(some) for some in chunks(fresh))]
        )
        ends, code = np.unique(together[near], return_inverse=True)
        group = np.arange(rows)
        group[ends] = ends[linked(len(ends), code.reshape(-1, 2))]
        together, joined = group[together], np.concatenate([joined, near])
    return joined


def chunks(rows: Rows, size: int = CHUNK) -> Iterator[Rows]:
    """Yield rows, `size` at a time."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
