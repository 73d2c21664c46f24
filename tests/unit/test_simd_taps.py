"""Weighted sums over taps: compiled, as numpy, and by numpy's own convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from voxloop.kernels.simd_taps import aligned, sum_taps, sum_taps_2, sum_taps_3, sum_taps_rows

OUTSIDE = np.float32(-7)


@njit(cache=True)
def compiled_1(*a: Any) -> None:
    sum_taps(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11])


@njit(cache=True)
def compiled_2(*a: Any) -> None:
    sum_taps_2(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12])


@njit(cache=True)
def compiled_3(*a: Any) -> None:
    sum_taps_3(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13])


@njit(cache=True)
def compiled_rows(*a: Any) -> None:
    sum_taps_rows(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11])


VARIANTS = [(compiled_1, sum_taps), (compiled_2, sum_taps_2), (compiled_3, sum_taps_3)]


def case(count: int, radius: int, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count * 100 + radius)
    src = rng.normal(size=(2 * radius + 1) * stride + count + 3).astype(np.float32)
    taps = rng.normal(size=(3, radius + 1)).astype(np.float32)
    return src, taps, (np.arange(2 * radius + 1) - radius) * stride


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 150), st.integers(0, 9), st.integers(1, 5), st.integers(0, 9), st.sampled_from([0, 1, 2]))
def test_sums_are_correlations(count: int, radius: int, stride: int, n_rows: int, last: int) -> None:
    rng = np.random.default_rng(count * 100 + radius)
    _, taps, offsets = case(count, radius, stride)
    src = rng.normal(size=(n_rows, 2 * radius * stride + count + 3)).astype(np.float32)
    kernels = [np.concatenate([sign * k[:0:-1], k]) for k, sign in zip(taps, (1, -1, 1), strict=True)]
    kernels[1][radius] = 0  # what is odd has no centre
    compiled, source = VARIANTS[last]
    start = radius * stride + 2
    at = np.arange(count)[:, np.newaxis] + start + offsets
    for kernel in (compiled, source):
        out = np.full((3, n_rows, count + 2), OUTSIDE)
        positions = [k * n_rows * (count + 2) + 1 for k in range(last + 1)]
        pitch = src.shape[1]
        kernel(out, *positions, count + 2, src, start, pitch, n_rows, count, offsets, radius, taps, radius)
        for rows, weights in zip(out[: last + 1], kernels, strict=False):
            np.testing.assert_allclose(rows[:, 1:-1], src.astype(np.float64)[:, at] @ weights, atol=1e-5)
        assert (out[:, :, [0, -1]] == OUTSIDE).all()
        assert (out[last + 1 :] == OUTSIDE).all()


@pytest.mark.parametrize("kernel", [kernel for kernel, _ in VARIANTS])
def test_a_voxel_does_not_know_where_in_a_run_it_is(kernel: Any) -> None:
    """Vectors of one run or of several, the last one that overlaps, and single voxels give the same bits."""
    src, taps, offsets = case(200, 3, 1)
    n_sums = VARIANTS.index(next(v for v in VARIANTS if v[0] is kernel)) + 1

    def run(first: int, count: int, *, n_rows: int = 1, pitch: int = 0) -> np.ndarray:
        out = np.zeros((n_sums, n_rows, count), np.float32)
        positions = [k * n_rows * count for k in range(n_sums)]
        kernel(out, *positions, count, src, 3 + first, pitch, n_rows, count, offsets, 3, taps, 3)
        return out

    whole = run(0, 200)[:, 0]
    for first, count in ((0, 1), (7, 15), (31, 16), (40, 33), (1, 64), (100, 100), (3, 150)):
        assert run(first, count).tobytes() == whole[:, first : first + count].tobytes()
    for count, n_rows in ((1, 3), (15, 5), (16, 4), (23, 7), (70, 6)):
        rows = run(2, count, n_rows=n_rows, pitch=20)
        for row in range(n_rows):
            assert rows[:, row].tobytes() == whole[:, 2 + row * 20 :][:, :count].tobytes()


@settings(deadline=None)
@given(st.integers(0, 70), st.integers(0, 9), st.integers(0, 11), st.integers(1, 3))
def test_rows_summed_together_have_the_bits_of_single_ones(count: int, radius: int, n_rows: int, step: int) -> None:
    rng = np.random.default_rng(count * 100 + radius)
    src = rng.normal(size=(20, count + 5)).astype(np.float32)
    taps = rng.normal(size=radius + 1).astype(np.float32)
    rows = rng.integers(0, 20, 2 * radius + 1 + (n_rows - 1) * step if n_rows else 0)  # in any order, as if mirrored
    offsets = rows * src.shape[1]
    expected = np.full((n_rows, count + 2), OUTSIDE)
    for j in range(n_rows):
        compiled_1(expected, j * (count + 2), 0, src, 3, 0, 1, count, offsets, radius + j * step, taps, radius)
    for kernel in (compiled_rows, sum_taps_rows):
        out = np.full((n_rows, count + 2), OUTSIDE)
        kernel(out, 0, count + 2, src, 3, n_rows, count, offsets, radius, step, taps, radius)
        if kernel is compiled_rows:
            assert out.tobytes() == expected.tobytes()
        np.testing.assert_allclose(out, expected, atol=1e-5)


@pytest.mark.parametrize("make", [aligned, aligned.py_func], ids=["compiled", "source"])
def test_aligned_memory_starts_at_a_vector(make: Any) -> None:
    for size in (0, 1, 17, 5000):
        array = make(size)
        assert array.shape == (size,)
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert size == 0 or array.ctypes.data % 64 == 0
