"""Filter responses of single voxels, for what has to be decided voxel by voxel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box
from voxloop.errors import InputError
from voxloop.features.filters import respond
from voxloop.features.scales import scale_of
from voxloop.specs import FeatureSpec
from voxloop.volume import Volume


def voxel_features(
    volume: Volume, box: Box, wanted: NDArray[np.bool_], spec: FeatureSpec | None = None
) -> NDArray[np.float32]:
    """Return the filter responses of some voxels of a box.

    Parameters
    ----------
    volume
        The image; each channel is described by itself.
    box
        A part of it.
    wanted
        bool (z, y, x) of the box: the voxels to describe.
    spec
        Families, sigmas, definition, resolution.

    Returns
    -------
    ndarray
        (m, f) float32, a row a wanted voxel in C order, a column a response; sigma by sigma, then channel by channel.
        Responses depend on the box within rounding.

    Raises
    ------
    InputError
        If `wanted` does not fit the box, the box not the volume, or a voxel is not finite.
    """
    spec = spec or FeatureSpec()
    if wanted.shape != box.shape or box.grow((0, 0, 0), volume.box) != box:
        raise InputError(
            f"wanted has shape {wanted.shape} but the box {box.shape}, from {box.start}; the volume has {volume.shape}"
        )
    columns = []
    for sigma in (sigma for sigma in spec.sigmas if spec.families_at(sigma)):
        planar = volume.is_2d or sigma in spec.sigmas_2d
        scale = scale_of(spec, sigma, relative_spacing=volume.relative_spacing, planar=planar)
        block = Block(0, box, box.grow(scale.halo, volume.box))
        for channel in volume.read(block.outer):
            slabs = respond(channel, scale, block, volume.shape)
            parts = [responses[:, wanted[slab.slices_in(box)[0]]] for slab, responses in slabs]
            columns.append(np.concatenate(parts, axis=1))
    return np.ascontiguousarray(np.concatenate(columns).T)
