"""Which slices each supervoxel of a block meets, and how many voxels each slice shows."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def measure_extent(
    local: NDArray[np.int32],
    first: NDArray[np.int32],
    last: NDArray[np.int32],
    in_z: NDArray[np.int64],
    in_y: NDArray[np.int64],
    in_x: NDArray[np.int64],
) -> None:
    """Widen `first` and `last` (m, 3) by the voxels of a block, and count them a slice along each axis.

    `local` (z, y, x) holds the block's supervoxels by local number 1..m, 0 outside; all results are relative to it.
    """
    for z in range(local.shape[0]):
        for y in range(local.shape[1]):
            inside = 0
            for x in range(local.shape[2]):
                row = local[z, y, x] - 1
                if row < 0:
                    continue
                inside += 1
                in_x[x] += 1
                first[row, 0] = min(first[row, 0], z)
                last[row, 0] = max(last[row, 0], z)
                first[row, 1] = min(first[row, 1], y)
                last[row, 1] = max(last[row, 1], y)
                first[row, 2] = min(first[row, 2], x)
                last[row, 2] = max(last[row, 2], x)
            in_z[z] += inside
            in_y[y] += inside
