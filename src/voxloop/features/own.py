"""What a supervoxel is by itself: its shape, its place, and how sharply it ends.

Lengths are in voxels of the finest axis, so that the unit of the voxel size changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Self

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Executor, Progress, Shape3, map_blocks, memory_budget, partition, within_memory
from voxloop.errors import InputError
from voxloop.features.filters import respond
from voxloop.features.pool import channel_prefixes, check_labels, check_range
from voxloop.features.scales import Scale, scale_of
from voxloop.features.table import FeatureTable
from voxloop.io.scratch import Arrays, Once, Scratch
from voxloop.kernels import own as kernels
from voxloop.kernels import pooling
from voxloop.specs import FeatureSpec
from voxloop.volume import ArrayLike, Volume

BLOCK_SHAPE: Shape3 = (128, 128, 128)
BOUNDARY_SIGMA = 1.0  # of the gradient at the faces
N_MOMENTS = 9  # sums of z, y, x, zz, yy, xx, zy, zx, yx


def own_columns(volume: Volume, spec: FeatureSpec) -> tuple[str, ...]:
    """Return the names of the columns of `compute_own`."""
    dimensions = 2 if volume.is_2d else 3
    names = {
        "shape": ["size", *(f"axis_{i + 1}" for i in range(dimensions)), *("elongation", "flatness")[: dimensions - 1]],
        "boundary": [f"{prefix}boundary" for prefix in channel_prefixes(volume)],
        "position": ["position_z", "position_y", "position_x"],
    }
    return tuple(name for family in spec.own for name in names[family])


def compute_own(
    volume: Volume,
    labels: ArrayLike,
    n: int,
    spec: FeatureSpec,
    *,
    out: NDArray[np.float32] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int | str | None = None,
    scratch: Scratch | None = None,
) -> FeatureTable:
    """Return the features of supervoxels that need no sigma, those of `spec.own`.

    ``shape``: size, the square roots of the eigenvalues of the second moments (largest first; a voxel counts as a box,
    of variance 1/12 along each side), elongation 1 - axis_2 / axis_1 and flatness 1 - axis_3 / axis_2.
    ``boundary``: mean gradient magnitude at sigma 1 over the faces to other supervoxels, weighted by their area, for
    each channel of the image; 0 without such a face.
    ``position``: the centre.

    Parameters, errors and executors are those of `compute_scale`.
    """
    check_labels(volume, labels, n)
    planar = volume.is_2d
    only = {"families": ("gradient_magnitude",), "sigmas": (BOUNDARY_SIGMA,), "sigmas_2d": (), "left_out": ()}
    gradient = spec.changed(**only, resolution="full")
    scale = scale_of(gradient, BOUNDARY_SIGMA, relative_spacing=volume.relative_spacing, planar=planar)
    wants_boundary = "boundary" in spec.own
    blocks = partition(volume.shape, BLOCK_SHAPE, tuple(h + 1 for h in scale.halo) if wants_boundary else (0, 0, 0))
    task: Callable[[Block], _BlockMeasures]
    task = partial(_measure_block, volume, labels, n, scale if wants_boundary else None)
    if scratch is not None:
        task = Once(scratch, task, _BlockMeasures)
    item_bytes = 40 * prod(blocks[0].outer.shape)
    executor = within_memory(executor, memory=memory_budget(memory), item_bytes=item_bytes)
    counts = np.zeros(n, np.int64)
    moments = np.zeros((n, N_MOMENTS))
    faces = np.zeros((n, 1 + volume.n_channels))
    for part in map_blocks(task, blocks, executor=executor, progress=progress, stage="features of supervoxels"):
        counts[part.ids - 1] += part.counts
        moments[part.ids - 1] += part.moments
        faces[part.ids - 1] += part.faces
    if not counts.all():
        missing = int(np.flatnonzero(counts == 0)[0]) + 1
        raise InputError(f"labels must hold the supervoxels 1..{n} without gaps, but {missing} has no voxel")
    spacing = np.array(volume.relative_spacing)
    centre = moments[:, :3] / counts[:, np.newaxis]
    columns = {
        "shape": _shape(counts, centre, moments[:, 3:], spacing, planar=planar),
        "boundary": faces[:, 1:] / np.maximum(faces[:, :1], np.finfo(np.float64).tiny),
        "position": centre * spacing,
    }
    values = np.concatenate([columns[family] for family in spec.own], axis=1)
    out = np.empty(values.shape, np.float32) if out is None else out
    out[...] = values
    return FeatureTable(out, own_columns(volume, spec))


def _shape(
    counts: NDArray[np.int64],
    centre: NDArray[np.float64],
    products: NDArray[np.float64],
    spacing: NDArray[np.float64],
    *,
    planar: bool,
) -> NDArray[np.float64]:
    """Return size, axes, elongation and flatness; `products` are sums of zz, yy, xx, zy, zx, yx."""
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    covariance = np.empty((len(counts), 3, 3))
    for product, (a, b) in zip((products / counts[:, np.newaxis]).T, pairs, strict=True):
        value = (product - centre[:, a] * centre[:, b] + (a == b) / 12) * spacing[a] * spacing[b]
        covariance[:, a, b] = covariance[:, b, a] = value
    inside = slice(1, None) if planar else slice(None)
    axes = np.sqrt(np.linalg.eigvalsh(covariance[:, inside, inside])[:, ::-1])
    size = counts * (spacing[inside].prod())
    return np.column_stack([size, axes, 1 - axes[:, 1:] / axes[:, :-1]])


@dataclass(frozen=True)
class _BlockMeasures:
    """What a block knows of its supervoxels `ids` (m,): voxels, moments (m, 9), faces and gradients (m, 1 + c)."""

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    moments: NDArray[np.float64]
    faces: NDArray[np.float64]

    def to_arrays(self) -> Arrays:
        """Return all of it as arrays by name."""
        return vars(self)

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Return what `to_arrays` took apart."""
        return cls(**arrays)


