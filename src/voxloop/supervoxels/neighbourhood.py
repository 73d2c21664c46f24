"""Parts of the graph of supervoxels: what can be computed near some of them without the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxloop.supervoxels.model import Adjacency


def within_hops(graph: Adjacency, ids: NDArray[np.uint32], hops: int) -> NDArray[np.uint32]:
    """Return the sorted ids of the supervoxels that are at most `hops` contacts away from one of `ids`."""
    near = np.zeros(graph.n + 1, bool)
    near[ids] = True
    for _ in range(hops):
        before = near.copy()
        for edges, _ in graph.parts():
            for a, b in (edges.T, edges.T[::-1]):
                near[b[before[a]]] = True
    return np.flatnonzero(near).astype(np.uint32)


def induced_graph(graph: Adjacency, ids: NDArray[np.uint32]) -> Adjacency:
    """Return the contacts among `ids` (sorted), which are numbered 1, 2, ... in the result."""
    if ids.size == graph.n:
        return graph
    number = np.zeros(graph.n + 1, np.int32)
    number[ids] = np.arange(1, ids.size + 1)
    kept = [(np.empty((0, 2), np.int32), np.empty(0, np.float64))]
    for part, area in graph.parts():
        edges = number[part]
        inside = edges.all(axis=1)
        kept.append((edges[inside], area[inside]))
    edges, areas = (np.concatenate(arrays) for arrays in zip(*kept, strict=True))
    return Adjacency(edges, areas, ids.size)
