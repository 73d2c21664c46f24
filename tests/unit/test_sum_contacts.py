"""Contacts summed over blocks against a dictionary."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxloop.kernels.pieces import sum_contacts

SAME = np.arange(7, dtype=np.int32)  # groups of one
PIECES = st.integers(0, 6)
ENTRIES = st.lists(st.tuples(PIECES, PIECES, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=40)


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compile before Hypothesis measures how long an example takes."""
    sum_contacts(np.zeros((1, 2), np.int32), np.zeros((1, 3), np.int64), SAME[:1], 1)


def arrays(entries: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(entries, np.int64).reshape(-1, 5)
    return np.ascontiguousarray(table[:, :2], np.int32), np.ascontiguousarray(table[:, 2:])


@given(entries=ENTRIES)
def test_each_contact_once_sorted_with_the_sum_of_its_faces(entries: list[tuple[int, ...]]) -> None:
    expected: dict[tuple[int, int], Counter[int]] = {}
    for a, b, *faces in entries:
        if a != b:
            expected.setdefault((min(a, b), max(a, b)), Counter()).update(dict(enumerate(faces)))
    pairs, faces = sum_contacts(*arrays(entries), SAME, 7)
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(expected)
    assert faces.tolist() == [[expected[pair][axis] for axis in range(3)] for pair in sorted(expected)]


def test_the_source_says_the_same_as_the_compiled_kernel() -> None:
    entries = [(2, 0, 1, 0, 0), (0, 2, 0, 3, 1), (1, 1, 9, 9, 9), (3, 1, 0, 0, 2), (0, 1, 1, 1, 1)]
    for ours, source in zip(
        sum_contacts(*arrays(entries), SAME, 4), sum_contacts.py_func(*arrays(entries), SAME, 4), strict=True
    ):
        np.testing.assert_array_equal(ours, source)


def test_nothing_touches() -> None:
    pairs, faces = sum_contacts(*arrays([(1, 1, 2, 0, 0)]), SAME, 3)
    assert pairs.shape == (0, 2)
    assert faces.shape == (0, 3)
