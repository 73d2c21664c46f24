"""SLIC (Achanta et al. 2012) as a synchronous map-reduce over blocks.

Clusters are global. In an iteration every block assigns its own voxels and returns integer sums; adding them up gives
the new clusters. There are no seams and no halos, and the result has the same bits for any shape of block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import (
    Block,
    Box,
    Executor,
    Progress,
    Shape3,
    in_this_process,
    memory_budget,
    partition,
    within_memory,
)
from voxloop.errors import InputError
from voxloop.io.mapped import unmapped
from voxloop.io.scratch import Memory, Scratch, scratch_folder
from voxloop.kernels.crumbs import LARGEST, RIM
from voxloop.kernels.slic import add_at
from voxloop.specs import SlicSpec, default_size, digest_of
from voxloop.supervoxels.arrays import BYTES_PER_VOXEL, Work, check_out, check_shape
from voxloop.supervoxels.assignment import Assigner, Clusters, ClustersByBlock, Cutter, ScaleBlock, SumCells, Tiles
from voxloop.supervoxels.connectivity import (
    BlockFragments,
    FragmentNumbers,
    Pieces,
    absorb_small,
    gather,
    number_blocks,
)
from voxloop.supervoxels.grid import SeedGrid, seed_grid, seeds
from voxloop.supervoxels.intensity import Scaling, measure_intensities
from voxloop.supervoxels.model import SlicReport, Supervoxels
from voxloop.supervoxels.watershed import BYTES_PER_VOXEL as FLOODED_BYTES_PER_VOXEL
from voxloop.supervoxels.watershed import CutBasins, check_library, flood
from voxloop.volume import ArrayLike, Spacing, Volume

logger = logging.getLogger(__name__)

BLOCK_SHAPE: Shape3 = (64, 128, 128)
STANDSTILL = 0.1  # of the seeds' distance: centres that move less have converged
BYTES_PER_SUPERVOXEL = 750  # of the tables, where all are in memory: measured where small pieces join others
LEAST_BYTES_PER_SUPERVOXEL = 220  # that stay in memory in any case: clusters and their sums, then the graph
_STATE_VERSION = 2


def slic(
    volume: Volume,
    spec: SlicSpec = SlicSpec(),  # noqa: B008 - frozen
    *,
    mask: ArrayLike | None = None,
    block_shape: Shape3 = BLOCK_SHAPE,
    executor: Executor | None = None,
    progress: Progress | None = None,
    out: Any | None = None,
    memory: int | str | None = None,
    scratch: Path | None = None,
) -> Supervoxels:
    """Cut a volume into supervoxels: connected pieces of like intensity and about equal size.

    Simple linear iterative clustering (Achanta et al. 2012): clusters start from a regular grid with step S in physical
    space; each voxel goes to the cluster of the least |I - I_c|^2 + (compactness / S)^2 |x - x_c|^2 among those within
    S along each axis, each cluster moves to the mean of its voxels (those in a quarter of the rows), `max_num_iter`
    times or until no centre moves by more than S / 10. Pieces of one or two voxels go to the cluster that they touch
    most; others that are not connected are separated, and small ones join the neighbour of the largest contact.
    With the method ``"watershed"`` the gradient magnitude is flooded instead, from the lowest voxel of each cell of the
    grid; that takes the whole volume in memory.

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
        a new array. Its chunks must not straddle blocks. It is written to at the very end.
    memory
        What this process may take, in bytes or such as ``"2GB"``; half of what is free by default. What does not fit
        is kept in files. About 220 bytes a supervoxel stay in memory, with a warning in the log if that is more.
    scratch
        Folder for such files. If the call raises or the process is killed, they stay, and a call with the same
        arguments goes on from there. By default a temporary folder, which is removed in any case. Processes of the
        executor on other machines have to reach it.

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
    volume, mask = replace(volume, data=unmapped(volume.data)), unmapped(mask)
    spacing = volume.relative_spacing
    scaling = Scaling.of(measure_intensities(volume, mask=mask), spec, spacing)
    blocks = partition(volume.shape, block_shape, tuple(n + RIM for n in scaling.halo))
    budget = memory_budget(memory)
    block_bytes = BYTES_PER_VOXEL * max(block.outer.size for block in blocks)
    work = Work(within_memory(executor, memory=budget, item_bytes=block_bytes), progress)

    n_images = volume.n_channels * len(scaling.copies)
    if spec.method == "watershed":
        _check_flood(volume.n_voxels * (2 * n_images + FLOODED_BYTES_PER_VOXEL), budget)
    with _scratch_space(
        volume, spec, mask, work, n_images=n_images, budget=budget, folder=scratch, block_shape=block_shape
    ) as kept:
        tiles = Tiles(kept, volume.shape)
        scale = ScaleBlock(volume, mask, scaling, tiles)
        n_inside_of = list(work.map("scaling", scale, blocks))
        inside = [block for block, n in zip(blocks, n_inside_of, strict=True) if n]
        n_inside = sum(n_inside_of)
        asked_for = number_asked_for(spec, n_inside)
        grid = seed_grid(volume.shape, asked_for * volume.n_voxels / n_inside, spacing)
        run = SlicRun(tiles, inside, block_shape, spacing, grid, (0, 0, 0), spec, work)
        found = run.finish(n_inside)
        number_blocks(blocks, found.numbers, scratch=kept, out=labels, work=work)
        report = SlicReport(asked_for, len(found.pieces.sums), found.iterations, found.converged)
        supervoxels = found.pieces.supervoxels(labels, report)
        del found  # may be mapped from the folder, which is about to be removed
    return supervoxels


