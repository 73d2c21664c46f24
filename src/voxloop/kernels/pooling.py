"""Reduce voxel responses to statistics per supervoxel of a block.

A supervoxel meets a row of voxels in a run: what is done once a run, and not once a voxel, decides the speed, as runs
are three to seven voxels long. Longer ones are cut, so that a run is one vector, and no branch is guessed wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part
from voxloop.kernels.simd import LONGEST_RUN, add_columns

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

_LONGEST = np.uint32(LONGEST_RUN)


@njit(cache=True, nogil=True, error_model="numpy")
def find_runs(labels: NDArray[np.uint32], lookup: Int32) -> tuple[Int32, Int64, Int32, Int64, Int64]:
    """Cut the rows of a block into runs of at most `LONGEST_RUN` equal labels, and number its supervoxels.

    Local numbers are 1, 2, ... in the order of their first voxels. Both are done row by row, while the labels are in
    the cache.

    Parameters
    ----------
    labels
        (z, y, x) uint32 of fewer than 2^31 voxels, 0 outside.
    lookup
        (n + 1,) int32 for supervoxels 1..n, all 0.

    Returns
    -------
    starts
        (m + 1,) int32: voxel where each run starts, in C order; the number of voxels at the end.
    planes
        (z + 1,) int64: the first run of each plane; m at the end.
    numbers
        (m,) int32: local number of each run, 0 outside.
    ids, counts
        (k,) int64: supervoxels and their numbers of voxels, in the order of the local numbers.
    """
    n_z, n_y, n_x = labels.shape
    flat = labels.reshape(-1)
    starts, numbers = np.empty(flat.size + 1, np.int32), np.empty(flat.size, np.int32)
    planes = np.empty(n_z + 1, np.int64)
    # One array: one that could grow takes 6 ns a run.
    ids = np.empty(min(flat.size, lookup.size), np.int64)
    counts = np.zeros(ids.size + 1, np.int64)
    n = np.uint64(0)  # unsigned: an index that may be negative is checked
    n_ids = 0
    first = 0
    for z in range(n_z):
        planes[z] = n
        for _ in range(n_y):
            row = flat[first : first + n_x]
            run = n
            starts[n] = first
            n += np.uint64(1)
            length = np.uint32(0)  # of the run before this voxel, 0 where a new one starts
            for i in range(1, row.size):
                # Written always, counted where it is true: a branch would be guessed wrong at every other run.
                starts[n] = first + i
                length = (length + np.uint32(1)) & (_LONGEST - np.uint32(1) if row[i] == row[i - 1] else np.uint32(0))
                n += np.uint64(length == 0)
            first += n_x
            starts[n] = first
            while run < n:
                label = flat[np.uint32(starts[run])]
                number = lookup[label]
                if number == 0 and label != 0:
                    ids[n_ids] = label
                    n_ids += 1
                    number = np.int32(n_ids)
                    lookup[label] = number
                numbers[run] = number
                counts[np.uint32(number)] += starts[run + np.uint64(1)] - starts[run]
                run += np.uint64(1)
    planes[n_z] = n
    m = np.int64(n)
    return starts[: m + 1].copy(), planes, numbers[:m].copy(), ids[:n_ids].copy(), counts[1 : n_ids + 1].copy()


def _adder(width: Literal[1, 2, 4, 8]) -> Callable[..., None]:
    """Return the kernel that adds `width` responses, from response `k` on; the arrays are flat."""

    @part(error_model="numpy")
    def add(
        responses: Float32,
        stride: int,
        starts: Int32,
        numbers: Int32,
        sums: Float64,
        squares: Float64,
        n_responses: int,
        k: int,
    ) -> None:
        offset = np.int64(starts[0])
        # From here on a vector of so many voxels would reach beyond the last response.
        safe = responses.size - LONGEST_RUN - (k + width - 1) * stride
        for run in range(numbers.size):
            at = (int(numbers[run]) - 1) * n_responses + k
            if at < 0:
                continue
            first, stop = starts[run] - offset, starts[run + 1] - offset
            if first <= safe:
                add_columns(responses, stride, first + k * stride, stop - first, sums, squares, at, width)
                continue
            for column in range(width):
                total, square = 0.0, 0.0
                for i in range(first, stop):
                    value = np.float64(responses[i + (k + column) * stride])
                    total += value
                    square += value * value
                sums[at + column] += total
                squares[at + column] += square

    kernel: Callable[..., None] = add
    return kernel


_add_1, _add_2, _add_4, _add_8 = _adder(1), _adder(2), _adder(4), _adder(8)


@njit(cache=True, nogil=True, error_model="numpy")
def add_moments(responses: Float32, starts: Int32, numbers: Int32, sums: Float64, squares: Float64) -> None:
    """Add voxels to the sums and the sums of squares of their supervoxels, run by run.

    Parameters
    ----------
    responses
        (k, v) float32.
    starts, numbers
        (m + 1,) and (m,) int32: runs of `find_runs` and their local numbers 1..n, 0 is left out. Voxel `starts[0]` of
        the block is the first of the responses.
    sums, squares
        (n, k) float64. The square of a float32 is exact in float64, so that an offset of the intensities costs no
        digits of the variance.
    """
    n, stride = responses.shape
    flat, flat_sums, flat_squares = responses.reshape(-1), sums.reshape(-1), squares.reshape(-1)
    k = np.int64(0)  # not a literal, for which `_add_8` would be compiled once more
    while k + 8 <= n:
        _add_8(flat, stride, starts, numbers, flat_sums, flat_squares, n, k)
        k += 8
    if k + 4 <= n:
        _add_4(flat, stride, starts, numbers, flat_sums, flat_squares, n, k)
        k += 4
    if k + 2 <= n:
        _add_2(flat, stride, starts, numbers, flat_sums, flat_squares, n, k)
        k += 2
    if k < n:
        _add_1(flat, stride, starts, numbers, flat_sums, flat_squares, n, k)


@njit(cache=True, nogil=True, error_model="numpy")
def add_extremes(responses: Float32, starts: Int32, numbers: Int32, lowest: Float32, highest: Float32) -> None:
    """Lower and raise the extremes (n, k) float32 of the supervoxels; the rest as for `add_moments`."""
    for k in range(responses.shape[0]):
        row = responses[k]
        for run in range(numbers.size):
            if numbers[run] == 0:
                continue
            at = numbers[run] - 1
            low, high = lowest[at, k], highest[at, k]
            for i in range(starts[run] - starts[0], starts[run + 1] - starts[0]):
                low = min(low, row[i])
                high = max(high, row[i])
            lowest[at, k], highest[at, k] = low, high


@njit(cache=True, nogil=True, error_model="numpy")
def add_histogram(
    responses: Float32, starts: Int32, numbers: Int32, low: Float32, per_width: Float32, histogram: NDArray[np.uint32]
) -> None:
    """Count the responses in bins (n, k, b) uint32 that start at `low` (k,); the first and the last one are open.

    `per_width` (k,) is how many bins there are to a unit of the response; the rest as for `add_moments`.
    """
    last = histogram.shape[2] - 1
    for k in range(responses.shape[0]):
        row = responses[k]
        for run in range(numbers.size):
            if numbers[run] == 0:
                continue
            bins = histogram[numbers[run] - 1, k]
            for i in range(starts[run] - starts[0], starts[run + 1] - starts[0]):
                position = (row[i] - low[k]) * per_width[k]
                # Compared as float: far outside, a cast to an integer would be undefined.
                bins[int(min(max(position, np.float32(0)), np.float32(last)))] += np.uint32(1)
