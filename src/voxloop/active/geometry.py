"""Geometric uncertainty: what the neighbourhood says of a supervoxel, against what its own features say.

Konyushkova, Sznitman, Fua, *Introducing geometry in active learning for image segmentation*, ICCV 2015, and *Geometry
in active learning for binary and multi-class image segmentation*, CVIU 182, 2019.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from voxloop.active.uncertainty import uncertainty
from voxloop.errors import InputError
from voxloop.specs import UncertaintyKind
from voxloop.volume import Spacing, check_spacing, relative_spacing

MAX_TAU = 20
_SKEW = 0.99


def neighbour_graph(centers: ArrayLike, *, spacing: Spacing = (1.0, 1.0, 1.0), k: int = 12) -> sparse.csr_array:
    """Return the random walk between neighbouring supervoxels: each goes to its `k` nearest, sooner to the nearer.

    Parameters
    ----------
    centers
        (n, 3) centres of the supervoxels in voxels (z, y, x).
    spacing
        Size of a voxel (z, y, x); its unit does not matter.
    k
        Neighbours of each supervoxel; all others if there are no more than `k`.

    Returns
    -------
    (n, n) float64 with `k` entries a row that sum to 1, in proportion to 1 / distance. Centres less than one voxel (of
    the finest axis) apart count as one voxel apart, so that two that coincide don't shut out the rest. A supervoxel
    that is alone walks to itself.

    Raises
    ------
    InputError
        If `centers` is not (n, 3) and finite, `spacing` not positive, or `k` below 1.
    """
    points = np.asarray(centers, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(f"centers must be finite (n, 3), not of shape {points.shape}")
    if k < 1:
        raise InputError(f"k must be 1 or more, not {k}")
    points = points * relative_spacing(check_spacing(spacing))
    n = len(points)
    if n < 2:
        return sparse.csr_array(np.eye(n))
    k = min(k, n - 1)
    distance, found = cKDTree(points).query(points, k=list(range(1, k + 2)))
    # A point is among its own neighbours, unless more than k others lie at the same place: then any may go.
    others = found != np.arange(n)[:, None]
    others[others.all(axis=1), -1] = False
    weights = 1 / np.maximum(distance[others], 1).reshape(n, k)
    weights /= weights.sum(axis=1, keepdims=True)
    walk = sparse.csr_array(
        (weights.ravel(), found[others].astype(np.int32), np.arange(0, n * k + 1, k, dtype=np.int32)), shape=(n, n)
    )
    walk.sort_indices()
    return walk


def propagate(
    graph: sparse.csr_array,
    probabilities: ArrayLike,
    tau: int = 4,
    *,
    labelled: ArrayLike = (),
    columns: ArrayLike = (),
) -> NDArray[np.float64]:
    """Return the class probabilities that a random walk of `tau` steps from each supervoxel meets: ``T^tau P``.

    Parameters
    ----------
    graph
        (n, n) row-stochastic, from `neighbour_graph`.
    probabilities
        (n, c) class probabilities; rows sum to 1, and so do the rows of the result.
    tau
        Steps, 0 to 20.
    labelled, columns
        (m,) ids of labelled supervoxels and the columns of their classes: they are held at that class before each step
        and after the last, as in label propagation (Zhu, Ghahramani, CMU-CALD-02-107, 2002). None by default.

    Raises
    ------
    InputError
        If shapes don't fit, `tau` is out of range, or an id or a column does not exist.
    """
    Q = np.array(probabilities, np.float64)
    if Q.ndim != 2 or graph.shape != (len(Q), len(Q)):
        raise InputError(f"probabilities has shape {Q.shape} but the graph has {graph.shape[0]} supervoxels")
    if not 0 <= tau <= MAX_TAU:
        raise InputError(f"tau must be 0 to {MAX_TAU}, not {tau}")
    rows, held = supervoxel_rows(labelled, len(Q)), np.asarray(columns, np.int64).ravel()
    if held.shape != rows.shape or (held.size and not 0 <= held.min() <= held.max() < Q.shape[1]):
        raise InputError(f"columns must give each of {rows.size} labelled supervoxels a column below {Q.shape[1]}")
    certain = np.eye(Q.shape[1])[held]
    Q[rows] = certain
    for _ in range(tau):
        Q = graph @ Q
        Q[rows] = certain
    return Q


def geometric_uncertainty(
    propagated: ArrayLike, kind: UncertaintyKind = "total_entropy", *, labelled: ArrayLike = ()
) -> NDArray[np.float32]:
    """Return how unsure the neighbourhood of each supervoxel is.

    Parameters
    ----------
    propagated
        (n, c) probabilities from `propagate`.
    kind
        Any measure of `uncertainty`.
    labelled
        Ids of labelled supervoxels: they score 0.

    Returns
    -------
    (n,) float32

    Raises
    ------
    InputError
        If `propagated` holds no probabilities, `kind` is unknown, or an id does not exist.
    """
    return _without_labelled(uncertainty(propagated, kind), labelled)


def combined_uncertainty(
    probabilities: ArrayLike,
    propagated: ArrayLike,
    kind: UncertaintyKind = "total_entropy",
    *,
    weight: float = 1.0,
    labelled: ArrayLike = (),
) -> NDArray[np.float32]:
    """Return the feature uncertainty plus `weight` times the geometric one.

    With `weight` 1 and an entropy the sum is an upper bound of the joint entropy of the two (CVIU 2019).

    Parameters
    ----------
    probabilities, propagated
        (n, c) class probabilities, and what `propagate` makes of them.
    kind
        Any measure of `uncertainty`.
    weight
        Of the geometric part, 0 or more.
    labelled
        Ids of labelled supervoxels: they score 0.

    Returns
    -------
    (n,) float32

    Raises
    ------
    InputError
        If the two differ in shape or hold no probabilities, `weight` is negative, or an id does not exist.
    """
    P, Q = _pair(probabilities, propagated)
    if not (np.isfinite(weight) and weight >= 0):
        raise InputError(f"weight must be 0 or more, not {weight}")
    return _without_labelled(uncertainty(P, kind) + np.float32(weight) * uncertainty(Q, kind), labelled)


def contradiction(probabilities: ArrayLike, propagated: ArrayLike, *, labelled: ArrayLike = ()) -> NDArray[np.float32]:
    """Return how far each supervoxel's own class probabilities P contradict those of its neighbourhood Q, in bits.

    It is the skew divergence ``KL(P || 0.99 Q + 0.01 P)`` (Lee, *Measures of distributional similarity*, ACL 1999): 0
    where the two agree, however unsure, and log2(100) = 6.6 bits at most where KL(P || Q) itself would be infinite
    because no neighbour has the class.

    Parameters
    ----------
    probabilities, propagated
        (n, c) class probabilities, and what `propagate` makes of them.
    labelled
        Ids of labelled supervoxels: they score 0.

    Returns
    -------
    (n,) float32

    Raises
    ------
    InputError
        If the two differ in shape, or an id does not exist.
    """
    P, Q = _pair(probabilities, propagated)
    mixed = _SKEW * Q + (1 - _SKEW) * P
    ratio = np.divide(P, mixed, out=np.ones_like(P), where=P > 0)
    bits = (P * np.log2(ratio)).sum(axis=1)
    return _without_labelled(np.maximum(bits, 0).astype(np.float32), labelled)


def supervoxel_rows(ids: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return the rows (ids minus 1) of some of `n` supervoxels; `InputError` if one does not exist."""
    rows = np.asarray(ids, np.int64).ravel() - 1
    if rows.size and not 0 <= rows.min() <= rows.max() < n:
        wrong = rows[(rows < 0) | (rows >= n)][0] + 1
        raise InputError(f"supervoxel {wrong} does not exist; ids are 1 to {n}")
    return rows


def _pair(probabilities: ArrayLike, propagated: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    P, Q = np.asarray(probabilities, np.float64), np.asarray(propagated, np.float64)
    if P.ndim != 2 or P.shape != Q.shape:
        raise InputError(f"propagated has shape {Q.shape} but probabilities {P.shape}; expected (n, c) twice")
    return P, Q


def _without_labelled(scores: NDArray[np.float32], labelled: ArrayLike) -> NDArray[np.float32]:
    scores[supervoxel_rows(labelled, scores.size)] = 0
    return scores