def _measure_block(volume: Volume, labels: ArrayLike, n: int, scale: Scale | None, block: Block) -> _BlockMeasures:
    """Measure the voxels of the inner box, and the faces between them and the next along each axis."""
    box = block.inner if scale is None else block.inner.grow((1, 1, 1), volume.box)
    # A face belongs to the block of its lower voxel, so that it is counted once.
    box = type(box)(block.inner.start, box.stop)
    part = np.ascontiguousarray(labels[box.slices])
    check_range(part, n)
    part = part.astype(np.uint32, copy=False)
    starts, _, numbers, ids, _ = pooling.find_runs(part, np.zeros(n + 1, np.int32))
    counts, moments = np.zeros(len(ids), np.int64), np.zeros((len(ids), N_MOMENTS))
    kernels.add_coordinates(starts, numbers, part.shape, box.start, block.inner.shape, counts, moments)
    faces = np.zeros((len(ids), 1 + volume.n_channels))
    if scale is not None and len(ids):
        local = np.repeat(numbers, np.diff(starts)).reshape(part.shape)
        gradient = _gradient(volume, scale, Block(block.index, box, box.grow(scale.halo, volume.box)))
        z, y, x = volume.relative_spacing
        areas = np.array([y * x, z * x, z * y])
        kernels.add_faces(local, gradient, block.inner.shape, areas, faces)
    return _BlockMeasures(ids, counts, moments, faces)


def _gradient(volume: Volume, scale: Scale, block: Block) -> NDArray[np.float32]:
    """Return the gradient magnitude (c, z, y, x) of all channels."""
    voxels = volume.read(block.outer)
    out = np.empty((volume.n_channels, *block.inner.shape), np.float32)
    for channel in range(volume.n_channels):
        for slab, responses in respond(voxels[channel], scale, block, volume.shape):
            out[(channel, *slab.slices_in(block.inner))] = responses[0]
    return out
