"""Reduce responses to statistics of supervoxels, block by block: what every executor runs.

A feature volume is never stored. Memory depends on the blocks, and not on the volume or the number of supervoxels.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, Executor, Progress, Shape3, map_blocks, memory_budget, partition, within_memory
from voxloop.errors import InputError
from voxloop.features.filters import RESPONSE_VOXELS, as_float32, respond
from voxloop.features.scales import Scale
from voxloop.features.statistics import QUANTILES, Bins, BlockStatistics, Collected, Table
from voxloop.io.scratch import Once, Scratch
from voxloop.kernels import pooling
from voxloop.specs import Statistic
from voxloop.volume import ArrayLike, Volume

Slab = tuple[int, Box, NDArray[np.float32]]

BLOCK_BYTES = 256_000_000  # working memory of one block, and so of one thread, at most
# Where halos allow it, blocks are smaller than that, for the cache; and there are at least 8 of them, unless that made
# them so small that a second thread would work for their halos only.
GOOD_BLOCK_BYTES = 64_000_000
MIN_BLOCKS, MIN_BLOCK_VOXELS = 8, 250_000
MAX_READ_SHARE = 3.5  # more halo costs more than threads and caches can win
SHORTEST_SIDE = 16
SAMPLED_SIDE = 16  # of the cubes that say where histograms begin and end
COUNTED_SHAPE: Shape3 = (64, 256, 256)


def check_labels(volume: Volume, labels: ArrayLike, n: int) -> None:
    """Raise `InputError` unless these can be supervoxels 1..n of the volume."""
    if tuple(labels.shape) != volume.shape:
        raise InputError(f"labels has shape {tuple(labels.shape)} but {volume.name} has shape {volume.shape}")
    if np.dtype(labels.dtype).kind not in "iu":
        raise InputError(f"labels has dtype {labels.dtype}; expected integers")
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}")


def count_voxels(labels: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return how many voxels each of 1..n has."""
    sizes = np.zeros(n + 1, np.int64)
    for block in partition(labels.shape, COUNTED_SHAPE):
        part = np.asarray(labels[block.inner.slices])
        check_range(part, n)
        sizes += np.bincount(part.reshape(-1), minlength=n + 1)
    return sizes[1:]


def check_range(labels: NDArray[np.integer], n: int) -> None:
    """Raise `InputError` unless labels of a block lie in 0..n."""
    if labels.min() < 0 or labels.max() > n:
        raise InputError(f"labels must lie in 0..{n}, but range from {labels.min()} to {labels.max()}")


