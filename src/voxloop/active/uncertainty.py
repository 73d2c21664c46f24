"""Feature uncertainty (Konyushkova, Sznitman, Fua, ICCV 2015; CVIU 182, 2019), and the regions where it is highest."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.errors import InputError
from voxloop.specs import UncertaintyKind


def uncertainty(probabilities: ArrayLike, kind: UncertaintyKind = "total_entropy") -> NDArray[np.float32]:
    """Return how unsure each row of `probabilities` is, 0 where one class is certain.

    Parameters
    ----------
    probabilities
        (n, k) class probabilities, rows sum to 1; ``p1 >= p2`` below are the two largest of a row.
    kind
        ``total_entropy``: entropy over all classes; ``selection_entropy``: entropy of ``(p1, 1 - p1)``;
        ``conditional_entropy``: entropy of ``(p1, p2) / (p1 + p2)``; ``min_max``: ``1 - p1``;
        ``min_margin``: ``1 - (p1 - p2)``. Entropies are in bits. For two classes all five rank rows alike.

    Returns
    -------
    (n,) float32

    Raises
    ------
    InputError
        If `probabilities` is not (n, k) with rows that sum to 1.
    """
    P = np.asarray(probabilities, np.float64)
    if P.ndim != 2 or P.shape[1] == 0:
        raise InputError(f"probabilities has shape {P.shape}; expected (n, k)")
    if P.size and not (P.min() >= 0 and np.abs(P.sum(axis=1) - 1).max() < 1e-3):
        raise InputError("probabilities must not be negative and its rows must sum to 1")
    if P.shape[1] == 1:
        return np.zeros(P.shape[0], np.float32)
    if kind == "total_entropy":
        return _entropy(P)
    two = np.partition(P, P.shape[1] - 2, axis=1)[:, -2:]
    first, second = two[:, 1], two[:, 0]
    if kind == "selection_entropy":
        return _entropy(np.stack([first, 1 - first], axis=1))
    if kind == "conditional_entropy":
        return _entropy(np.stack([first, second], axis=1) / (first + second)[:, None])
    if kind == "min_max":
        return (1 - first).astype(np.float32)
    if kind == "min_margin":
        return (1 - (first - second)).astype(np.float32)
    raise InputError(f"uncertainty is {kind!r}; expected one of {', '.join(UncertaintyKind.__args__)}")


def _entropy(P: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the entropy of each row in bits."""
    logs = np.log2(P, out=np.zeros_like(P), where=P > 0)
    bits: NDArray[np.float32] = np.maximum(-(P * logs).sum(axis=1), 0).astype(np.float32)
    return bits


def top_uncertain(
    scores: ArrayLike, *, share: float | None = None, number: int | None = None, exclude: ArrayLike = ()
) -> NDArray[np.uint32]:
    """Return the ids of the supervoxels with the highest scores, highest first (ties: lower id first).

    Parameters
    ----------
    scores
        (n,) score of supervoxel 1..n.
    share, number
        How many: a share of all supervoxels (at least one), or a number; 10 % by default.
    exclude
        Ids that are never returned, such as the labelled ones.

    Returns
    -------
    (m,) uint32, empty only if every supervoxel is excluded: a score of 0 does not exclude.

    Raises
    ------
    InputError
        If `share` is not in (0, 1] or `number` is below 1, or both are given.
    """
    if share is not None and number is not None:
        raise InputError("give share or number, not both")
    if share is not None and not 0 < share <= 1:
        raise InputError(f"share must be above 0 and at most 1, not {share}")
    if number is not None and number < 1:
        raise InputError(f"number must be 1 or more, not {number}")
    ranked = np.asarray(scores, np.float64).ravel()
    count = number if number is not None else max(1, round((share or 0.1) * ranked.size))
    candidates = np.ones(ranked.size, bool)
    candidates[np.asarray(exclude, np.int64) - 1] = False
    ids = np.flatnonzero(candidates)
    losses = -ranked[ids]
    if count < ids.size:  # a tenth of all is sorted ten times as fast as all
        least = np.flatnonzero(losses <= np.partition(losses, count - 1)[count - 1])
        ids, losses = ids[least], losses[least]
    best = ids[np.argsort(losses, kind="stable")[:count]]
    return (best + 1).astype(np.uint32)
