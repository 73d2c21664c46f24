"""Contacts summed over blocks against a dictionary."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernel_source import python_source
from voxloop.kernels.pieces import FEW, count_contacts, merge_contacts, place_contacts

GROUPS = np.array([0, 1, 2, 3, 4, 5, 6, 1], np.int32)  # the last piece belongs to the second
PIECES = st.integers(0, 7)
ENTRIES = st.lists(st.tuples(PIECES, PIECES, st.integers(0, 2**40)), max_size=40)


def summed(
    entries: list[tuple[int, int, int]], groups: np.ndarray, n: int, *, cut: int = 0, jitted: bool = True
) -> dict:
    """Return the area of each contact, the groups from `cut` on by themselves."""
    count, place, merge = (f if jitted else python_source(f) for f in (count_contacts, place_contacts, merge_contacts))
    table = np.array(entries, np.int64).reshape(-1, 3)
    touching, areas = np.ascontiguousarray(table[:, :2], np.int32), table[:, 2].copy()
    found = {}
    for first, stop in ((0, cut), (cut, n)):
        ends = np.zeros(stop - first + 1, np.int64)
        count(touching, groups, first, ends)
        ends = np.cumsum(ends)
        higher, area = np.empty(ends[-1], np.int32), np.empty(ends[-1], np.int64)
        place(touching, areas, groups, first, ends[:-1], higher, area)
        starts = merge(ends[:-1], higher, area)
        for a, (start, end) in enumerate(itertools.pairwise(starts.tolist()), start=first):
            assert (np.diff(higher[start:end]) > 0).all()
            found |= {(a, b): int(t) for b, t in zip(higher[start:end], area[start:end], strict=True)}
    return found


def by_hand(entries: list[tuple[int, int, int]], groups: np.ndarray) -> Counter[tuple[int, int]]:
    total: Counter[tuple[int, int]] = Counter()
    for a, b, area in entries:
        low, high = sorted((int(groups[a]), int(groups[b])))
        if low != high:
            total[low, high] += area
    return total


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compile before Hypothesis measures how long an example takes."""
    summed([(0, 1, 1)], GROUPS, 7)


@given(entries=ENTRIES, cut=st.integers(0, 7))
def test_each_contact_once_sorted_with_its_area(entries: list[tuple[int, int, int]], cut: int) -> None:
    assert summed(entries, GROUPS, 7, cut=cut) == by_hand(entries, GROUPS)


def test_the_source_says_the_same_as_the_compiled_kernel() -> None:
    entries = [(2, 0, 1), (0, 2, 4), (1, 1, 27), (3, 1, 2), (7, 1, 8), (0, 7, 3), (0, 1, 9)]
    assert summed(entries, GROUPS, 7) == summed(entries, GROUPS, 7, cut=2, jitted=False) == by_hand(entries, GROUPS)


@pytest.mark.parametrize("jitted", [True, False])
def test_a_piece_with_many_neighbours(jitted: bool) -> None:
    others = np.random.default_rng(0).integers(1, 400, 20 * FEW).tolist()
    entries, groups = [(b, 0, i) for i, b in enumerate(others)], np.arange(400, dtype=np.int32)
    assert summed(entries, groups, 400, jitted=jitted) == by_hand(entries, groups)


def test_nothing_touches() -> None:
    assert summed([(1, 7, 2)], GROUPS, 7) == {}
    assert summed([], GROUPS, 7) == {}
