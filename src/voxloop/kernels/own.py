"""Sums over the voxels and the faces of supervoxels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Shape3 = tuple[int, int, int]


@njit(cache=True, nogil=True, error_model="numpy")
def add_coordinates(
    starts: NDArray[np.int32],
    numbers: NDArray[np.int32],
    shape: Shape3,
    origin: Shape3,
    inner: Shape3,
    counts: NDArray[np.int64],
    moments: NDArray[np.float64],
) -> None:
    """Add the voxels of runs to `counts` (m,) and their coordinates and products of these to `moments` (m, 9).

    Parameters
    ----------
    starts, numbers
        Runs of a box of `shape` (z, y, x) and their local numbers, 0 is left out; see `pooling.find_runs`.
    origin
        Where the box lies in the volume.
    inner
        (z, y, x): only voxels of this part of the box count, from its first voxel on.
    moments
        Sums of z, y, x, zz, yy, xx, zy, zx, yx: whole numbers, so that they are exact in any order.
    """
    n_x = shape[2]
    for run in range(numbers.size):
        if numbers[run] == 0:
            continue
        row, first = starts[run] // n_x, starts[run] % n_x
        z, y = row // shape[1], row % shape[1]
        stop = min(first + starts[run + 1] - starts[run], inner[2])
        n = stop - first
        if n <= 0 or z >= inner[0] or y >= inner[1]:
            continue
        z, y, a, b = z + origin[0], y + origin[1], first + origin[2], stop + origin[2]
        sum_x = np.float64(n * (a + b - 1) // 2)
        # The sum of squares below b, less that below a.
        sum_xx = np.float64((b - 1) * b * (2 * b - 1) // 6 - (a - 1) * a * (2 * a - 1) // 6)
        at = numbers[run] - 1
        counts[at] += n
        m = moments[at]
        m[0] += n * z
        m[1] += n * y
        m[2] += sum_x
        m[3] += np.float64(n) * z * z
        m[4] += np.float64(n) * y * y
        m[5] += sum_xx
        m[6] += np.float64(n) * z * y
        m[7] += z * sum_x
        m[8] += y * sum_x


@njit(cache=True, nogil=True, error_model="numpy")
def add_faces(
    local: NDArray[np.int32],
    gradient: NDArray[np.float32],
    inner: Shape3,
    areas: NDArray[np.float64],
    faces: NDArray[np.float64],
) -> None:
    """Add the faces between supervoxels to both of them: area, and area times the mean gradient of the two voxels.

    Parameters
    ----------
    local
        (z, y, x) int32 local numbers 1..m, 0 outside.
    gradient
        (c, z, y, x) float32.
    inner
        (z, y, x): faces between a voxel of this part of the box, from its first voxel on, and the next along an axis.
    areas
        (3,) area of a face across each axis.
    faces
        (m, 1 + c) float64.
    """
    n_z, n_y, n_x = local.shape
    for z in range(inner[0]):
        for y in range(inner[1]):
            for x in range(inner[2]):
                here = local[z, y, x]
                if here == 0:
                    continue
                for axis in range(3):
                    z2, y2, x2 = z + (axis == 0), y + (axis == 1), x + (axis == 2)
                    if z2 == n_z or y2 == n_y or x2 == n_x:
                        continue
                    there = local[z2, y2, x2]
                    if there == 0 or there == here:
                        continue
                    area = areas[axis]
                    faces[here - 1, 0] += area
                    faces[there - 1, 0] += area
                    for c in range(gradient.shape[0]):
                        value = 0.5 * area * (np.float64(gradient[c, z, y, x]) + np.float64(gradient[c, z2, y2, x2]))
                        faces[here - 1, 1 + c] += value
                        faces[there - 1, 1 + c] += value
