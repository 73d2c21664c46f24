"""Separable convolution of blocks with short symmetric kernels, row by row along x.

Kernels come as half kernels `taps[0..r]`: even ones are mirrored, odd ones (first derivatives) change sign. Rows are
addressed in flat arrays as `base + k * stride`, so that one function serves all three axes. Additions are in a fixed
order; only multiply-add contraction is allowed, so a voxel's value does not depend on where the block's edges are.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.eigenvalues import eigenvalues_2x2, eigenvalues_3x3

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
def _add_2_pairs(
    out: Float32, src: Float32, a1: int, b1: int, a2: int, b2: int, w1: np.float32, w2: np.float32
) -> None:
    n = out.size
    m1, p1, m2, p2 = src[a1 : a1 + n], src[b1 : b1 + n], src[a2 : a2 + n], src[b2 : b2 + n]
    for x in range(n):
        out[x] += w1 * (m1[x] + p1[x]) + w2 * (m2[x] + p2[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _smooth_run(out: Float32, src: Float32, base: int, stride: int, rows: Int64, centre: int, taps: Float32) -> None:
    """Write sum_k taps[|k|] src[base + rows[centre + k] * stride ...] for a run of voxels; the radius is even."""
    n = out.size
    radius = taps.size - 1
    w0 = taps[0]
    start = base + rows[centre] * stride
    middle = src[start : start + n]
    for x in range(n):
        out[x] = w0 * middle[x]
    for k in range(1, radius + 1, 4):
        a1, b1 = base + rows[centre - k] * stride, base + rows[centre + k] * stride
        a2, b2 = base + rows[centre - k - 1] * stride, base + rows[centre + k + 1] * stride
        if k + 3 > radius:
            _add_2_pairs(out, src, a1, b1, a2, b2, taps[k], taps[k + 1])
        else:
            a3, b3 = base + rows[centre - k - 2] * stride, base + rows[centre + k + 2] * stride
            a4, b4 = base + rows[centre - k - 3] * stride, base + rows[centre + k + 3] * stride
            w1, w2, w3, w4 = taps[k], taps[k + 1], taps[k + 2], taps[k + 3]
            _add_4_pairs(out, src, a1, b1, a2, b2, a3, b3, a4, b4, w1, w2, w3, w4)


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
            _smooth_run(planes[z, start:stop], flat, start, size, rows, taps.size - 1 + z * step, taps)


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
            _smooth_run(target, flat_in, y * step_y * width + start, width, shifts, taps_y.size - 1, taps_y)
    length = n_y * width - 2 * (taps_x.size - 1)
    for start in range(0, length, RUN):
        stop = min(start + RUN, length)
        _smooth_run(flat_x[start:stop], flat_y, start, 1, shifts, taps_x.size - 1, taps_x)
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
def _smooth_product(
    a: Float32,
    b: Float32,
    taps_y: Float32,
    taps_x: Float32,
    extended: Float32,
    along_y: Float32,
    along_x: Float32,
    out: Float32,
) -> None:
    """Smooth the product of two planes (y + 2 r_y, x + 2 r_x) along y and x into `out` (y, x).

    `extended` is 0 where it is larger than the product, by the padding of the radii.
    """
    n_y, n_x = a.shape
    top, left = (extended.shape[0] - n_y) // 2, (extended.shape[1] - n_x) // 2
    for y in range(n_y):
        u, v, w = a[y], b[y], extended[top + y, left : left + n_x]
        for x in range(n_x):
            w[x] = u[x] * v[x]
    _smooth_extended(extended, taps_y, 1, taps_x, 1, along_y, along_x, out)


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
def _derive_0(out: Float32, src: Float32, base: int, stride: int, taps: Float32) -> None:
    """Write the row smoothed with `taps[0]`; the number of taps is odd, two pairs are added in a sweep."""
    n = out.size
    g0 = taps[0, 0]
    c = src[base : base + n]
    for x in range(n):
        out[x] = g0 * c[x]
    for k in range(1, taps.shape[1], 2):
        i, j = k * stride, (k + 1) * stride
        m1, p1 = src[base - i : base - i + n], src[base + i : base + i + n]
        m2, p2 = src[base - j : base - j + n], src[base + j : base + j + n]
        g1, g2 = taps[0, k], taps[0, k + 1]
        for x in range(n):
            out[x] += g1 * (m1[x] + p1[x]) + g2 * (m2[x] + p2[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _derive_1(out: Float32, first: Float32, src: Float32, base: int, stride: int, taps: Float32) -> None:
    """Write the row smoothed with `taps[0]` and its first derivative with `taps[1]`."""
    n = out.size
    g0 = taps[0, 0]
    c = src[base : base + n]
    for x in range(n):
        out[x] = g0 * c[x]
        first[x] = 0.0
    for k in range(1, taps.shape[1], 2):
        i, j = k * stride, (k + 1) * stride
        m1, p1 = src[base - i : base - i + n], src[base + i : base + i + n]
        m2, p2 = src[base - j : base - j + n], src[base + j : base + j + n]
        g1, g2, f1, f2 = taps[0, k], taps[0, k + 1], taps[1, k], taps[1, k + 1]
        for x in range(n):
            out[x] += g1 * (m1[x] + p1[x]) + g2 * (m2[x] + p2[x])
            first[x] += f1 * (p1[x] - m1[x]) + f2 * (p2[x] - m2[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _derive_2(
    out: Float32, first: Float32, second: Float32, src: Float32, base: int, stride: int, taps: Float32
) -> None:
    """Write the row smoothed with `taps[0]`, its first and its second derivative with `taps[1]` and `taps[2]`."""
    n = out.size
    g0, h0 = taps[0, 0], taps[2, 0]
    c = src[base : base + n]
    for x in range(n):
        out[x] = g0 * c[x]
        first[x] = 0.0
        second[x] = h0 * c[x]
    for k in range(1, taps.shape[1], 2):
        i, j = k * stride, (k + 1) * stride
        m1, p1 = src[base - i : base - i + n], src[base + i : base + i + n]
        m2, p2 = src[base - j : base - j + n], src[base + j : base + j + n]
        g1, g2, f1, f2, h1, h2 = taps[0, k], taps[0, k + 1], taps[1, k], taps[1, k + 1], taps[2, k], taps[2, k + 1]
        for x in range(n):
            s1, s2 = m1[x] + p1[x], m2[x] + p2[x]
            out[x] += g1 * s1 + g2 * s2
            first[x] += f1 * (p1[x] - m1[x]) + f2 * (p2[x] - m2[x])
            second[x] += h1 * s1 + h2 * s2


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def second_order_3d(
    src: Float32, taps_z: Float32, taps_y: Float32, taps_x: Float32, out: Float32, eigenvalues: Float32
) -> None:
    """Write Gaussian, Laplacian, gradient magnitude into `out`, Hessian eigenvalues into `eigenvalues`: (3, z, y, x).

    `src` has a margin of equal size on both sides. The 19 one-dimensional convolutions of a row stay in the cache: the
    three along z are planes, those along y and x are rows.
    """
    _, n_z, n_y, n_x = out.shape
    s_y, s_x = src.shape[1], src.shape[2]
    m_z, m_y, m_x = (src.shape[0] - n_z) // 2, (s_y - n_y) // 2, (s_x - n_x) // 2
    flat = src.reshape(-1)
    planes = np.empty((3, s_y, s_x), np.float32)
    g, f, h = planes[0].reshape(-1), planes[1].reshape(-1), planes[2].reshape(-1)
    rows = np.empty((6, s_x), np.float32)
    gg, gf, gh, fg, ff, hg = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5]
    terms = np.empty((9, n_x), np.float32)
    d_z, d_y, d_x = terms[0], terms[1], terms[2]
    zz, yy, xx, zy, zx, yx = terms[3], terms[4], terms[5], terms[6], terms[7], terms[8]
    for z in range(n_z):
        for y in range(s_y):
            base = ((z + m_z) * s_y + y) * s_x
            _derive_2(planes[0, y], planes[1, y], planes[2, y], flat, base, s_y * s_x, taps_z)
        for y in range(n_y):
            base = (y + m_y) * s_x
            _derive_2(gg, gf, gh, g, base, s_x, taps_y)
            _derive_1(fg, ff, f, base, s_x, taps_y)
            _derive_0(hg, h, base, s_x, taps_y)
            _derive_2(out[0, z, y], d_x, xx, gg, m_x, 1, taps_x)
            _derive_1(d_y, yx, gf, m_x, 1, taps_x)
            _derive_0(yy, gh, m_x, 1, taps_x)
            _derive_1(d_z, zx, fg, m_x, 1, taps_x)
            _derive_0(zy, ff, m_x, 1, taps_x)
            _derive_0(zz, hg, m_x, 1, taps_x)
            laplacian, magnitude = out[1, z, y], out[2, z, y]
            for x in range(n_x):
                laplacian[x] = zz[x] + yy[x] + xx[x]
                magnitude[x] = np.sqrt(d_z[x] * d_z[x] + d_y[x] * d_y[x] + d_x[x] * d_x[x])
            eigenvalues_3x3(zz, yy, xx, zy, zx, yx, eigenvalues[0, z, y], eigenvalues[1, z, y], eigenvalues[2, z, y])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def second_order_2d(src: Float32, taps_y: Float32, taps_x: Float32, out: Float32, eigenvalues: Float32) -> None:
    """Write the responses of `second_order_3d` slice by slice; there are two eigenvalues."""
    _, n_z, n_y, n_x = out.shape
    s_y, s_x = src.shape[1], src.shape[2]
    m_y, m_x = (s_y - n_y) // 2, (s_x - n_x) // 2
    rows = np.empty((3, s_x), np.float32)
    g, f, h = rows[0], rows[1], rows[2]
    terms = np.empty((5, n_x), np.float32)
    d_y, d_x, yy, xx, yx = terms[0], terms[1], terms[2], terms[3], terms[4]
    for z in range(n_z):
        plane = src[z].reshape(-1)
        for y in range(n_y):
            _derive_2(g, f, h, plane, (y + m_y) * s_x, s_x, taps_y)
            _derive_2(out[0, z, y], d_x, xx, g, m_x, 1, taps_x)
            _derive_1(d_y, yx, f, m_x, 1, taps_x)
            _derive_0(yy, h, m_x, 1, taps_x)
            laplacian, magnitude = out[1, z, y], out[2, z, y]
            for x in range(n_x):
                laplacian[x] = yy[x] + xx[x]
                magnitude[x] = np.sqrt(d_y[x] * d_y[x] + d_x[x] * d_x[x])
            eigenvalues_2x2(yy, xx, yx, eigenvalues[0, z, y], eigenvalues[1, z, y])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _multiply(row: Float32, factors: Float32) -> None:
    for x in range(row.size):
        row[x] *= factors[x]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _gradient_plane(
    smooth: Float32,
    along_z: Float32,
    taps_y: Float32,
    taps_x: Float32,
    signs_y: Float32,
    signs_x: Float32,
    gradient: Float32,
) -> None:
    """Write the gradient (z, y, x) of a plane, smoothed along z and derived along z, into `gradient` (3, y, x)."""
    _, n_y, n_x = gradient.shape
    s_y, s_x = smooth.shape
    m_y, m_x = (s_y - n_y) // 2, (s_x - n_x) // 2
    g, f = np.empty(s_x, np.float32), np.empty(s_x, np.float32)
    unused = np.empty(n_x, np.float32)
    for y in range(n_y):
        base = (y + m_y) * s_x
        _derive_0(g, along_z.reshape(-1), base, s_x, taps_y)
        _derive_0(gradient[0, y], g, m_x, 1, taps_x)
        _derive_1(g, f, smooth.reshape(-1), base, s_x, taps_y)
        _derive_0(gradient[1, y], f, m_x, 1, taps_x)
        _derive_1(unused, gradient[2, y], g, m_x, 1, taps_x)
        gradient[1, y] *= signs_y[y]
        _multiply(gradient[2, y], signs_x)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def structure_tensor_3d(
    src: Float32,
    taps_z: Float32,
    taps_y: Float32,
    taps_x: Float32,
    signs_z: Float32,
    signs_y: Float32,
    signs_x: Float32,
    outer_z: Float32,
    outer_y: Float32,
    outer_x: Float32,
    eigenvalues: Float32,
) -> None:
    """Write the eigenvalues of the structure tensor of `src` into `eigenvalues` (3, z, y, x).

    The gradient of one plane after the other is taken, its products are smoothed along y and x and kept in a ring of
    planes; as soon as the ring holds what the smoothing along z needs, one plane of eigenvalues is written.

    Parameters
    ----------
    src
        (z, y, x) float32 with margins of equal size on both sides: the reach of the gradient and of the integration.
    taps_z, taps_y, taps_x
        (2, r + 1) half kernels: Gaussian and first derivative.
    signs_z, signs_y, signs_x
        float32, one per plane, row and column of the gradient; -1 where mirroring has turned an axis.
    outer_z, outer_y, outer_x
        Half kernels of the integration, of even radius.
    """
    _, n_z, n_y, n_x = eigenvalues.shape
    g_z, g_y, g_x = signs_z.size, signs_y.size, signs_x.size
    s_y, s_x = src.shape[1], src.shape[2]
    margin = (src.shape[0] - g_z) // 2
    flat = src.reshape(-1)
    smooth, along_z = np.empty((s_y, s_x), np.float32), np.empty((s_y, s_x), np.float32)
    gradient = np.empty((3, g_y, g_x), np.float32)
    extended = np.zeros((n_y + 2 * (outer_y.size - 1), n_x + 2 * (outer_x.size - 1)), np.float32)
    along_y = np.empty((n_y, extended.shape[1]), np.float32)
    along_x = np.empty_like(along_y)
    reach = outer_z.size - 1  # may be one more than the margin of the gradient, with a tap that weighs 0
    slots = 2 * reach + 1
    ring = np.zeros((6, slots, n_y, n_x), np.float32)
    rows = np.empty(slots, np.int64)
    terms = np.empty((6, RUN), np.float32)
    for t in range(g_z):
        for y in range(s_y):
            _derive_1(smooth[y], along_z[y], flat, ((t + margin) * s_y + y) * s_x, s_y * s_x, taps_z)
        _gradient_plane(smooth, along_z, taps_y, taps_x, signs_y, signs_x, gradient)
        gradient[0] *= signs_z[t]
        for k in range(6):  # zz, yy, xx, zy, zx, yx
            a, b = (k, k) if k < 3 else ((0, k - 2) if k < 5 else (1, 2))
            slot = ring[k, t % slots]
            _smooth_product(gradient[a], gradient[b], outer_y, outer_x, extended, along_y, along_x, slot)
        z = t - (g_z - n_z)
        if z < 0:
            continue
        for i in range(slots):
            rows[i] = (t - (g_z - n_z) // 2 - reach + i + slots) % slots
        for start in range(0, n_y * n_x, RUN):
            stop = min(start + RUN, n_y * n_x)
            for k in range(6):
                _smooth_run(terms[k, : stop - start], ring[k].reshape(-1), start, n_y * n_x, rows, reach, outer_z)
            eigenvalues_3x3(
                terms[0],
                terms[1],
                terms[2],
                terms[3],
                terms[4],
                terms[5],
                eigenvalues[0, z].reshape(-1)[start:stop],
                eigenvalues[1, z].reshape(-1)[start:stop],
                eigenvalues[2, z].reshape(-1)[start:stop],
            )


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def structure_tensor_2d(
    src: Float32,
    taps_y: Float32,
    taps_x: Float32,
    signs_y: Float32,
    signs_x: Float32,
    outer_y: Float32,
    outer_x: Float32,
    eigenvalues: Float32,
) -> None:
    """Write the eigenvalues of the structure tensor of each slice into `eigenvalues` (2, z, y, x)."""
    _, n_z, n_y, n_x = eigenvalues.shape
    nothing = np.zeros((src.shape[1], src.shape[2]), np.float32)
    gradient = np.empty((3, signs_y.size, signs_x.size), np.float32)
    extended = np.zeros((n_y + 2 * (outer_y.size - 1), n_x + 2 * (outer_x.size - 1)), np.float32)
    along_y = np.empty((n_y, extended.shape[1]), np.float32)
    along_x = np.empty_like(along_y)
    tensor = np.empty((3, n_y, n_x), np.float32)
    for z in range(n_z):
        _gradient_plane(src[z], nothing, taps_y, taps_x, signs_y, signs_x, gradient)
        for k in range(3):  # yy, xx, yx
            a, b = (k + 1, k + 1) if k < 2 else (1, 2)
            _smooth_product(gradient[a], gradient[b], outer_y, outer_x, extended, along_y, along_x, tensor[k])
        for y in range(n_y):
            eigenvalues_2x2(tensor[0, y], tensor[1, y], tensor[2, y], eigenvalues[0, z, y], eigenvalues[1, z, y])


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
