from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voxloop.active import SliceSuggestion
from voxloop.errors import InputError
from voxloop.simulate.annotator import SimulatedAnnotator
from voxloop.simulate.score import SupervoxelTruth, score


def truth_volume(seed=0, shape=(8, 20, 22), n_classes=3):
    """Smooth regions of classes 1..n, and a corner where nothing is known."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    truth = 1 + np.searchsorted(np.quantile(smooth, np.arange(1, n_classes) / n_classes), smooth)
    truth[:2, :5, :5] = 0
    return truth.astype(np.uint8)


def supervoxel_grid(shape, side=4):
    z, y, x = (np.arange(n) // side for n in shape)
    ids = (z[:, None, None] * (y.max() + 1) + y[None, :, None]) * (x.max() + 1) + x[None, None, :]
    return (ids + 1).astype(np.uint32)


def check(strokes, truth):
    for stroke in strokes:
        z, y, x = stroke.voxels.T
        assert stroke.voxels.dtype == np.int64
        assert (truth[z, y, x] == stroke.class_id).all()
        assert len(np.unique(stroke.voxels, axis=0)) == len(stroke.voxels) > 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 50), st.integers(1, 4), st.integers(0, 3), st.integers(1, 20))
def test_first_strokes_lie_in_their_class_and_in_a_slice(seed, per_class, radius, length):
    truth = truth_volume(seed)
    annotator = SimulatedAnnotator(truth, rng=seed, stroke_length=length, brush_radius=radius)
    strokes = annotator.first_strokes(per_class)
    assert [s.class_id for s in strokes] == [c for c in (1, 2, 3) for _ in range(per_class)]
    check(strokes, truth)
    for stroke in strokes:
        assert len(set(stroke.voxels[:, 0])) == 1
        assert np.ptp(stroke.voxels[:, 1:], axis=0).max() <= length + 2 * radius


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 50), st.integers(0, 2), st.integers(0, 7), st.integers(0, 4), st.integers(0, 4))
def test_answers_lie_in_the_slice_in_highlights_and_errors(seed, axis, index, n_uncertain, n_errors):
    truth = truth_volume(seed)
    supervoxels = supervoxel_grid(truth.shape).take(index, axis=axis)
    plane = truth.take(index, axis=axis)
    segmentation = np.random.default_rng(seed).integers(1, 4, plane.shape)
    highlighted = np.unique(supervoxels)[::3]
    suggestion = SliceSuggestion(axis, index, (0, 0, 0), 1.0, highlighted, "")
    strokes = SimulatedAnnotator(truth, rng=seed).answer(
        suggestion, supervoxels, segmentation, n_uncertain=n_uncertain, n_errors=n_errors
    )
    check(strokes, truth)
    assert all((stroke.voxels[:, axis] == index).all() for stroke in strokes)
    wrong = (plane > 0) & (segmentation != plane)
    in_highlights = []
    for stroke in strokes:
        where = tuple(np.delete(stroke.voxels, axis, axis=1).T)
        of = set(supervoxels[where].tolist())
        in_highlights.append(len(of) == 1 and of <= set(highlighted.tolist()))
        assert in_highlights[-1] or wrong[where].all()
    assert len(strokes) <= n_uncertain + n_errors
    possible = sum((plane[supervoxels == i] > 0).any() for i in highlighted)
    assert all(in_highlights[: min(n_uncertain, possible)])


def test_a_perfect_segmentation_has_no_errors_to_paint():
    truth = truth_volume()
    suggestion = SliceSuggestion(0, 3, (0, 0, 0), 1.0, np.array([], np.uint32), "")
    annotator = SimulatedAnnotator(truth)
    ids = supervoxel_grid(truth.shape)[3]
    assert annotator.answer(suggestion, ids, truth[3].astype(int)) == []
    wrong = truth[3].astype(int)
    wrong[5:9, 6:15] = truth[3, 5:9, 6:15] % 3 + 1
    strokes = annotator.answer(suggestion, ids, wrong)
    assert strokes
    assert all((5 <= y < 9) and (6 <= x < 15) for s in strokes for _, y, x in s.voxels)


def test_a_stroke_goes_where_the_region_is_longest():
    truth = np.ones((1, 9, 30), np.uint8)
    truth[0, 4, 5:25] = 2
    annotator = SimulatedAnnotator(truth, rng=0, stroke_length=100, brush_radius=0)
    stroke = annotator.first_strokes(1)[1]
    assert stroke.voxels.tolist() == [[0, 4, x] for x in range(5, 25)]


def test_the_same_seed_gives_the_same_strokes():
    def strokes(rng):
        return [s.voxels.tolist() for s in SimulatedAnnotator(truth_volume(), rng=rng).first_strokes(3)]

    assert strokes(3) == strokes(3) == strokes(np.random.default_rng(3))
    assert strokes(3) != strokes(4)


def test_bad_truth():
    with pytest.raises(InputError, match="expected"):
        SimulatedAnnotator(np.ones((3, 3), np.uint8))
    with pytest.raises(InputError, match="expected"):
        SimulatedAnnotator(np.ones((3, 3, 3)))
    with pytest.raises(InputError, match="two classes at least, not 1"):
        SimulatedAnnotator(np.ones((3, 3, 3), np.uint8))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 5))
def test_score_by_supervoxel_is_the_score_by_voxel(seed, n_classes, predicted_classes):
    truth = truth_volume(seed, n_classes=n_classes)
    labels = supervoxel_grid(truth.shape)
    labels[-1] = 0  # outside the mask
    ids = np.unique(labels)
    labels = np.searchsorted(ids, labels).astype(np.uint32)
    n = int(labels.max())
    segmentation = np.random.default_rng(seed).integers(1, predicted_classes + 1, n)
    by_supervoxel = SupervoxelTruth(labels, truth, n).score(segmentation)
    by_voxel = score(np.concatenate([[0], segmentation])[labels], truth)
    assert by_supervoxel == by_voxel


def test_nothing_beats_the_oracle():
    truth = truth_volume()
    labels = supervoxel_grid(truth.shape)
    n = int(labels.max())
    of_supervoxels = SupervoxelTruth(labels, truth, n)
    majority = [
        np.bincount(truth[labels == i][truth[labels == i] > 0], minlength=4)[1:].argmax() + 1 for i in range(1, n + 1)
    ]
    assert of_supervoxels.oracle() == of_supervoxels.score(np.array(majority))
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = np.where(rng.random(n) < 0.2, rng.integers(1, 4, n), majority)
        assert of_supervoxels.score(other).mean_iou <= of_supervoxels.oracle().mean_iou + 0.01
    with pytest.raises(InputError, match="truth has shape"):
        SupervoxelTruth(labels, truth[1:], n)