def _check_flood(n_bytes: int, budget: int) -> None:
    """Raise `InputError` unless a watershed can be computed within `budget` bytes."""
    check_library()
    if n_bytes > budget:
        raise InputError(
            f"a watershed of this volume needs {n_bytes / 1e9:.1f} GB of memory and may take {budget / 1e9:.1f} GB; "
            "give more, or use the method slic"
        )


@contextmanager
def _scratch_space(
    volume: Volume,
    spec: SlicSpec,
    mask: ArrayLike | None,
    work: Work,
    *,
    n_images: int,
    budget: int,
    folder: Path | None,
    block_shape: Shape3,
) -> Iterator[Scratch]:
    """Yield memory if all that is kept of the blocks fits into it, else a folder."""
    per_voxel = 2 * n_images + (mask is not None) + 2  # images, mask and fragments
    n_supervoxels = spec.n_segments or volume.n_voxels / (spec.size or default_size(volume.n_voxels))
    if work.executor.in_process and per_voxel * volume.n_voxels + BYTES_PER_SUPERVOXEL * n_supervoxels <= budget:
        yield Memory()
        return
    if LEAST_BYTES_PER_SUPERVOXEL * n_supervoxels > budget:
        logger.warning(
            "%s supervoxels take about %.2g GB of memory, not %.2g GB: give more, or ask for larger ones",
            f"{round(n_supervoxels):,}", LEAST_BYTES_PER_SUPERVOXEL * n_supervoxels / 1e9, budget / 1e9,
        )  # fmt: skip
    key = ""
    if folder is not None:
        mask_digest = "" if mask is None else Volume(mask).fingerprint()
        spacing = [round(s, 9) for s in volume.relative_spacing]
        key = digest_of("slic", _STATE_VERSION, spec.digest, volume.fingerprint(), mask_digest, spacing, block_shape)
    with scratch_folder(folder, key) as space:
        work.executor.check_folder(space.path)
        yield space


def number_asked_for(spec: SlicSpec, n_inside: int) -> int:
    """Return how many supervoxels `n_inside` voxels are to be cut into, or raise `InputError`."""
    if n_inside == 0:
        raise InputError("mask has no voxel inside: it is 0 everywhere")
    if spec.n_segments is None:
        return max(1, round(n_inside / (spec.size or default_size(n_inside))))
    if spec.n_segments > n_inside:
        raise InputError(f"n_segments is {spec.n_segments} but there are only {n_inside} voxels to segment")
    return spec.n_segments


@dataclass(frozen=True)
class SlicState:
    """How far the iterations are.

    Attributes
    ----------
    clusters
        The clusters that the next step starts from.
    iterations
        How many times all voxels are assigned until then; the cutting counts as the last.
    converged
        Whether no centre moved by more than a tenth of a step at last.
    """

    clusters: Clusters
    iterations: int
    converged: bool


@dataclass(frozen=True)
class Outcome:
    """The supervoxels as a table, the piece of each fragment of the blocks, and what the report says."""

    pieces: Pieces
    numbers: FragmentNumbers
    iterations: int
    converged: bool


