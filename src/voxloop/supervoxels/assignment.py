"""What SLIC does to one block: scale it, give its voxels to clusters, cut it into fragments.

Each step is a function of a block and of a few small arrays that can be sent to another process. What it needs of the
block's voxels it finds in the scratch space, where the first step has put them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, Shape3
from voxloop.io.scratch import Scratch
from voxloop.kernels import slic as kernel
from voxloop.kernels.crumbs import RIM, dissolve_crumbs
from voxloop.supervoxels.arrays import NO_MASK, inside_box
from voxloop.supervoxels.connectivity import BlockFragments, cut_block, face_areas, table_name
from voxloop.supervoxels.grid import SeedGrid
from voxloop.supervoxels.intensity import LEVELS, Scaling, scale_block
from voxloop.supervoxels.model import ROWS
from voxloop.volume import ArrayLike, Spacing, Volume


@dataclass(frozen=True)
class Clusters:
    """Centres (n, 3) in voxels and mean intensities (n, c) in fixed point."""

    centers: NDArray[np.float64]
    colours: NDArray[np.float32]

    @classmethod
    def from_sums(cls, sums: NDArray[np.int64]) -> Clusters:
        """Return the clusters whose voxels (none of them empty) add up to `sums` (n, 4 + c)."""
        n, n_columns = sums.shape
        return cls(np.zeros((n, 3)), np.zeros((n, n_columns - 4), np.float32)).moved(sums)

    def moved(self, sums: NDArray[np.int64]) -> Clusters:
        """Return the clusters after their voxels became those of `sums`; one without voxels stays where it is."""
        centers, colours = self.centers.copy(), self.colours.copy()
        kernel.move_clusters(sums, centers, colours)
        return Clusters(centers, colours)

    def farthest_from(self, others: Clusters, steps_per_voxel: NDArray[np.float64]) -> float:
        """Return by how many steps the centre that moved most differs from where it was in `others`."""
        farthest = 0.0
        for first in range(0, len(self.centers), ROWS):
            rows = slice(first, first + ROWS)
            steps = (self.centers[rows] - others.centers[rows]) * steps_per_voxel
            farthest = max(farthest, float(np.einsum("ij,ij->i", steps, steps).max()))
        return sqrt(farthest)


@dataclass(frozen=True)
class BlockClusters:
    """A block and the clusters that reach it: their ids, ascending, and what they are."""

    block: Block
    ids: NDArray[np.int64]
    clusters: Clusters


class ClustersByBlock(Sequence[BlockClusters]):
    """For each block the clusters that reach it, put together when it is asked for: all at once they are many.

    Parameters
    ----------
    clusters
        All clusters.
    blocks
        Blocks of the volume's regular partition, some of which may be missing.
    shape, block_shape
        Voxels of the volume and of a block.
    reach
        As in `kernels.slic.assign`.
    """

    def __init__(
        self,
        clusters: Clusters,
        blocks: Sequence[Block],
        *,
        shape: Shape3,
        block_shape: Shape3,
        reach: NDArray[np.float64],
    ) -> None:
        self._clusters, self._blocks = clusters, blocks
        size = np.array(block_shape)
        grid = -(-np.array(shape) // size)
        self._offsets, self._ids = kernel.clusters_in_reach(np.ascontiguousarray(clusters.centers), reach, size, grid)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        block, ids = self._blocks[index], self.ids(index)
        return BlockClusters(
            block, ids, Clusters(self._clusters.centers.take(ids, 0), self._clusters.colours.take(ids, 0))
        )

    def ids(self, index: int) -> NDArray[np.int64]:
        """Return the clusters that reach a block."""
        at = self._blocks[index].index
        found: NDArray[np.int64] = self._ids[self._offsets[at] : self._offsets[at + 1]]
        return found


@dataclass(frozen=True)
class Tile:
    """A block with its rim as SLIC sees it.

    Attributes
    ----------
    box
        The block's inner box and `RIM` voxels more on each side, as far as the volume goes.
    image
        int16 (c, z, y, x) of the box, in fixed point.
    inside
        bool (z, y, x) of the box, or of size 0 if there is no mask.
    """

    box: Box
    image: NDArray[np.int16]
    inside: NDArray[np.bool_]

    def image_of(self, box: Box) -> NDArray[np.int16]:
        """Return the image of a box within the tile's."""
        return np.ascontiguousarray(self.image[:, *box.slices_in(self.box)])

    def inside_of(self, box: Box) -> NDArray[np.bool_]:
        """Return the mask of a box within the tile's."""
        return np.ascontiguousarray(self.inside[box.slices_in(self.box)]) if self.inside.size else self.inside

    def low(self, box: Box) -> NDArray[np.int64]:
        """Return where the first voxel of a box within the tile's is in the arrays."""
        return np.subtract(box.start, self.box.start, dtype=np.int64)


@dataclass(frozen=True)
class Tiles:
    """The blocks of a volume of `shape` in the scratch space."""

    scratch: Scratch
    shape: Shape3

    def box(self, block: Block) -> Box:
        """Return the box of a block's tile."""
        return block.inner.grow((RIM, RIM, RIM), Box.of_shape(self.shape))

    def put(self, block: Block, tile: Tile) -> None:
        """Keep a block."""
        masked = {"inside": tile.inside} if tile.inside.size else {}
        self.scratch.put(self._name(block), {"image": tile.image, **masked})

    def has(self, block: Block) -> bool:
        """Whether a block is kept."""
        return self.scratch.has(self._name(block))

    def is_cut(self, block: Block) -> bool:
        """Whether a block's fragments are kept."""
        return self.scratch.has(table_name(block.index))

    def get(self, block: Block) -> Tile:
        """Return a block."""
        stored = self.scratch.get(self._name(block))
        return Tile(self.box(block), stored["image"], stored.get("inside", NO_MASK))

    def drop(self, block: Block) -> None:
        """Forget a block."""
        self.scratch.drop(self._name(block))

    def _name(self, block: Block) -> str:
        return f"tile-{block.index}"


