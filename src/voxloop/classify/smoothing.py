"""Neighbouring supervoxels tend to be of one class: probabilities averaged along the graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.supervoxels import Adjacency


def smooth(probabilities: NDArray[np.float32], graph: Adjacency, rounds: int) -> NDArray[np.float32]:
    """Return (P + A P) / 2, `rounds` times over; A averages over the neighbours, weighted by contact area.

    Parameters
    ----------
    probabilities
        (n, k), rows sum to 1, and so do those of the result.
    graph
        Which of the n supervoxels touch.
    rounds
        0 gives the probabilities themselves.
    """
    if graph.n != len(probabilities):
        raise InputError(f"graph has {graph.n} supervoxels but probabilities has {len(probabilities)} rows")
    average = graph.averaging()
    smoothed = probabilities
    for _ in range(rounds):
        smoothed = np.asarray((smoothed + average @ smoothed) / 2, np.float32)
    return smoothed
