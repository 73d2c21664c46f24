"""Parts of the graph of supervoxels: what can be computed near some of them without the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxloop.supervoxels.model import Adjacency


def within_hops(graph: Adjacency, ids: NDArray[np.uint32], hops: int) -> NDArray[np.uint32]:
    """Return the sorted ids of the supervoxels that are at most `hops` contacts away from one of `ids`."""
    near = np.zeros(graph.n + 1, bool)
    near[ids] = True
    a, b = graph.edges.T
    for _ in range(hops):
        from_a, from_b = near[a], near[b]
        near[b[from_a]] = True
        near[a[from_b]] = True
    return np.flatnonzero(near).astype(np.uint32)


def induced_graph(graph: Adjacency, ids: NDArray[np.uint32]) -> Adjacency:
    """Return the contacts among `ids` (sorted), which are numbered 1, 2, ... in the result."""
    if ids.size == graph.n:
        return graph
    number = np.zeros(graph.n + 1, np.int64)
    number[ids] = np.arange(1, ids.size + 1)
    edges = number[graph.edges]
    inside = edges.all(axis=1)
    return Adjacency(edges[inside], graph.area[inside], ids.size)
