"""How good a classifier is, as far as its own labels can tell: from opinions of labels that were held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from voxloop.classify.held_out import HeldOut

_Z = 1.959963984540054  # of a two-sided interval of 95 %


@dataclass(frozen=True)
class Assessment:
    """How often a classifier is right about labels of strokes that it did not see.

    That is no statement about the volume: people label what is clear, and where they are asked to; and calibration has
    seen these labels. It is the best that labels can say.

    Attributes
    ----------
    classes
        Ids of the classes, in the order of rows and columns.
    n_labels, n_groups
        Held-out supervoxels, and in how many strokes and neighbourhoods they lie.
    accuracy
        Share of the labels that are right.
    low, high
        Interval of 95 % for the accuracy.
    balanced_accuracy
        Mean over the classes of the share of their labels that are right.
    log_loss
        Mean over the classes of the bits by which their labels surprise: 0 is perfect.
    confusion
        Number of labels by true class (rows) and predicted class (columns).
    importances
        By how many bits the labels surprise more once a cell of features is shuffled, most important first; see
        `voxloop.classify.importance`. Empty if nobody asked.
    """

    classes: tuple[int, ...]
    n_labels: int
    n_groups: int
    accuracy: float
    low: float
    high: float
    balanced_accuracy: float
    log_loss: float
    confusion: tuple[tuple[int, ...], ...]
    importances: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, held_out: HeldOut, classes: NDArray[np.int32]) -> Assessment:
        """Return the assessment from held-out opinions of labels of `classes` (k,).

        Labels of a stroke stand and fall together: the interval (Wilson 1927) is that of as many independent labels as
        have the same variance (Korn, Graubard, Survey Methodology 24, 1998), at least as many as there are groups of
        equal weight (Kish 1965).
        """
        P, columns = held_out.probabilities, held_out.columns
        k = classes.size
        predicted = P.argmax(axis=1)
        confusion = np.bincount(columns * k + predicted, minlength=k * k).reshape(k, k)
        right = (predicted == columns).astype(np.float64)
        low, high = wilson_interval(float(right.mean()), effective_number(right, held_out.groups))
        there = confusion.sum(axis=1) > 0
        recall = confusion.diagonal()[there] / confusion.sum(axis=1)[there]
        return cls(
            classes=tuple(int(c) for c in classes),
            n_labels=columns.size,
            n_groups=np.unique(held_out.groups).size,
            accuracy=float(right.mean()),
            low=low,
            high=high,
            balanced_accuracy=float(recall.mean()),
            log_loss=balanced_log_loss(P, columns),
            confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        )


def wilson_interval(share: float, number: float) -> tuple[float, float]:
    """Return the interval of 95 % of a share of `number` independent trials (Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    centre = share + _Z * _Z / (2 * number)
    spread = _Z * sqrt(share * (1 - share) / number + (_Z / (2 * number)) ** 2)
    scale = 1 + _Z * _Z / number
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def effective_number(right: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Return how many independent trials tell as much about the mean of `right` (m,) as trials that come in groups.

    The variance of the mean is estimated from the sums of the groups (Korn and Graubard 1998); never more than m, never
    less than what trials count for that are all alike within their group, (sum of sizes)^2 / sum of squared sizes.
    """
    _, of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    n, n_groups, share = right.size, sizes.size, float(right.mean())
    alike = float(n * n / (sizes.astype(np.float64) ** 2).sum())
    residual = np.bincount(of_row.ravel(), right - share)
    variance = float((residual**2).sum()) / n**2 * n_groups / max(n_groups - 1, 1)
    if share in (0.0, 1.0) or n_groups == 1 or variance == 0:
        return alike
    return min(float(n), max(alike, share * (1 - share) / variance))


def balanced_log_loss(probabilities: NDArray[np.floating], columns: NDArray[np.integer]) -> float:
    """Return the mean over the classes of the mean -log2 of the probability (m, k) that its labels' column got."""
    given = probabilities[np.arange(columns.size), columns].astype(np.float64)
    surprise = -np.log2(np.maximum(given, 1e-3))  # no label costs more than ten bits
    sums, counts = np.bincount(columns, surprise), np.bincount(columns)
    return float((sums[counts > 0] / counts[counts > 0]).mean())