@dataclass(frozen=True)
class SlicRun:
    """The steps of SLIC over all blocks that have voxels inside the mask.

    Attributes
    ----------
    tiles
        Their images.
    blocks
        The blocks, of the regular partition of the volume into blocks of `block_shape`.
    block_shape
        Voxels of a block.
    relative_spacing
        Of a voxel (z, y, x).
    grid
        The seeds.
    origin
        Where in the grid's volume the first voxel lies.
    spec
        Compactness and number of iterations.
    work
        What runs the blocks.
    """

    tiles: Tiles
    blocks: Sequence[Block]
    block_shape: Shape3
    relative_spacing: Spacing
    grid: SeedGrid
    origin: Shape3
    spec: SlicSpec
    work: Work

    def finish(self, n_inside: int) -> Outcome:
        """Return the supervoxels of `n_inside` voxels."""
        if self.spec.method == "watershed":
            basins = flood(self.tiles, self.blocks, self.tiles.shape, self.grid, self.origin, self.relative_spacing)
            here = Work(in_this_process(self.work.executor), self.work.progress)
            parts = here.map("cutting", CutBasins(self.tiles, basins.labels, self.relative_spacing), self.blocks)
            return Outcome(*self._joined(parts, n_inside / basins.n), 0, True)
        state = self.settle()
        iterations, converged, mean_size = state.iterations, state.converged, n_inside / len(state.clusters.centers)
        dissolves = self.spec.min_size_factor * mean_size > LARGEST
        cutter = Cutter(self._assigner, dissolves, self.relative_spacing)
        parts = self.work.map("cutting", cutter, self._near(state.clusters, rim=RIM))
        del state  # the clusters go when the last block is cut
        return Outcome(*self._joined(parts, mean_size), iterations, converged)

    def settle(self) -> SlicState:
        """Return the state before the cutting. Each iteration is noted in a scratch space that outlives the process."""
        state = self._noted() or SlicState(self._seeded(), 1, False)
        while state.iterations < self.spec.max_num_iter and not state.converged:
            clusters = state.clusters
            moved = clusters.moved(self._sums(clusters, stage=f"iteration {state.iterations}"))
            converged = moved.farthest_from(clusters, self.grid.steps_per_voxel) <= STANDSTILL
            state = SlicState(moved, state.iterations + 1, converged)
            self._note(state)
        return state

    def _joined(self, parts: Iterable[BlockFragments], mean_size: float) -> tuple[Pieces, FragmentNumbers]:
        """Return connected pieces; those that are small against the mean size have joined a neighbour."""
        pieces, numbers = gather(
            parts, self.tiles.scratch, relative_spacing=self.relative_spacing, join_by="contact", work=self.work
        )
        pieces, group = absorb_small(
            pieces, min_size=self.spec.min_size_factor * mean_size, progress=self.work.progress
        )
        return pieces, numbers.joined(group)

    @property
    def _assigner(self) -> Assigner:
        return Assigner(self.tiles, self.grid, self.spec.compactness, self.origin)

    def _near(self, clusters: Clusters, *, rim: int = 0) -> ClustersByBlock:
        """Return the clusters that come as near to each block as `rim` voxels."""
        reach = self.grid.reach + rim
        return ClustersByBlock(clusters, self.blocks, shape=self.tiles.shape, block_shape=self.block_shape, reach=reach)

    def _seeded(self) -> Clusters:
        """Return one cluster for each cell of the grid that lies inside the mask."""
        cells = self.grid.cell_box(Box.of_shape(self.tiles.shape).moved(self.origin))
        total: NDArray[np.int64] | int = 0
        for touched, sums in self.work.map("seeding", SumCells(self.tiles, self.grid, self.origin), self.blocks):
            if isinstance(total, int):
                total = np.zeros((*cells.shape, sums.shape[-1]), np.int64)
            total[touched.slices_in(cells)] += sums
        kept = seeds(np.asarray(total))
        del total
        return Clusters.from_sums(kept)

    def _sums(self, clusters: Clusters, *, stage: str) -> NDArray[np.int64]:
        """Return the sums (n, 4 + c) of the voxels that are nearest to each cluster."""
        near = self._near(clusters)
        total = np.zeros((len(clusters.centers), 4 + clusters.colours.shape[1]), np.int64)
        for index, sums in enumerate(self.work.map(stage, self._assigner.add_up, near)):
            add_at(near.ids(index), sums, total)
        return total

    def _note(self, state: SlicState) -> None:
        scratch = self.tiles.scratch
        if scratch.outlives_process:
            progress = np.array([state.iterations, state.converged])
            scratch.put(
                "state", {"centers": state.clusters.centers, "colours": state.clusters.colours, "progress": progress}
            )

    def _noted(self) -> SlicState | None:
        if not self.tiles.scratch.has("state"):
            return None
        stored = self.tiles.scratch.get("state")
        iterations, converged = stored["progress"].tolist()
        return SlicState(Clusters(stored["centers"], stored["colours"]), iterations, bool(converged))
