"""The neighbours of each supervoxel, row by row, averages over them and how much they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part


@njit(cache=True, nogil=True)
def find_neighbours(
    edges: NDArray[np.signedinteger[Any]], area: NDArray[np.float64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Return where the rows of 0..n-1 begin (n + 1,), the neighbours of each, ascending, and their shares of its area.

    `edges` (m, 2) holds ids 1..n, a < b, sorted. Who has no neighbour, or none with an area, is its own.
    """
    total = np.zeros(n, np.float64)
    for e in range(len(edges)):  # the lower neighbours first: in each row the sum goes upwards
        total[edges[e, 1] - 1] += area[e]
    for e in range(len(edges)):
        total[edges[e, 0] - 1] += area[e]
    starts = np.zeros(n + 1, np.int64)
    for e in range(len(edges)):
        for side in range(2):
            starts[edges[e, side]] += total[edges[e, side] - 1] > 0
    for row in range(n):
        starts[row + 1] += starts[row] + (total[row] == 0)
    neighbours = np.empty(starts[n], np.int32)
    weights = np.empty(starts[n], np.float32)
    at = starts[:n].copy()
    for row in range(n):
        if total[row] == 0:
            neighbours[at[row]], weights[at[row]] = row, 1
    for side in range(2):
        for e in range(len(edges)):
            row = edges[e, 1 - side] - 1
            if total[row] > 0:
                neighbours[at[row]] = edges[e, side] - 1
                weights[at[row]] = (1 / total[row]) * area[e]
                at[row] += 1
    return starts, neighbours, weights


@njit(cache=True, nogil=True)
def average(
    starts: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    weights: NDArray[np.float32],
    values: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Set `out` (r, f) to the weighted sums of the rows of `values` that are neighbours; `starts` (r + 1,)."""
    for row in range(len(out)):
        out[row] = 0
        for k in range(starts[row], starts[row + 1]):
            weight, other = weights[k - starts[0]], neighbours[k - starts[0]]
            for column in range(out.shape[1]):
                out[row, column] += weight * values[other, column]


@njit(cache=True, nogil=True)
def average_and_spread(
    starts: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    weights: NDArray[np.float32],
    values: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Set `out` (r, 2 c) to c means over the neighbours and c variances around them, given those of `values` (., 2 c).

    By the law of total variance, the mean of the variances and the variance of the means: no sum of squares that
    cancels. The weights of a row sum to 1.
    """
    c = out.shape[1] // 2
    for row in range(len(out)):
        out[row] = 0
        for k in range(starts[row], starts[row + 1]):
            weight, other = weights[k - starts[0]], neighbours[k - starts[0]]
            for column in range(c):
                out[row, column] += weight * values[other, column]
        for k in range(starts[row], starts[row + 1]):
            weight, other = weights[k - starts[0]], neighbours[k - starts[0]]
            for column in range(c):
                apart = values[other, column] - out[row, column]
                out[row, c + column] += weight * (values[other, c + column] + apart * apart)


@njit(cache=True, nogil=True)
def favour_alike(
    starts: NDArray[np.int64],
    neighbours: NDArray[np.int32],
    weights: NDArray[np.float32],
    looks: NDArray[np.float64],
) -> None:
    """Multiply the weights of each row by exp(-d²), d the distance between `looks` (n, c); they sum to 1 again.

    Rows without an area have one neighbour, themselves.
    """
    for row in range(len(starts) - 1):
        # The distance to the neighbour most alike is left out, which the sum would cancel: not all weights vanish.
        least = np.inf
        for k in range(starts[row], starts[row + 1]):
            if weights[k] > 0:
                least = min(least, _squared_distance(looks, row, neighbours[k]))
        total = 0.0
        for k in range(starts[row], starts[row + 1]):
            if weights[k] > 0:
                weights[k] *= np.exp(least - _squared_distance(looks, row, neighbours[k]))
                total += weights[k]
        for k in range(starts[row], starts[row + 1]):
            weights[k] /= total


@part()
def _squared_distance(looks: NDArray[np.float64], a: int, b: int) -> float:
    total = 0.0
    for c in range(looks.shape[1]):
        total += (looks[a, c] - looks[b, c]) ** 2
    return total
