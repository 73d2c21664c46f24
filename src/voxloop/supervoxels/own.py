"""Supervoxels from a label volume of the user's own."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from voxloop.blocks import Block, Executor, Progress, Shape3, memory_budget, partition, within_memory
from voxloop.errors import InputError
from voxloop.io.mapped import unmapped
from voxloop.io.scratch import Memory, Scratch, scratch_folder
from voxloop.supervoxels.arrays import BYTES_PER_VOXEL, Work, check_out, check_shape, inside_box
from voxloop.supervoxels.connectivity import BlockFragments, cut_block, gather, number_blocks
from voxloop.supervoxels.model import SlicReport, Supervoxels
from voxloop.volume import ArrayLike, Spacing, Volume


def from_labels(
    labels: ArrayLike,
    *,
    spacing: Spacing = (1.0, 1.0, 1.0),
    mask: ArrayLike | None = None,
    block_shape: Shape3 = (64, 64, 64),
    executor: Executor | None = None,
    progress: Progress | None = None,
    out: Any | None = None,
    memory: int | str | None = None,
) -> Supervoxels:
    """Take a label volume as supervoxels: renumbered 1..n in the order of the first voxels, with sizes and graph.

    A label is one supervoxel even if its voxels are not connected: how to cut is up to whoever made the labels.

    Parameters
    ----------
    labels
        Array-like of integers (z, y, x), 0 outside, any others for a supervoxel each.
    spacing
        Size of a voxel (z, y, x), for the areas of contact.
    mask
        Array-like (z, y, x): voxels where it is 0 become 0.
    block_shape
        Voxels (z, y, x) that are worked on at a time; the result does not depend on it.
    executor, progress
        What runs the blocks (default: a thread a processor), and who is told.
    out
        Array-like uint32 (z, y, x) that the labels are written to; by default a new array. It may be `labels` itself.
    memory
        As for `slic`.

    Returns
    -------
    Supervoxels
        The report says that nothing was iterated.

    Raises
    ------
    InputError
        If labels are no integers, negative, of another shape than the mask or `out`, or 0 everywhere.
    """
    if len(labels.shape) != 3 or np.dtype(labels.dtype).kind not in "iu":
        raise InputError(
            f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}; expected integers of shape (z, y, x)"
        )
    volume = Volume(labels, spacing=spacing)
    shape = volume.shape
    if mask is not None:
        check_shape("mask", mask, shape, "label volume")
    numbered = check_out(out, shape, block_shape, "label volume")
    budget = memory_budget(memory)
    item_bytes = BYTES_PER_VOXEL * prod(block_shape)
    work = Work(within_memory(executor, memory=budget, item_bytes=item_bytes), progress)
    blocks = partition(shape, block_shape)
    fits = work.executor.in_process and 4 * volume.n_voxels <= budget
    with nullcontext(Memory()) if fits else scratch_folder(None, "") as scratch:
        cut = CutLabels(unmapped(labels), unmapped(mask), shape, volume.relative_spacing, scratch)
        parts = work.map("cutting", cut, blocks)
        pieces, numbers = gather(parts, scratch, relative_spacing=volume.relative_spacing, join_by="value", work=work)
        n = len(pieces.sums)
        if n == 0:
            raise InputError("labels is 0 everywhere" + ("" if mask is None else " inside the mask"))
        number_blocks(blocks, numbers, scratch=scratch, out=numbered, work=work)
        supervoxels = pieces.supervoxels(numbered, SlicReport(n, n, 0, True))
        del pieces  # may be mapped from the folder, which is about to be removed
    return supervoxels


@dataclass(frozen=True)
class CutLabels:
    """Cuts labels into fragments, which go into the scratch space."""

    labels: ArrayLike
    mask: ArrayLike | None
    shape: Shape3
    relative_spacing: Spacing
    scratch: Scratch

    def __call__(self, block: Block) -> BlockFragments:
        """Cut one block; return the table of its fragments."""
        own = np.asarray(self.labels[block.inner.slices])
        if own.dtype.itemsize == 8:
            own = own.astype(np.int64)
        if own.min() < 0:
            raise InputError(f"labels holds {own.min()}; expected 0 (outside) or more, below 2^63")
        if self.mask is not None:
            own = np.where(inside_box(self.mask, block.inner), own, 0)
        values, outside = None, 0
        if own.max() > np.iinfo(np.int32).max:
            # Numbered through for the kernels, which would have to be compiled for a second type of labels.
            values, numbers = np.unique(own, return_inverse=True)
            own, values = numbers.reshape(own.shape), values.astype(np.int64)
            outside = 0 if values[0] == 0 else -1
        return cut_block(
            np.ascontiguousarray(own, np.int32), np.empty((0, *own.shape), np.int16), block, self.shape, self.scratch,
            relative_spacing=self.relative_spacing, outside=outside, values=values,
        )  # fmt: skip
