"""Gaussian derivatives of blocks, and what is made of them: Laplacian, gradient, Hessian, structure tensor.

Kernels are half kernels as in `convolve`. Planes are worked on in bands of rows that follow one another in memory, as
one long row each: short rows would spend half of their time on the calls. What is computed across row ends falls
into margins that nobody reads.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.convolve import RUN, smooth_run
from voxloop.kernels.eigenvalues import eigenvalues_2x2, eigenvalues_3x3

Float32 = NDArray[np.float32]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _derive_0(out: Float32, src: Float32, base: int, stride: int, taps: Float32) -> None:
    """Write the run smoothed with `taps[0]`; the radius is even, two pairs are added in a sweep."""
    n = out.size
    c = src[base : base + n]
    g0 = taps[0, 0]
    if taps.shape[1] == 1:
        for x in range(n):
            out[x] = g0 * c[x]
        return
    for k in range(1, taps.shape[1], 2):
        i, j = k * stride, (k + 1) * stride
        m1, p1 = src[base - i : base - i + n], src[base + i : base + i + n]
        m2, p2 = src[base - j : base - j + n], src[base + j : base + j + n]
        g1, g2 = taps[0, k], taps[0, k + 1]
        if k == 1:
            for x in range(n):
                out[x] = g0 * c[x] + (g1 * (m1[x] + p1[x]) + g2 * (m2[x] + p2[x]))
        else:
            for x in range(n):
                out[x] += g1 * (m1[x] + p1[x]) + g2 * (m2[x] + p2[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _derive_1(out: Float32, first: Float32, src: Float32, base: int, stride: int, taps: Float32) -> None:
    """Write the run smoothed with `taps[0]` and its first derivative with `taps[1]`."""
    n = out.size
    c = src[base : base + n]
    g0 = taps[0, 0]
    if taps.shape[1] == 1:
        for x in range(n):
            out[x] = g0 * c[x]
            first[x] = 0.0
        return
    for k in range(1, taps.shape[1], 2):
        i, j = k * stride, (k + 1) * stride
        m1, p1 = src[base - i : base - i + n], src[base + i : base + i + n]
        m2, p2 = src[base - j : base - j + n], src[base + j : base + j + n]
        g1, g2, f1, f2 = taps[0, k], taps[0, k + 1], taps[1, k], taps[1, k + 1]
        if k == 1:
            for x in range(n):
                out[x] = g0 * c[x] + (g1 * (m1[x] + p1[x]) + g2 * (m2[x] + p2[x]))
                first[x] = f1 * (p1[x] - m1[x]) + f2 * (p2[x] - m2[x])
        else:
            for x in range(n):
                out[x] += g1 * (m1[x] + p1[x]) + g2 * (m2[x] + p2[x])
                first[x] += f1 * (p1[x] - m1[x]) + f2 * (p2[x] - m2[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _derive_2(
    out: Float32, first: Float32, second: Float32, src: Float32, base: int, stride: int, taps: Float32
) -> None:
    """Write the run smoothed with `taps[0]`, its first and its second derivative with `taps[1]` and `taps[2]`."""
    n = out.size
    c = src[base : base + n]
    g0, h0 = taps[0, 0], taps[2, 0]
    if taps.shape[1] == 1:
        for x in range(n):
            out[x] = g0 * c[x]
            first[x] = 0.0
            second[x] = h0 * c[x]
        return
    for k in range(1, taps.shape[1], 2):
        i, j = k * stride, (k + 1) * stride
        m1, p1 = src[base - i : base - i + n], src[base + i : base + i + n]
        m2, p2 = src[base - j : base - j + n], src[base + j : base + j + n]
        g1, g2, f1, f2, h1, h2 = taps[0, k], taps[0, k + 1], taps[1, k], taps[1, k + 1], taps[2, k], taps[2, k + 1]
        if k == 1:
            for x in range(n):
                s1, s2 = m1[x] + p1[x], m2[x] + p2[x]
                out[x] = g0 * c[x] + (g1 * s1 + g2 * s2)
                first[x] = f1 * (p1[x] - m1[x]) + f2 * (p2[x] - m2[x])
                second[x] = h0 * c[x] + (h1 * s1 + h2 * s2)
        else:
            for x in range(n):
                s1, s2 = m1[x] + p1[x], m2[x] + p2[x]
                out[x] += g1 * s1 + g2 * s2
                first[x] += f1 * (p1[x] - m1[x]) + f2 * (p2[x] - m2[x])
                second[x] += h1 * s1 + h2 * s2


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _rows_in_band(width: int) -> int:
    """Return how many rows of `width` make a band of about `RUN` voxels."""
    return max(1, RUN // width)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def second_order_3d(
    src: Float32, start: int, taps_z: Float32, taps_y: Float32, taps_x: Float32, out: Float32, eigenvalues: Float32
) -> None:
    """Write Gaussian, Laplacian, gradient magnitude into `out`, Hessian eigenvalues into `eigenvalues`: (3, z, y, x).

    `src` has margins of equal size on both sides along y and x; the first plane of `out` is centred on its plane
    `start`. The 19 one-dimensional convolutions stay in the cache: the three along z are planes, the others bands.
    """
    _, n_z, n_y, n_x = out.shape
    s_y, s_x = src.shape[1], src.shape[2]
    m_y, m_x = (s_y - n_y) // 2, (s_x - n_x) // 2
    size = s_y * s_x
    flat = src.reshape(-1)
    planes = np.empty((3, size), np.float32)
    band = min(_rows_in_band(s_x), n_y)
    rows = np.empty((6, band * s_x), np.float32)
    terms = np.empty((10, band * s_x), np.float32)
    for z in range(n_z):
        for a in range(0, size, RUN):
            b = min(a + RUN, size)
            _derive_2(planes[0, a:b], planes[1, a:b], planes[2, a:b], flat, (start + z) * size + a, size, taps_z)
        for y in range(0, n_y, band):
            n_rows = min(band, n_y - y)
            base, length = (y + m_y) * s_x, n_rows * s_x
            gg, gf, gh = rows[0, :length], rows[1, :length], rows[2, :length]
            fg, ff, hg = rows[3, :length], rows[4, :length], rows[5, :length]
            _derive_2(gg, gf, gh, planes[0], base, s_x, taps_y)
            _derive_1(fg, ff, planes[1], base, s_x, taps_y)
            _derive_0(hg, planes[2], base, s_x, taps_y)
            n = length - 2 * m_x
            smooth, d_z, d_y, d_x = terms[0, :n], terms[1, :n], terms[2, :n], terms[3, :n]
            zz, yy, xx = terms[4, :n], terms[5, :n], terms[6, :n]
            zy, zx, yx = terms[7, :n], terms[8, :n], terms[9, :n]
            _derive_2(smooth, d_x, xx, gg, m_x, 1, taps_x)
            _derive_1(d_y, yx, gf, m_x, 1, taps_x)
            _derive_0(yy, gh, m_x, 1, taps_x)
            _derive_1(d_z, zx, fg, m_x, 1, taps_x)
            _derive_0(zy, ff, m_x, 1, taps_x)
            _derive_0(zz, hg, m_x, 1, taps_x)
            for i in range(n_rows):
                a, b = i * s_x, i * s_x + n_x
                _fill_scalars(terms, a, out[0, z, y + i], out[1, z, y + i], out[2, z, y + i])
                eigenvalues_3x3(
                    zz[a:b],
                    yy[a:b],
                    xx[a:b],
                    zy[a:b],
                    zx[a:b],
                    yx[a:b],
                    eigenvalues[0, z, y + i],
                    eigenvalues[1, z, y + i],
                    eigenvalues[2, z, y + i],
                )


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _fill_scalars(terms: Float32, start: int, smooth: Float32, laplacian: Float32, magnitude: Float32) -> None:
    """Write a row of Gaussian, Laplacian and gradient magnitude from the terms of `second_order_3d`."""
    part = terms[:, start : start + smooth.size]
    g, d_z, d_y, d_x, zz, yy, xx = part[0], part[1], part[2], part[3], part[4], part[5], part[6]
    for x in range(smooth.size):
        smooth[x] = g[x]
        laplacian[x] = zz[x] + yy[x] + xx[x]
        magnitude[x] = np.sqrt(d_z[x] * d_z[x] + d_y[x] * d_y[x] + d_x[x] * d_x[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def second_order_2d(
    src: Float32, start: int, taps_y: Float32, taps_x: Float32, out: Float32, eigenvalues: Float32
) -> None:
    """Write the responses of `second_order_3d` slice by slice; there are two eigenvalues."""
    _, n_z, n_y, n_x = out.shape
    s_y, s_x = src.shape[1], src.shape[2]
    m_y, m_x = (s_y - n_y) // 2, (s_x - n_x) // 2
    rows = np.empty((3, s_x), np.float32)
    g, f, h = rows[0], rows[1], rows[2]
    terms = np.empty((5, n_x), np.float32)
    d_y, d_x, yy, xx, yx = terms[0], terms[1], terms[2], terms[3], terms[4]
    for z in range(n_z):
        plane = src[start + z].reshape(-1)
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
    s_x: int,
    taps_y: Float32,
    taps_x: Float32,
    signs_y: Float32,
    signs_x: Float32,
    gradient: Float32,
) -> None:
    """Write the gradient (z, y, x) of a plane, smoothed along z and derived along z, into `gradient` (3, y * s_x).

    Rows are `s_x` apart, in the gradient too, though only the first `signs_x.size` voxels of those count.
    """
    n_y, n_x = signs_y.size, signs_x.size
    m_y, m_x = (smooth.size // s_x - n_y) // 2, (s_x - n_x) // 2
    band = min(_rows_in_band(s_x), n_y)
    rows = np.empty((3, band * s_x), np.float32)
    unused = np.empty(band * s_x, np.float32)
    for y in range(0, n_y, band):
        n_rows = min(band, n_y - y)
        base, length = (y + m_y) * s_x, n_rows * s_x
        zg, yf, yg = rows[0, :length], rows[1, :length], rows[2, :length]
        _derive_0(zg, along_z, base, s_x, taps_y)
        _derive_1(yg, yf, smooth, base, s_x, taps_y)
        a, b = y * s_x, y * s_x + length - 2 * m_x
        _derive_0(gradient[0, a:b], zg, m_x, 1, taps_x)
        _derive_0(gradient[1, a:b], yf, m_x, 1, taps_x)
        _derive_1(unused[: b - a], gradient[2, a:b], yg, m_x, 1, taps_x)
    for y in range(n_y):
        if signs_y[y] < 0:
            gradient[1, y * s_x : y * s_x + n_x] *= signs_y[y]
        _multiply(gradient[2, y * s_x : y * s_x + n_x], signs_x)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _smooth_product(
    a: Float32, b: Float32, s_x: int, margin_y: int, margin_x: int, taps_y: Float32, taps_x: Float32, out: Float32
) -> None:
    """Smooth the product of two planes, rows `s_x` apart, along y and x into `out`, whose rows are as far apart.

    The first row and column of `out` are centred on row `margin_y` and column `margin_x` of the planes. A kernel may
    reach one voxel beyond the planes, with a padded tap that weighs 0.
    """
    n_y = out.size // s_x
    r_y, r_x = taps_y.size - 1, taps_x.size - 1
    product = np.zeros(a.size + 2 * s_x, np.float32)
    inside = product[s_x : s_x + a.size]
    for i in range(a.size):
        inside[i] = a[i] * b[i]
    shifts = np.arange(2 * max(r_y, r_x) + 1)
    band = min(_rows_in_band(s_x), n_y)
    along_y = np.zeros(band * s_x + 2, np.float32)
    for y in range(0, n_y, band):
        length = min(band, n_y - y) * s_x
        smooth_run(along_y[1 : 1 + length], product, (1 + y + margin_y - r_y) * s_x, s_x, shifts, r_y, taps_y)
        target = out[y * s_x : y * s_x + length - 2 * margin_x]
        smooth_run(target, along_y, 1 + margin_x - r_x, 1, shifts, r_x, taps_x)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def structure_tensor_3d(
    src: Float32,
    start: int,
    taps_z: Float32,
    taps_y: Float32,
    taps_x: Float32,
    signs_z: Float32,
    signs_y: Float32,
    signs_x: Float32,
    outer_z: Float32,
    outer_y: Float32,
    outer_x: Float32,
    reach_z: int,
    ring: Float32,
    eigenvalues: Float32,
) -> None:
    """Write the eigenvalues of the structure tensor of `src` into `eigenvalues` (3, z, y, x).

    The gradient of one plane after the other is taken, its products are smoothed along y and x and kept in a ring of
    planes; as soon as the ring holds what the smoothing along z needs, one plane of eigenvalues is written. Planes come
    in several calls, from first to last, with the same ring.

    Parameters
    ----------
    src
        (z, y, x) float32 with margins of equal size on both sides: the reach of the gradient and of the integration.
    start
        Planes that earlier calls have written.
    taps_z, taps_y, taps_x
        (2, r + 1) half kernels: Gaussian and first derivative.
    signs_z, signs_y, signs_x
        float32, one per plane, row and column of the gradient; -1 where mirroring has turned an axis.
    outer_z, outer_y, outer_x
        Half kernels of the integration, of even radius.
    reach_z
        Radius of `outer_z` without a padded tap.
    ring
        (6, 2 r_z + 1, y * width of src) float32, zeros at first.
    eigenvalues
        The planes from `start` on.
    """
    _, n_z, n_y, n_x = eigenvalues.shape
    g_y, g_x = signs_y.size, signs_x.size
    s_y, s_x = src.shape[1], src.shape[2]
    size = s_y * s_x
    margin = (src.shape[0] - signs_z.size) // 2
    margin_y, margin_x = (g_y - n_y) // 2, (g_x - n_x) // 2
    flat = src.reshape(-1)
    smooth, along_z = np.empty(size, np.float32), np.empty(size, np.float32)
    gradient = np.zeros((3, g_y * s_x), np.float32)
    radius, slots = outer_z.size - 1, ring.shape[1]
    rows = np.empty(slots, np.int64)
    band = min(_rows_in_band(s_x), n_y)
    terms = np.empty((6, band * s_x), np.float32)
    for t in range(start + 2 * reach_z if start > 0 else 0, start + n_z + 2 * reach_z):
        for a in range(0, size, RUN):
            b = min(a + RUN, size)
            _derive_1(smooth[a:b], along_z[a:b], flat, (t + margin) * size + a, size, taps_z)
        _gradient_plane(smooth, along_z, s_x, taps_y, taps_x, signs_y, signs_x, gradient)
        if signs_z[t] < 0:
            gradient[0] *= signs_z[t]
        for k in range(6):  # zz, yy, xx, zy, zx, yx
            a, b = (k, k) if k < 3 else ((0, k - 2) if k < 5 else (1, 2))
            _smooth_product(gradient[a], gradient[b], s_x, margin_y, margin_x, outer_y, outer_x, ring[k, t % slots])
        z = t - 2 * reach_z - start
        if z < 0:
            continue
        for i in range(slots):
            rows[i] = (t - reach_z - radius + i + slots) % slots
        for y in range(0, n_y, band):
            n_rows = min(band, n_y - y)
            for k in range(6):
                plane = ring[k].reshape(-1)
                smooth_run(terms[k, : n_rows * s_x], plane, y * s_x, ring.shape[2], rows, radius, outer_z)
            for i in range(n_rows):
                a, b = i * s_x, i * s_x + n_x
                eigenvalues_3x3(
                    terms[0, a:b],
                    terms[1, a:b],
                    terms[2, a:b],
                    terms[3, a:b],
                    terms[4, a:b],
                    terms[5, a:b],
                    eigenvalues[0, z, y + i],
                    eigenvalues[1, z, y + i],
                    eigenvalues[2, z, y + i],
                )


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def structure_tensor_2d(
    src: Float32,
    start: int,
    taps_y: Float32,
    taps_x: Float32,
    signs_y: Float32,
    signs_x: Float32,
    outer_y: Float32,
    outer_x: Float32,
    eigenvalues: Float32,
) -> None:
    """Write the eigenvalues of the structure tensor of the slices from `start` on into `eigenvalues` (2, z, y, x)."""
    _, n_z, n_y, n_x = eigenvalues.shape
    s_y, s_x = src.shape[1], src.shape[2]
    margin_y, margin_x = (signs_y.size - n_y) // 2, (signs_x.size - n_x) // 2
    nothing = np.zeros(s_y * s_x, np.float32)
    gradient = np.zeros((3, signs_y.size * s_x), np.float32)
    tensor = np.zeros((3, n_y * s_x), np.float32)
    for z in range(n_z):
        _gradient_plane(src[start + z].reshape(-1), nothing, s_x, taps_y, taps_x, signs_y, signs_x, gradient)
        for k in range(3):  # yy, xx, yx
            a, b = (k + 1, k + 1) if k < 2 else (1, 2)
            _smooth_product(gradient[a], gradient[b], s_x, margin_y, margin_x, outer_y, outer_x, tensor[k])
        for y in range(n_y):
            a, b = y * s_x, y * s_x + n_x
            eigenvalues_2x2(tensor[0, a:b], tensor[1, a:b], tensor[2, a:b], eigenvalues[0, z, y], eigenvalues[1, z, y])
