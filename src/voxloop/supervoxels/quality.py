"""How well supervoxels can stand for a reference segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, Executor, Progress, Shape3, default_executor, partition
from voxloop.errors import InputError
from voxloop.kernels import contingency as kernel
from voxloop.supervoxels.arrays import Work, check_shape
from voxloop.volume import ArrayLike

TOLERANCES = (1, 2)  # voxels
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Quality:
    """Agreement of supervoxels with a reference segmentation.

    Attributes
    ----------
    n
        Number of supervoxels that meet the reference.
    boundary_recall
        For a tolerance of 1 and of 2 voxels, the share of the reference's boundary voxels (those with one of the six
        neighbours in another segment) that have a boundary of a supervoxel within so many voxels along each axis
        (Martin, Fowlkes and Malik 2004, on a box as in Neubert and Protzel 2012). 1 if there is no boundary.
    undersegmentation_error
        Sum over all segments and the supervoxels that meet them of the smaller part, inside or outside the segment,
        over the number of voxels (Neubert and Protzel 2012). 0 is best.
    achievable_accuracy
        Share of the voxels that are right if every supervoxel takes the segment it has most voxels of (achievable
        segmentation accuracy, Liu et al. 2011). 1 is best.
    """

    n: int
    boundary_recall: dict[int, float]
    undersegmentation_error: float
    achievable_accuracy: float


@dataclass(frozen=True)
class OracleIoU:
    """Intersection over union when every supervoxel takes its majority class: nothing on supervoxels can pass it.

    Attributes
    ----------
    per_class
        By class of the reference.
    mean
        Over the classes.
    """

    per_class: dict[int, float]
    mean: float


@dataclass(frozen=True)
class Contingency:
    """How many voxels each supervoxel has of each segment; pairs that never meet are left out.

    Attributes
    ----------
    supervoxels
        int64 (m,), positions among the supervoxels that occur, ascending.
    segments
        int64 (m,), positions in `segment_ids`.
    counts
        int64 (m,), voxels.
    segment_ids
        int64 (k,), the reference's own labels, ascending.
    """

    supervoxels: NDArray[np.int64]
    segments: NDArray[np.int64]
    counts: NDArray[np.int64]
    segment_ids: NDArray[np.int64]

    @property
    def n_supervoxels(self) -> int:
        """Number of supervoxels that occur."""
        return int(self.supervoxels[-1]) + 1

    def majority(self) -> NDArray[np.int64]:
        """Return the entry that holds each supervoxel's most frequent segment; of several the lowest label."""
        order = np.lexsort((self.segments, -self.counts, self.supervoxels))
        first = np.flatnonzero(np.diff(self.supervoxels[order], prepend=-1))
        entries: NDArray[np.int64] = order[first]
        return entries


