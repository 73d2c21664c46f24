"""Intensities to fixed point in one pass over the voxels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int16 = NDArray[np.int16]

LARGEST = 32767


@njit(cache=True, nogil=True)
def to_fixed_point(values: Float32, weight: np.float32, fixed: Int16) -> None:
    """Write `values` (z, y, x) times `weight`, rounded and clipped to +-32767, to `fixed`."""
    for z in range(values.shape[0]):
        for y in range(values.shape[1]):
            row, target = values[z, y], fixed[z, y]
            for x in range(row.size):
                target[x] = min(max(np.rint(row[x] * weight), np.float32(-LARGEST)), np.float32(LARGEST))
