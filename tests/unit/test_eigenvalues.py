"""Closed-form eigenvalues against numpy's solver."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from voxloop.kernels.eigenvalues import eigenvalues_2x2, eigenvalues_3x3

# The arc cosine polynomial is good to 2e-8 and the output is float32 (6e-8): of the largest entry, with a margin.
TOLERANCE = 4e-7

entries = st.floats(-1e6, 1e6, width=32)


def solve_3x3(components: np.ndarray) -> np.ndarray:
    zz, yy, xx, zy, zx, yx = components.astype(np.float64)
    matrices = np.stack([zz, zy, zx, zy, yy, yx, zx, yx, xx], axis=-1).reshape(-1, 3, 3)
    return np.linalg.eigvalsh(matrices)[:, ::-1].T


def closed_3x3(components: np.ndarray) -> np.ndarray:
    out = np.empty((3, components.shape[1]), np.float32)
    eigenvalues_3x3(*components, *out)
    return out


@settings(deadline=None)  # the first call compiles
@given(arrays(np.float32, (6, 17), elements=entries))
def test_3x3_agrees_with_eigvalsh(components: np.ndarray) -> None:
    ours = closed_3x3(components)
    scale = max(1e-30, float(abs(components).max()))
    np.testing.assert_allclose(ours / scale, solve_3x3(components) / scale, atol=3 * TOLERANCE, rtol=0)
    assert (np.diff(ours, axis=0) <= TOLERANCE * 3 * scale).all()


def test_3x3_near_rank_one() -> None:
    """Structure tensors are nearly rank one: the two small eigenvalues must not drown in the large one's error."""
    rng = np.random.default_rng(0)
    g = rng.normal(size=(3, 1000)).astype(np.float64)
    components = np.stack([g[0] ** 2, g[1] ** 2, g[2] ** 2, g[0] * g[1], g[0] * g[2], g[1] * g[2]]).astype(np.float32)
    ours = closed_3x3(components)
    np.testing.assert_allclose(ours, solve_3x3(components), atol=TOLERANCE * 30, rtol=0)  # entries up to about 10


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e30, 1e-30])
def test_3x3_multiples_of_identity(value: float) -> None:
    components = np.zeros((6, 4), np.float32)
    components[:3] = value
    np.testing.assert_allclose(closed_3x3(components), np.float32(value), rtol=1e-6)


@settings(deadline=None)  # the first call compiles
@given(arrays(np.float32, (3, 9), elements=entries))
def test_2x2_agrees_with_eigvalsh(components: np.ndarray) -> None:
    out = np.empty((2, 9), np.float32)
    eigenvalues_2x2(*components, *out)
    yy, xx, yx = components.astype(np.float64)
    exact = np.linalg.eigvalsh(np.stack([yy, yx, yx, xx], axis=-1).reshape(-1, 2, 2))[:, ::-1].T
    np.testing.assert_allclose(out, exact, atol=TOLERANCE * max(1e-30, float(abs(components).max())), rtol=0)


def test_compiled_kernels_equal_their_source() -> None:
    components = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    compiled, source = np.empty((3, 5), np.float32), np.empty((3, 5), np.float32)
    eigenvalues_3x3(*components, *compiled)
    eigenvalues_3x3.py_func(*components, *source)
    np.testing.assert_allclose(compiled, source, rtol=1e-6, atol=1e-7)
    eigenvalues_2x2(*components[:3], *compiled[:2])
    eigenvalues_2x2.py_func(*components[:3], *source[:2])
    np.testing.assert_allclose(compiled[:2], source[:2], rtol=1e-6, atol=1e-7)
