"""The table of supervoxel features: filter responses reduced block by block, never stored as a volume."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Executor, Progress, Shape3, map_blocks, memory_budget, partition, within_memory
from voxloop.errors import InputError
from voxloop.features.filters import RESPONSE_VOXELS, respond, scale_channels
from voxloop.features.scales import Scale, scale_of
from voxloop.kernels import pooling
from voxloop.specs import FeatureSpec
from voxloop.volume import ArrayLike, Volume

BLOCK_BYTES = 256_000_000  # working memory of one block, and so of one thread, at most
# Where halos allow it, blocks are smaller than that, for the cache, and 8 at least if the volume is a second's work.
GOOD_BLOCK_BYTES = 64_000_000
SMALL_VOLUME, MIN_BLOCKS = 2_000_000, 8
MAX_READ_SHARE = 5.0  # halos cost more than threads and caches can win
SHORTEST_SIDE = 16


@dataclass(frozen=True)
class FeatureTable:
    """Features of supervoxels.

    Attributes
    ----------
    values
        (n, f) float32; row i belongs to supervoxel i + 1.
    names
        One per column, such as ``"hessian_1 sigma=1.6 std"``.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.names):
            raise InputError(
                f"values has shape {self.values.shape}; expected (n, {len(self.names)}), as there are names"
            )

    @classmethod
    def join(cls, tables: Iterable[FeatureTable]) -> Self:
        """Return the columns of several tables of the same supervoxels, in their order."""
        tables = list(tables)
        if not tables:
            raise InputError("tables must hold at least one table")
        if len({len(table.values) for table in tables}) > 1:
            raise InputError(f"tables differ in their number of rows: {[len(table.values) for table in tables]}")
        names = tuple(itertools.chain.from_iterable(table.names for table in tables))
        return cls(np.concatenate([table.values for table in tables], axis=1), names)


def compute_features(
    volume: Volume,
    labels: ArrayLike,
    n: int,
    spec: FeatureSpec | None = None,
    *,
    block_shape: Sequence[int] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int | str | None = None,
) -> FeatureTable:
    """Return the features of supervoxels at all sigmas of `spec`: the columns of `compute_scale`, sigma by sigma.

    Parameters, errors and blocks are those of `compute_scale`.
    """
    spec = spec or FeatureSpec()
    settings = {"block_shape": block_shape, "executor": executor, "progress": progress, "memory": memory}
    return FeatureTable.join(
        compute_scale(volume, labels, n, sigma, spec, **settings)  # type: ignore[arg-type]
        for sigma in spec.sigmas
        if spec.families_at(sigma)
    )


def compute_scale(
    volume: Volume,
    labels: ArrayLike,
    n: int,
    sigma: float,
    spec: FeatureSpec | None = None,
    *,
    block_shape: Sequence[int] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int | str | None = None,
) -> FeatureTable:
    """Return the features of supervoxels at one sigma.

    Parameters
    ----------
    volume
        The image; each channel is described by itself.
    labels
        (z, y, x) integers: supervoxels 1..n without gaps, 0 outside.
    n
        Number of supervoxels.
    sigma
        Standard deviation in voxels of the finest axis; computed slice by slice if it is in `spec.sigmas_2d`.
    spec
        Families, definition, resolution, statistics.
    block_shape
        Inner shape (z, y, x) of a block; by default from the volume and the halo. Any shape gives the same
        features within rounding, and the same shape the same bits on every executor.
    executor, progress
        Who runs the blocks, and who is told.
    memory
        What a process may take for its blocks, such as ``"2GB"``: it limits how many run at a time, not their shape.

    Returns
    -------
    FeatureTable
        For each channel and statistic one column per response; names start with the channel if there are several.

    Raises
    ------
    InputError
        If the labels do not fit the volume or `n`, or a voxel is not finite.
    """
    spec = spec or FeatureSpec()
    if tuple(labels.shape) != volume.shape:
        raise InputError(f"labels has shape {tuple(labels.shape)} but the volume has shape {volume.shape}")
    if np.dtype(labels.dtype).kind not in "iu":
        raise InputError(f"labels has dtype {labels.dtype}; expected integers")
    if n < 1:
        raise InputError(f"n must be at least 1, not {n}")
    planar = volume.is_2d or sigma in spec.sigmas_2d
    if not spec.families_at(sigma):
        raise InputError(f"sigma={sigma:g} serves gaussian only, which is not among the families {spec.families}")
    scale = scale_of(spec, sigma, relative_spacing=volume.relative_spacing, planar=planar)
    inner = (
        tuple(block_shape)
        if block_shape is not None
        else choose_block_shape(volume.shape, scale, volume.dtype.itemsize)
    )
    blocks = partition(volume.shape, inner, scale.halo)
    channels = scale_channels(spec, sigma, planar=planar)
    moments = _Moments.zeros(n, volume.n_channels, len(channels))
    item_bytes = _block_bytes(blocks[0].inner.shape, volume.shape, scale, volume.dtype.itemsize)
    executor = within_memory(executor, memory=memory_budget(memory), item_bytes=item_bytes)
    pool = partial(_pool_block, volume, labels, n, scale, len(channels))
    for part in map_blocks(pool, blocks, executor=executor, progress=progress, stage=f"features sigma={sigma:g}"):
        moments.add(part)
    return moments.table(spec, channels, _channel_prefixes(volume))


