"""Eigenvalues of symmetric 2 x 2 and 3 x 3 matrices in closed form, a row of matrices at a time.

The 3 x 3 form is the trigonometric one of Smith, "Eigenvalues of a symmetric 3 x 3 matrix", Commun. ACM 4 (1961) 168.
It loses half its digits near a double root, where structure tensors live, so its core runs in float64. Arc cosine is
the polynomial of Abramowitz and Stegun, 4.4.46 (error 2e-8), sine and cosine are Taylor sums on [0, pi/3]: library
calls would keep the loop from being vectorised.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_SQRT_3 = math.sqrt(3.0)
_TINY = 1e-300  # keeps 0 / 0 from becoming a NaN; float32 inputs cannot make anything as small


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def eigenvalues_3x3(
    zz: Float32,
    yy: Float32,
    xx: Float32,
    zy: Float32,
    zx: Float32,
    yx: Float32,
    largest: Float32,
    middle: Float32,
    smallest: Float32,
) -> None:
    """Write the eigenvalues of the matrices ((zz, zy, zx), (zy, yy, yx), (zx, yx, xx)), float32 rows, sorted."""
    for i in range(largest.size):
        a, b, c = np.float64(zz[i]), np.float64(yy[i]), np.float64(xx[i])
        d, e, f = np.float64(zy[i]), np.float64(zx[i]), np.float64(yx[i])
        mean = (a + b + c) / 3.0
        a -= mean
        b -= mean
        c -= mean
        off = d * d + e * e + f * f
        p2 = (a * a + b * b + c * c + 2.0 * off) / 6.0
        p = math.sqrt(p2)
        det = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
        r = 0.5 * det / (p2 * p + _TINY)
        r = np.float64(1.0) if r > 1.0 else r
        r = np.float64(-1.0) if r < -1.0 else r
        s = abs(r)
        poly = 0.0308918810 + s * (-0.0170881256 + s * (0.0066700901 - s * 0.0012624911))
        poly = 1.5707963050 + s * (-0.2145988016 + s * (0.0889789874 + s * (-0.0501743046 + s * poly)))
        angle = math.sqrt(1.0 - s) * poly
        angle = (angle if r >= 0.0 else math.pi - angle) / 3.0
        t = angle * angle
        cos = 1.0 + t * (-1 / 2 + t * (1 / 24 + t * (-1 / 720 + t * (1 / 40320 - t / 3628800))))
        sin = angle * (1.0 + t * (-1 / 6 + t * (1 / 120 + t * (-1 / 5040 + t * (1 / 362880 - t / 39916800)))))
        first = mean + 2.0 * p * cos
        third = mean - p * (cos + _SQRT_3 * sin)
        largest[i] = first
        middle[i] = 3.0 * mean - first - third
        smallest[i] = third


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def eigenvalues_2x2(yy: Float32, xx: Float32, yx: Float32, largest: Float32, smallest: Float32) -> None:
    """Write the eigenvalues of the matrices ((yy, yx), (yx, xx)), float32 rows, sorted."""
    for i in range(largest.size):
        a, b, d = np.float64(yy[i]), np.float64(xx[i]), np.float64(yx[i])
        mean, half = 0.5 * (a + b), 0.5 * (a - b)
        radius = math.sqrt(half * half + d * d)
        largest[i] = mean + radius
        smallest[i] = mean - radius
