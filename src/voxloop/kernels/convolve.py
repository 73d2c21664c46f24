"""Separable convolution of blocks with short symmetric kernels, row by row along x.

Kernels come as half kernels `taps[0..r]`: even ones are mirrored, odd ones (first derivatives) change sign. Rows are
addressed in flat arrays as `base + k * stride`, so that one function serves all three axes. Additions are in a fixed
order; only multiply-add contraction is allowed, so a voxel's value does not depend on where the block's edges are.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

RUN = 512  # voxels convolved at a time: long enough to forget the calls, short enough for the first-level cache


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_4_pairs(
    out: Float32,
    src: Float32,
    a1: int,
    b1: int,
    a2: int,
    b2: int,
    a3: int,
    b3: int,
    a4: int,
    b4: int,
    w1: np.float32,
    w2: np.float32,
    w3: np.float32,
    w4: np.float32,
) -> None:
    n = out.size
    m1, p1, m2, p2 = src[a1 : a1 + n], src[b1 : b1 + n], src[a2 : a2 + n], src[b2 : b2 + n]
    m3, p3, m4, p4 = src[a3 : a3 + n], src[b3 : b3 + n], src[a4 : a4 + n], src[b4 : b4 + n]
    for x in range(n):
        out[x] += (w1 * (m1[x] + p1[x]) + w2 * (m2[x] + p2[x])) + (w3 * (m3[x] + p3[x]) + w4 * (m4[x] + p4[x]))


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _start_2_pairs(
    out: Float32,
    src: Float32,
    a0: int,
    a1: int,
    b1: int,
    a2: int,
    b2: int,
    w0: np.float32,
    w1: np.float32,
    w2: np.float32,
) -> None:
    n = out.size
    m0, m1, p1, m2, p2 = src[a0 : a0 + n], src[a1 : a1 + n], src[b1 : b1 + n], src[a2 : a2 + n], src[b2 : b2 + n]
    for x in range(n):
        out[x] = w0 * m0[x] + (w1 * (m1[x] + p1[x]) + w2 * (m2[x] + p2[x]))


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def smooth_run(out: Float32, src: Float32, base: int, stride: int, rows: Int64, centre: int, taps: Float32) -> None:
    """Write sum_k taps[|k|] src[base + rows[centre + k] * stride ...] for a run of voxels; the radius is even."""
    n = out.size
    radius = taps.size - 1
    w0 = taps[0]
    a0 = base + rows[centre] * stride
    if radius % 4 == 2:
        a1, b1 = base + rows[centre - 1] * stride, base + rows[centre + 1] * stride
        a2, b2 = base + rows[centre - 2] * stride, base + rows[centre + 2] * stride
        _start_2_pairs(out, src, a0, a1, b1, a2, b2, w0, taps[1], taps[2])
        first = 3
    else:
        middle = src[a0 : a0 + n]
        for x in range(n):
            out[x] = w0 * middle[x]
        first = 1
    for k in range(first, radius + 1, 4):
        a1, b1 = base + rows[centre - k] * stride, base + rows[centre + k] * stride
        a2, b2 = base + rows[centre - k - 1] * stride, base + rows[centre + k + 1] * stride
        a3, b3 = base + rows[centre - k - 2] * stride, base + rows[centre + k + 2] * stride
        a4, b4 = base + rows[centre - k - 3] * stride, base + rows[centre + k + 3] * stride
        _add_4_pairs(out, src, a1, b1, a2, b2, a3, b3, a4, b4, taps[k], taps[k + 1], taps[k + 2], taps[k + 3])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def smooth_z(src: Float32, taps: Float32, rows: Int64, step: int, out: Float32) -> None:
    """Smooth `src` (z, y, x) along z into `out` (z', y, x).

    Output plane i is centred on entry `taps.size - 1 + i * step` of `rows`, the table of source planes that holds the
    mirrored border. Runs of equal (y, x) are worked on together: a column of them stays in the second-level cache.
    """
    size = src.shape[1] * src.shape[2]
    flat, planes = src.reshape(-1), out.reshape((out.shape[0], -1))
    for start in range(0, size, RUN):
        stop = min(start + RUN, size)
        for z in range(out.shape[0]):
            smooth_run(planes[z, start:stop], flat, start, size, rows, taps.size - 1 + z * step, taps)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _smooth_extended(
    plane: Float32,
    taps_y: Float32,
    step_y: int,
    taps_x: Float32,
    step_x: int,
    along_y: Float32,
    along_x: Float32,
    out: Float32,
) -> None:
    """Smooth `plane`, already extended by the radii, along y and x into `out` (y', x').

    Planes are treated as one long row: what is computed across the ends of rows falls into margins nobody reads.
    """
    n_y, n_x = out.shape
    width = plane.shape[1]
    flat_in, flat_y, flat_x = plane.reshape(-1), along_y.reshape(-1), along_x.reshape(-1)
    shifts = np.arange(max(2 * taps_y.size, 2 * taps_x.size))
    length = width if step_y > 1 else n_y * width
    for y in range(n_y if step_y > 1 else 1):
        for start in range(0, length, RUN):
            stop = min(start + RUN, length)
            target = flat_y[y * width + start : y * width + stop]
            smooth_run(target, flat_in, y * step_y * width + start, width, shifts, taps_y.size - 1, taps_y)
    length = n_y * width - 2 * (taps_x.size - 1)
    for start in range(0, length, RUN):
        stop = min(start + RUN, length)
        smooth_run(flat_x[start:stop], flat_y, start, 1, shifts, taps_x.size - 1, taps_x)
    for y in range(n_y):
        row, target = along_x[y], out[y]
        if step_x == 1:
            target[:] = row[:n_x]
        else:
            for x in range(n_x):
                target[x] = row[x * step_x]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def smooth_yx(
    src: Float32, taps_y: Float32, rows: Int64, step_y: int, taps_x: Float32, columns: Int64, step_x: int, out: Float32
) -> None:
    """Smooth `src` (z, y, x) along y and x into `out` (z, y', x'); `rows` as in `smooth_z`, `columns` likewise."""
    extended = np.empty((rows.size, columns.size), np.float32)
    along_y = np.empty((out.shape[1], columns.size), np.float32)
    along_x = np.empty_like(along_y)
    # Between the mirrored ends the table counts up: that part is copied, not looked up.
    low = 0
    while low < columns.size - 1 and columns[low + 1] != columns[low] + 1:
        low += 1
    high = low + 1
    while high < columns.size and columns[high] == columns[high - 1] + 1:
        high += 1
    for z in range(out.shape[0]):
        for y in range(rows.size):
            source, line = src[z, rows[y]], extended[y]
            for x in range(low):
                line[x] = source[columns[x]]
            line[low:high] = source[columns[low] : columns[low] + high - low]
            for x in range(high, line.size):
                line[x] = source[columns[x]]
        _smooth_extended(extended, taps_y, step_y, taps_x, step_x, along_y, along_x, out[z])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def valid_table(n_source: int, n_out: int, n_taps: int) -> Int64:
    """Return the table of a convolution without border: `n_source` rows with equal margins make `n_out`.

    The number of taps is padded, the margins are not: padded taps weigh 0 and are held at the ends of the source.
    """
    size = n_out + 2 * (n_taps - 1)
    table = np.arange(size) - (size - n_source) // 2
    for i in range(size):
        table[i] = min(max(table[i], 0), n_source - 1)
    return table


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
    high_x: Int64,
    shares_x: Float32,
    out: Float32,
) -> None:
    """Interpolate `src` (k, z', y', x') linearly into `out` (k, z, y, x).

    Output plane z lies between the source planes `low_z[z]` and `high_z[z]`, at the share `shares_z[z]` of the way.
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
                for x in range(row.size):
                    low = line[low_x[x]]
                    row[x] = low + shares_x[x] * (line[high_x[x]] - low)
