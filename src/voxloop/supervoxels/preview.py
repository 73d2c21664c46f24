"""Supervoxels of a small part of a volume, while somebody tries out parameters."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Executor, Progress, Shape3, in_this_process, partition
from voxloop.errors import InputError
from voxloop.io.scratch import Memory
from voxloop.kernels.crumbs import RIM
from voxloop.specs import SlicSpec
from voxloop.supervoxels.arrays import Work, check_shape
from voxloop.supervoxels.assignment import ScaleBlock, Tiles
from voxloop.supervoxels.connectivity import number_blocks
from voxloop.supervoxels.grid import seed_grid
from voxloop.supervoxels.intensity import Intensities, Scaling, measure_intensities
from voxloop.supervoxels.slic import SlicRun, number_asked_for
from voxloop.supervoxels.watershed import check_library
from voxloop.volume import ArrayLike, CropView, Volume

# The margin around the box, in units of the distance of two seeds, before it is widened to whole cells of seeds. On
# electron microscopy, 32 x 256 x 256 voxels of a larger volume, the adjusted Rand index against the supervoxels of the
# whole is 0.77 (a third of a second of CPU), and 0.70 with 5 iterations, which save a fifth of that. With a margin of 1
# it is 0.89, for half as much CPU again.
HALO = 0.25
ITERATIONS = 10  # at most
BLOCK_SHAPE: Shape3 = (64, 128, 512)


def preview_supervoxels(
    volume: Volume,
    box: Box,
    spec: SlicSpec = SlicSpec(),  # noqa: B008 - frozen
    *,
    mask: ArrayLike | None = None,
    intensities: Intensities | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> NDArray[np.uint32]:
    """Return about the supervoxels that `slic` would cut a box of a volume into, without looking at the rest.

    The seeds are those of the whole volume. The box is cut with a margin of about half a cell of seeds and in
    at most 10 iterations, so that the boundaries are near the true ones, not the same.

    Parameters
    ----------
    volume
        The whole image.
    box
        The part to cut; for the speed that a moving slider needs not much above 32 x 256 x 256 voxels.
    spec
        As for `slic`; the number or size is that of the whole volume.
    mask
        Array-like (z, y, x) of the whole volume: voxels where it is 0 stay outside, with label 0.
    intensities
        What `measure_intensities` says of the volume and the mask; measured if it is not given. It depends on neither
        box nor spec: who calls again and again keeps it.
    executor, progress
        What runs the blocks (default: a thread a processor), and who is told; `progress` may raise `Cancelled`.

    Returns
    -------
    ndarray
        uint32 of the box's shape, 0 outside the mask. Not every number up to the highest occurs.

    Raises
    ------
    InputError
        If the box is empty or reaches beyond the volume, the mask does not fit, or a voxel is not finite.
    Cancelled
        If `progress` raises it.
    """
    if box.size == 0 or box.grow((0, 0, 0), volume.box) != box:
        raise InputError(f"box reaches from {box.start} to {box.stop} but the volume has shape {volume.shape}")
    if mask is not None:
        check_shape("mask", mask, volume.shape, "volume")
    if spec.method == "watershed":
        check_library()
    known = intensities or measure_intensities(volume, mask=mask)
    spacing = volume.relative_spacing
    n_inside = round(known.share_inside * volume.n_voxels)
    grid = seed_grid(volume.shape, number_asked_for(spec, n_inside) * volume.n_voxels / n_inside, spacing)
    halo = tuple(ceil(HALO * reach) for reach in grid.reach)
    region = grid.whole_cells(box.grow(halo, volume.box))

    work = Work(in_this_process(executor), progress)
    scaling = Scaling.of(known, spec, spacing)
    blocks = partition(region.shape, BLOCK_SHAPE, tuple(n + RIM for n in scaling.halo))
    tiles = Tiles(Memory(), region.shape)
    scale = ScaleBlock(volume.crop(region), None if mask is None else CropView(mask, region), scaling, tiles)
    n_inside_of = list(work.map("scaling", scale, blocks))
    inside = [block for block, n in zip(blocks, n_inside_of, strict=True) if n]
    labels = np.zeros(region.shape, np.uint32)
    if inside:
        few = spec.changed(max_num_iter=min(spec.max_num_iter, ITERATIONS)) if spec.method == "slic" else spec
        run = SlicRun(tiles, inside, BLOCK_SHAPE, spacing, grid, region.start, few, work)
        numbers = run.finish(sum(n_inside_of)).numbers
        number_blocks(inside, numbers, scratch=tiles.scratch, out=labels, work=work)
    return labels[box.slices_in(region)].copy()
