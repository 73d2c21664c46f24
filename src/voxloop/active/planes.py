"""The oblique plane to label next (Konyushkova, Sznitman, Fua, ICCV 2015; CVIU 182, 2019).

All geometry is in relative space: voxel coordinates times relative spacing, so that the finest axis has steps of 1. A
supervoxel counts as a ball of its own volume around its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from voxloop.active.uncertainty import top_uncertain
from voxloop.errors import InputError
from voxloop.kernels.planes import branch_and_bound
from voxloop.volume import Spacing, check_spacing, relative_spacing

PlaneMethod = Literal["branch_and_bound", "sampling"]
Float64 = NDArray[np.float64]
Rows = NDArray[np.int64]

AXIS_NAMES = "zyx"
# The best normals can fill a tiny region where three balls are just touched. Stopped at half a degree, a search ended
# 3 % below the optimum; stopped at 0.005 degrees, 2 of 1000 missed 1 %; at this angle none did, at no cost in time.
_MIN_ANGLE = np.radians(0.0005)
_N_SAMPLES = 2000
_TOTAL_WEIGHT = 2**50  # of the balls within reach, as integers


@dataclass(frozen=True)
class PlaneSuggestion:
    """A round patch of a plane that is worth labelling.

    Attributes
    ----------
    center
        (z, y, x) voxel coordinates of the middle: the centre of a supervoxel or, if `axis` is set, the same moved to
        the nearest slice.
    normal
        Unit vector (z, y, x) in relative space; its largest entry is positive.
    radius
        Radius of the patch in relative space: in voxels of the finest axis.
    score
        Summed uncertainty of the unlabelled supervoxels that the patch cuts. Of several suggestions it counts what
        the earlier ones leave: nothing of the supervoxels they cut, half of those beside.
    supervoxels
        Ids that the patch cuts and that are not labelled, most uncertain first: the ones to label.
    center_supervoxel
        Id of the supervoxel in the middle.
    upper_bound
        No plane through any of the centres that were tried has a higher score than this.
    axis
        0, 1 or 2 if the patch lies in a slice along z, y or x, else None.
    reason
        One line that says why.
    """

    center: tuple[float, float, float]
    normal: tuple[float, float, float]
    radius: float
    score: float
    supervoxels: NDArray[np.uint32]
    center_supervoxel: int
    upper_bound: float
    axis: int | None
    reason: str

    @property
    def gap(self) -> float:
        """How much better the best plane can be at most, as a share of `score`."""
        return self.upper_bound / self.score - 1 if self.score > 0 else 0.0 if self.upper_bound == 0 else inf

    @property
    def directions(self) -> Float64:
        """Unit vectors (2, 3) in relative space that point down and right in a picture of the patch.

        The picture is the one of the slice nearest to the plane, with the later axis to the right, turned by the
        smallest rotation that brings the slice into the plane (Rodrigues' formula).
        """
        normal = np.array(self.normal)
        axis = int(np.argmax(np.abs(normal)))
        between = normal + np.eye(3)[axis]
        native = np.delete(np.eye(3), axis, axis=0)
        turned: Float64 = native - np.outer(native @ normal / (1 + normal[axis]), between)
        return turned


@dataclass(frozen=True)
class _Balls:
    """The supervoxels as balls in relative space."""

    points: Float64
    radii: Float64
    steps: Float64

    def cut(self, center: Float64, normal: Float64, radius: float, *, thickness: float = 1.0) -> Rows:
        """Return the rows of the balls, `thickness` times as thick, that a patch cuts."""
        offsets = self.points - center
        reached = np.einsum("ij,ij->i", offsets, offsets) <= radius * radius
        rows = np.flatnonzero(reached)
        return rows[np.abs(offsets[rows] @ normal) <= thickness * self.radii[rows]]


@dataclass(frozen=True)
class _Found:
    """The best plane of one search, before anyone is told."""

    row: int
    normal: Float64
    upper_bound: float


def best_planes(
    scores: ArrayLike,
    centers: ArrayLike,
    sizes: ArrayLike,
    *,
    shape: Sequence[int],
    spacing: Spacing = (1.0, 1.0, 1.0),
    radius: float = 12.0,
    number: int = 1,
    number_of_centers: int = 50,
    exclude: ArrayLike = (),
    eps: float = 0.01,
    prefer_axes: float = 0.10,
    method: PlaneMethod = "branch_and_bound",
) -> list[PlaneSuggestion]:
    """Return round patches of planes that show most uncertainty, in the order in which to label them.

    A patch around the centre of a supervoxel sees the supervoxels whose centres lie within `radius`; it cuts those
    whose ball (of their volume, around their centre) it meets, and scores the sum of their uncertainties. Every
    supervoxel lies inside the mask, so that what is outside counts for nothing. With several suggestions each is the
    best for what the earlier ones leave: supervoxels that they cut count nothing, and those beside (within a diameter)
    half, so that look-alikes lose.

    Parameters
    ----------
    scores
        (n,) uncertainty of supervoxel 1..n, not negative.
    centers
        (n, 3) centres in voxel coordinates (z, y, x).
    sizes
        (n,) voxels of each supervoxel.
    shape
        Voxels of the volume along (z, y, x).
    spacing
        Size of a voxel (z, y, x).
    radius
        Of the patch in relative space, that is in voxels of the finest axis: small enough that one straight line
        splits what is seen, 10 to 15 in the papers.
    number
        How many are wanted; fewer come back when nothing uncertain is left.
    number_of_centers
        How many of the most uncertain supervoxels are tried as centres.
    exclude
        Ids of labelled supervoxels: they count for nothing and are never a centre.
    eps
        The search stops when no plane can be better by more than this share.
    prefer_axes
        A slice along an axis is taken instead of an oblique plane if it scores at most this share less, since people
        read native slices better.
    method
        ``branch_and_bound`` over spherical triangles of normals, or ``sampling`` of 2000 normals of a Fibonacci
        lattice (Gonzalez, Mathematical Geosciences 42, 2010) with three rounds of refinement.

    Raises
    ------
    InputError
        If the arrays don't fit together, a parameter is out of range, the volume is a single slice, or every
        supervoxel is labelled.
    """
    values, balls = _check_supervoxels(scores, centers, sizes, spacing)
    _check_parameters(shape, radius, number, number_of_centers, eps, prefer_axes, method)
    done = _check_ids(exclude, values.size)
    if done.size == values.size:
        raise InputError("every supervoxel is labelled: there is nothing left to suggest")
    values[done - 1] = 0
    tree = cKDTree(balls.points, balanced_tree=False, compact_nodes=False)

    left = values.copy()
    suggestions: list[PlaneSuggestion] = []
    for _ in range(number):
        seeds = top_uncertain(left, number=number_of_centers, exclude=done).astype(np.int64) - 1
        if suggestions and left[seeds].max() == 0:
            break
        found = _search(left, balls, tree, seeds, radius=radius, eps=eps, method=method)
        center, normal, axis = _prefer_axis(left, balls, found, radius=radius, prefer_axes=prefer_axes)
        suggestion = _describe(values, left, balls, found, center, normal, axis, radius=radius, labelled=done)
        suggestions.append(suggestion)
        left[balls.cut(center, normal, radius, thickness=3.0)] *= 0.5
        left[balls.cut(center, normal, radius)] = 0
    return suggestions


def cut_supervoxels(
    plane: PlaneSuggestion, centers: ArrayLike, sizes: ArrayLike, *, spacing: Spacing = (1.0, 1.0, 1.0)
) -> NDArray[np.uint32]:
    """Return the ids of all supervoxels that a patch cuts, labelled or not, in increasing order.

    Parameters
    ----------
    plane
        The patch.
    centers, sizes
        (n, 3) centres in voxel coordinates (z, y, x), and (n,) voxels of each supervoxel.
    spacing
        Size of a voxel (z, y, x).

    Raises
    ------
    InputError
        If the arrays don't fit together.
    """
    _, balls = _check_supervoxels(np.zeros(np.shape(sizes)), centers, sizes, spacing)
    rows = balls.cut(np.array(plane.center) * balls.steps, np.array(plane.normal), plane.radius)
    return (rows + 1).astype(np.uint32)


def _search(
    weights: Float64, balls: _Balls, tree: cKDTree, seeds: Rows, *, radius: float, eps: float, method: PlaneMethod
) -> _Found:
    """Return the best plane through any of the seeds' centres."""
    reach = [np.array(rows, np.int64) for rows in tree.query_ball_point(balls.points[seeds], radius)]
    totals = np.array([weights[rows].sum() for rows in reach])
    # The richest neighbourhood first: its plane lets most of the others be dropped unseen.
    order = np.argsort(-totals, kind="stable")
    best, upper = 0.0, 0.0
    row, normal = int(seeds[order[0]]), np.array([1.0, 0.0, 0.0])
    scale = _TOTAL_WEIGHT / totals.max() if totals.max() > 0 else 1.0
    for i in order:
        if totals[i] <= (1 + eps) * best:
            upper = max(upper, float(totals[i]))
            break
        near = reach[i][weights[reach[i]] > 0]
        offsets = balls.points[near] - balls.points[seeds[i]]
        if method == "branch_and_bound":
            candidate, score, bound = _bound_normals(
                offsets, balls.radii[near], weights[near], best, scale=scale, eps=eps
            )
        else:
            candidate, score = _sample_normals(offsets, balls.radii[near], weights[near])
            bound = float(totals[i])  # sampling has no bound but all there is
        upper = max(upper, bound)
        if score > best:
            best, row, normal = score, int(seeds[i]), candidate
    return _Found(row, normal, max(upper, best))


def _bound_normals(
    offsets: Float64, radii: Float64, weights: Float64, best: float, *, scale: float, eps: float
) -> tuple[Float64, float, float]:
    """Return the best normal by branch and bound, its score (`best` if none is above it) and an upper bound."""
    distances = np.linalg.norm(offsets, axis=1)
    sines = np.divide(radii, distances, out=np.full(len(radii), 2.0), where=distances > 0)
    np.minimum(sines, 2.0, out=sines)
    directions = np.divide(offsets.T, distances, out=np.zeros((3, len(radii))), where=distances > 0)
    normal, score, upper = branch_and_bound(
        directions,
        sines,
        np.sqrt(np.maximum(1 - sines * sines, 0)),
        np.rint(weights * scale).astype(np.int64),
        int(np.ceil(best * scale)),
        eps,
        _MIN_ANGLE,
    )
    return normal, score / scale if normal.any() else best, upper / scale


def _sample_normals(offsets: Float64, radii: Float64, weights: Float64) -> tuple[Float64, float]:
    """Return the best of the sampled normals and its score."""
    index = np.arange(_N_SAMPLES)
    z, angle = (index + 0.5) / _N_SAMPLES, index * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - z * z)
    normals = np.stack([z, flat * np.sin(angle), flat * np.cos(angle)], axis=1)
    step = np.sqrt(2 * np.pi / _N_SAMPLES)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 2), axis=-1).reshape(-1, 2)
    for _ in range(4):
        totals = weights @ (np.abs(offsets @ normals.T) <= radii[:, None])
        normal = normals[np.argmax(totals)]
        score = float(totals.max())
        tangents = np.linalg.svd(normal[None])[2][1:]
        normals = normal + step * grid @ tangents
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        step /= 4
    return normal, score