def choose_block_shape(shape: Shape3, scale: Scale, itemsize: int) -> Shape3:
    """Return near cubes that cut the volume evenly: small enough for `BLOCK_BYTES`, and enough of them for threads.

    They depend on the volume and the scale only, not on the machine, so that results have the same bits everywhere.
    """
    blocks, finer = shape, _halve(shape, shape)
    while finer != blocks:
        n_bytes = _block_bytes(blocks, shape, scale, itemsize)
        enough = prod(shape) < SMALL_VOLUME or _number(blocks, shape) >= MIN_BLOCKS
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
    ring = 0 if planar else 6 * (2 * scale.outer_margin[0] + 1) * points[1] * points[2]
    slab = max(RESPONSE_VOXELS, inner[1] * inner[2])
    coarse = 11 * prod(points) if max(steps) > 1 else prod(points)
    fields = outer / steps[0] + extended + ring + coarse + 10 * slab
    return int(outer * itemsize + 4 * fields + 8 * prod(inner))


@dataclass(frozen=True)
class _BlockMoments:
    """Moments of the supervoxels `ids` inside one block: counts (m,), sums and squares (channels, m, k)."""

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]


@dataclass(frozen=True)
class _Moments:
    """Moments of all supervoxels; blocks are added in their order, so that the sums have the same bits every time."""

    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def zeros(cls, n: int, n_channels: int, n_responses: int) -> _Moments:
        shape = (n_channels, n, n_responses)
        return cls(np.zeros(n, np.int64), np.zeros(shape), np.zeros(shape))

    def add(self, part: _BlockMoments) -> None:
        rows = part.ids - 1
        self.counts[rows] += part.counts
        self.sums[:, rows] += part.sums
        self.squares[:, rows] += part.squares

    def table(self, spec: FeatureSpec, channels: Sequence[str], prefixes: Sequence[str]) -> FeatureTable:
        if not self.counts.all():
            missing = int(np.flatnonzero(self.counts == 0)[0]) + 1
            raise InputError(
                f"labels must hold the supervoxels 1..{len(self.counts)} without gaps, but {missing} has no voxel"
            )
        mean = self.sums / self.counts[:, np.newaxis]
        variance = np.maximum(self.squares / self.counts[:, np.newaxis] - mean**2, 0.0)
        statistics = {"mean": mean, "std": np.sqrt(variance)}
        columns = [statistics[s][c] for c in range(len(prefixes)) for s in spec.statistics]
        names = [f"{prefix}{name} {s}" for prefix in prefixes for s in spec.statistics for name in channels]
        return FeatureTable(np.concatenate(columns, axis=1).astype(np.float32), tuple(names))


def _pool_block(
    volume: Volume, labels: ArrayLike, n: int, scale: Scale, n_responses: int, block: Block
) -> _BlockMoments:
    """Return the moments of the supervoxels of one block."""
    inner = np.ascontiguousarray(labels[block.inner.slices])
    if inner.min() < 0 or inner.max() > n:
        raise InputError(f"labels must lie in 0..{n}, but range from {inner.min()} to {inner.max()}")
    labels32 = inner.astype(np.uint32, copy=False)
    starts, planes = pooling.find_runs(labels32)
    numbers, ids, counts = pooling.number_runs(labels32.reshape(-1), starts, np.zeros(n + 1, np.int32))
    sums = np.zeros((volume.n_channels, len(ids), n_responses))
    squares = np.zeros_like(sums)
    if len(ids):
        voxels = volume.read(block.outer)
        for channel in range(volume.n_channels):
            for slab, responses in respond(voxels[channel], scale, block, volume.shape):
                in_z = slab.slices_in(block.inner)[0]
                first, last = planes[in_z.start], planes[in_z.stop]
                rows = responses.reshape(n_responses, -1)
                pooling.add_moments(
                    rows, starts[first : last + 1], numbers[first:last], sums[channel], squares[channel]
                )
    return _BlockMoments(ids, counts, sums, squares)


def _channel_prefixes(volume: Volume) -> list[str]:
    """Return what the names of each channel's features start with: nothing if there is one channel."""
    if volume.n_channels == 1:
        return [""]
    names = volume.channel_names or tuple(f"channel_{c + 1}" for c in range(volume.n_channels))
    return [f"{name} " for name in names]
