"""What SLIC does to one block: scale it, give its voxels to clusters, cut it into fragments.

Each step is a function of a block and of a few small arrays that can be sent to another process. What it needs of the
block's voxels it finds in the scratch space, where the first step has put them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, Shape3
from voxloop.io.scratch import Scratch
from voxloop.kernels import slic as kernel
from voxloop.supervoxels.arrays import NO_MASK, inside_box
from voxloop.supervoxels.connectivity import BlockFragments, cut_block
from voxloop.supervoxels.grid import SeedGrid, means
from voxloop.supervoxels.intensity import LEVELS, Scaling, scale_block
from voxloop.volume import ArrayLike, Spacing, Volume

NO_LABELS = np.empty((0, 0, 0), np.int32)


@dataclass(frozen=True)
class Clusters:
    """Centres (n, 3) in voxels and mean intensities (n, c) in fixed point."""

    centers: NDArray[np.float64]
    colours: NDArray[np.float32]

    @classmethod
    def from_sums(cls, sums: NDArray[np.int64]) -> Clusters:
        """Return the clusters whose voxels (none of them empty) add up to `sums` (n, 4 + c)."""
        mean = means(sums)
        return cls(mean[:, :3], mean[:, 3:].astype(np.float32))

    def moved(self, sums: NDArray[np.int64]) -> Clusters:
        """Return the clusters after their voxels became those of `sums`; one without voxels stays where it is."""
        kept = np.flatnonzero(sums[:, 0])
        new = Clusters.from_sums(sums[kept])
        centers, colours = self.centers.copy(), self.colours.copy()
        centers[kept], colours[kept] = new.centers, new.colours
        return Clusters(centers, colours)


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
        self._offsets, self._ids = kernel.clusters_in_reach(clusters.centers, reach, size, grid)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        block, ids = self._blocks[index], self.ids(index)
        return BlockClusters(block, ids, Clusters(self._clusters.centers[ids], self._clusters.colours[ids]))

    def ids(self, index: int) -> NDArray[np.int64]:
        """Return the clusters that reach a block."""
        at = self._blocks[index].index
        found: NDArray[np.int64] = self._ids[self._offsets[at] : self._offsets[at + 1]]
        return found


@dataclass(frozen=True)
class Tile:
    """A block as SLIC sees it: its image in fixed point (c, z, y, x), and its mask or an empty array."""

    image: NDArray[np.int16]
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class Tiles:
    """The blocks of a volume in the scratch space."""

    scratch: Scratch

    def put(self, block: Block, tile: Tile) -> None:
        """Keep a block."""
        masked = {"inside": tile.inside} if tile.inside.size else {}
        self.scratch.put(self._name(block), {"image": tile.image, **masked})

    def has(self, block: Block) -> bool:
        """Whether a block is kept."""
        return self.scratch.has(self._name(block))

    def is_cut(self, block: Block) -> bool:
        """Whether a block's fragments are kept."""
        return self.scratch.has(f"table-{block.index}")

    def get(self, block: Block) -> Tile:
        """Return a block."""
        stored = self.scratch.get(self._name(block))
        return Tile(stored["image"], stored.get("inside", NO_MASK))

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
        inner = np.ascontiguousarray(inside[block.inner_in_outer])
        n_inside = block.inner.size if self.mask is None else int(inner.sum())
        if n_inside and not self.tiles.has(block) and not self.tiles.is_cut(block):
            self.tiles.put(block, Tile(scale_block(self.volume, block, self.scaling, inside), inner))
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
        kernel.add_up_cells(tile.image, tile.inside, np.array(block.inner.start), z, y, x, sums)
        return touched, sums


@dataclass(frozen=True)
class Assigner:
    """Gives each voxel of a block to the nearest cluster.

    Attributes
    ----------
    tiles
        The blocks' images.
    shape
        Voxels of the volume.
    grid
        What the seeds' distance is.
    compactness
        Weight of a distance of one step against one standard deviation of intensity.
    relative_spacing
        Of a voxel (z, y, x), for the areas of contact.
    """

    tiles: Tiles
    shape: Shape3
    grid: SeedGrid
    compactness: float
    relative_spacing: Spacing

    def add_up(self, item: BlockClusters) -> NDArray[np.int64]:
        """Return the sums (k, 4 + c) of the voxels that are nearest to each of the block's clusters."""
        return self._assign(self.tiles.get(item.block), item, NO_LABELS)

    def cut(self, item: BlockClusters) -> BlockFragments:
        """Cut the block into fragments of one cluster; put their numbers into the scratch space, return their table.

        A block that was cut before is not cut again. Its image is not needed any more and forgotten.
        """
        scratch, block = self.tiles.scratch, item.block
        if not self.tiles.is_cut(block):
            tile = self.tiles.get(block)
            labels = np.empty(block.inner.shape, np.int32)
            self._assign(tile, item, labels)
            values = np.append(item.ids, [kernel.UNREACHED])  # local label -1 picks the last
            fragments = cut_block(
                labels, tile.image, block, self.shape, scratch, relative_spacing=self.relative_spacing,
                outside=kernel.OUTSIDE, values=values,
            )  # fmt: skip
            if scratch.outlives_process:
                scratch.put(f"table-{block.index}", fragments.to_arrays())
            self.tiles.drop(block)
            return fragments
        return BlockFragments.from_arrays(block, scratch.get(f"table-{block.index}"))

    def _assign(self, tile: Tile, item: BlockClusters, labels: NDArray[np.int32]) -> NDArray[np.int64]:
        sums = np.zeros((len(item.ids) + 2, 4 + len(tile.image)), np.int64)
        weights = (self.compactness * LEVELS * self.grid.steps_per_voxel) ** 2
        start = np.array(item.block.inner.start)
        centers, colours = item.clusters.centers, item.clusters.colours
        kernel.assign(tile.image, tile.inside, start, centers, colours, self.grid.reach, weights, labels, sums)
        return sums[2:]