def _prefer_axis(
    weights: Float64, balls: _Balls, found: _Found, *, radius: float, prefer_axes: float
) -> tuple[Float64, Float64, int | None]:
    """Return centre, normal and axis of the slice along an axis if one is nearly as good, else of the plane."""
    center = balls.points[found.row]
    normal = found.normal * np.sign(found.normal[np.argmax(np.abs(found.normal))])
    least = (1 - prefer_axes) * weights[balls.cut(center, normal, radius)].sum()
    best: tuple[Float64, Float64, int | None] = (center, normal, None)
    best_score = -inf
    for axis in range(3):
        moved, along = center.copy(), np.eye(3)[axis]
        moved[axis] = np.floor(center[axis] / balls.steps[axis] + 0.5) * balls.steps[axis]
        score = weights[balls.cut(moved, along, radius)].sum()
        if score >= least and score > best_score:
            best, best_score = (moved, along, axis), score
    return best


def _describe(
    values: Float64,
    left: Float64,
    balls: _Balls,
    found: _Found,
    center: Float64,
    normal: Float64,
    axis: int | None,
    *,
    radius: float,
    labelled: Rows,
) -> PlaneSuggestion:
    rows = balls.cut(center, normal, radius)
    score = float(left[rows].sum())
    rows = rows[~np.isin(rows + 1, labelled)]
    rows = rows[np.argsort(-values[rows], kind="stable")]
    z, y, x = (float(c) for c in center / balls.steps)
    mz, my, mx = (float(m) for m in normal)
    kind = "an oblique plane" if axis is None else f"slice {AXIS_NAMES[axis]} = {(z, y, x)[axis]:.0f}"
    plural = "" if len(rows) == 1 else "s"
    reason = f"{kind} cuts {len(rows)} unlabelled supervoxel{plural} around uncertain supervoxel {found.row + 1}"
    return PlaneSuggestion(
        center=(z, y, x),
        normal=(mz, my, mx),
        radius=radius,
        score=score,
        supervoxels=(rows + 1).astype(np.uint32),
        center_supervoxel=found.row + 1,
        upper_bound=max(found.upper_bound, score),
        axis=axis,
        reason=reason,
    )


