"""Reduce voxel responses to sums per supervoxel of a block."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@njit(cache=True, nogil=True, error_model="numpy")
def number_locally(labels: NDArray[np.uint32], lookup: Int32, local: Int32) -> tuple[Int64, Int64]:
    """Give the supervoxels of a block local numbers 1, 2, ... in the order of their first voxels.

    Parameters
    ----------
    labels
        (m,) uint32, 0 outside.
    lookup
        (n + 1,) int32, all 0.
    local
        (m,) int32, is filled with the local numbers, 0 outside.

    Returns
    -------
    ids, counts
        (k,) int64: supervoxels and their numbers of voxels, in the order of the local numbers.
    """
    ids = np.empty(1024, np.int64)
    counts = np.empty(1024, np.int64)
    n = 0
    start = 0
    while start < labels.size:
        label = labels[start]
        stop = start + 1
        while stop < labels.size and labels[stop] == label:
            stop += 1
        number = lookup[label]
        if number == 0 and label != 0:
            if n == ids.size:
                ids = np.concatenate((ids, np.empty_like(ids)))
                counts = np.concatenate((counts, np.empty_like(counts)))
            ids[n] = label
            counts[n] = 0
            n += 1
            number = np.int32(n)
            lookup[label] = number
        if label != 0:
            counts[number - 1] += stop - start
        for i in range(start, stop):
            local[i] = number
        start = stop
    return ids[:n].copy(), counts[:n].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def _add_run_5(
    flat: Float32, stride: int, first: int, stop: int, sums: Float64, squares: Float64, row: int, k: int
) -> None:
    """Add the voxels first..stop of five responses, `stride` apart, to the moments of one supervoxel."""
    s0 = s1 = s2 = s3 = s4 = 0.0
    q0 = q1 = q2 = q3 = q4 = 0.0
    for i in range(first, stop):
        v0, v1, v2 = np.float64(flat[i]), np.float64(flat[i + stride]), np.float64(flat[i + 2 * stride])
        v3, v4 = np.float64(flat[i + 3 * stride]), np.float64(flat[i + 4 * stride])
        s0 += v0
        s1 += v1
        s2 += v2
        s3 += v3
        s4 += v4
        q0 += v0 * v0
        q1 += v1 * v1
        q2 += v2 * v2
        q3 += v3 * v3
        q4 += v4 * v4
    sums[row, k] += s0
    sums[row, k + 1] += s1
    sums[row, k + 2] += s2
    sums[row, k + 3] += s3
    sums[row, k + 4] += s4
    squares[row, k] += q0
    squares[row, k + 1] += q1
    squares[row, k + 2] += q2
    squares[row, k + 3] += q3
    squares[row, k + 4] += q4


@njit(cache=True, nogil=True, error_model="numpy")
def add_moments(responses: Float32, local: Int32, sums: Float64, squares: Float64) -> None:
    """Add voxels to the sums and the sums of squares of their supervoxels, run by run along x.

    Parameters
    ----------
    responses
        (k, rows, x) float32.
    local
        (rows, x) int32 local numbers 1..m; 0 is left out.
    sums, squares
        (m, k) float64. The square of a float32 is exact in float64, so that an offset of the intensities costs no
        digits of the variance.
    """
    n_responses, n_rows, n_x = responses.shape
    flat, numbers = responses.reshape(-1), local.reshape(-1)
    stride = n_rows * n_x
    for row in range(n_rows):
        start, end = row * n_x, (row + 1) * n_x
        while start < end:
            number = numbers[start]
            stop = start + 1
            while stop < end and numbers[stop] == number:
                stop += 1
            if number != 0:
                k = 0
                while k + 5 <= n_responses:  # five responses at a time keep ten sums in registers
                    first = k * stride + start
                    _add_run_5(flat, stride, first, k * stride + stop, sums, squares, number - 1, k)
                    k += 5
                for rest in range(k, n_responses):
                    total, square = 0.0, 0.0
                    for i in range(rest * stride + start, rest * stride + stop):
                        value = np.float64(flat[i])
                        total += value
                        square += value * value
                    sums[number - 1, rest] += total
                    squares[number - 1, rest] += square
            start = stop
