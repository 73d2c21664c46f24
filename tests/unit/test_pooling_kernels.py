"""Pooling kernels on tiny inputs, compiled and as plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernel_source import python_source
from voxloop.kernels.pooling import add_moments, find_runs

LABELS = np.array([[[0, 7, 7], [3, 0, 7]], [[7, 3, 3], [9, 9, 9]]], np.uint32)


@pytest.mark.parametrize("kernel", [find_runs, python_source(find_runs)], ids=["compiled", "source"])
def test_runs_end_with_their_rows_and_numbers_follow_the_first_voxels(kernel) -> None:
    starts, planes, numbers, ids, counts = kernel(LABELS, np.zeros(10, np.int32))
    assert starts.tolist() == [0, 1, 3, 4, 5, 6, 7, 9, 12]
    assert planes.tolist() == [0, 5, 8]
    assert numbers.tolist() == [0, 1, 2, 0, 1, 1, 2, 3]
    assert ids.tolist() == [7, 3, 9]
    assert counts.tolist() == [4, 3, 3]


@pytest.mark.parametrize("kernel", [find_runs, python_source(find_runs)], ids=["compiled", "source"])
def test_long_runs_are_cut(kernel) -> None:
    labels = np.array([[[5] * 9 + [6] * 4 + [5] * 5]], np.uint32)
    starts, planes, numbers, ids, counts = kernel(labels, np.zeros(7, np.int32))
    assert starts.tolist() == [0, 4, 8, 9, 13, 17, 18]
    assert numbers.tolist() == [1, 1, 1, 2, 1, 1]
    assert (planes.tolist(), ids.tolist(), counts.tolist()) == ([0, 6], [5, 6], [14, 4])


def test_more_supervoxels_than_runs_of_a_row() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3000, dtype=np.uint32), 3)).reshape(3, 300, 10)
    starts, _, numbers, ids, counts = find_runs(labels, np.zeros(3000, np.int32))
    assert sorted(ids.tolist()) == list(range(1, 3000))
    assert (counts == 3).all()
    local = np.repeat(numbers, np.diff(starts)).reshape(labels.shape)
    inside = labels > 0
    np.testing.assert_array_equal(ids[local[inside] - 1], labels[inside])
    assert (local[~inside] == 0).all()


@pytest.mark.parametrize("n_responses", [1, 2, 3, 5, 8, 10, 15])
@pytest.mark.parametrize("longest", [1, 4, 40])
def test_moments_agree_with_bincount(n_responses: int, longest: int) -> None:
    rng = np.random.default_rng(n_responses)
    labels = np.repeat(rng.integers(0, 5, 200), rng.integers(1, longest + 1, 200))[: 3 * (200 // 3)]
    labels = labels.reshape(3, 1, -1).astype(np.uint32)
    starts, planes, numbers, ids, _ = find_runs(labels, np.zeros(5, np.int32))
    responses = rng.normal(1e4, 1, (n_responses, 3, labels.shape[2])).astype(np.float32)
    sums, squares = np.zeros((len(ids), n_responses)), np.zeros((len(ids), n_responses))
    for part in (slice(0, 2), slice(2, 3)):  # slab by slab, the second of one plane
        a, b = planes[part.start], planes[part.stop]
        add_moments(responses[:, part].reshape(n_responses, -1).copy(), starts[a : b + 1], numbers[a:b], sums, squares)
    for k in range(n_responses):
        values = responses[k].astype(np.float64).ravel()
        for totals, terms in ((sums, values), (squares, values**2)):
            expected = np.bincount(labels.ravel(), terms, minlength=5)[ids]
            np.testing.assert_allclose(totals[:, k], expected, rtol=1e-14)


def test_the_compiled_moments_are_those_of_the_source() -> None:
    rng = np.random.default_rng(1)
    starts, numbers = np.array([5, 6, 10, 14, 17, 20], np.int32), np.array([1, 2, 2, 0, 1], np.int32)
    responses = rng.normal(size=(11, 15)).astype(np.float32)
    tables = [(np.zeros((2, 11)), np.zeros((2, 11))) for _ in range(2)]
    add_moments(responses, starts, numbers, *tables[0])
    python_source(add_moments)(responses, starts, numbers, *tables[1])
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-14)