def quality(
    labels: ArrayLike,
    truth: ArrayLike,
    *,
    ignore: int | None = None,
    block_shape: Shape3 = (64, 128, 128),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Quality:
    """Compare supervoxels with a reference segmentation.

    Parameters
    ----------
    labels
        Array-like of integers (z, y, x), below 2^32; voxels where it is 0 do not count.
    truth
        Array-like of integers (z, y, x), below 2^31, each a segment.
    ignore
        A label of `truth` that does not count, such as 0 for "unlabelled".
    block_shape, executor, progress
        Voxels (z, y, x) that are worked on at a time, what runs them and who is told.

    Raises
    ------
    InputError
        If the two do not fit, hold other values, or have no voxel in common that counts.
    """
    work = Work(executor or default_executor(), progress)
    table = _contingency(labels, truth, ignore, block_shape, work)
    total = int(table.counts.sum())
    sizes = np.bincount(table.supervoxels, weights=table.counts).astype(np.int64)
    leaks = np.minimum(table.counts, sizes[table.supervoxels] - table.counts)
    return Quality(
        n=table.n_supervoxels,
        boundary_recall=_boundary_recall(labels, truth, ignore, block_shape, work),
        undersegmentation_error=int(leaks.sum()) / total,
        achievable_accuracy=int(table.counts[table.majority()].sum()) / total,
    )


def oracle_iou(
    labels: ArrayLike,
    truth: ArrayLike,
    *,
    ignore: int | None = None,
    block_shape: Shape3 = (64, 128, 128),
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> OracleIoU:
    """Return the intersection over union that supervoxels allow; parameters and errors as of `quality`."""
    table = _contingency(labels, truth, ignore, block_shape, Work(executor or default_executor(), progress))
    n = len(table.segment_ids)
    chosen = table.majority()
    sizes = np.bincount(table.supervoxels, weights=table.counts)
    hits = np.bincount(table.segments[chosen], weights=table.counts[chosen], minlength=n)
    predicted = np.bincount(table.segments[chosen], weights=sizes, minlength=n)
    actual = np.bincount(table.segments, weights=table.counts, minlength=n)
    iou = hits / (predicted + actual - hits)
    return OracleIoU({int(i): float(v) for i, v in zip(table.segment_ids, iou, strict=True)}, float(iou.mean()))


def explained_variation(
    sizes: NDArray[np.int64], means: NDArray[np.floating], stds: NDArray[np.floating]
) -> float | None:
    """Return the share of an image's variance that lies between supervoxels rather than inside of them.

    1 if every supervoxel is of one intensity (explained variation, Moore et al. 2008). Noise and texture lie inside of
    any supervoxel, so that images with much of it stay below 1 at any size: compare sizes on one image only.

    Parameters
    ----------
    sizes
        (n,) voxels of each supervoxel.
    means, stds
        (n,) mean and standard deviation of the intensity in each.

    Returns
    -------
    float or None
        0 to 1; None for an image of one intensity.
    """
    weights = sizes / sizes.sum()
    between = float(weights @ (means - weights @ means) ** 2)
    inside = float(weights @ np.square(stds, dtype=np.float64))
    return between / (between + inside) if between + inside > 0 else None


def _contingency(
    labels: ArrayLike, truth: ArrayLike, ignore: int | None, block_shape: Shape3, work: Work
) -> Contingency:
    check_shape("truth", truth, labels.shape, "label volume")
    for name, array in (("labels", labels), ("truth", truth)):
        if len(array.shape) != 3 or np.dtype(array.dtype).kind not in "iub":
            raise InputError(
                f"{name} has shape {tuple(array.shape)} and dtype {array.dtype}; expected integers of shape (z, y, x)"
            )

    def count(block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        own, other = _read_pair(labels, truth, block.inner)
        own[own == 0] = -1
        if ignore is not None:
            other[other == ignore] = -1
        keys, counts = kernel.contingency(own, other)
        return keys, counts

    parts = list(work.map("comparing", count, partition(labels.shape, block_shape)))
    keys, entry = np.unique(np.concatenate([k for k, _ in parts]), return_inverse=True)
    if len(keys) == 0:
        raise InputError("labels and truth have no voxel in common that counts")
    counts = np.bincount(entry, weights=np.concatenate([c for _, c in parts])).astype(np.int64)
    _, supervoxels = np.unique(keys >> kernel.SECOND_BITS, return_inverse=True)
    segment_ids, segments = np.unique(keys & ((1 << kernel.SECOND_BITS) - 1), return_inverse=True)
    return Contingency(supervoxels, segments, counts, segment_ids)


def _read_pair(labels: ArrayLike, truth: ArrayLike, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return copies of both volumes on a box."""
    pair = []
    for name, array, bits in (("labels", labels, 32), ("truth", truth, kernel.SECOND_BITS)):
        part = np.array(array[box.slices], np.int64, order="C")
        if part.min() < 0 or part.max() >= 1 << bits:
            raise InputError(f"{name} holds {part.min()} to {part.max()}; expected 0 to 2^{bits} - 1")
        pair.append(part)
    return pair[0], pair[1]


def _boundary_recall(
    labels: ArrayLike, truth: ArrayLike, ignore: int | None, block_shape: Shape3, work: Work
) -> dict[int, float]:
    halo = (max(TOLERANCES) + 1,) * 3

    def count(block: Block) -> NDArray[np.int64]:
        own, other = (np.asarray(a[block.outer.slices]) for a in (labels, truth))
        counts = own != 0 if ignore is None else (own != 0) & (other != ignore)
        wanted = _boundary(other, counts)[block.inner_in_outer]
        near = _boundary(own, np.ones(own.shape, np.bool_))
        found = [np.count_nonzero(wanted)]
        for _ in TOLERANCES:
            near = _dilate(near)
            found.append(np.count_nonzero(wanted & near[block.inner_in_outer]))
        return np.array(found)

    found = sum(work.map("boundaries", count, partition(labels.shape, block_shape, halo)), np.zeros(3, np.int64))
    return {t: float(found[t] / found[0]) if found[0] else 1.0 for t in TOLERANCES}


def _boundary(labels: NDArray[np.integer], counts: Mask) -> Mask:
    """Return the voxels with one of the six neighbours in another segment; both have to count."""
    boundary = np.zeros(labels.shape, np.bool_)
    for axis in range(3):
        low, high = _neighbours(axis)
        differs = (labels[low] != labels[high]) & counts[low] & counts[high]
        boundary[low] |= differs
        boundary[high] |= differs
    return boundary


def _dilate(mask: Mask) -> Mask:
    """Return the mask grown by one voxel along each axis, diagonals included."""
    for axis in range(3):
        low, high = _neighbours(axis)
        grown = mask.copy()
        grown[low] |= mask[high]
        grown[high] |= mask[low]
        mask = grown
    return mask


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices of all voxels that have a next one along an axis, and of those next ones."""
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)
