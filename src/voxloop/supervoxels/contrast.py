"""Neighbours that look alike: walks along the graph that hardly cross edges of the image.

What is averaged over such neighbours stays within regions (anisotropic diffusion: Perona, Malik, *Scale-space and edge
detection using anisotropic diffusion*, IEEE TPAMI 12, 1990). docs/decisions/0025 and 0027.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxloop.kernels.adjacency import favour_alike
from voxloop.supervoxels.model import Adjacency

# Neighbours that differ as much as most do weigh exp(-2), an eighth of those that are alike.
SHARPNESS = 2.0
_CONTACTS = 100_000  # that tell how much neighbours differ

Neighbours = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


def column(values: NDArray[np.float32], which: int, ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return one column (m,) of a table of features, for supervoxels (m,)."""
    return np.asarray(values[ids.astype(np.int64) - 1, which], np.float64)


def squared_differences(graph: Adjacency, values: NDArray[np.float32], which: int) -> NDArray[np.float64]:
    """Return by how much touching supervoxels differ in one column, squared; of many contacts only some."""
    some = graph.edges[:: 1 + len(graph.edges) // _CONTACTS]
    ids, place = np.unique(some, return_inverse=True)
    of_contact = column(values, which, ids)[place.reshape(some.shape)]
    squared: NDArray[np.float64] = (of_contact[:, 0] - of_contact[:, 1]) ** 2
    return squared


def typical_contrast(differences: Sequence[NDArray[np.float64]]) -> float:
    """Return the median of squared differences; above 0."""
    squared = np.concatenate([np.empty(0), *differences])
    # Where most neighbours are alike, such as in a constant image, by the mean; where all are, by anything.
    typical = (float(np.median(squared)) or float(squared.mean())) if squared.size else 0.0
    return typical or 1.0


def alike_neighbours(graph: Adjacency, intensity: NDArray[np.float64], contrast: NDArray[np.float64]) -> Neighbours:
    """Return the neighbours of `Adjacency.neighbours`, weighted by contact area times exp(-2 d² / contrast).

    Parameters
    ----------
    graph
        Which of n supervoxels touch.
    intensity
        (n, c), d is the difference of a column; of d² / contrast the mean over the columns counts.
    contrast
        (c,) squared difference that neighbours typically have; above 0.
    """
    starts, neighbours, weights = graph.neighbours()
    favour_alike(starts, neighbours, weights, intensity * np.sqrt(SHARPNESS / (contrast * contrast.size)))
    return starts, neighbours, weights
