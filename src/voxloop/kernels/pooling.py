"""Reduce voxel responses to sums per supervoxel of a block."""

from __future__ import annotations

import numpy as np
from numba import njit

_options = {"cache": True, "nogil": True, "error_model": "numpy"}
LANES = 16  # voxel values are summed in vectors of this length: the 10 responses of a scale fit one


@njit(**_options)
def number_locally(labels, lookup, local):
    """Number the supervoxels of a block 1, 2, ... in the order of their first voxels; return their ids in this order.

    Parameters
    ----------
    labels
        (m,) uint32, 0 outside.
    lookup
        (n + 1,) int32, all 0; used as a workspace and all 0 again afterwards.
    local
        (m,) int32, is filled with the local numbers, 0 outside.
    """
    ids = np.empty(1024, np.uint32)
    n = 0
    for i in range(labels.size):
        label = labels[i]
        if label == 0:
            local[i] = 0
            continue
        number = lookup[label]
        if number == 0:
            if n == ids.size:
                larger = np.empty(2 * n, np.uint32)
                larger[:n] = ids
                ids = larger
            ids[n] = label
            n += 1
            number = n
            lookup[label] = number
        local[i] = number
    for i in range(n):
        lookup[ids[i]] = 0
    return ids[:n].copy()


@njit(**_options)
def add_moments(responses, local, sums, squares):
    """Add voxels to the sums and the sums of squares of their supervoxels.

    Parameters
    ----------
    responses
        (k, rows, x) float32, k at most `LANES`.
    local
        (rows, x) int32 local numbers; 0 is left out.
    sums, squares
        (m + 1, LANES) float64. The square of a float32 is exact in float64, so that an offset of the intensities
        costs no digits of the variance.
    """
    k, n_rows, n_x = responses.shape
    values = np.zeros((n_x, LANES), np.float32)
    for row in range(n_rows):
        for c in range(k):
            response = responses[c, row]
            for x in range(n_x):
                values[x, c] = response[x]
        for x in range(n_x):
            number = local[row, x]
            if number == 0:
                continue
            for c in range(LANES):
                value = np.float64(values[x, c])
                sums[number, c] += value
                squares[number, c] += value * value
