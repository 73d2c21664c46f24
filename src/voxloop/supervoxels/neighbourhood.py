"""Parts of the graph of supervoxels: what can be computed near some of them without the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxloop.kernels.pieces import join
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


def pieces_of_a_class(graph: Adjacency, classes: NDArray[np.integer]) -> tuple[NDArray[np.int32], int]:
    """Return which connected piece of one class each supervoxel belongs to, and how many pieces there are.

    Parameters
    ----------
    graph
        Which of the n supervoxels touch.
    classes
        (n,) the class of each.

    Returns
    -------
    piece : int32 (n,)
        From 0, in the order of the pieces' first supervoxels.
    n_pieces : int
        Their number.
    """
    # Union-find takes 13 bytes a contact, a sparse matrix of both directions 40.
    alike = [np.empty((0, 2), np.int32)]
    for edges, _ in graph.parts():
        pairs = np.subtract(edges, 1, dtype=np.int32, casting="same_kind")
        alike.append(pairs[classes[pairs[:, 0]] == classes[pairs[:, 1]]])
    return join(graph.n, np.concatenate(alike))
