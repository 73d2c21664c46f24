"""Convolution kernels, compiled and as plain Python, on tiny inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from tests.kernel_source import python_source
from voxloop.kernels import convolve

TAPS = np.array([0.4, 0.2, 0.1], np.float32)
FULL = np.concatenate([TAPS[:0:-1], TAPS]).astype(np.float64)


def mirrored(length: int) -> np.ndarray:
    return np.pad(np.arange(length), 2, mode="reflect")


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "source"])
@pytest.mark.parametrize("step", [1, 2])
def test_smoothing_agrees_with_scipy(compiled: bool, step: int) -> None:
    image = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    smooth_z, smooth_yx = (f if compiled else python_source(f) for f in (convolve.smooth_z, convolve.smooth_yx))
    n_z, n_y, n_x = (-(-n // step) for n in image.shape)
    along_z = np.empty((n_z, 7, 9), np.float32)
    out = np.empty((n_z, n_y, n_x), np.float32)
    smooth_z(image, TAPS, mirrored(5), step, along_z, 0)
    smooth_yx(along_z, TAPS, mirrored(7), step, TAPS, mirrored(9), step, out)
    expected = image.astype(np.float64)
    for axis in range(3):
        expected = ndimage.correlate1d(expected, FULL, axis=axis, mode="mirror")
    np.testing.assert_allclose(out, expected[::step, ::step, ::step], atol=1e-6)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "source"])
def test_interpolation_is_exact_for_a_plane(compiled: bool) -> None:
    z, y, x = np.indices((3, 3, 4)).astype(np.float32) * 2
    source = (1.0 + z - 2 * y + 3 * x)[np.newaxis].astype(np.float32)
    out = np.empty((1, 4, 4, 6), np.float32)
    tables: list[Any] = []
    for n in (4, 4, 6):
        position = np.arange(n)
        tables += [position // 2, position // 2 + 1, ((position % 2) / 2).astype(np.float32)]
    tables[7] = 2  # columns follow the lattice
    (convolve.interpolate if compiled else python_source(convolve.interpolate))(source, *tables, out)
    z, y, x = np.indices((4, 4, 6))
    np.testing.assert_allclose(out[0], 1.0 + z - 2 * y + 3 * x, atol=1e-6)
