"""Eigenvalues of symmetric 2 x 2 and 3 x 3 matrices in closed form, a row of matrices at a time.

The 3 x 3 form is the trigonometric one of Smith, "Eigenvalues of a symmetric 3 x 3 matrix", Commun. ACM 4 (1961) 168.
It loses half its digits near a double root, where structure tensors live, so everything that cancels there runs in
float64: up to 1 - |cos 3a|, of the angle a. From it on float32 is as exact as the entries are. Arc cosine is the
polynomial of Abramowitz and Stegun, 4.4.46 (error 2e-8), sine and cosine are Taylor sums on [0, pi/3]: library calls
would keep the loops from being vectorised.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_ONE, _PI, _THIRD, _SQRT_3 = np.float32(1), np.float32(math.pi), np.float32(1 / 3), np.float32(math.sqrt(3))
_ACOS_0, _ACOS_1, _ACOS_2 = np.float32(1.5707963050), np.float32(-0.2145988016), np.float32(0.0889789874)
_ACOS_3, _ACOS_4, _ACOS_5 = np.float32(-0.0501743046), np.float32(0.0308918810), np.float32(-0.0170881256)
_ACOS_6, _ACOS_7 = np.float32(0.0066700901), np.float32(-0.0012624911)
_COS_2, _COS_4, _COS_6, _COS_8, _COS_10 = (np.float32(1 / c) for c in (-2, 24, -720, 40320, -3628800))
_SIN_3, _SIN_5, _SIN_7, _SIN_9 = (np.float32(1 / c) for c in (-6, 120, -5040, 362880))
_TINY = 1e-300  # keeps 0 / 0 from becoming a NaN; float32 inputs cannot make anything as small
_TINY_32 = 1e-30  # above 0, so that it can carry a sign: a comparison does not see that of 0


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
    # In `largest` and `smallest` lie, until their second loop, the mean and the radius; in `middle` how far the cosine
    # of three times the angle is from 1, with its sign.
    for i in range(largest.size):
        a, b, c = np.float64(zz[i]), np.float64(yy[i]), np.float64(xx[i])
        d, e, f = np.float64(zy[i]), np.float64(zx[i]), np.float64(yx[i])
        mean = (a + b + c) * (1 / 3)
        a -= mean
        b -= mean
        c -= mean
        p2 = (a * a + b * b + c * c + 2.0 * (d * d + e * e + f * f)) * (1 / 6)
        p = math.sqrt(p2)
        det = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
        r = 0.5 * det / (p2 * p + _TINY)
        away = max(_TINY_32, 1.0 - abs(r))
        largest[i] = mean
        smallest[i] = p
        middle[i] = math.copysign(away, r)
    for i in range(largest.size):
        mean, p, signed = largest[i], smallest[i], middle[i]
        away = abs(signed)
        s = _ONE - away
        poly = _ACOS_4 + s * (_ACOS_5 + s * (_ACOS_6 + s * _ACOS_7))
        poly = _ACOS_0 + s * (_ACOS_1 + s * (_ACOS_2 + s * (_ACOS_3 + s * poly)))
        angle = math.sqrt(away) * poly
        angle = (angle if signed >= 0 else _PI - angle) * _THIRD
        t = angle * angle
        cos = _ONE + t * (_COS_2 + t * (_COS_4 + t * (_COS_6 + t * (_COS_8 + t * _COS_10))))
        sin = _SQRT_3 * angle * (_ONE + t * (_SIN_3 + t * (_SIN_5 + t * (_SIN_7 + t * _SIN_9))))
        largest[i] = mean + (p + p) * cos
        middle[i] = mean + p * (sin - cos)
        smallest[i] = mean - p * (cos + sin)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def eigenvalues_2x2(yy: Float32, xx: Float32, yx: Float32, largest: Float32, smallest: Float32) -> None:
    """Write the eigenvalues of the matrices ((yy, yx), (yx, xx)), float32 rows, sorted."""
    for i in range(largest.size):
        a, b, d = np.float64(yy[i]), np.float64(xx[i]), np.float64(yx[i])
        mean, half = 0.5 * (a + b), 0.5 * (a - b)
        radius = math.sqrt(half * half + d * d)
        largest[i] = mean + radius
        smallest[i] = mean - radius
