"""Which labels are learned from, and which belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloop.classify import LabelledImage, SupervoxelLabels, label_supervoxels
from voxloop.classify.labelled import (
    LARGE_CUBE,
    SMALL_CUBE,
    deal_folds,
    group_labels,
    spacing_of_labels,
    without_grazed,
)
from voxloop.specs import SlicSpec
from voxloop.supervoxels import Adjacency, slic
from voxloop.volume import Volume


def chain(n: int) -> Adjacency:
    """Supervoxels 1..n in a row, each touching the next."""
    ids = np.arange(1, n)
    return Adjacency(np.stack([ids, ids + 1], axis=1), np.ones(n - 1), n)


def labels_of(classes: dict[int, int], n_voxels: list[int] | None = None) -> SupervoxelLabels:
    ids, n = np.array(sorted(classes), np.uint32), len(classes)
    found = np.array([classes[int(i)] for i in ids], np.int32)
    return SupervoxelLabels(ids, found, np.ones(n), 0, None if n_voxels is None else np.array(n_voxels))


def in_a_row(classes: dict[int, int], n: int, step: float = 1.0) -> LabelledImage:
    """An image whose supervoxels stand in a row, `step` diameters apart."""
    positions = np.column_stack([np.zeros(n), np.zeros(n), np.arange(n) * step])
    return LabelledImage(labels_of(classes), np.zeros((n, 1), np.float32), chain(n), positions, 4.0, 3)


@pytest.mark.parametrize(
    ("classes", "n_voxels", "kept"),
    [
        ({2: 1, 3: 1}, [20, 9], [2]),  # less than half as many as beside it
        ({2: 1, 3: 1}, [20, 10], [2, 3]),
        ({2: 1, 3: 2}, [20, 9], [2, 3]),  # another class beside it says nothing
        ({2: 1, 4: 1}, [20, 9], [2, 4]),  # nor does what does not touch
        ({2: 1, 3: 1}, [100, 50], [2, 3]),  # half full
        ({2: 1, 3: 1, 4: 1}, [20, 9, 4], [2]),
        ({2: 1, 3: 1}, None, [2, 3]),
    ],
)
def test_grazed_supervoxels_are_left_out(classes, n_voxels, kept):
    left = without_grazed(labels_of(classes, n_voxels), chain(5), np.full(5, 100))
    assert left.ids.tolist() == kept
    assert left.classes.tolist() == [classes[i] for i in kept]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30)), min_size=1, max_size=12))
def test_every_class_keeps_a_label(found):
    """The fullest of those that touch is never left out."""
    classes = {i + 1: class_id for i, (class_id, _) in enumerate(found)}
    labels = labels_of(classes, [n for _, n in found])
    left = without_grazed(labels, chain(len(found)), np.full(len(found), 1000))
    assert set(left.classes.tolist()) == set(labels.classes.tolist())


def test_labelled_voxels_are_counted():
    labels = label_supervoxels([3, 3, 1, 3, 0], [1, 2, 1, 2, 1])
    assert labels.n_voxels is not None
    assert labels.n_voxels.tolist() == [1, 3]
    assert labels.take(np.array([False, True])).ids.tolist() == [3]


def test_a_stroke_and_a_neighbourhood_belong_together():
    # A stroke of class 1 over 1..5, class 2 at 6 within the cube of 4 and 5, and a label of either class far away.
    classes = dict.fromkeys(range(1, 6), 1) | {6: 2, 9: 1, 12: 2}
    groups = group_labels([in_a_row(classes, 12)])
    assert groups[:6].tolist() == [groups[0]] * 6
    assert groups[6] != groups[0]
    assert sorted(set(groups.tolist())) == list(range(groups.max() + 1))


def test_labels_that_all_touch_are_told_apart_by_small_cubes():
    classes = dict.fromkeys(range(1, 7), 1) | dict.fromkeys(range(7, 13), 2)
    assert group_labels([in_a_row(classes, 12)]).tolist() == np.repeat(np.arange(4), 3).tolist()


def test_a_long_stroke_is_cut_and_images_stay_apart():
    n = 4 * LARGE_CUBE
    image = in_a_row(dict.fromkeys(range(1, n + 1), 1), n)
    assert np.unique(group_labels([image])).size == 4
    assert np.unique(group_labels([image, image])).size == 8
    apart = in_a_row(dict.fromkeys(range(1, n + 1, 2), 1), n, step=SMALL_CUBE)
    assert np.unique(group_labels([apart])).size == n // 2


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), min_size=2, max_size=40),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_folds_keep_groups_together_and_leave_labels_of_every_class(found, n_folds, seed):
    number = {group: i for i, group in enumerate(sorted({group for group, _ in found}))}
    groups = np.array([number[group] for group, _ in found])
    classes = np.array([class_id for _, class_id in found], np.int32)
    folds = deal_folds(groups, classes, n_folds=n_folds, rng=seed)
    assert set(folds) <= set(range(-1, n_folds))
    for group in np.unique(groups):
        assert len(set(folds[groups == group]) - {-1}) <= 1
    for fold in np.unique(folds[folds >= 0]):
        assert set(classes[folds != fold]) == set(classes)


def test_a_class_in_two_places_is_left_out_in_turn_and_one_in_a_single_place_never():
    groups = np.arange(12)
    classes = np.repeat([1, 2], [10, 2]).astype(np.int32)
    for seed in range(20):
        folds = deal_folds(groups, classes, n_folds=5, rng=seed)
        assert len(set(folds[10:])) == 2
        assert folds.min() == 0
    folds = deal_folds(np.append(np.arange(10), [10, 10]), classes, n_folds=5, rng=0)
    assert folds[10:].tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [((20, 30, 40), (1, 1, 1), 10), ((6, 30, 40), (5, 1, 1), 1500 ** (1 / 3)), ((1, 60, 40), (1, 1, 1), 10)],
)
def test_labels_that_are_spread_evenly_lie_so_far_apart(shape, spacing, expected):
    image = Volume(np.random.default_rng(0).random(shape).astype(np.float32), spacing=spacing)
    supervoxels = slic(image, SlicSpec(n_segments=30))
    made = LabelledImage.of(label_supervoxels([], []), np.zeros((supervoxels.n, 1), np.float32), supervoxels, spacing)
    assert spacing_of_labels([made], 24) == pytest.approx(expected)
    assert spacing_of_labels([made, made], 48) == pytest.approx(expected)
