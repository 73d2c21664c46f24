"""When to stop labelling: when another round changes nothing.

Bloodgood, Vijay-Shanker, *A method for stopping active learning based on stabilizing predictions and the need for
user-adjustable stopping*, CoNLL 2009: stop when successive classifiers agree on a large unlabelled set, here the whole
volume, by Cohen's kappa of at least 0.99 for three rounds in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.errors import InputError


def cohen_kappa(before: ArrayLike, after: ArrayLike, *, sizes: ArrayLike | None = None) -> float:
    """Return how far two segmentations agree beyond chance (Cohen, Educational and Psychological Measurement 20, 1960).

    Parameters
    ----------
    before, after
        (n,) class ids of the same supervoxels in two successive predictions.
    sizes
        (n,) positive voxels of each supervoxel, so that the figure is that of the whole volume; 1 each by default.

    Returns
    -------
    1 where the two are the same (also if all is one class, where chance alone agrees), 0 for agreement by chance.

    Raises
    ------
    InputError
        If there are no supervoxels, the three differ in length, or a size is not positive.
    """
    first, second, weights = _checked(before, after, sizes)
    observed = np.average(first == second, weights=weights)
    _, index = np.unique(np.concatenate([first, second]), return_inverse=True)
    shares = [np.bincount(part, weights, index.max() + 1) / weights.sum() for part in np.split(index, 2)]
    by_chance = shares[0] @ shares[1]
    return float((observed - by_chance) / (1 - by_chance)) if observed < 1 else 1.0


def changed_share(before: ArrayLike, after: ArrayLike, *, sizes: ArrayLike | None = None) -> float:
    """Return the share of supervoxels (of voxels, given `sizes`) whose class differs between two predictions.

    Parameters and errors are those of `cohen_kappa`.
    """
    first, second, weights = _checked(before, after, sizes)
    return float(np.average(first != second, weights=weights))


@dataclass(frozen=True)
class StopSignal:
    """What the predictions so far say about going on; `after` a round it returns the next one.

    Attributes
    ----------
    threshold, patience
        Stop once kappa was at least `threshold` for `patience` rounds in a row.
    kappa
        Agreement of the last two predictions; None before there were two.
    rounds_stable
        How many rounds in a row, up to the last, kappa reached the threshold.
    expected_change
        Share of the supervoxels that the next round is likely to change: the shares so far, exponentially smoothed,
        the last one weighing a half; None before there were two predictions.
    """

    threshold: float = 0.99
    patience: int = 3
    kappa: float | None = None
    rounds_stable: int = 0
    expected_change: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise InputError(f"threshold must be above 0 and at most 1, not {self.threshold}")
        if self.patience < 1:
            raise InputError(f"patience must be 1 or more, not {self.patience}")

    @property
    def reached(self) -> bool:
        """Whether labelling may stop."""
        return self.rounds_stable >= self.patience

    def after(self, before: ArrayLike, after: ArrayLike, *, sizes: ArrayLike | None = None) -> Self:
        """Return the signal after a round that turned the prediction `before` into `after`, as in `cohen_kappa`."""
        return self.after_change(cohen_kappa(before, after, sizes=sizes), changed_share(before, after))

    def after_change(self, kappa: float, changed: float) -> Self:
        """Return the signal after a round with this `kappa`, which gave a share `changed` another class."""
        smoothed = changed if self.expected_change is None else (self.expected_change + changed) / 2
        stable = self.rounds_stable + 1 if kappa >= self.threshold else 0
        return replace(self, kappa=kappa, rounds_stable=stable, expected_change=smoothed)


def _checked(
    before: ArrayLike, after: ArrayLike, sizes: ArrayLike | None
) -> tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.float64]]:
    first, second = np.asarray(before), np.asarray(after)
    weights = np.ones(first.shape) if sizes is None else np.asarray(sizes, np.float64)
    if first.ndim != 1 or first.size == 0 or not first.shape == second.shape == weights.shape:
        raise InputError(
            f"before has shape {first.shape}, after {second.shape}, sizes {weights.shape}; expected (n,), n above 0"
        )
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise InputError("sizes must be positive numbers")
    return first, second, weights
