"""What a caller hands in: masks, label volumes, arrays to write to, and what runs the blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Executor, Progress, Shape3, map_blocks
from voxloop.errors import InputError
from voxloop.volume import ArrayLike

Item = TypeVar("Item")
Result = TypeVar("Result")

BYTES_PER_VOXEL = 64  # that it takes to scale or cut a block
NO_MASK = np.empty((0, 0, 0), np.bool_)  # kernels take an array of size 0 for "everything is inside"


def check_shape(name: str, array: ArrayLike, shape: Sequence[int], of: str) -> None:
    """Raise `InputError` unless an array called `name` has the shape (z, y, x) of something."""
    if tuple(array.shape) != tuple(shape):
        raise InputError(f"{name} has shape {tuple(array.shape)} but the {of} has shape {tuple(shape)}")


def check_out(out: Any | None, shape: Shape3, block_shape: Shape3, of: str) -> Any:
    """Return the array that labels are written to: `out` if it fits, or a new one.

    Blocks are written at the same time, so that no two of them may share a chunk (or shard) of a chunked array.
    """
    if out is None:
        return np.zeros(shape, np.uint32)
    check_shape("out", out, shape, of)
    if np.dtype(out.dtype) != np.uint32:
        raise InputError(f"out has dtype {out.dtype}; expected uint32")
    chunks = getattr(out, "shards", None) or getattr(out, "chunks", None) or (1, 1, 1)
    if any(b % c and b < n for b, c, n in zip(block_shape, chunks, shape, strict=True)):
        raise InputError(
            f"out is stored in pieces of {tuple(chunks)}; block_shape must be a multiple, not {block_shape}"
        )
    return out


def inside_box(mask: ArrayLike | None, box: Box) -> NDArray[np.bool_]:
    """Return which voxels of a box are inside the mask, an array of size 0 if there is none."""
    return NO_MASK if mask is None else np.ascontiguousarray(np.asarray(mask[box.slices]) != 0)


@dataclass(frozen=True)
class Work:
    """What runs the blocks, and who is told."""

    executor: Executor
    progress: Progress | None

    def map(self, stage: str, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order."""
        return map_blocks(function, items, executor=self.executor, progress=self.progress, stage=stage)
