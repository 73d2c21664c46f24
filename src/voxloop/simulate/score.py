"""How good a segmentation is against a ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.errors import InputError


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
