"""Gaussian derivatives of blocks, and what is made of them: Laplacian, gradient, Hessian, structure tensor.

Kernels are half kernels as in `convolve`. Planes are worked on in bands of rows that stay in the first-level cache.
Along y a band is one long row, margins in x included; the convolution along x leaves them out.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.eigenvalues import eigenvalues_2x2, eigenvalues_3x3
from voxloop.kernels.part import part
from voxloop.kernels.simd_taps import sum_taps, sum_taps_2, sum_taps_3, sum_taps_rows

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

BAND = 1024  # voxels worked on together, about
TOGETHER = 4  # rows or planes that `sum_taps_rows` sums together
COLUMN = 256  # voxels of each of as many planes worked on together
# Components (z, y, x) of the gradient whose products are the entries of the structure tensor.
PAIRS_3D = np.array(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
PAIRS_2D = np.array(((1, 1), (2, 2), (1, 2)))
CACHED = 2**17  # float32 that should lie in the second-level cache together


@part(error_model="numpy")
def _offsets(radius: int, stride: int) -> Int64:
    """Return how far off the taps -radius..radius are."""
    # A loop, here and below: numba takes a second to compile arithmetic of whole arrays.
    offsets = np.empty(2 * radius + 1, np.int64)
    for i in range(offsets.size):
        offsets[i] = (i - radius) * stride
    return offsets


@njit(cache=True, nogil=True, error_model="numpy")
def second_order_3d(
    src: Float32,
    start: int,
    taps_z: Float32,
    taps_y: Float32,
    taps_x: Float32,
    narrow_z: Float32,
    narrow_y: Float32,
    narrow_x: Float32,
    out: Float32,
    eigenvalues: Float32,
) -> None:
    """Write Gaussian, Laplacian, gradient magnitude and difference of Gaussians, and the eigenvalues of the Hessian.

    The 19 one-dimensional convolutions, and 3 of the narrow Gaussian, stay in the cache: those along z are planes, the
    others bands.

    Parameters
    ----------
    src
        (z, y, x) float32 with margins of equal size on both sides along y and x.
    start
        The plane of `src` that the first plane of `out` is centred on.
    taps_z, taps_y, taps_x
        (3, r + 1) half kernels: Gaussian, first and second derivative.
    narrow_z, narrow_y, narrow_x
        Half kernels of the Gaussian to be taken from the first one; if they are empty, the difference is not written.
    out, eigenvalues
        (4, z, y, x) and (3, z, y, x) float32.
    """
    _, n_z, n_y, n_x = out.shape
    s_y, s_x = src.shape[1], src.shape[2]
    m_y, m_x = (s_y - n_y) // 2, (s_x - n_x) // 2
    size, volume = s_y * s_x, n_z * n_y * n_x
    r_z, r_y, r_x = taps_z.shape[1] - 1, taps_y.shape[1] - 1, taps_x.shape[1] - 1
    off_z, off_y, off_x = _offsets(r_z, size), _offsets(r_y, s_x), _offsets(r_x, 1)
    # Flat arrays, of which numba compiles one kind.
    voxels, on_z, on_y, on_x = src.reshape(-1), taps_z.reshape(-1), taps_y.reshape(-1), taps_x.reshape(-1)
    scalars, values = out.reshape(-1), eigenvalues.reshape(-1)
    band = min(max(1, BAND // s_x), n_y)
    w, t = band * s_x, band * n_x
    n_planes = 3 if narrow_z.size == 0 else 4
    planes, rows = np.empty(n_planes * size, np.float32), np.empty(7 * w, np.float32)
    terms = np.empty(11 * t, np.float32)
    for z in range(n_z):
        at = (start + z) * size
        sum_taps_3(planes, 0, size, 2 * size, 0, voxels, at, 0, 1, size, off_z, r_z, on_z, r_z)
        if n_planes == 4:
            sum_taps(planes, 3 * size, 0, voxels, at, 0, 1, size, off_z, r_z, narrow_z, narrow_z.size - 1)
        for y in range(0, n_y, band):
            n_rows = min(band, n_y - y)
            at, length = (y + m_y) * s_x, n_rows * s_x
            sum_taps_3(rows, 0, w, 2 * w, 0, planes, at, 0, 1, length, off_y, r_y, on_y, r_y)
            sum_taps_2(rows, 3 * w, 4 * w, 0, planes, size + at, 0, 1, length, off_y, r_y, on_y, r_y)
            sum_taps(rows, 5 * w, 0, planes, 2 * size + at, 0, 1, length, off_y, r_y, on_y, r_y)
            # Terms: smooth, d_x, d_y, d_z, xx, yy, zz, yx, zx, zy, and the narrow Gaussian.
            sum_taps_3(terms, 0, t, 4 * t, n_x, rows, m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
            sum_taps_2(terms, 2 * t, 7 * t, n_x, rows, w + m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
            sum_taps(terms, 5 * t, n_x, rows, 2 * w + m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
            sum_taps_2(terms, 3 * t, 8 * t, n_x, rows, 3 * w + m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
            sum_taps(terms, 9 * t, n_x, rows, 4 * w + m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
            sum_taps(terms, 6 * t, n_x, rows, 5 * w + m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
            if n_planes == 4:
                r = narrow_y.size - 1
                sum_taps(rows, 6 * w, 0, planes, 3 * size + at, 0, 1, length, off_y, r_y, narrow_y, r)
                r = narrow_x.size - 1
                sum_taps(terms, 10 * t, n_x, rows, 6 * w + m_x, s_x, n_rows, n_x, off_x, r_x, narrow_x, r)
            a, n = (z * n_y + y) * n_x, n_rows * n_x
            b = a + volume
            c = b + volume
            _fill_scalars(terms, t, scalars[a : a + n], scalars[b : b + n], scalars[c : c + n])
            if n_planes == 4:
                _subtract(terms[:n], terms[10 * t : 10 * t + n], scalars[c + volume : c + volume + n])
            eigenvalues_3x3(
                terms[6 * t : 6 * t + n],
                terms[5 * t : 5 * t + n],
                terms[4 * t : 4 * t + n],
                terms[9 * t : 9 * t + n],
                terms[8 * t : 8 * t + n],
                terms[7 * t : 7 * t + n],
                values[a : a + n],
                values[b : b + n],
                values[c : c + n],
            )


@part(error_model="numpy", fastmath={"contract"})
def _fill_scalars(terms: Float32, t: int, smooth: Float32, laplacian: Float32, magnitude: Float32) -> None:
    """Write Gaussian, Laplacian and gradient magnitude of a run from the terms of `second_order_3d`, `t` apart."""
    n = smooth.size
    g, d_x, d_y, d_z = terms[:n], terms[t : t + n], terms[2 * t : 2 * t + n], terms[3 * t : 3 * t + n]
    xx, yy, zz = terms[4 * t : 4 * t + n], terms[5 * t : 5 * t + n], terms[6 * t : 6 * t + n]
    for i in range(n):
        smooth[i] = g[i]
        laplacian[i] = zz[i] + yy[i] + xx[i]
        magnitude[i] = np.sqrt(d_z[i] * d_z[i] + d_y[i] * d_y[i] + d_x[i] * d_x[i])


@part(error_model="numpy")
def _subtract(wide: Float32, narrow: Float32, out: Float32) -> None:
    """Write the difference of Gaussians of a run."""
    for i in range(out.size):
        out[i] = wide[i] - narrow[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def second_order_2d(
    src: Float32,
    start: int,
    taps_y: Float32,
    taps_x: Float32,
    narrow_y: Float32,
    narrow_x: Float32,
    out: Float32,
    eigenvalues: Float32,
) -> None:
    """Write the responses of `second_order_3d` slice by slice; there are two eigenvalues."""
    _, n_z, n_y, n_x = out.shape
    s_y, s_x = src.shape[1], src.shape[2]
    m_y, m_x = (s_y - n_y) // 2, (s_x - n_x) // 2
    r_y, r_x = taps_y.shape[1] - 1, taps_x.shape[1] - 1
    off_y, off_x = _offsets(r_y, s_x), _offsets(r_x, 1)
    voxels, on_y, on_x = src.reshape(-1), taps_y.reshape(-1), taps_x.reshape(-1)
    scalars, values, volume = out.reshape(-1), eigenvalues.reshape(-1), n_z * n_y * n_x
    rows, terms = np.empty(4 * s_x, np.float32), np.empty(7 * n_x, np.float32)
    smooth, d_x, xx = terms[:n_x], terms[n_x : 2 * n_x], terms[2 * n_x : 3 * n_x]
    d_y, yx, yy = terms[3 * n_x : 4 * n_x], terms[4 * n_x : 5 * n_x], terms[5 * n_x : 6 * n_x]
    for z in range(n_z):
        for y in range(n_y):
            base = ((start + z) * s_y + y + m_y) * s_x
            sum_taps_3(rows, 0, s_x, 2 * s_x, 0, voxels, base, 0, 1, s_x, off_y, r_y, on_y, r_y)
            sum_taps_3(terms, 0, n_x, 2 * n_x, 0, rows, m_x, 0, 1, n_x, off_x, r_x, on_x, r_x)
            sum_taps_2(terms, 3 * n_x, 4 * n_x, 0, rows, s_x + m_x, 0, 1, n_x, off_x, r_x, on_x, r_x)
            sum_taps(terms, 5 * n_x, 0, rows, 2 * s_x + m_x, 0, 1, n_x, off_x, r_x, on_x, r_x)
            a = (z * n_y + y) * n_x
            b = a + volume
            c = b + volume
            gaussian, laplacian, magnitude = scalars[a : a + n_x], scalars[b : b + n_x], scalars[c : c + n_x]
            for x in range(n_x):
                gaussian[x] = smooth[x]
                laplacian[x] = yy[x] + xx[x]
                magnitude[x] = np.sqrt(d_y[x] * d_y[x] + d_x[x] * d_x[x])
            if narrow_y.size > 0:
                r = narrow_y.size - 1
                sum_taps(rows, 3 * s_x, 0, voxels, base, 0, 1, s_x, off_y, r_y, narrow_y, r)
                r = narrow_x.size - 1
                sum_taps(terms, 6 * n_x, 0, rows, 3 * s_x + m_x, 0, 1, n_x, off_x, r_x, narrow_x, r)
                _subtract(smooth, terms[6 * n_x :], scalars[c + volume : c + volume + n_x])
            eigenvalues_2x2(yy, xx, yx, values[a : a + n_x], values[b : b + n_x])


@part(error_model="numpy")
def _gradient_plane(
    planes: Float32,
    s_x: int,
    taps_y: Float32,
    taps_x: Float32,
    signs_y: Float32,
    signs_x: Float32,
    gradient: Float32,
) -> None:
    """Write the gradient (z, y, x) of a plane into `gradient`, a component after the other and room for one more.

    `planes` are, one behind the other, the plane smoothed along z and derived along z, with margins, rows `s_x` apart.
    """
    size = planes.size // 2
    n_y, n_x = signs_y.size, signs_x.size
    m_y, m_x = (size // s_x - n_y) // 2, (s_x - n_x) // 2
    r_y, r_x = taps_y.shape[1] - 1, taps_x.shape[1] - 1
    off_y, off_x = _offsets(r_y, s_x), _offsets(r_x, 1)
    on_y, on_x = taps_y.reshape(-1), taps_x.reshape(-1)
    n = n_y * n_x
    band = min(max(1, BAND // s_x), n_y)
    w = band * s_x
    rows = np.empty(3 * w, np.float32)
    for y in range(0, n_y, band):
        n_rows = min(band, n_y - y)
        at, length = (y + m_y) * s_x, n_rows * s_x
        sum_taps_2(rows, 0, w, 0, planes, at, 0, 1, length, off_y, r_y, on_y, r_y)
        sum_taps(rows, 2 * w, 0, planes, size + at, 0, 1, length, off_y, r_y, on_y, r_y)
        a = y * n_x
        sum_taps(gradient, a, n_x, rows, 2 * w + m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
        sum_taps(gradient, n + a, n_x, rows, w + m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
        # The Gaussian of what is smooth is not asked for, and is written where nothing is read.
        sum_taps_2(gradient, 3 * n, 2 * n + a, n_x, rows, m_x, s_x, n_rows, n_x, off_x, r_x, on_x, r_x)
    for y in range(n_y):
        a = y * n_x
        if signs_y[y] < 0:
            for i in range(n + a, n + a + n_x):
                gradient[i] = -gradient[i]
        along_x = gradient[2 * n + a : 2 * n + a + n_x]
        for i in range(n_x):
            along_x[i] *= signs_x[i]


@part(error_model="numpy")
def _smooth_products(
    gradient: Float32,
    g_y: int,
    g_x: int,
    pairs: Int64,
    outer_y: Float32,
    outer_x: Float32,
    out: Float32,
    at: int,
    stride: int,
) -> None:
    """Smooth products of components of a gradient (g_y, g_x) along y and x to `out[at]`, `stride` apart."""
    n = g_y * g_x
    r_y, r_x = outer_y.size - 1, outer_x.size - 1
    n_y, n_x = g_y - 2 * r_y, g_x - 2 * r_x
    off_x = _offsets(r_x, 1)
    rows = np.empty(g_y, np.int64)
    for y in range(g_y):
        rows[y] = y * g_x
    band = max(TOGETHER, BAND // g_x // TOGETHER * TOGETHER)
    product, along_y = np.empty(n, np.float32), np.empty(band * g_x, np.float32)
    for k in range(len(pairs)):
        a, b = gradient[pairs[k, 0] * n : (pairs[k, 0] + 1) * n], gradient[pairs[k, 1] * n : (pairs[k, 1] + 1) * n]
        for v in range(n):
            product[v] = a[v] * b[v]
        first = at + k * stride
        for y in range(0, n_y, band):
            n_rows = min(band, n_y - y)
            sum_taps_rows(along_y, 0, g_x, product, 0, n_rows, g_x, rows, y + r_y, 1, outer_y, r_y)
            sum_taps(out, first + y * n_x, n_x, along_y, r_x, g_x, n_rows, n_x, off_x, r_x, outer_x, r_x)


@njit(cache=True, nogil=True, error_model="numpy")
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
    ring: Float32,
    eigenvalues: Float32,
) -> None:
    """Write the eigenvalues of the structure tensor of `src` into `eigenvalues` (3, z, y, x).

    The gradient of one plane after the other is taken, its products are smoothed along y and x and kept in a ring of
    planes. What is then smoothed along z are columns of them, all planes of a call, that stay in the cache. Planes come
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
        Half kernels of the integration.
    ring
        (6, 2 r_z + m, y * x) float32, for calls of at most m planes.
    eigenvalues
        The planes from `start` on.
    """
    _, n_z, n_y, n_x = eigenvalues.shape
    s_x, size = src.shape[2], src.shape[1] * src.shape[2]
    margin_z, margin_y = (src.shape[0] - signs_z.size) // 2, (src.shape[1] - signs_y.size) // 2
    r_z, reach, slots = taps_z.shape[1] - 1, outer_z.size - 1, ring.shape[1]
    off_z = _offsets(r_z, size)
    new_planes = range(start + 2 * reach if start > 0 else 0, start + n_z + 2 * reach)
    offsets = np.empty(n_z + 2 * reach, np.int64)
    for i in range(offsets.size):
        offsets[i] = (start + i) % slots * n_y * n_x
    # Flat arrays, of which numba compiles one kind.
    voxels, on_z, kept, values = src.reshape(-1), taps_z.reshape(-1), ring.reshape(-1), eigenvalues.reshape(-1)
    terms, volume = np.empty(6 * TOGETHER * COLUMN, np.float32), n_z * n_y * n_x
    # Rows in strips: all that a strip needs of the ring stays in the second-level cache, unless rows that strips share
    # would cost more than that gains.
    reach_y = outer_y.size - 1
    strip = max(CACHED // (6 * slots * n_x), 4 * (reach_y + 1))
    for y in range(0, n_y, strip):
        n_rows = min(strip, n_y - y)
        signs = signs_y[y : y + n_rows + 2 * reach_y]
        part = (signs.size + 2 * margin_y) * s_x
        planes = np.empty(2 * part, np.float32)
        gradient = np.empty(4 * signs.size * signs_x.size, np.float32)
        for t in new_planes:
            at = (t + margin_z) * size + y * s_x
            sum_taps_2(planes, 0, part, 0, voxels, at, 0, 1, part, off_z, r_z, on_z, r_z)
            _gradient_plane(planes, s_x, taps_y, taps_x, signs, signs_x, gradient)
            if signs_z[t] < 0:
                for i in range(signs.size * signs_x.size):
                    gradient[i] = -gradient[i]
            at = (t % slots * n_y + y) * n_x
            _smooth_products(
                gradient, signs.size, signs_x.size, PAIRS_3D, outer_y, outer_x, kept, at, slots * n_y * n_x
            )
        for a in range(y * n_x, (y + n_rows) * n_x, COLUMN):
            n = min(COLUMN, (y + n_rows) * n_x - a)
            for z in range(0, n_z, TOGETHER):
                n_planes = min(TOGETHER, n_z - z)
                for k in range(6):
                    base, to = k * slots * n_y * n_x + a, k * TOGETHER * COLUMN
                    sum_taps_rows(terms, to, COLUMN, kept, base, n_planes, n, offsets, z + reach, 1, outer_z, reach)
                for i in range(n_planes):
                    first = (z + i) * n_y * n_x + a
                    second = first + volume
                    third = second + volume
                    eigenvalues_3x3(
                        _term(terms, 0, i)[:n],
                        _term(terms, 1, i)[:n],
                        _term(terms, 2, i)[:n],
                        _term(terms, 3, i)[:n],
                        _term(terms, 4, i)[:n],
                        _term(terms, 5, i)[:n],
                        values[first : first + n],
                        values[second : second + n],
                        values[third : third + n],
                    )


@part(error_model="numpy")
def _term(terms: Float32, k: int, plane: int) -> Float32:
    """Return a column of entry `k` of the structure tensor in one of the planes that are worked on together."""
    first = (k * TOGETHER + plane) * COLUMN
    return terms[first : first + COLUMN]


@njit(cache=True, nogil=True, error_model="numpy")
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
    n_z, n_plane = eigenvalues.shape[1], eigenvalues.shape[2] * eigenvalues.shape[3]
    g_y, g_x = signs_y.size, signs_x.size
    s_x, size = src.shape[2], src.shape[1] * src.shape[2]
    flat, values, volume = src.reshape(-1), eigenvalues.reshape(-1), n_z * n_plane
    planes = np.zeros(2 * size, np.float32)  # nothing is derived along z
    gradient = np.empty(4 * g_y * g_x, np.float32)
    tensor = np.empty(3 * n_plane, np.float32)
    first = int(np.int64(0))  # not a literal, for which the kernel would be compiled once more
    for z in range(n_z):
        source = flat[(start + z) * size : (start + z + 1) * size]
        for i in range(size):
            planes[i] = source[i]
        _gradient_plane(planes, s_x, taps_y, taps_x, signs_y, signs_x, gradient)
        _smooth_products(gradient, g_y, g_x, PAIRS_2D, outer_y, outer_x, tensor, first, n_plane)
        a = z * n_plane
        b = a + volume
        eigenvalues_2x2(
            tensor[:n_plane],
            tensor[n_plane : 2 * n_plane],
            tensor[2 * n_plane :],
            values[a : a + n_plane],
            values[b : b + n_plane],
        )