@dataclass(frozen=True)
class ScaleBlock:
    """Puts the scaled images of blocks into the scratch space."""

    volume: Volume
    mask: ArrayLike | None
    scaling: Scaling
    tiles: Tiles

    def __call__(self, block: Block) -> int:
        """Put one block there, unless it is or was; return how many of its voxels are inside the mask."""
        inside = inside_box(self.mask, block.outer)
        n_inside = block.inner.size if self.mask is None else int(inside[block.inner_in_outer].sum())
        if n_inside and not self.tiles.has(block) and not self.tiles.is_cut(block):
            box = self.tiles.box(block)
            image = scale_block(self.volume, Block(block.index, box, block.outer), self.scaling, inside)
            kept = NO_MASK if self.mask is None else np.ascontiguousarray(inside[box.slices_in(block.outer)])
            self.tiles.put(block, Tile(box, image, kept))
        return n_inside


@dataclass(frozen=True)
class SumCells:
    """Adds up the voxels of the seed grid's cells.

    The blocks' coordinates count from `origin`, the grid's from the start of the volume.
    """

    tiles: Tiles
    grid: SeedGrid
    origin: Shape3

    def __call__(self, block: Block) -> tuple[Box, NDArray[np.int64]]:
        """Return which cells a block has voxels of, and the sums (cells along z, y, x, 4 + c) of these voxels."""
        tile, box = self.tiles.get(block), block.inner.moved(self.origin)
        cells, touched = self.grid.cells_of(box), self.grid.cell_box(box)
        sums = np.zeros((*touched.shape, 4 + len(tile.image)), np.int64)
        z, y, x = (c - c[0] for c in cells)
        start, low = np.array(tile.box.start), tile.low(block.inner)
        kernel.add_up_cells(tile.image, tile.inside, start, low, z, y, x, sums)
        return touched, sums


@dataclass(frozen=True)
class Assigner:
    """Gives each voxel of a block to the nearest cluster.

    Attributes
    ----------
    tiles
        The blocks' images.
    grid
        What the seeds' distance is.
    compactness
        Weight of a distance of one step against one standard deviation of intensity.
    origin
        Where in the grid's volume the first voxel lies.
    """

    tiles: Tiles
    grid: SeedGrid
    compactness: float
    origin: Shape3

    def add_up(self, item: BlockClusters) -> NDArray[np.int64]:
        """Return the sums (k, 4 + c) of the voxels that are nearest to each of the block's clusters.

        Of the rows of `SeedGrid.row_lattice` only: a quarter of the voxels tell where a mean is.
        """
        tile, inner, clusters = self.tiles.get(item.block), item.block.inner, item.clusters
        low = tile.low(inner)
        sums = np.zeros((len(item.ids) + 2, 4 + len(tile.image)), np.int64)
        kernel.add_up_nearest(
            tile.image, tile.inside, np.array(tile.box.start), low, low + inner.shape, clusters.centers,
            clusters.colours, self.grid.reach, self._weights, self.grid.row_lattice(self.origin), sums,
        )  # fmt: skip
        return sums[2:]

    def labels(self, tile: Tile, clusters: Clusters) -> NDArray[np.int32]:
        """Return the position of each voxel's cluster, with a border as `kernel.assign` wants it."""
        labels = np.full([n + 2 for n in tile.box.shape], kernel.OUTSIDE, np.int32)
        kernel.assign(
            tile.image, tile.inside, np.array(tile.box.start), clusters.centers, clusters.colours, self.grid.reach,
            self._weights, labels,
        )  # fmt: skip
        return labels

    @property
    def _weights(self) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = (self.compactness * LEVELS * self.grid.steps_per_voxel) ** 2
        return weights


@dataclass(frozen=True)
class Cutter:
    """Cuts blocks into fragments of one cluster.

    Attributes
    ----------
    assigner
        What gives voxels to clusters. The clusters have to reach the tiles, not only the blocks.
    dissolves
        Whether pieces of one or two voxels go to the cluster around them first.
    relative_spacing
        Of a voxel (z, y, x), for the areas of contact.
    """

    assigner: Assigner
    dissolves: bool
    relative_spacing: Spacing

    def __call__(self, item: BlockClusters) -> BlockFragments:
        """Return the fragments of a block, after they were put into the scratch space by `cut_block`.

        A block that was cut before is not cut again. Its image is not needed any more and forgotten.
        """
        tiles, block = self.assigner.tiles, item.block
        if tiles.is_cut(block):
            return BlockFragments.of(block, tiles.scratch)
        tile = tiles.get(block)
        values = np.append(item.ids, [kernel.UNREACHED])  # local label -1 picks the last
        fragments = cut_block(
            self._labels(tile, item), tile.image_of(block.inner), block, tiles.shape, tiles.scratch,
            relative_spacing=self.relative_spacing, outside=kernel.OUTSIDE, values=values,
        )  # fmt: skip
        tiles.drop(block)
        return fragments

    def _labels(self, tile: Tile, item: BlockClusters) -> NDArray[np.int32]:
        labels, inner = self.assigner.labels(tile, item.clusters), item.block.inner
        low, shape = tile.low(inner) + 1, np.array(inner.shape)
        if not self.dissolves:
            z, y, x = (slice(a, a + n) for a, n in zip(low, shape, strict=True))
            return np.ascontiguousarray(labels[z, y, x])
        return dissolve_crumbs(labels, low, shape, face_areas(self.relative_spacing))