def _check_supervoxels(
    scores: ArrayLike, centers: ArrayLike, sizes: ArrayLike, spacing: Spacing
) -> tuple[Float64, _Balls]:
    """Return a copy of the scores, and the balls: of radius (3 V / 4 pi)^(1/3) for a volume V."""
    values, points = np.array(scores, np.float64), np.asarray(centers, np.float64)
    voxels = np.asarray(sizes, np.float64)
    n = values.size
    if values.ndim != 1 or n == 0:
        raise InputError(f"scores has shape {values.shape}; expected (n,) with one supervoxel at least")
    if points.shape != (n, 3):
        raise InputError(f"centers has shape {points.shape}; expected ({n}, 3)")
    if voxels.shape != (n,):
        raise InputError(f"sizes has shape {voxels.shape}; expected ({n},)")
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise InputError("scores must be finite and not negative")
    if not (np.isfinite(points).all() and np.isfinite(voxels).all() and voxels.min() > 0):
        raise InputError("centers must be finite and sizes positive")
    steps = np.array(relative_spacing(check_spacing(spacing)))
    return values, _Balls(points * steps, np.cbrt(3 * voxels * steps.prod() / (4 * np.pi)), steps)


def _check_ids(ids: ArrayLike, n: int) -> Rows:
    """Return ids without repetition, or raise `InputError` if one is not in 1..n."""
    unique = np.unique(np.asarray(ids, np.int64))
    if unique.size and not (unique[0] >= 1 and unique[-1] <= n):
        raise InputError(f"exclude must hold ids from 1 to {n}, not {unique[0]} to {unique[-1]}")
    return unique


def _check_parameters(
    shape: Sequence[int],
    radius: float,
    number: int,
    number_of_centers: int,
    eps: float,
    prefer_axes: float,
    method: PlaneMethod,
) -> None:
    if len(shape) != 3:
        raise InputError(f"shape is {tuple(shape)}; expected (z, y, x)")
    if min(shape) < 2:
        raise InputError(f"planes need a 3D volume, not one of shape {tuple(shape)}: suggest slices instead")
    if not 0 < radius < inf:
        raise InputError(f"radius must be positive and finite, not {radius}")
    for name, value in (("number", number), ("number_of_centers", number_of_centers)):
        if value < 1:
            raise InputError(f"{name} must be 1 or more, not {value}")
    if not 0 <= eps < inf:
        raise InputError(f"eps must be 0 or more and finite, not {eps}")
    if not 0 <= prefer_axes <= 1:
        raise InputError(f"prefer_axes must be between 0 and 1, not {prefer_axes}")
    if method not in get_args(PlaneMethod):
        raise InputError(f"method is {method!r}; expected one of {', '.join(get_args(PlaneMethod))}")
