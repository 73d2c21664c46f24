"""The table of supervoxel features: filter responses reduced block by block, never stored as a volume."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor, Progress
from voxloop.errors import InputError
from voxloop.features.filters import scale_channels
from voxloop.features.pool import FilteredSource, RawSource, channel_prefixes, check_labels, count_voxels, pool
from voxloop.features.scales import scale_of
from voxloop.io.scratch import Scratch
from voxloop.specs import FeatureSpec, Statistic
from voxloop.volume import ArrayLike, Volume


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
    sizes: NDArray[np.int64] | None = None,
    block_shape: Sequence[int] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int | str | None = None,
) -> FeatureTable:
    """Return the features of supervoxels at all sigmas of `spec`: the columns of `compute_scale`, sigma by sigma.

    Parameters, errors and blocks are those of `compute_scale`.
    """
    spec = spec or FeatureSpec()
    check_labels(volume, labels, n)
    sizes = count_voxels(labels, n) if sizes is None else sizes
    settings = {"block_shape": block_shape, "executor": executor, "progress": progress, "memory": memory}
    return FeatureTable.join(
        compute_scale(volume, labels, n, sigma, spec, sizes=sizes, **settings)  # type: ignore[arg-type]
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
    sizes: NDArray[np.int64] | None = None,
    out: NDArray[np.float32] | None = None,
    block_shape: Sequence[int] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int | str | None = None,
    scratch: Scratch | None = None,
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
        Families, definition, resolution, statistics. Quantiles come from a histogram of 64 bins, 62 of them between the
        extremes of the response in eight cubes of 16^3 voxels, the outer two open: between the extremes they are off by
        less than a bin, beyond by no more than the supervoxel's own range.
    sizes
        (n,) voxels of each supervoxel; counted if not given.
    out
        (n, f) float32 to write the values to, such as a memory map; f is the length of `scale_columns`.
    block_shape
        Inner shape (z, y, x) of a block; by default from the volume and the halo. Any shape gives the same
        features within rounding, and the same shape the same bits on every executor.
    executor, progress
        Who runs the blocks, and who is told.
    memory
        What a process may take for its blocks, such as ``"2GB"``: it limits how many run at a time, not their shape.
    scratch
        Where the statistics of each block are kept, so that a call with the same arguments does not compute it again:
        about a byte a voxel, with quantiles up to ten.

    Returns
    -------
    FeatureTable
        For each channel and statistic one column per response; names start with the channel if there are several.

    Raises
    ------
    InputError
        If the labels do not fit the volume, `n` or `sizes`, or a voxel is not finite.
    """
    spec = spec or FeatureSpec()
    planar = volume.is_2d or sigma in spec.sigmas_2d
    if not spec.families_at(sigma):
        raise InputError(f"spec has no family at sigma={sigma:g}; sigmas below 0.5 serve gaussian only")
    scale = scale_of(spec, sigma, relative_spacing=volume.relative_spacing, planar=planar)
    names = scale_columns(volume, sigma, spec)
    values = pool(
        FilteredSource(volume, scale, len(scale_channels(spec, sigma, planar=planar))), labels, n, spec.statistics,
        len(names), sizes=sizes, out=out, block_shape=block_shape,
        executor=executor, progress=progress, memory=memory, scratch=scratch, stage=f"features sigma={sigma:g}",
    )  # fmt: skip
    return FeatureTable(values, names)


def pool_volume(
    volume: Volume,
    labels: ArrayLike,
    n: int,
    *,
    statistics: Sequence[Statistic] = ("mean", "std"),
    sizes: NDArray[np.int64] | None = None,
    out: NDArray[np.float32] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int | str | None = None,
    scratch: Scratch | None = None,
) -> FeatureTable:
    """Return a volume of any number of channels pooled over supervoxels, as the filters' responses are.

    The channels may be another program's probabilities or the embedding of a network.

    Parameters
    ----------
    volume
        The features, voxel by voxel aligned with the labels.
    labels, n, sizes, out, executor, progress, memory, scratch
        As for `compute_scale`; `out` has the columns of `volume_columns`.
    statistics
        As in `FeatureSpec`.

    Returns
    -------
    FeatureTable
        For each statistic one column per channel; names start with that of the volume.

    Raises
    ------
    InputError
        If the labels do not fit the volume, or a value is not finite.
    """
    names = volume_columns(volume, statistics)
    values = pool(
        RawSource(volume), labels, n, statistics, len(names), sizes=sizes, out=out, block_shape=None,
        executor=executor, progress=progress, memory=memory, scratch=scratch, stage=f"features {volume.name}",
    )  # fmt: skip
    return FeatureTable(values, names)


def scale_columns(volume: Volume, sigma: float, spec: FeatureSpec) -> tuple[str, ...]:
    """Return the names of the columns of `compute_scale`."""
    channels = scale_channels(spec, sigma, planar=volume.is_2d or sigma in spec.sigmas_2d)
    return tuple(f"{p}{name} {s}" for p in channel_prefixes(volume) for s in spec.statistics for name in channels)


def volume_columns(volume: Volume, statistics: Sequence[Statistic]) -> tuple[str, ...]:
    """Return the names of the columns of `pool_volume`."""
    names = [f"{volume.name} {prefix}".strip() for prefix in channel_prefixes(volume)]
    return tuple(f"{name} {s}" for s in statistics for name in names)
