"""How often each label meets each label of another volume, counted in one pass."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.tally import add, empty_table, entries, grown

Int64 = NDArray[np.int64]

SECOND_BITS = 31  # of a key that hold the second label; the first has the 32 above


@njit(cache=True, nogil=True)
def contingency(first: Int64, second: Int64) -> tuple[Int64, Int64]:
    """Count the pairs of labels that two volumes have at the same voxel.

    Parameters
    ----------
    first, second
        int64 (z, y, x); voxels where one is negative are not counted. `second` is below 2^31, `first` below 2^32.

    Returns
    -------
    keys : int64 (m,)
        `first` shifted by `SECOND_BITS`, plus `second`; in no particular order.
    counts : int64 (m,)
        Voxels of each pair.
    """
    nz, ny, nx = first.shape
    table, used = empty_table(64), 0
    for r in range(nz * ny):
        while 2 * (used + nx) > table.shape[0]:  # a row adds at most one key a voxel
            table = grown(table)
        a, b = first[r // ny, r % ny], second[r // ny, r % ny]
        x = 0
        while x < nx:
            end = x + 1
            while end < nx and a[end] == a[x] and b[end] == b[x]:
                end += 1
            if a[x] >= 0 and b[x] >= 0:
                used += add(table, (a[x] << SECOND_BITS) + b[x], end - x)
            x = end
    found = entries(table)
    return found[:, 0].copy(), found[:, 1].copy()
