"""Supervoxels from a label volume of the user's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Executor, Progress, Shape3, partition
from voxloop.errors import InputError
from voxloop.supervoxels.arrays import Work, check_out, check_shape, inside_box
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
    work = Work(executor, progress)

    def cut(block: Block) -> BlockFragments:
        own = _read(labels, block)
        if mask is not None:
            own[~inside_box(mask, block.inner)] = 0
        return cut_block(own, np.empty((0, *own.shape), np.int16), block.inner, shape, numbered, outside=0)

    blocks = list(work.map("cutting", cut, partition(shape, block_shape)))
    pieces, numbers = gather(blocks, join_by="value")
    n = len(pieces.sums)
    if n == 0:
        raise InputError("labels is 0 everywhere" + ("" if mask is None else " inside the mask"))
    number_blocks(numbered, blocks, numbers, work=work)
    return pieces.supervoxels(numbered, volume.relative_spacing, SlicReport(n, n, 0, True))


def _read(labels: ArrayLike, block: Block) -> NDArray[np.int64]:
    """Return a block of labels as a new array."""
    own = np.array(labels[block.inner.slices], np.int64, order="C")
    if own.min() < 0:
        raise InputError(f"labels holds {own.min()}; expected 0 (outside) or more, below 2^63")
    return own
