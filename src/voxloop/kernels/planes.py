"""The best plane through a point, by branch and bound over its normal."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SLACK = 1e-9  # the bound must not lose the best plane to rounding


@njit(cache=True, nogil=True)
def branch_and_bound(
    directions: Float64, sines: Float64, cosines: Float64, weights: Int64, lower: int, eps: float, min_angle: float
) -> tuple[Float64, int, int]:
    """Return the normal of the plane through the origin that cuts balls of the highest weight, and bounds of it.

    Ball j lies in the direction `directions[:, j]` (unit vectors (3, s)) and is seen under the angle with `sines[j]`
    and `cosines[j]`; a sine of 1 or more says that every plane cuts it. Integer weights make sums exact, so that the
    order of the balls does not matter.

    The half-sphere of normals is cut into four spherical triangles, the one with the highest upper bound is split in
    four at the middles of its sides, and so on, until no bound passes the weight found by more than the share `eps`.
    Triangles of an angular radius below `min_angle` (radians) are not split. The weight found starts at `lower`; the
    normal is zero if none is above it.
    """
    best = np.zeros(3)
    closed = 0  # the highest bound of a triangle that was left
    heap: list[tuple[int, int]] = [(-_sum(weights), 0)]
    triangles = np.empty((64, 3, 3))
    n_triangles = 1
    corners = np.empty((4, 3, 3))
    while len(heap) > 0:
        parent, cell = heappop(heap)
        if -parent <= (1.0 + eps) * lower:
            closed = max(closed, -parent)
            break
        if cell == 0:
            _octants(corners)
        else:
            _split(triangles[cell], corners)
        for k in range(4):
            center, cos_delta = _circumscribe(corners[k])
            sin_delta = np.sqrt(max(0.0, 1.0 - cos_delta * cos_delta))
            upper, score = _weigh(directions, sines, cosines, weights, center, sin_delta, cos_delta)
            bound = min(upper, -parent)
            if score > lower:
                lower = score
                best[0], best[1], best[2] = center
            if bound <= (1.0 + eps) * lower or sin_delta < min_angle:
                closed = max(closed, bound)
                continue
            if n_triangles == len(triangles):
                grown = np.empty((2 * n_triangles, 3, 3))
                for i in range(n_triangles):
                    _copy(grown[i], triangles[i])
                triangles = grown
            _copy(triangles[n_triangles], corners[k])
            heappush(heap, (-bound, n_triangles))
            n_triangles += 1
    return best, lower, max(lower, closed)


@part()
def _weigh(
    directions: Float64,
    sines: Float64,
    cosines: Float64,
    weights: Int64,
    normal: tuple[float, float, float],
    sin_delta: float,
    cos_delta: float,
) -> tuple[int, int]:
    """Return what a normal within the angle delta of `normal` can cut at most, and what `normal` itself cuts."""
    z, y, x = directions[0], directions[1], directions[2]
    mz, my, mx = normal
    upper = 0
    lower = 0
    for j in range(len(weights)):
        t = abs(mz * z[j] + my * y[j] + mx * x[j])
        # sin(alpha + delta); from a right angle on, every plane of the cell cuts the ball
        reached = (t <= sin_delta * cosines[j] + cos_delta * sines[j] + _SLACK) | (sines[j] >= cos_delta)
        upper += reached * weights[j]
        lower += (t <= sines[j]) * weights[j]
    return upper, lower


@part()
def _sum(weights: Int64) -> int:
    total = 0
    for weight in weights:
        total += weight
    return total


@part()
def _copy(into: Float64, triangle: Float64) -> None:
    """Copy a triangle; for an assigned slice numba compiles seconds of error messages."""
    for i in range(3):
        for j in range(3):
            into[i, j] = triangle[i, j]


@part()
def _octants(corners: Float64) -> None:
    """Write the triangles of the half-sphere z >= 0."""
    corners[:] = 0.0
    for k in range(4):
        corners[k, 0, 0] = 1.0
        corners[k, 1, 1] = 1.0 - 2.0 * (k % 2)
        corners[k, 2, 2] = 1.0 - 2.0 * (k // 2)


@part()
def _split(triangle: Float64, corners: Float64) -> None:
    """Write the four triangles between the corners and the middles of the sides of `triangle`."""
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        norm = 0.0
        for axis in range(3):
            middle = triangle[i, axis] + triangle[j, axis]
            norm += middle * middle
        norm = np.sqrt(norm)
        for axis in range(3):
            middle = (triangle[i, axis] + triangle[j, axis]) / norm
            corners[i, i, axis] = triangle[i, axis]
            corners[i, j, axis] = middle
            corners[j, i, axis] = middle
            corners[3, k, axis] = middle


@part()
def _circumscribe(triangle: Float64) -> tuple[tuple[float, float, float], float]:
    """Return the middle of the circle through the corners of a spherical triangle, and the cosine of its radius."""
    a, b, c = triangle[0], triangle[1], triangle[2]
    bz, by, bx = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    cz, cy, cx = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    z, y, x = by * cx - bx * cy, bx * cz - bz * cx, bz * cy - by * cz
    cosine = z * a[0] + y * a[1] + x * a[2]
    norm = np.sqrt(z * z + y * y + x * x) * (1.0 if cosine > 0.0 else -1.0)
    return (z / norm, y / norm, x / norm), cosine / norm
