"""Pooling kernels on tiny inputs, compiled and as plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from voxloop.kernels.pooling import add_moments, number_locally


@pytest.mark.parametrize("kernel", [number_locally, number_locally.py_func], ids=["compiled", "source"])
def test_numbers_follow_the_first_voxels(kernel) -> None:
    labels = np.array([0, 7, 7, 3, 0, 7, 9, 3, 3], np.uint32)
    local = np.empty(labels.size, np.int32)
    ids, counts = kernel(labels, np.zeros(10, np.int32), local)
    assert ids.tolist() == [7, 3, 9]
    assert counts.tolist() == [3, 3, 1]
    assert local.tolist() == [0, 1, 1, 2, 0, 1, 3, 2, 2]


def test_more_supervoxels_than_the_first_guess() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3000, dtype=np.uint32), 3))
    local = np.empty(labels.size, np.int32)
    ids, counts = number_locally(labels, np.zeros(3000, np.int32), local)
    assert sorted(ids.tolist()) == list(range(1, 3000))
    assert (counts == 3).all()
    inside = labels > 0
    np.testing.assert_array_equal(ids[local[inside] - 1], labels[inside])


@pytest.mark.parametrize("kernel", [add_moments, add_moments.py_func], ids=["compiled", "source"])
@pytest.mark.parametrize("n_responses", [1, 5, 8, 10])
def test_moments_agree_with_bincount(kernel, n_responses: int) -> None:
    rng = np.random.default_rng(n_responses)
    local = np.sort(rng.integers(0, 5, (3, 11)).astype(np.int32), axis=1)
    local[1] = 0
    responses = rng.normal(1e4, 1, (n_responses, 3, 11)).astype(np.float32)
    sums, squares = np.zeros((4, n_responses)), np.zeros((4, n_responses))
    kernel(responses, local, sums, squares)
    for k in range(n_responses):
        values = responses[k].astype(np.float64).ravel()
        expected = np.bincount(local.ravel(), values, minlength=5)[1:]
        np.testing.assert_allclose(sums[:, k], expected, rtol=1e-14)
        np.testing.assert_allclose(squares[:, k], np.bincount(local.ravel(), values**2, minlength=5)[1:], rtol=1e-14)