def choose_block_shape(shape: Shape3, scale: Scale, itemsize: int) -> Shape3:
    """Return near cubes that cut the volume evenly: small enough for `BLOCK_BYTES`, and enough of them for threads.

    They depend on the volume and the scale only, not on the machine, so that results have the same bits everywhere.
    """
    blocks, finer = shape, _halve(shape, shape)
    while finer != blocks:
        n_bytes = _block_bytes(blocks, shape, scale, itemsize)
        enough = _number(blocks, shape) >= min(MIN_BLOCKS, prod(shape) // MIN_BLOCK_VOXELS)
        costly = _read_share(finer, shape, scale) > MAX_READ_SHARE
        if (n_bytes <= GOOD_BLOCK_BYTES and enough) or (n_bytes <= BLOCK_BYTES and costly):
            break
        blocks, finer = finer, _halve(finer, shape)
    return blocks


def _halve(blocks: Shape3, shape: Shape3) -> Shape3:
    """Return blocks cut in two along their longest axis, unless that is short already."""
    axis = blocks.index(max(blocks))
    if blocks[axis] < 2 * SHORTEST_SIDE:
        return blocks
    pieces = 2 * -(-shape[axis] // blocks[axis])
    z, y, x = (-(-shape[a] // pieces) if a == axis else blocks[a] for a in range(3))
    return z, y, x


def _number(blocks: Shape3, shape: Shape3) -> int:
    return prod(-(-n // b) for n, b in zip(shape, blocks, strict=True))


def _read_share(blocks: Shape3, shape: Shape3, scale: Scale) -> float:
    """Return how many voxels all blocks read, halos included, for each voxel of the volume."""
    return prod(
        sum(min(start + b + h, n) - max(start - h, 0) for start in range(0, n, b)) / n
        for n, b, h in zip(shape, blocks, scale.halo, strict=True)
    )


def _block_bytes(inner: Shape3, shape: Shape3, scale: Scale, itemsize: int) -> int:
    """Return about how much memory a block takes: voxels, fields on the extended lattice, responses."""
    axes = range(3)
    steps, margin, planar = scale.steps, scale.margin, scale.planar
    outer = prod(min(inner[a] + 2 * scale.halo[a], shape[a]) for a in axes)
    points = [-(-inner[a] // steps[a]) + 1 for a in axes]
    extended = prod(points[a] + 2 * margin[a] for a in axes)
    slab = max(RESPONSE_VOXELS, inner[1] * inner[2])
    together = points[0] if max(steps) > 1 else -(-slab // (inner[1] * inner[2]))
    ring = 0 if planar else 6 * (2 * scale.outer_margin[0] + together) * points[1] * points[2]
    coarse = 11 * prod(points) if max(steps) > 1 else prod(points)
    fields = outer / steps[0] + extended + ring + coarse + 10 * slab
    return int(outer * itemsize + 4 * fields + 8 * prod(inner))


class Source(ABC):
    """Where responses come from, in groups of `n_responses`."""

    volume: Volume

    @property
    @abstractmethod
    def n_groups(self) -> int:
        """Number of groups, with bins and columns of their own."""

    @property
    @abstractmethod
    def n_responses(self) -> int:
        """Responses in a group."""

    @property
    @abstractmethod
    def halo(self) -> Shape3:
        """Voxels around a block that its responses depend on."""

    @abstractmethod
    def choose_blocks(self) -> Shape3:
        """Return the shape of blocks that suits it."""

    @abstractmethod
    def block_bytes(self, inner: Shape3) -> int:
        """Return about how much memory a block takes."""

    @abstractmethod
    def slabs(self, block: Block) -> Iterator[Slab]:
        """Yield slabs of the block's inner box: group, box, responses (k, z, y, x); all of the box for each group."""


@dataclass(frozen=True)
class FilteredSource(Source):
    """The filter bank of one scale, a group for each channel of the image."""

    volume: Volume
    scale: Scale
    n_channels: int

    @property
    def n_groups(self) -> int:
        """One for each channel of the image."""
        return self.volume.n_channels

    @property
    def n_responses(self) -> int:
        """Channels of the scale."""
        return self.n_channels

    @property
    def halo(self) -> Shape3:
        """That of the scale."""
        return self.scale.halo

    def choose_blocks(self) -> Shape3:
        """Return the shape of blocks that suits the scale."""
        return choose_block_shape(self.volume.shape, self.scale, self.volume.dtype.itemsize)

    def block_bytes(self, inner: Shape3) -> int:
        """Return about how much memory a block takes."""
        return _block_bytes(inner, self.volume.shape, self.scale, self.volume.dtype.itemsize)

    def slabs(self, block: Block) -> Iterator[Slab]:
        """Yield the responses of one channel after the other."""
        voxels = self.volume.read(block.outer)
        for channel in range(self.volume.n_channels):
            for slab, responses in respond(voxels[channel], self.scale, block, self.volume.shape):
                yield channel, slab, responses


@dataclass(frozen=True)
class RawSource(Source):
    """The values of a volume as they are, all channels in one group."""

    volume: Volume

    @property
    def n_groups(self) -> int:
        """All channels are one group."""
        return 1

    @property
    def n_responses(self) -> int:
        """Channels of the volume."""
        return self.volume.n_channels

    @property
    def halo(self) -> Shape3:
        """There is none."""
        return 0, 0, 0

    def choose_blocks(self) -> Shape3:
        """Return cubes, smaller ones if there are many channels."""
        z, y, x = (min(128 if self.volume.n_channels < 16 else 64, n) for n in self.volume.shape)
        return z, y, x

    def block_bytes(self, inner: Shape3) -> int:
        """Return about how much memory a block takes."""
        return prod(inner) * (self.volume.n_channels * (2 * self.volume.dtype.itemsize + 4) + 8)

    def slabs(self, block: Block) -> Iterator[Slab]:
        """Yield the block in one piece."""
        yield 0, block.inner, as_float32(self.volume.read(block.inner))


def pool(
    source: Source,
    labels: ArrayLike,
    n: int,
    statistics: Sequence[Statistic],
    n_columns: int,
    *,
    sizes: NDArray[np.int64] | None,
    out: NDArray[np.float32] | None,
    block_shape: Sequence[int] | None,
    executor: Executor | None,
    progress: Progress | None,
    memory: int | str | None,
    scratch: Scratch | None,
    stage: str,
) -> NDArray[np.float32]:
    """Return what `source` says about supervoxels (n, f); `compute_scale` says what the parameters are."""
    volume = source.volume
    check_labels(volume, labels, n)
    sizes = count_voxels(labels, n) if sizes is None else sizes
    if len(sizes) != n or not sizes.all():
        missing = int(np.flatnonzero(sizes == 0)[0]) + 1 if len(sizes) == n else n
        raise InputError(f"labels must hold the supervoxels 1..{n} without gaps, but {missing} has no voxel")
    out = np.empty((n, n_columns), np.float32) if out is None else out
    if out.shape != (n, n_columns) or out.dtype != np.float32:
        raise InputError(f"out is {out.dtype} of shape {out.shape}; expected float32 of shape {(n, n_columns)}")
    blocks = partition(volume.shape, block_shape or source.choose_blocks(), source.halo)
    bins = _find_bins(source, statistics)
    table = Table(out, sizes, statistics, bins)
    item_bytes = source.block_bytes(blocks[0].inner.shape)
    executor = within_memory(executor, memory=memory_budget(memory), item_bytes=item_bytes)
    pool_one: Callable[[Block], BlockStatistics] = partial(pool_block, source, labels, n, tuple(statistics), bins)
    if scratch is not None:
        pool_one = Once(scratch, pool_one, BlockStatistics)
    for part in map_blocks(pool_one, blocks, executor=executor, progress=progress, stage=stage):
        table.add(part)
    table.close()
    return out


def _find_bins(source: Source, statistics: Sequence[Statistic]) -> list[Bins]:
    """Return histogram bins for each group, from what the responses are in eight cubes spread over the volume.

    They depend on the volume alone: the same for any blocks.
    """
    low = np.zeros((source.n_groups, source.n_responses), np.float32)
    high = low.copy()
    if set(statistics) & set(QUANTILES):
        low[:], high[:] = np.inf, -np.inf
        starts = [sorted({max(0, n * q // 4 - SAMPLED_SIDE // 2) for q in (1, 3)}) for n in source.volume.shape]
        for z, y, x in itertools.product(*starts):
            cube = Box((z, y, x), (z + SAMPLED_SIDE, y + SAMPLED_SIDE, x + SAMPLED_SIDE)).grow(
                (0, 0, 0), source.volume.box
            )
            for group, _, responses in source.slabs(Block(0, cube, cube.grow(source.halo, source.volume.box))):
                low[group] = np.minimum(low[group], responses.min(axis=(1, 2, 3)))
                high[group] = np.maximum(high[group], responses.max(axis=(1, 2, 3)))
    return [Bins.between(a, b) for a, b in zip(low, high, strict=True)]


def pool_block(
    source: Source, labels: ArrayLike, n: int, statistics: Sequence[Statistic], bins: Sequence[Bins], block: Block
) -> BlockStatistics:
    """Return the statistics of the supervoxels of one block."""
    inner = np.ascontiguousarray(labels[block.inner.slices])
    check_range(inner, n)
    inner = inner.astype(np.uint32, copy=False)
    starts, planes, numbers, ids, counts = pooling.find_runs(inner, np.zeros(n + 1, np.int32))
    groups = [Collected.nothing(len(ids), source.n_responses, statistics) for _ in bins]
    if len(ids):
        for group, slab, responses in source.slabs(block):
            in_z = slab.slices_in(block.inner)[0]
            first, last = planes[in_z.start], planes[in_z.stop]
            rows = responses.reshape(source.n_responses, -1)
            groups[group].observe(rows, starts[first : last + 1], numbers[first:last], bins[group])
    return BlockStatistics(ids, counts, groups)


def channel_prefixes(volume: Volume) -> list[str]:
    """Return what the names of each channel's features start with: nothing if there is one channel."""
    if volume.n_channels == 1:
        return [""]
    names = volume.channel_names or tuple(f"channel_{c + 1}" for c in range(volume.n_channels))
    return [f"{name} " for name in names]
