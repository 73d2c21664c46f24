"""The coarser scales of an image, for viewers that zoom: which there are, and how voxels become one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Shape3
from voxloop.io.writers import Content

CHUNK = 64  # voxels along an axis; the coarsest scale fits into one


def pyramid_factors(shape: Shape3, spacing: Iterable[float]) -> list[Shape3]:
    """Return how much coarser than the finest scale each scale is along (z, y, x), from (1, 1, 1) on."""
    factors = [1, 1, 1]
    sizes = list(spacing)
    remaining = list(shape)
    pyramid = [cast("Shape3", tuple(factors))]
    while max(remaining) > CHUNK:
        finest = min(size for size, n in zip(sizes, remaining, strict=True) if n > 1)
        for axis in range(3):
            if remaining[axis] > 1 and sizes[axis] < 2 * finest:
                factors[axis] *= 2
                sizes[axis] *= 2
                remaining[axis] = -(-remaining[axis] // 2)
        pyramid.append(cast("Shape3", tuple(factors)))
    return pyramid


def downsample(block: NDArray[Any], step: Shape3, content: Content) -> NDArray[Any]:
    """Return a block (..., z, y, x) with `step` voxels, 1 or 2 along each axis, made one.

    Of labels the first of the voxels is taken, which are all equally near to the centre; of an image the mean, where
    fewer voxels remain at the border the mean of those.
    """
    if content == "labels":
        z, y, x = step
        return block[..., ::z, ::y, ::x]
    mean = block.astype(np.result_type(block.dtype, np.float32), copy=False)
    for axis, s in zip((-3, -2, -1), step, strict=True):
        if s == 2:
            mean = _mean_of_pairs(mean, axis)
    return (np.rint(mean) if block.dtype.kind in "iu" else mean).astype(block.dtype, copy=False)


def _mean_of_pairs(block: NDArray[Any], axis: int) -> NDArray[Any]:
    pairs = np.moveaxis(block, axis, 0)
    n = pairs.shape[0] // 2
    mean = pairs[::2].copy()
    mean[:n] += pairs[1::2]
    mean[:n] /= 2
    return np.moveaxis(mean, 0, axis)
