"""A queue of supervoxels to label that is not one place, or one look, over and over."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.active.geometry import supervoxel_rows
from voxloop.errors import InputError


def diverse_queue(
    scores: ArrayLike, points: ArrayLike, *, number: int, radius: float, exclude: ArrayLike = ()
) -> NDArray[np.uint32]:
    """Return the ids of supervoxels with high scores that lie apart, by greedy choice with a discount.

    The best one is taken (ties: lower id), then the scores around it are multiplied by ``1 - exp(-d^2 / 2 radius^2)``,
    d its distance; and so on.

    Parameters
    ----------
    scores
        (n,) score of supervoxel 1..n, finite and not negative.
    points
        (n, d) where the supervoxels are: centres in physical space, or features.
    number
        How many are wanted.
    radius
        Distance, in the unit of `points`, within which a supervoxel stands for its neighbours.
    exclude
        Ids that are never returned, such as the labelled ones.

    Returns
    -------
    (m,) uint32, best first, m below `number` only if there are no more.

    Raises
    ------
    InputError
        If shapes don't fit, a score is negative or not finite, `number` is below 1, `radius` is not positive, or an
        id does not exist.
    """
    left, places = np.array(scores, np.float64), np.asarray(points, np.float64)
    if left.ndim != 1 or places.ndim != 2 or len(places) != left.size:
        raise InputError(f"points has shape {places.shape} but scores {left.shape}; expected (n, d) and (n,)")
    if not (np.isfinite(left).all() and (left >= 0).all()):
        raise InputError("scores must be finite and not negative")
    if number < 1:
        raise InputError(f"number must be 1 or more, not {number}")
    if not (np.isfinite(radius) and radius > 0):
        raise InputError(f"radius must be positive, not {radius}")
    free = np.ones(left.size, bool)
    free[supervoxel_rows(exclude, left.size)] = False
    queue: list[int] = []
    for _ in range(min(number, int(free.sum()))):
        best = int(np.where(free, left, -1).argmax())
        queue.append(best + 1)
        free[best] = False
        squared = ((places - places[best]) ** 2).sum(axis=1)
        left *= -np.expm1(-squared / (2 * radius**2))
    return np.array(queue, np.uint32)
