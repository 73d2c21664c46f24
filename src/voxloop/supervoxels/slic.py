"""SLIC (Achanta et al. 2012) as a synchronous map-reduce over blocks.

Clusters are global. In an iteration every block assigns its own voxels and returns integer sums; adding them up gives
the new clusters. There are no seams and no halos, and the result has the same bits for any shape of block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, Executor, Progress, Shape3, partition
from voxloop.errors import InputError
from voxloop.kernels import slic as kernel
from voxloop.specs import DEFAULT_SIZE, SlicSpec
from voxloop.supervoxels.arrays import Work, check_out, check_shape, inside_box
from voxloop.supervoxels.connectivity import BlockFragments, Pieces, absorb_small, cut_block, gather, number_blocks
from voxloop.supervoxels.grid import SeedGrid, means, seed_grid, seeds
from voxloop.supervoxels.intensity import LEVELS, Scaling, measure_intensities, scale_block
from voxloop.supervoxels.model import SlicReport, Supervoxels
from voxloop.volume import ArrayLike, Spacing, Volume

BLOCK_SHAPE: Shape3 = (64, 128, 128)
STANDSTILL = 0.1  # of the seeds' distance: centres that move less have converged
NO_LABELS = np.empty((0, 0, 0), np.int32)


@dataclass(frozen=True)
class Tile:
    """What an iteration needs of a block: its image in fixed point (c, z, y, x), and its mask or an empty array."""

    block: Block
    image: NDArray[np.int16]
    inside: NDArray[np.bool_]

    @property
    def start(self) -> NDArray[np.int64]:
        """Coordinates of the first voxel."""
        return np.array(self.block.inner.start)


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


def slic(
    volume: Volume,
    spec: SlicSpec = SlicSpec(),  # noqa: B008 - frozen
    *,
    mask: ArrayLike | None = None,
    block_shape: Shape3 = BLOCK_SHAPE,
    executor: Executor | None = None,
    progress: Progress | None = None,
    out: Any | None = None,
) -> Supervoxels:
    """Cut a volume into supervoxels: connected pieces of like intensity and about equal size.

    Simple linear iterative clustering (Achanta et al. 2012): clusters start from a regular grid with step S in physical
    space; each voxel goes to the cluster of the least |I - I_c|^2 + (compactness / S)^2 |x - x_c|^2 among those within
    S along each axis, each cluster moves to the mean of its voxels, `max_num_iter` times or until no centre moves by
    more than S / 10. Pieces that are not connected are separated, small ones join the neighbour of the largest contact.

    Intensities have unit variance between the 1st and the 99th percentile of a channel, times its weight. I holds each
    channel twice: smoothed by `sigma` and, with 1.5 times the weight, by `coarse_sigma`. Positions are in relative
    spacing. So neither the unit of the spacing nor offset or scale of the intensities matter.

    Parameters
    ----------
    volume
        The image, of any number of channels; a 2D image has one slice.
    spec
        Number or size, compactness, iterations, both smoothings.
    mask
        Array-like (z, y, x): voxels where it is 0 stay outside, with label 0.
    block_shape
        Voxels (z, y, x) that are worked on at a time; the result does not depend on it.
    executor, progress
        What runs the blocks (default: a thread a processor), and who is told.
    out
        Array-like uint32 (z, y, x) that the labels are written to, a block at a time, such as a Zarr array; by default
        a new array. Its chunks must not straddle blocks. Its content is undefined if the call raises.

    Returns
    -------
    Supervoxels
        Labels, sizes, centres, graph and a report.

    Raises
    ------
    InputError
        If the mask or `out` do not fit the volume, nothing is inside the mask, more segments than voxels are asked
        for, a voxel is not finite, or there is not one weight a channel.
    Cancelled
        If `progress` raises it.
    """
    if mask is not None:
        check_shape("mask", mask, volume.shape, "volume")
    labels = check_out(out, volume.shape, block_shape, "volume")
    work = Work(executor, progress)
    spacing = volume.relative_spacing
    scaling = Scaling.of(measure_intensities(volume, mask=mask), spec, spacing)
    tiles = scaled_tiles(volume, mask, scaling, labels, partition(volume.shape, block_shape, scaling.halo), work)
    n_inside = sum(int(t.inside.sum()) or t.block.inner.size for t in tiles)
    asked_for = number_asked_for(spec, n_inside)
    grid = seed_grid(volume.shape, asked_for * volume.n_voxels / n_inside, spacing)
    assigner = Assigner(tiles, volume.shape, block_shape, grid, spec.compactness, work)
    start = seed_clusters(tiles, grid, volume.box, work)
    clusters, iterations, converged = assigner.settle(start, spec.max_num_iter)
    min_size = spec.min_size_factor * n_inside / len(start.centers)
    pieces = assigner.cut(clusters, labels, min_size=min_size, relative_spacing=spacing)
    report = SlicReport(asked_for, len(pieces.sums), iterations, converged)
    return pieces.supervoxels(labels, spacing, report)


def number_asked_for(spec: SlicSpec, n_inside: int) -> int:
    """Return how many supervoxels `n_inside` voxels are to be cut into, or raise `InputError`."""
    if n_inside == 0:
        raise InputError("mask has no voxel inside: it is 0 everywhere")
    if spec.n_segments is None:
        return max(1, round(n_inside / (spec.size or DEFAULT_SIZE)))
    if spec.n_segments > n_inside:
        raise InputError(f"n_segments is {spec.n_segments} but there are only {n_inside} voxels to segment")
    return spec.n_segments


def scaled_tiles(
    volume: Volume, mask: ArrayLike | None, scaling: Scaling, labels: Any, blocks: Sequence[Block], work: Work
) -> list[Tile]:
    """Return the scaled image of each block that has voxels inside the mask; label the others 0."""

    def scale(block: Block) -> Tile | None:
        inside = inside_box(mask, block.outer)
        inner = np.ascontiguousarray(inside[block.inner_in_outer])
        if mask is not None and not inner.any():
            labels[block.inner.slices] = 0
            return None
        return Tile(block, scale_block(volume, block, scaling, inside), inner)

    return [tile for tile in work.map("scaling", scale, blocks) if tile is not None]


def seed_clusters(tiles: Sequence[Tile], grid: SeedGrid, region: Box, work: Work) -> Clusters:
    """Return one cluster for each cell of the grid that lies inside the mask.

    The tiles' coordinates count from the start of `region`, the grid's from the start of the volume.
    """
    cells_of_region = grid.cell_box(region)

    def add_up(tile: Tile) -> tuple[Box, NDArray[np.int64]]:
        own = _moved(tile.block.inner, region.start)
        cells, box = grid.cells_of(own), grid.cell_box(own)
        sums = np.zeros((*box.shape, 4 + len(tile.image)), np.int64)
        z, y, x = (c - c[0] for c in cells)
        kernel.add_up_cells(tile.image, tile.inside, tile.start, z, y, x, sums)
        return box, sums

    total = np.zeros((*cells_of_region.shape, 4 + len(tiles[0].image)), np.int64)
    for box, sums in work.map("seeding", add_up, tiles):
        total[box.slices_in(cells_of_region)] += sums
    return Clusters.from_sums(seeds(total))


def _moved(box: Box, by: Shape3) -> Box:
    """Return a box moved along (z, y, x)."""
    start, stop = (tuple(i + b for i, b in zip(corner, by, strict=True)) for corner in (box.start, box.stop))
    return Box(start, stop)  # type: ignore[arg-type]  # three of each


@dataclass(frozen=True)
class Assigner:
    """Assigns the voxels of all tiles to clusters.

    Attributes
    ----------
    tiles
        The blocks that have voxels inside the mask.
    shape, block_shape
        Voxels of the volume and of a block.
    grid
        What the seeds' distance is.
    compactness
        Weight of a distance of one step against one standard deviation of intensity.
    work
        What runs the tiles.
    """

    tiles: Sequence[Tile]
    shape: Shape3
    block_shape: Shape3
    grid: SeedGrid
    compactness: float
    work: Work

    def settle(self, clusters: Clusters, max_num_iter: int) -> tuple[Clusters, int, bool]:
        """Return the clusters that `cut` finishes, how many iterations that makes, and whether they stand still."""
        iterations, converged = 1, False  # the last one assigns and cuts at once
        while iterations < max_num_iter and not converged:
            moved = clusters.moved(self.add_up(clusters, stage=f"iteration {iterations}"))
            steps = np.abs(moved.centers - clusters.centers) * self.grid.steps_per_voxel
            converged = bool((np.linalg.norm(steps, axis=1) <= STANDSTILL).all())
            clusters, iterations = moved, iterations + 1
        return clusters, iterations, converged

    def add_up(self, clusters: Clusters, *, stage: str) -> NDArray[np.int64]:
        """Return the sums (n, 4 + c) of the voxels that are nearest to each cluster."""
        ids_of = self._clusters_in_reach(clusters)

        def add_up(tile: Tile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            ids = ids_of(tile)
            return ids, self._assign(tile, clusters, ids, NO_LABELS)

        total = np.zeros((len(clusters.centers), 4 + clusters.colours.shape[1]), np.int64)
        for ids, sums in self.work.map(stage, add_up, self.tiles):
            total[ids] += sums
        return total

    def cut(self, clusters: Clusters, labels: Any, *, min_size: float, relative_spacing: Spacing) -> Pieces:
        """Write the supervoxels that the clusters make to `labels`; return their table."""
        ids_of = self._clusters_in_reach(clusters)

        def cut(tile: Tile) -> BlockFragments:
            ids = ids_of(tile)
            local = np.empty(tile.block.inner.shape, np.int32)
            self._assign(tile, clusters, ids, local)
            values = np.append(ids, [kernel.UNREACHED])  # local label -1 picks the last
            box = tile.block.inner
            return cut_block(local, tile.image, box, self.shape, labels, outside=kernel.OUTSIDE, values=values)

        parts = list(self.work.map("cutting", cut, self.tiles))
        pieces, numbers = gather(parts, join_by="contact")
        pieces, group = absorb_small(pieces, min_size=min_size, relative_spacing=relative_spacing)
        number_blocks(labels, parts, [group[n] for n in numbers], work=self.work)
        return pieces

    def _clusters_in_reach(self, clusters: Clusters) -> Callable[[Tile], NDArray[np.int64]]:
        block_shape = np.array(self.block_shape)
        blocks = -(-np.array(self.shape) // block_shape)
        offsets, ids = kernel.clusters_in_reach(clusters.centers, self.grid.reach, block_shape, blocks)
        return lambda tile: ids[offsets[tile.block.index] : offsets[tile.block.index + 1]]

    def _assign(
        self, tile: Tile, clusters: Clusters, ids: NDArray[np.int64], labels: NDArray[np.int32]
    ) -> NDArray[np.int64]:
        sums = np.zeros((len(ids) + 2, 4 + len(tile.image)), np.int64)
        centers, colours = clusters.centers[ids], clusters.colours[ids]
        weights = (self.compactness * LEVELS * self.grid.steps_per_voxel) ** 2
        kernel.assign(tile.image, tile.inside, tile.start, centers, colours, self.grid.reach, weights, labels, sums)
        return sums[2:]
