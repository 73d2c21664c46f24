"""How good a segmentation is against a ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.errors import InputError
from voxloop.volume import ArrayLike as VolumeLike


@dataclass(frozen=True)
class Score:
    """Agreement with the truth, by class.

    Attributes
    ----------
    classes
        The classes that the truth holds.
    iou, dice
        Intersection over union, and Dice coefficient, of each of `classes`.
    """

    classes: tuple[int, ...]
    iou: tuple[float, ...]
    dice: tuple[float, ...]

    @property
    def mean_iou(self) -> float:
        """Mean of the classes' IoU."""
        return float(np.mean(self.iou))

    @property
    def mean_dice(self) -> float:
        """Mean of the classes' Dice coefficients."""
        return float(np.mean(self.dice))

    def iou_of(self, class_id: int) -> float:
        """Return the IoU of one class."""
        return self.iou[self.classes.index(class_id)]


def confusion(segmentation: ArrayLike, truth: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Return counts (true class, predicted class) over the voxels whose true class is known (above 0)."""
    predicted, true = np.asarray(segmentation), np.asarray(truth)
    if predicted.shape != true.shape:
        raise InputError(f"segmentation has shape {predicted.shape} but truth has shape {true.shape}")
    side = n_classes + 1
    pairs = true.astype(np.int64).ravel() * side + predicted.ravel()
    counts = np.bincount(pairs, minlength=side * side).reshape(side, side)
    counts[0] = 0
    return counts


def score(segmentation: ArrayLike, truth: ArrayLike) -> Score:
    """Compare two class volumes of one shape; voxels with truth 0 do not count, segmentation 0 is no class.

    IoU is |A and B| / |A or B| (Jaccard 1912), Dice is 2 |A and B| / (|A| + |B|) (Dice 1945).

    Raises
    ------
    InputError
        If the shapes differ or the truth is 0 everywhere.
    """
    n_classes = int(max(np.max(segmentation), np.max(truth)))
    return score_from_confusion(confusion(segmentation, truth, n_classes))


def score_from_confusion(counts: NDArray[np.int64]) -> Score:
    """Return the score of counts (true class, predicted class), whose row 0 is empty."""
    true, predicted, both = counts.sum(axis=1), counts.sum(axis=0), np.diag(counts)
    classes = [int(c) for c in np.flatnonzero(true)]
    if not classes:
        raise InputError("truth is 0 (unknown) everywhere: there is nothing to compare with")
    iou = tuple(float(both[c] / (true[c] + predicted[c] - both[c])) for c in classes)
    dice = tuple(float(2 * both[c] / (true[c] + predicted[c])) for c in classes)
    return Score(tuple(classes), iou, dice)


class SupervoxelTruth:
    """The truth of an image by supervoxel: scores a segmentation of supervoxels without a pass over the voxels.

    Parameters
    ----------
    labels
        uint32 (z, y, x) supervoxel of each voxel, 0 outside.
    truth
        (z, y, x) class of each voxel, 0 where it is unknown.
    n
        Number of supervoxels.
    """

    def __init__(self, labels: VolumeLike, truth: NDArray[np.integer], n: int) -> None:
        if tuple(labels.shape) != truth.shape:
            raise InputError(f"truth has shape {truth.shape} but the supervoxels have shape {tuple(labels.shape)}")
        self._side = int(truth.max()) + 1
        self._counts = np.zeros((n + 1, self._side), np.int64)
        for z in range(truth.shape[0]):
            pairs = np.asarray(labels[z]).astype(np.int64) * self._side + truth[z]
            self._counts += np.bincount(pairs.ravel(), minlength=self._counts.size).reshape(self._counts.shape)
        self._counts[:, 0] = 0

    @property
    def majority(self) -> NDArray[np.int32]:
        """(n,) class of most of each supervoxel's voxels, the lower of equals; 0 where none of them is known."""
        most: NDArray[np.int32] = self._counts[1:].argmax(axis=1).astype(np.int32)
        return most

    def score(self, segmentation: NDArray[np.integer]) -> Score:
        """Return the score when supervoxel i + 1 is of class ``segmentation[i]``."""
        side = max(self._side, int(segmentation.max()) + 1)
        confusion = np.zeros((side, side), np.int64)
        predicted = np.concatenate([[0], segmentation])
        for class_id in np.unique(predicted):
            confusion[: self._side, class_id] = self._counts[predicted == class_id].sum(axis=0)
        return score_from_confusion(confusion)

    def best_iou(self, probabilities: NDArray[np.floating], class_id: int) -> float:
        """Return the IoU of a class at the threshold on its probability that suits it best.

        Only the truth knows that threshold: what lies between this and the IoU of the segmentation is lost to the
        calibration of the classifier, not to what it can tell apart.

        Parameters
        ----------
        probabilities
            (n,) of the class, by supervoxel.
        class_id
            The class.
        """
        order = np.argsort(-probabilities, kind="stable")
        known = np.cumsum(self._counts[1:].sum(axis=1)[order])
        found = np.cumsum(self._counts[1:, class_id][order])
        is_threshold = np.append(np.diff(probabilities[order]) != 0, True)
        return float(np.max((found / (known + found[-1] - found))[is_threshold]))

    def oracle(self) -> Score:
        """Return the score when every supervoxel takes the class of most of its voxels: nothing on them can pass it."""
        return self.score(np.maximum(self.majority, 1))
