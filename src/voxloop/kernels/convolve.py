"""Separable convolution of blocks with short symmetric kernels, row by row along x.

Kernels come as half kernels `taps[0..r]`, mirrored. Additions are in a fixed order, from the centre outwards, so that a
voxel's value does not depend on where the block's edges are.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part
from voxloop.kernels.simd_taps import aligned, sum_taps, sum_taps_rows

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

ROWS = 8  # convolved together along y
RUN = 256  # voxels convolved at a time along z: a column of them stays in the second-level cache
# Planes may be a power of two apart, and then few of their lines can be in a cache side by side: where more planes than
# that on each side are needed, columns of them are copied.
LONG = 4


def mirrored(positions: Int64, length: int) -> Int64:
    """Return positions on an endless axis as voxels of an axis mirrored again and again, edge voxels not repeated."""
    if length == 1:
        return np.zeros_like(positions)
    phase = positions % (2 * (length - 1))
    return np.minimum(phase, 2 * (length - 1) - phase)


@part(error_model="numpy")
def _copy(source: Float32, target: Float32) -> None:
    """Copy a run: for an assigned slice, numba takes seconds to compile error messages."""
    for i in range(target.size):
        target[i] = source[i]


@njit(cache=True, nogil=True, error_model="numpy")
def smooth_z(src: Float32, taps: Float32, rows: Int64, step: int, out: Float32, at: int) -> None:
    """Smooth `src` (z, y, x) along z into `out` (z', y', x), each plane from voxel `at` on.

    Output plane i is centred on entry `taps.size - 1 + i * step` of `rows`, the table of source planes that holds the
    mirrored border.
    """
    out_size = out.shape[1] * out.shape[2]
    size = src.shape[1] * src.shape[2]
    flat, target = src.reshape(-1), out.reshape(-1)
    radius = taps.size - 1
    copied = radius > LONG
    column, stride = (aligned(src.shape[0] * RUN), RUN) if copied else (flat, size)
    offsets = np.empty(rows.size, np.int64)
    for i in range(rows.size):
        offsets[i] = rows[i] * stride
    for start in range(0, size, RUN):
        length = min(RUN, size - start)
        if copied:
            for z in range(src.shape[0]):
                _copy(flat[z * size + start : z * size + start + length], column[z * RUN : z * RUN + length])
        base = 0 if copied else start
        sum_taps_rows(
            target, at + start, out_size, column, base, out.shape[0], length, offsets, radius, step, taps, radius
        )


@njit(cache=True, nogil=True, error_model="numpy")
def smooth_yx(
    src: Float32, taps_y: Float32, rows: Int64, step_y: int, taps_x: Float32, columns: Int64, step_x: int, out: Float32
) -> None:
    """Smooth `src` (z, y, x) along y and x into `out` (z, y', x'); `rows` as in `smooth_z`, `columns` likewise."""
    _, n_y, n_x = out.shape
    width = src.shape[2]
    radius_y, radius_x = taps_y.size - 1, taps_x.size - 1
    offsets_y = np.empty(rows.size, np.int64)
    for i in range(rows.size):
        offsets_y[i] = rows[i] * width
    # Column i + step_x * k is entry k of part i: what a row of output needs lies side by side in each part.
    part = -(-columns.size // step_x)
    offsets_x = np.empty(2 * radius_x + 1, np.int64)
    for i in range(offsets_x.size):
        offsets_x[i] = i % step_x * part + i // step_x
    voxels, target = src.reshape(-1), out.reshape(-1)
    width_x = part * step_x
    along_y, extended = np.empty(ROWS * width, np.float32), np.zeros(ROWS * width_x, np.float32)
    # Between the mirrored ends the table counts up: that part is copied, not looked up.
    low = 0
    while low < columns.size - 1 and columns[low + 1] != columns[low] + 1:
        low += 1
    high = low + 1
    while high < columns.size and columns[high] == columns[high - 1] + 1:
        high += 1
    for z in range(out.shape[0]):
        first = z * src.shape[1] * width
        for y in range(0, n_y, ROWS):
            n_rows, centre = min(ROWS, n_y - y), radius_y + y * step_y
            sum_taps_rows(along_y, 0, width, voxels, first, n_rows, width, offsets_y, centre, step_y, taps_y, radius_y)
            for i in range(n_rows):
                row, mirrored_row = along_y[i * width : (i + 1) * width], extended[i * width_x : (i + 1) * width_x]
                if step_x == 1:
                    for x in range(low):
                        mirrored_row[x] = row[columns[x]]
                    _copy(row[columns[low] : columns[low] + high - low], mirrored_row[low:high])
                    for x in range(high, columns.size):
                        mirrored_row[x] = row[columns[x]]
                else:
                    for k in range(step_x):
                        for x in range((columns.size - k + step_x - 1) // step_x):
                            mirrored_row[k * part + x] = row[columns[x * step_x + k]]
            to = (z * n_y + y) * n_x
            sum_taps(target, to, n_x, extended, 0, width_x, n_rows, n_x, offsets_x, radius_x, taps_x, radius_x)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def interpolate(
    src: Float32,
    low_z: Int64,
    high_z: Int64,
    shares_z: Float32,
    low_y: Int64,
    high_y: Int64,
    shares_y: Float32,
    low_x: Int64,
    step_x: int,
    shares_x: Float32,
    out: Float32,
) -> None:
    """Interpolate `src` (k, z', y', x') linearly into `out` (k, z, y, x).

    Output plane z lies between the source planes `low_z[z]` and `high_z[z]`, at the share `shares_z[z]` of the way;
    rows likewise, and columns between `low_x[x]` and the next one, at shares that repeat after `step_x` columns.
    """
    line = np.empty(src.shape[3], np.float32)
    for k in range(out.shape[0]):
        for z in range(out.shape[1]):
            t_z = shares_z[z]
            for y in range(out.shape[2]):
                t_y = shares_y[y]
                a, b = src[k, low_z[z], low_y[y]], src[k, low_z[z], high_y[y]]
                c, d = src[k, high_z[z], low_y[y]], src[k, high_z[z], high_y[y]]
                for x in range(line.size):
                    near = a[x] + t_y * (b[x] - a[x])
                    far = c[x] + t_y * (d[x] - c[x])
                    line[x] = near + t_z * (far - near)
                row = out[k, z, y]
                for first in range(min(step_x, row.size)):
                    # Columns at the same share: their neighbours lie side by side, and need not be looked up.
                    share, low, n = shares_x[first], low_x[first], (row.size - first + step_x - 1) // step_x
                    near_x = line[low : low + n]
                    if share == 0:
                        for i in range(n):
                            row[first + i * step_x] = near_x[i]
                    else:
                        far_x = line[low + 1 : low + 1 + n]
                        for i in range(n):
                            row[first + i * step_x] = near_x[i] + share * (far_x[i] - near_x[i])
