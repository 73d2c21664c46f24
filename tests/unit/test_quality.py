from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from voxloop.errors import InputError
from voxloop.supervoxels import explained_variation, oracle_iou, quality


def test_quality_by_hand() -> None:
    labels = np.array([[[1, 1, 1, 1, 2, 2, 2, 2, 0, 0]]])
    truth = np.array([[[5, 5, 5, 9, 9, 9, 9, 9, 5, 5]]])
    found = quality(labels, truth)
    assert found.n == 2
    assert found.undersegmentation_error == pytest.approx((1 + 1) / 8)  # one voxel of 9 in 1, seen from both segments
    assert found.achievable_accuracy == pytest.approx(7 / 8)
    assert found.boundary_recall == {1: 1.0, 2: 1.0}
    iou = oracle_iou(labels, truth)
    assert iou.per_class == {5: pytest.approx(3 / 4), 9: pytest.approx(4 / 5)}
    assert iou.mean == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_truth_itself_is_perfect_and_one_supervoxel_is_not() -> None:
    truth = np.random.default_rng(0).integers(0, 4, (6, 7, 8)).repeat(3, axis=2)
    best = quality(truth + 1, truth)
    assert (best.undersegmentation_error, best.achievable_accuracy) == (0, 1)
    assert best.boundary_recall == {1: 1.0, 2: 1.0}
    assert oracle_iou(truth + 1, truth).mean == 1
    worst = quality(np.ones_like(truth), truth)
    assert worst.boundary_recall == {1: 0.0, 2: 0.0}
    assert worst.achievable_accuracy == np.bincount(truth.ravel()).max() / truth.size
    iou = oracle_iou(np.ones_like(truth), truth).per_class
    assert sorted(iou.values())[:3] == [0, 0, 0]


def test_ties_go_to_the_lower_class() -> None:
    assert oracle_iou(np.ones((1, 1, 4), int), np.array([[[3, 3, 1, 1]]])).per_class == {1: 0.5, 3: 0.0}


@pytest.mark.parametrize("ignore", [None, 0])
@pytest.mark.parametrize("block_shape", [(64, 64, 64), (3, 4, 5)])
def test_quality_against_whole_arrays(ignore: int | None, block_shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(5)
    labels = ndimage.zoom(rng.integers(0, 30, (5, 5, 5)), 3, order=0)
    truth = ndimage.zoom(rng.integers(0, 4, (5, 3, 3)), (3, 5, 5), order=0)
    counts = (labels > 0) & (truth != (-1 if ignore is None else ignore))

    table = np.zeros((30, 4))
    np.add.at(table, (labels[counts], truth[counts]), 1)
    sizes = table.sum(axis=1, keepdims=True)
    edge = np.zeros(truth.shape, bool)
    near = np.zeros(truth.shape, bool)
    for axis in range(3):
        for shift in (1, -1):
            other, others_count, own = (np.roll(a, shift, axis) for a in (truth, counts, labels))
            inner = np.ones(truth.shape, bool)
            inner[(slice(None),) * axis + (0 if shift == 1 else -1,)] = False
            edge |= inner & counts & others_count & (truth != other)
            near |= inner & (labels != own)
    recall = {
        t: (edge & ndimage.binary_dilation(near, np.ones((2 * t + 1,) * 3, bool))).sum() / edge.sum() for t in (1, 2)
    }
    found = quality(labels, truth, ignore=ignore, block_shape=block_shape)
    assert found.boundary_recall == pytest.approx(recall)
    assert found.achievable_accuracy == pytest.approx(table.max(axis=1).sum() / counts.sum())
    assert found.undersegmentation_error == pytest.approx(
        np.minimum(table, sizes - table)[table > 0].sum() / counts.sum()
    )

    prediction = table.argmax(axis=1)[labels]
    for segment, iou in oracle_iou(labels, truth, ignore=ignore, block_shape=block_shape).per_class.items():
        a, b = counts & (prediction == segment), counts & (truth == segment)
        assert iou == pytest.approx((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize(
    ("labels", "truth", "ignore", "message"),
    [
        (np.ones((2, 2, 2), int), np.ones((2, 2, 3), int), None, r"truth has shape \(2, 2, 3\)"),
        (np.ones((2, 2, 2), int), np.ones((2, 2, 2)), None, "truth has shape .* and dtype float64"),
        (np.ones((2, 2), int), np.ones((2, 2), int), None, r"labels has shape \(2, 2\)"),
        (np.full((2, 2, 2), 2**32), np.ones((2, 2, 2), int), None, "labels holds"),
        (np.ones((2, 2, 2), int), np.full((2, 2, 2), -1), None, "truth holds -1"),
        (np.zeros((2, 2, 2), int), np.ones((2, 2, 2), int), None, "no voxel in common"),
        (np.ones((2, 2, 2), int), np.ones((2, 2, 2), int), 1, "no voxel in common"),
    ],
)
def test_bad_input(labels: np.ndarray, truth: np.ndarray, ignore: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quality(labels, truth, ignore=ignore)


def test_explained_variation_against_the_voxels() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 7, 5000)
    image = rng.normal(size=5000) + labels
    sizes = np.bincount(labels)
    means, stds = (np.array([f(image[labels == i]) for i in range(7)]) for f in (np.mean, np.std))
    residual = image - means[labels]
    found = explained_variation(sizes, means, stds)
    assert found == pytest.approx(1 - residual.var() / image.var())
    assert explained_variation(sizes, 5 * means - 100, 5 * stds) == pytest.approx(found)
    assert explained_variation(sizes, means, 0 * stds) == 1
    assert explained_variation(sizes, 0 * means, stds) == 0
    assert explained_variation(sizes, 0 * means, 0 * stds) is None
