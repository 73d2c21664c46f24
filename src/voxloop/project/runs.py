"""Sets of voxels as runs along x: small on disk for brush strokes, quick to turn into linear indices.

Runs are an int64 array of shape (n, 4) with rows ``z, y, x_start, x_stop``, in C order of the volume and disjoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.blocks import Shape3
from voxloop.errors import InputError

Runs = NDArray[np.int64]


def as_runs(values: ArrayLike) -> Runs:
    """Return `values` as a read-only array of runs, or raise `InputError` unless it is rows of four sound integers."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        raise InputError("runs must be rows of four integers (z, y, x_start, x_stop); the rows differ") from None
    if array.size == 0:
        array = np.zeros((0, 4), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iu" or array.dtype == np.uint64:
        raise InputError(
            f"runs must be rows of four integers (z, y, x_start, x_stop), not {array.dtype} of shape {array.shape}"
        )
    runs = array.astype(np.int64, order="C")
    wrong = (runs.min(axis=1, initial=0) < 0) | (runs[:, 2] >= runs[:, 3])
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"run {row} is {runs[row].tolist()}; expected z, y, x_start >= 0 and x_stop > x_start")
    runs.flags.writeable = False
    return runs


def check_runs(runs: Runs, shape: Shape3) -> None:
    """Raise `InputError` unless `runs` lie inside a volume of `shape` (z, y, x), in C order and disjoint."""
    outside = (runs[:, [0, 1, 3]] > np.array([shape[0] - 1, shape[1] - 1, shape[2]])).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        raise InputError(f"run {row} is {runs[row].tolist()} but the image has shape {shape}")
    starts = _starts(runs, shape)
    tangled = starts[1:] < starts[:-1] + _lengths(runs)[:-1]
    if tangled.any():
        row = int(tangled.argmax()) + 1
        raise InputError(f"run {row} is {runs[row].tolist()}: it overlaps the run before, or comes before it")


def runs_to_indices(runs: Runs, shape: Shape3) -> NDArray[np.int64]:
    """Return the sorted linear indices, in a volume of `shape` (z, y, x), of the voxels in `runs`.

    Raises
    ------
    InputError
        If a run leaves the volume, or runs overlap or are out of order.
    """
    runs = as_runs(runs)
    check_runs(runs, shape)
    return expand_runs(runs, shape)


def expand_runs(runs: Runs, shape: Shape3) -> NDArray[np.int64]:
    """Return the linear indices of the voxels in `runs`, run after run; the runs are known to fit `shape`."""
    lengths = _lengths(runs)
    first_of_run = np.cumsum(lengths) - lengths
    return np.repeat(_starts(runs, shape) - first_of_run, lengths) + np.arange(lengths.sum())


def runs_from_mask(mask: NDArray[Any], *, offset: Sequence[int] = (0, 0, 0)) -> Runs:
    """Return the runs of the true voxels of `mask`.

    Parameters
    ----------
    mask
        Boolean array (z, y, x).
    offset
        Where the mask's first voxel lies in the volume (z, y, x).

    Raises
    ------
    InputError
        If the mask is not boolean, not of three dimensions, or starts before the volume does.
    """
    mask = np.asarray(mask)
    if mask.ndim != 3 or mask.dtype != np.bool_:
        raise InputError(f"mask must be boolean (z, y, x), not {mask.dtype} of shape {mask.shape}")
    if len(offset) != 3 or min(offset) < 0:
        raise InputError(f"offset must be three numbers (z, y, x) of at least 0, not {tuple(offset)}")
    n_z, n_y, n_x = mask.shape
    rows = np.zeros((n_z * n_y, n_x + 2), dtype=np.int8)
    rows[:, 1:-1] = mask.reshape(n_z * n_y, n_x)
    steps = np.diff(rows, axis=1)
    row, start = np.nonzero(steps == 1)
    _, stop = np.nonzero(steps == -1)
    z, y = np.divmod(row, max(n_y, 1))
    runs = np.stack([z, y, start, stop], axis=1) + np.array([*offset, offset[2]])
    return as_runs(runs)


def runs_from_points(points: ArrayLike) -> Runs:
    """Return the runs of voxels given one by one, in any order; a voxel given twice counts once.

    Parameters
    ----------
    points
        Integer array of shape (n, 3), rows (z, y, x).

    Raises
    ------
    InputError
        If the points are not rows of three integers of at least 0.
    """
    array = np.asarray(points)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise InputError(f"points must be integers of shape (n, 3), not {array.dtype} of shape {array.shape}")
    if len(array) == 0:
        return as_runs(np.zeros((0, 4), dtype=np.int64))
    if array.min() < 0:
        raise InputError(f"points must be at least 0 along each axis, but one has {array.min()}")
    # One column more than needed, so that the end of a row and the start of the next are not neighbours.
    extent = [int(n) + 2 for n in array.max(axis=0)]
    if prod(extent) >= 2**63:
        raise InputError(f"points reach {tuple(int(n) for n in array.max(axis=0))}: no volume is that large")
    shape = (extent[0], extent[1], extent[2])
    keys = np.unique(np.ravel_multi_index(tuple(array.astype(np.int64).T), shape))
    breaks = np.flatnonzero(np.diff(keys) != 1)
    first = keys[np.concatenate([[0], breaks + 1])]
    last = keys[np.concatenate([breaks, [len(keys) - 1]])]
    z, y, start = np.unravel_index(first, shape)
    return as_runs(np.stack([z, y, start, start + (last - first) + 1], axis=1))


def count_voxels(runs: Runs) -> int:
    """Return the number of voxels in disjoint `runs`."""
    return int(_lengths(runs).sum())


def nearest_to_centre(runs: Runs) -> Shape3:
    """Return the voxel (z, y, x) of `runs` nearest to their centre of mass, in voxels."""
    weights = _lengths(runs)
    middles = np.stack([runs[:, 0], runs[:, 1], (runs[:, 2] + runs[:, 3] - 1) / 2], axis=1)
    centre = np.average(middles, axis=0, weights=weights)
    x = np.clip(np.rint(centre[2]).astype(np.int64), runs[:, 2], runs[:, 3] - 1)
    voxels = np.stack([runs[:, 0], runs[:, 1], x], axis=1)
    z, y, x = (int(n) for n in voxels[((voxels - centre) ** 2).sum(axis=1).argmin()])
    return z, y, x


def flat_slice(runs: Runs) -> tuple[int, int] | None:
    """Return the slice that `runs` lie in, as its axis (0, 1, 2 for z, y, x) and index, or None if they are thicker."""
    first, last = runs[:, :3].min(axis=0), (runs[:, [0, 1, 3]] - [0, 0, 1]).max(axis=0)
    flat = np.flatnonzero(first == last)
    return (int(flat[0]), int(first[flat[0]])) if flat.size else None


def _lengths(runs: Runs) -> NDArray[np.int64]:
    return runs[:, 3] - runs[:, 2]


def _starts(runs: Runs, shape: Shape3) -> NDArray[np.int64]:
    return (runs[:, 0] * shape[1] + runs[:, 1]) * shape[2] + runs[:, 2]
