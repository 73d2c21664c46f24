"""Which slices each supervoxel meets, and how many voxels each slice shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Executor, Progress, Shape3, map_blocks, partition
from voxloop.errors import InputError
from voxloop.kernels.extent import measure_extent
from voxloop.kernels.pooling import find_runs
from voxloop.volume import ArrayLike

_BLOCK_SHAPE: Shape3 = (64, 256, 256)


@dataclass(frozen=True)
class Extent:
    """The bounding boxes of supervoxels 1..n, and the voxels to be seen in each slice of the volume.

    Attributes
    ----------
    first, last
        (n, 3) int32: first and last slice (z, y, x) that a supervoxel meets.
    voxels_per_slice
        Three int64 arrays, along z, y and x: the voxels of each slice that lie in a supervoxel.
    """

    first: NDArray[np.int32]
    last: NDArray[np.int32]
    voxels_per_slice: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

    def cut_by(self, axis: int, index: int) -> NDArray[np.int64]:
        """Return the rows (ids minus 1) of the supervoxels that a slice cuts, sorted."""
        return np.flatnonzero((self.first[:, axis] <= index) & (index <= self.last[:, axis]))


@dataclass(frozen=True)
class _BlockExtent:
    """The extent of the supervoxels `ids` inside one block, in the coordinates of the volume."""

    block: Block
    ids: NDArray[np.int64]
    first: NDArray[np.int32]
    last: NDArray[np.int32]
    counts: tuple[NDArray[np.int64], ...]


def extent(labels: ArrayLike, n: int, *, executor: Executor | None = None, progress: Progress | None = None) -> Extent:
    """Return the extent of supervoxels 1..n of `labels` (z, y, x), in one pass over the voxels.

    Raises
    ------
    InputError
        If one of 1..n has no voxel, or a label is above n.
    """
    shape = (int(labels.shape[0]), int(labels.shape[1]), int(labels.shape[2]))
    first = np.full((n, 3), np.iinfo(np.int32).max, np.int32)
    last = np.full((n, 3), -1, np.int32)
    counts = tuple(np.zeros(length, np.int64) for length in shape)

    measure = partial(_measure_block, labels, n)
    blocks = partition(shape, _BLOCK_SHAPE)
    for part in map_blocks(measure, blocks, executor=executor, progress=progress, stage="extent"):
        rows = part.ids - 1
        first[rows] = np.minimum(first[rows], part.first)
        last[rows] = np.maximum(last[rows], part.last)
        for total, count, where in zip(counts, part.counts, part.block.inner.slices, strict=True):
            total[where] += count
    if empty := np.flatnonzero(last[:, 0] < 0).size:
        raise InputError(f"labels must hold 1 to {n} without gaps, but {empty} of them have no voxel")
    return Extent(first, last, (counts[0], counts[1], counts[2]))


def _measure_block(labels: ArrayLike, n: int, block: Block) -> _BlockExtent:
    part = np.ascontiguousarray(labels[block.inner.slices], np.uint32)
    if part.max() > n:
        raise InputError(f"labels hold {part.max()} but n is {n}")
    starts, _, numbers, ids, _ = find_runs(part, np.zeros(n + 1, np.int32))
    local = np.repeat(numbers, np.diff(starts)).reshape(part.shape)
    first = np.full((len(ids), 3), np.iinfo(np.int32).max, np.int32)
    last = np.full((len(ids), 3), -1, np.int32)
    counts = tuple(np.zeros(length, np.int64) for length in part.shape)
    measure_extent(local, first, last, *counts)
    start = np.array(block.inner.start, np.int32)
    return _BlockExtent(block, ids, first + start, last + start, counts)
