"""Crumbs against a search for pieces of one or two voxels, label by label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voxloop.kernels.crumbs import LARGEST, RIM, dissolve_crumbs
from voxloop.kernels.slic import OUTSIDE


def by_hand(labels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Return `labels` after each piece of one or two voxels joined the label of the largest contact."""
    result = labels.copy()
    for label in np.unique(labels[labels != OUTSIDE]):
        pieces, n = ndimage.label(labels == label)
        for piece in range(1, n + 1):
            if (pieces == piece).sum() > LARGEST:
                continue
            contact: dict[int, int] = {}
            for voxel in np.argwhere(pieces == piece):
                for axis in range(3):
                    for step in (-1, 1):
                        at = voxel.copy()
                        at[axis] += step
                        if not 0 <= at[axis] < labels.shape[axis] or labels[tuple(at)] in (label, OUTSIDE):
                            continue
                        other = int(labels[tuple(at)])
                        contact[other] = contact.get(other, 0) + int(areas[axis])
            if contact:
                result[pieces == piece] = min(contact, key=lambda other: (-contact[other], other))
    return result


def boxed(labels: np.ndarray, low: tuple[int, ...], high: tuple[int, ...], areas: np.ndarray) -> np.ndarray:
    """Return what the kernel says of a box, shown only the rim that it is allowed to see."""
    start = [max(a - RIM, 0) for a in low]
    shown = labels[tuple(slice(a, b + RIM) for a, b in zip(start, high, strict=True))]
    padded = np.pad(shown, 1, constant_values=OUTSIDE)
    return dissolve_crumbs(padded, np.subtract(low, start) + 1, np.subtract(high, low), areas)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.integers(1, 6),
    st.sampled_from([(1, 1, 1), (1, 5, 7)]),
)
def test_any_box_is_that_of_the_whole_by_hand(
    seed: int, shape: tuple[int, ...], n_labels: int, areas: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, n_labels, shape).astype(np.int32)
    labels[rng.random(shape) < rng.choice([0, 0.5])] = OUTSIDE
    low = tuple(int(rng.integers(0, n)) for n in shape)
    high = tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(low, shape, strict=True))
    expected = by_hand(labels, np.array(areas))
    np.testing.assert_array_equal(boxed(labels, (0, 0, 0), shape, np.array(areas)), expected)
    np.testing.assert_array_equal(boxed(labels, low, high, np.array(areas)), expected[tuple(map(slice, low, high))])


@pytest.mark.parametrize(("row", "expected"), [([3, 3, 3, 1, 3, 3, 3], [3] * 7), ([1, 1, 1, 2, 2], [1] * 5)])
def test_a_row(row: list[int], expected: list[int]) -> None:
    found = boxed(np.array([[row]], np.int32), (0, 0, 0), (1, 1, len(row)), np.ones(3, int))
    assert found[0, 0].tolist() == expected


def test_an_island_of_one_voxel_stays() -> None:
    labels = np.full((3, 3, 3), OUTSIDE, np.int32)
    labels[1, 1, 1] = 5
    np.testing.assert_array_equal(boxed(labels, (0, 0, 0), (3, 3, 3), np.ones(3, int)), labels)
