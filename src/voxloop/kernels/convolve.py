"""Separable convolution of blocks with short symmetric kernels, row by row along x.

Kernels come as half kernels `taps[0..r]`: even ones are mirrored, odd ones (first derivatives) change sign. Rows are
addressed in flat arrays as `base + k * stride`, so that one function serves all three axes. Additions are in a fixed
order; only multiply-add contraction is allowed, so a voxel's value does not depend on where the block's edges are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from voxloop.kernels.eigenvalues import eigenvalues_2x2, eigenvalues_3x3

_options = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(**_options)
def _add_4_pairs(out, src, a1, b1, a2, b2, a3, b3, a4, b4, w1, w2, w3, w4):
    n = out.size
    m1, p1, m2, p2 = src[a1 : a1 + n], src[b1 : b1 + n], src[a2 : a2 + n], src[b2 : b2 + n]
    m3, p3, m4, p4 = src[a3 : a3 + n], src[b3 : b3 + n], src[a4 : a4 + n], src[b4 : b4 + n]
    for x in range(n):
        out[x] += (w1 * (m1[x] + p1[x]) + w2 * (m2[x] + p2[x])) + (w3 * (m3[x] + p3[x]) + w4 * (m4[x] + p4[x]))


@njit(**_options)
def _smooth_row(out, src, base, stride, rows, centre, taps):
    """Write sum_k taps[|k|] src[base + rows[centre + k] * stride ...]; the number of taps is 1 plus a multiple of 4."""
    n = out.size
    w0 = taps[0]
    start = base + rows[centre] * stride
    middle = src[start : start + n]
    for x in range(n):
        out[x] = w0 * middle[x]
    for k in range(1, taps.size, 4):
        _add_4_pairs(
            out,
            src,
            base + rows[centre - k] * stride,
            base + rows[centre + k] * stride,
            base + rows[centre - k - 1] * stride,
            base + rows[centre + k + 1] * stride,
            base + rows[centre - k - 2] * stride,
            base + rows[centre + k + 2] * stride,
            base + rows[centre - k - 3] * stride,
            base + rows[centre + k + 3] * stride,
            taps[k],
            taps[k + 1],
            taps[k + 2],
            taps[k + 3],
        )


@njit(**_options)
def smooth_z(src, taps, rows, step, out):
    """Smooth `src` (z, y, x) along z into `out` (z', y, x).

    Output plane i is centred on entry `taps.size - 1 + i * step` of `rows`, the table of source planes that holds the
    mirrored border. Rows of equal y are worked on together: a column of them stays in the second-level cache.
    """
    n_y, n_x = src.shape[1], src.shape[2]
    flat = src.reshape(-1)
    for y in range(n_y):
        for z in range(out.shape[0]):
            _smooth_row(out[z, y], flat, y * n_x, n_y * n_x, rows, taps.size - 1 + z * step, taps)


@njit(**_options)
def _smooth_plane(plane, taps_y, rows, step_y, taps_x, columns, step_x, line, full, out):
    """Smooth `plane` (y, x) along y and x into `out` (y', x')."""
    n_x = plane.shape[1]
    flat = plane.reshape(-1)
    source = np.empty(n_x, np.float32)
    shifts = np.arange(line.size)
    # Between the mirrored ends the table counts up: that part is copied, not looked up.
    low = 0
    while low < columns.size - 1 and columns[low + 1] != columns[low] + 1:
        low += 1
    high = low + 1
    while high < columns.size and columns[high] == columns[high - 1] + 1:
        high += 1
    for y in range(out.shape[0]):
        _smooth_row(source, flat, 0, n_x, rows, taps_y.size - 1 + y * step_y, taps_y)
        for x in range(low):
            line[x] = source[columns[x]]
        line[low:high] = source[columns[low] : columns[low] + high - low]
        for x in range(high, line.size):
            line[x] = source[columns[x]]
        row = out[y]
        if step_x == 1:
            _smooth_row(row, line, 0, 1, shifts, taps_x.size - 1, taps_x)
        else:
            _smooth_row(full, line, 0, 1, shifts, taps_x.size - 1, taps_x)
            for x in range(row.size):
                row[x] = full[x * step_x]


@njit(**_options)
def smooth_yx(src, taps_y, rows, step_y, taps_x, columns, step_x, out):
    """Smooth `src` (z, y, x) along y and x into `out` (z, y', x'); `rows` as in `smooth_z`, `columns` likewise."""
    line = np.empty(columns.size, np.float32)
    full = np.empty((out.shape[2] - 1) * step_x + 1, np.float32)
    for z in range(out.shape[0]):
        _smooth_plane(src[z], taps_y, rows, step_y, taps_x, columns, step_x, line, full, out[z])


@njit(**_options)
def smooth_product_yx(a, b, taps_y, taps_x, out):
    """Smooth the product of `a` and `b` (z, y + 2 r_y, x + 2 r_x) along y and x into `out` (z, y, x)."""
    n_y, n_x = a.shape[1], a.shape[2]
    product = np.empty((n_y, n_x), np.float32)
    rows = valid_table(n_y, out.shape[1], taps_y.size)
    columns = valid_table(n_x, out.shape[2], taps_x.size)
    line = np.empty(columns.size, np.float32)
    for z in range(out.shape[0]):
        u, v, w = a[z].reshape(-1), b[z].reshape(-1), product.reshape(-1)
        for i in range(w.size):
            w[i] = u[i] * v[i]
        _smooth_plane(product, taps_y, rows, 1, taps_x, columns, 1, line, line, out[z])


@njit(**_options)
def valid_table(n_source, n_out, n_taps):
    """Return the table of a convolution without border: `n_source` rows with equal margins make `n_out`.

    The number of taps is padded, the margins are not: padded taps weigh 0 and are held at the ends of the source.
    """
    size = n_out + 2 * (n_taps - 1)
    table = np.arange(size) - (size - n_source) // 2
    for i in range(size):
        table[i] = min(max(table[i], 0), n_source - 1)
    return table


@njit(**_options)
def _derive_0(out, src, base, stride, taps):
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


@njit(**_options)
def _derive_1(out, first, src, base, stride, taps):
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


@njit(**_options)
def _derive_2(out, first, second, src, base, stride, taps):
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


@njit(**_options)
def gradient(src, taps_z, taps_y, taps_x, out):
    """Write the Gaussian gradient of `src` into `out` (3, z, y, x), whose margins in `src` are equal on both sides."""
    _, n_z, n_y, n_x = out.shape
    s_y, s_x = src.shape[1], src.shape[2]
    m_z, m_y, m_x = (src.shape[0] - n_z) // 2, (s_y - n_y) // 2, (s_x - n_x) // 2
    flat = src.reshape(-1)
    smooth = np.empty((s_y, s_x), np.float32)
    along_z = np.empty((s_y, s_x), np.float32)
    g, f = np.empty(s_x, np.float32), np.empty(s_x, np.float32)
    unused = np.empty(n_x, np.float32)
    for z in range(n_z):
        for y in range(s_y):
            _derive_1(smooth[y], along_z[y], flat, ((z + m_z) * s_y + y) * s_x, s_y * s_x, taps_z)
        for y in range(n_y):
            base = (y + m_y) * s_x
            _derive_0(g, along_z.reshape(-1), base, s_x, taps_y)
            _derive_0(out[0, z, y], g, m_x, 1, taps_x)
            _derive_1(g, f, smooth.reshape(-1), base, s_x, taps_y)
            _derive_0(out[1, z, y], f, m_x, 1, taps_x)
            _derive_1(unused, out[2, z, y], g, m_x, 1, taps_x)


@njit(**_options)
def second_order_3d(src, taps_z, taps_y, taps_x, out, eigenvalues):
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
    unused = np.empty(n_x, np.float32)
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


@njit(**_options)
def second_order_2d(src, taps_y, taps_x, out, eigenvalues):
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


@njit(**_options)
def tensor_eigenvalues_3d(zz, yy, xx, zy, zx, yx, out):
    """Write the eigenvalues of symmetric 3 x 3 tensors, components of shape (z, y, x), into `out` (3, z, y, x)."""
    for z in range(out.shape[1]):
        for y in range(out.shape[2]):
            eigenvalues_3x3(
                zz[z, y], yy[z, y], xx[z, y], zy[z, y], zx[z, y], yx[z, y], out[0, z, y], out[1, z, y], out[2, z, y]
            )


@njit(**_options)
def tensor_eigenvalues_2d(yy, xx, yx, out):
    """Write the eigenvalues of symmetric 2 x 2 tensors, components of shape (z, y, x), into `out` (2, z, y, x)."""
    for z in range(out.shape[1]):
        for y in range(out.shape[2]):
            eigenvalues_2x2(yy[z, y], xx[z, y], yx[z, y], out[0, z, y], out[1, z, y])


@njit(**_options)
def interpolate(src, starts_z, shares_z, starts_y, shares_y, starts_x, shares_x, out):
    """Interpolate `src` (k, z', y', x') linearly into `out` (k, z, y, x).

    Output plane z lies between the source planes `starts_z[z]` and the next, at the share `shares_z[z]` of the way.
    """
    line = np.empty(src.shape[3], np.float32)
    n_x = out.shape[3]
    for k in range(out.shape[0]):
        for z in range(out.shape[1]):
            low, high, t_z = src[k, starts_z[z]], src[k, starts_z[z] + 1], shares_z[z]
            for y in range(out.shape[2]):
                i, t_y = starts_y[y], shares_y[y]
                a, b, c, d = low[i], low[i + 1], high[i], high[i + 1]
                for x in range(line.size):
                    near = a[x] + t_y * (b[x] - a[x])
                    far = c[x] + t_y * (d[x] - c[x])
                    line[x] = near + t_z * (far - near)
                row = out[k, z, y]
                for x in range(n_x):
                    j = starts_x[x]
                    row[x] = line[j] + shares_x[x] * (line[j + 1] - line[j])
