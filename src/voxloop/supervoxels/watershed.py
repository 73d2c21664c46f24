"""Supervoxels by a seeded watershed: floods the gradient magnitude from one minimum in each cell of the seed grid.

The same copies of the image, the same seed grid and the same way from labels to connected pieces as SLIC; but a flood
runs through the whole volume, which therefore has to fit in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxloop.blocks import Block, Box, Shape3
from voxloop.errors import InputError
from voxloop.kernels.watershed import add_squared_gradient, lowest_of_cells
from voxloop.supervoxels.arrays import NO_MASK
from voxloop.supervoxels.assignment import Tiles
from voxloop.supervoxels.connectivity import BlockFragments, cut_block
from voxloop.supervoxels.grid import SeedGrid
from voxloop.volume import Spacing

BYTES_PER_VOXEL = 36  # besides the images: gradient, seeds, labels, what the flooding holds (measured) and the result


def check_library() -> None:
    """Raise `InputError` if the library that floods is not installed."""
    try:
        import bioimage_cpp  # noqa: F401
    except ImportError:
        raise InputError('method "watershed" needs bioimage-cpp: pip install "voxloop[watershed]"') from None


@dataclass(frozen=True)
class Flood:
    """Basins of a volume.

    Attributes
    ----------
    labels
        int32 (z, y, x): 0 outside the mask, else the basin.
    n
        Number of seeds.
    """

    labels: NDArray[np.int32]
    n: int


def flood(
    tiles: Tiles, blocks: Sequence[Block], shape: Shape3, grid: SeedGrid, origin: Shape3, relative_spacing: Spacing
) -> Flood:
    """Return the basins of the seeds (Meyer 1994, by bioimage-cpp).

    Voxels inside the mask that no flood reaches become basins of their own, one for each connected component.

    Parameters
    ----------
    tiles, blocks
        The blocks that have voxels inside the mask, and their images.
    shape
        Voxels of the volume.
    grid, origin
        The cells that get a seed each, and where in their volume the first voxel lies.
    relative_spacing
        Of a voxel (z, y, x).
    """
    from bioimage_cpp.segmentation import watershed

    height, inside = _gradient_magnitude(tiles, blocks, shape, relative_spacing)
    box = Box.of_shape(shape).moved(origin)
    z, y, x = (cells - cells[0] for cells in grid.cells_of(box))
    seeds = lowest_of_cells(height, inside, z, y, x, grid.cell_box(box).shape)
    markers = np.zeros(shape, np.int32)
    markers.reshape(-1)[seeds] = np.arange(1, len(seeds) + 1)
    labels: NDArray[np.int32] = watershed(height, markers, mask=inside if inside.size else None)
    del height, markers
    dry = labels == 0
    if inside.size:
        dry &= inside
    if dry.any():
        islands, _ = ndimage.label(dry)
        labels[dry] = islands[dry] + len(seeds)
    return Flood(labels, len(seeds))


def _gradient_magnitude(
    tiles: Tiles, blocks: Sequence[Block], shape: Shape3, relative_spacing: Spacing
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the gradient magnitude over all copies of the image, and the mask or an array of size 0."""
    squared = np.zeros(shape, np.float32)
    first = tiles.get(blocks[0])
    inside = np.zeros(shape, np.bool_) if first.inside.size else NO_MASK
    image = np.zeros(shape, np.int16)
    for copy in range(len(first.image)):
        for block in blocks:
            tile = tiles.get(block)
            image[block.inner.slices] = tile.image[copy][block.inner.slices_in(tile.box)]
            if inside.size:
                inside[block.inner.slices] = tile.inside_of(block.inner)
        add_squared_gradient(image, np.array(relative_spacing, np.float64), squared)
    return np.sqrt(squared, out=squared), inside


@dataclass(frozen=True)
class CutBasins:
    """Cuts basins into fragments, which go into the scratch space."""

    tiles: Tiles
    labels: NDArray[np.int32]
    relative_spacing: Spacing

    def __call__(self, block: Block) -> BlockFragments:
        """Cut one block; return the table of its fragments."""
        own = np.ascontiguousarray(self.labels[block.inner.slices])
        z, y, x = self.labels.shape
        return cut_block(
            own, self.tiles.get(block).image_of(block.inner), block, (z, y, x), self.tiles.scratch,
            relative_spacing=self.relative_spacing, outside=0,
        )  # fmt: skip
