"""The regular grid that seeds start from, in physical space."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil, floor, log, prod

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.volume import Spacing

SMALLEST_CELL = 0.25  # share of a mean cell that has to lie inside the mask for the cell to get a seed
FEWEST_ROWS = 4  # of a cell along x that are enough to move a cluster by


@dataclass(frozen=True)
class SeedGrid:
    """A volume cut into equal cells, one seed each.

    Attributes
    ----------
    shape
        Voxels along (z, y, x) of the volume.
    cells
        Number of cells along (z, y, x) of the volume.
    step
        Distance S of two seeds in relative spacing, the same along each axis that has more than one and less than one
        a voxel.
    reach
        Voxels along (z, y, x) that a cluster reaches from its centre.
    steps_per_voxel
        (3,) length of one voxel along (z, y, x) in units of `step`.
    """

    shape: Shape3
    cells: Shape3
    step: float
    reach: NDArray[np.float64]
    steps_per_voxel: NDArray[np.float64]

    def cell_of(self, axis: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the cell of each voxel from start to stop along an axis."""
        return np.arange(start, stop) * self.cells[axis] // self.shape[axis]

    def cells_of(self, box: Box) -> list[NDArray[np.int64]]:
        """Return the cells of the voxels of a box along (z, y, x)."""
        return [self.cell_of(a, box.start[a], box.stop[a]) for a in range(3)]

    def row_lattice(self, origin: Shape3) -> NDArray[np.int64]:
        """Return which rows along x tell well enough where the mean of a cell is: every fourth, second or each.

        Row y of slice z, counted from `origin`, if y % n is entry z % n of the n that are returned. Four slices in turn
        see all rows, so that the lattice leans to no side.
        """
        n_rows = self.shape[0] * self.shape[1] / (self.cells[0] * self.cells[1])
        turns = next((turns for turns in ([0, 2, 1, 3], [0, 1]) if n_rows >= FEWEST_ROWS * len(turns)), [0])
        n, (z, y, _) = len(turns), origin
        return np.array([(turns[(i + z) % n] - y) % n for i in range(n)])

    @property
    def cell_size(self) -> float:
        """Voxels of a cell, on average."""
        return prod(self.shape) / prod(self.cells)

    def cell_box(self, box: Box) -> Box:
        """Return the box of cells that the voxels of a box lie in."""
        start, stop = zip(*((int(c[0]), int(c[-1]) + 1) for c in self.cells_of(box)), strict=True)
        return Box(start, stop)

    def whole_cells(self, box: Box) -> Box:
        """Return the smallest box of whole cells that holds a box."""
        cells = self.cell_box(box)
        start, stop = (
            tuple(-(-c * n // k) for c, n, k in zip(corner, self.shape, self.cells, strict=True))
            for corner in (cells.start, cells.stop)
        )
        return Box(start, stop)  # type: ignore[arg-type]  # three of each


def seed_grid(shape: Shape3, n_cells: float, relative_spacing: Spacing) -> SeedGrid:
    """Return the grid of about `n_cells` cells that are as near to cubes in physical space as whole cells can be.

    The step S solves prod(clip(length / S, 1, voxels)) = n_cells. Of a volume of one extent in all axes it is
    (volume / n_cells)^(1/3); an axis shorter than S has one cell and the other axes share the rest, an axis whose
    voxels are longer than S has one cell a voxel.
    """
    lengths = [n * spacing for n, spacing in zip(shape, relative_spacing, strict=True)]

    def cells_at(step: float) -> float:
        return prod(min(max(length / step, 1.0), float(n)) for length, n in zip(lengths, shape, strict=True))

    low, high = min(relative_spacing), max(lengths)
    for _ in range(60):  # bisection on a logarithmic scale, down to the last bit
        middle = (low * high) ** 0.5
        low, high = (middle, high) if cells_at(middle) > n_cells else (low, middle)
    step = high
    choices = [
        {min(max(whole(length / step), 1), n) for whole in (floor, ceil)}
        for length, n in zip(lengths, shape, strict=True)
    ]
    z, y, x = min(itertools.product(*map(sorted, choices)), key=lambda c: abs(log(prod(c) / n_cells)))
    # A single cell has to be reached from wherever in it the cluster's centre wanders.
    reach = [max(step, length if n == 1 else 0.0) for length, n in zip(lengths, (z, y, x), strict=True)]
    spacing = np.array(relative_spacing)
    return SeedGrid(shape, (z, y, x), step, np.array(reach) / spacing, spacing / step)


def seeds(sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sums of the cells that get a seed, in the order of the grid.

    A seed starts from the mean position and intensity of its cell's voxels inside the mask. Cells of which little lies
    inside get none: their voxels are left to the neighbours.

    Parameters
    ----------
    sums
        int64 (cells along z, y, x, 4 + c), from `kernels.slic.add_up_cells`.

    Returns
    -------
    ndarray
        int64 (k, 4 + c).
    """
    flat = sums.reshape(-1, sums.shape[-1])
    count = flat[:, 0]
    kept: NDArray[np.int64] = flat[(count > 0) & (count >= SMALLEST_CELL * count.max())]
    return kept


def means(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the means (n, f) of rows of sums, the number of summands in the first column."""
    return sums[:, 1:] / sums[:, :1]
