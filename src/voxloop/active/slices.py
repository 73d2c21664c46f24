"""The slice to label next: along every axis, where labels are worth most for the voxels one has to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from voxloop.active.strategies import QueryState, Strategy
from voxloop.active.uncertainty import top_uncertain
from voxloop.errors import InputError
from voxloop.supervoxels.extent import Extent
from voxloop.volume import Spacing, relative_spacing

AXIS_NAMES = "zyx"
N_TO_LABEL = 5  # supervoxels of a slice: then another slice teaches more (docs/decisions/0029)
_VIEW_RADIUS = 20  # supervoxel diameters around the centre that a person sees without moving the view

Ids = NDArray[np.uint32]


@dataclass(frozen=True)
class SliceSuggestion:
    """A slice worth labelling.

    Attributes
    ----------
    axis, index
        The slice: 0, 1 or 2 for z, y or x, and its position.
    center
        (z, y, x) voxel to centre the view on: around it labels are worth most.
    score
        What labels in it are worth, per voxel shown; comparable between axes.
    supervoxels
        (m,) ids of the ones to label, best first; all lie within view around the centre.
    reason
        One line that says why.
    """

    axis: int
    index: int
    center: tuple[int, int, int]
    score: float
    supervoxels: Ids
    reason: str


def slices_to_label(
    strategy: Strategy,
    state: QueryState,
    extent: Extent,
    *,
    avoid: Iterable[tuple[int, int]] = (),
    axes: Sequence[int] | None = None,
    number: int = 1,
    top_share: float = 0.1,
    rng: int | np.random.Generator = 0,
) -> list[SliceSuggestion]:
    """Return the best slices for a strategy, best first, with what it asks for in each of them.

    A slice is as good as the labels in it are worth to the strategy. Of what is within view there the strategy then
    chooses the supervoxels to label, as it does in the whole volume. See `suggest_slices` for the other parameters.

    Parameters
    ----------
    strategy, state
        Who asks, and what is known.
    rng
        Seed or generator; the same seed and state give the same answer.

    Raises
    ------
    InputError
        As `suggest_slices`, and as the strategy.
    """
    rng = np.random.default_rng(rng)

    def choose(ids: Ids) -> Ids:
        return strategy.query(state.among(ids), N_TO_LABEL, rng=rng)

    return suggest_slices(
        strategy.worth(state, rng=rng),
        extent,
        state.centers,
        spacing=state.spacing,
        labelled=np.setdiff1d(np.arange(state.n), state.open_rows, assume_unique=True) + 1,
        avoid=avoid,
        axes=axes,
        number=number,
        top_share=top_share,
        choose=choose,
    )


def suggest_slices(
    worth: ArrayLike,
    extent: Extent,
    centers: NDArray[np.floating],
    *,
    spacing: Spacing = (1.0, 1.0, 1.0),
    labelled: ArrayLike = (),
    avoid: Iterable[tuple[int, int]] = (),
    axes: Sequence[int] | None = None,
    number: int = 1,
    top_share: float = 0.1,
    choose: Callable[[Ids], Ids] | None = None,
) -> list[SliceSuggestion]:
    """Return the best slices, best first.

    A slice's score is the summed worth of the unlabelled supervoxels that it cuts, divided by the voxels that it
    shows inside the mask. Two suggestions along one axis lie more than a supervoxel's diameter apart, a suggestion and
    a slice to `avoid` more than half of it.

    Parameters
    ----------
    worth
        (n,) what a label of supervoxel 1..n is worth, 0 or more, such as its uncertainty or `Strategy.worth`.
    extent
        Which slices each supervoxel meets, from `voxloop.supervoxels.extent.extent`.
    centers
        (n, 3) centres of the supervoxels in voxels (z, y, x).
    spacing
        Size of a voxel (z, y, x).
    labelled
        Ids of labelled supervoxels: they count for nothing.
    avoid
        Slices (axis, index) that are labelled already or were skipped. The only slice of a 2D image is not avoided:
        there is no other.
    axes
        Axes to look along. By default all, but axes whose slices show less than a third of what the largest slice of
        the volume shows come only when the others are used up: one would paint in a narrow strip. Only z in 2D.
    number
        How many suggestions are wanted; fewer come back when no further slice keeps its distance.
    top_share
        Share of all supervoxels that `reason` counts as most worth a label.
    choose
        Which to label, given the ids of the unlabelled ones within view whose middle half the slice cuts (of all
        unlabelled ones there if there is none of these); by default those of the highest worth.

    Raises
    ------
    InputError
        If an axis does not exist, `number` is below 1, or every supervoxel is labelled.
    """
    values = np.asarray(worth, np.float64).copy()
    done = np.asarray(labelled, np.int64)
    if number < 1:
        raise InputError(f"number must be 1 or more, not {number}")
    if done.size >= values.size and np.unique(done).size == values.size:
        raise InputError("every supervoxel is labelled: there is nothing left to suggest")
    values[done - 1] = 0
    if axes is not None and (not axes or any(a not in (0, 1, 2) for a in axes)):
        raise InputError(f"axes must name some of 0 (z), 1 (y) and 2 (x), not {axes}")
    tiers = _axes_by_width(extent) if axes is None else [list(axes)]

    is_open = np.ones(values.size, bool)
    is_open[done - 1] = False
    top = top_uncertain(values, share=top_share, exclude=done).astype(np.int64) - 1
    distance = _diameters(extent)
    profiles = {axis: _score_slices(values, extent, axis) for tier in tiers for axis in tier}
    for axis, index in avoid:
        if axis in profiles and len(profiles[axis]) > 1:
            _block_neighbourhood(profiles[axis], index, distance[axis] // 2)
    suggestions: list[SliceSuggestion] = []
    for tier in tiers:
        while len(suggestions) < number:
            axis = max(tier, key=lambda a: profiles[a].max())
            index = int(profiles[axis].argmax())
            score = float(profiles[axis][index])
            if score == -np.inf:
                break
            cut = extent.cut_by(axis, index)
            center, seen = _look(values, cut, extent, centers, spacing, axis, index)
            to_ask = _well_cut(seen[is_open[seen]], extent, axis, index)
            ids = (to_ask + 1).astype(np.uint32)
            chosen = choose(ids) if choose else ids[np.argsort(-values[to_ask], kind="stable")[:N_TO_LABEL]]
            suggestions.append(SliceSuggestion(axis, index, center, score, chosen, _reason(cut, top)))
            _block_neighbourhood(profiles[axis], index, distance[axis])
    return suggestions


def _axes_by_width(extent: Extent) -> list[list[int]]:
    """Return the axes whose slices show enough to paint in, then the others that have more than one slice."""
    shown = [int(counts.max()) for counts in extent.voxels_per_slice]
    wide = [axis for axis in range(3) if 3 * shown[axis] >= max(shown)]
    narrow = [a for a in range(3) if a not in wide and min(len(c) for c in extent.voxels_per_slice) > 1]
    return [wide, narrow] if narrow else [wide]


def _score_slices(values: NDArray[np.float64], extent: Extent, axis: int) -> NDArray[np.float64]:
    """Return the score of every slice along `axis`; minus infinity where the mask leaves nothing to see."""
    shown = extent.voxels_per_slice[axis]
    # A supervoxel is one piece, so it meets every slice between its first and its last: a sum of ranges.
    change = np.zeros(len(shown) + 1)
    np.add.at(change, extent.first[:, axis], values)
    np.subtract.at(change, extent.last[:, axis] + 1, values)
    total = np.maximum(np.cumsum(change)[:-1], 0)
    score: NDArray[np.float64] = np.divide(total, shown, out=np.full(len(shown), -np.inf), where=shown > 0)
    return score


def _diameters(extent: Extent) -> NDArray[np.int64]:
    """Return the median thickness of the supervoxels in slices along (z, y, x)."""
    diameters: NDArray[np.int64] = np.ceil(np.median(extent.last - extent.first + 1, axis=0)).astype(np.int64)
    return diameters


def _block_neighbourhood(profile: NDArray[np.float64], index: int, distance: int) -> None:
    profile[max(0, index - distance) : index + distance + 1] = -np.inf


def _well_cut(rows: NDArray[np.int64], extent: Extent, axis: int, index: int) -> NDArray[np.int64]:
    """Return the rows whose middle half the slice cuts, of others hardly a tip shows; all rows if there are none."""
    first, last = extent.first[rows, axis], extent.last[rows, axis]
    well = 2 * np.abs(2 * index - first - last) <= last - first + 1
    return rows[well] if well.any() else rows


def _reason(cut: NDArray[np.int64], top: NDArray[np.int64]) -> str:
    n = np.count_nonzero(np.isin(top, cut))
    plural = "" if len(top) == 1 else "s"
    return f"cuts {n} of the {len(top)} supervoxel{plural} most worth a label"


def _look(
    values: NDArray[np.float64],
    cut: NDArray[np.int64],
    extent: Extent,
    centers: NDArray[np.floating],
    spacing: Spacing,
    axis: int,
    index: int,
) -> tuple[tuple[int, int, int], NDArray[np.int64]]:
    """Return the voxel of the slice around which labels are worth most within view, and the rows seen there."""
    steps = np.array(relative_spacing(spacing))
    points = centers[cut] * steps
    radius = _VIEW_RADIUS * float(np.median((extent.last[cut] - extent.first[cut] + 1) * steps))
    seeds = np.argsort(-values[cut], kind="stable")[:64]
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    nearby = tree.query_ball_point(points[seeds], radius, return_sorted=False)
    best = int(np.argmax([values[cut[found]].sum() for found in nearby]))
    center = np.clip(np.rint(centers[cut[seeds[best]]]).astype(int), 0, [len(c) - 1 for c in extent.voxels_per_slice])
    center[axis] = index
    z, y, x = (int(c) for c in center)
    return (z, y, x), np.sort(cut[nearby[best]])
