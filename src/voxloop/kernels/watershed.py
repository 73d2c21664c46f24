"""What a seeded watershed starts from: how steep an image is, and where it is least so."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int16 = NDArray[np.int16]
Int64 = NDArray[np.int64]


@njit(cache=True, nogil=True)
def add_squared_gradient(image: Int16, spacing: Float64, out: Float32) -> None:
    """Add the squared gradient of an image to `out`: central differences, one-sided at the border.

    Parameters
    ----------
    image
        int16 (z, y, x).
    spacing
        float64 (3,), size of a voxel (z, y, x).
    out
        float32 (z, y, x).
    """
    nz, ny, nx = image.shape
    for z in range(nz):
        z0, z1 = max(z - 1, 0), min(z + 1, nz - 1)
        along_z = 1 / (max(z1 - z0, 1) * spacing[0])
        for y in range(ny):
            y0, y1 = max(y - 1, 0), min(y + 1, ny - 1)
            along_y = 1 / (max(y1 - y0, 1) * spacing[1])
            for x in range(nx):
                x0, x1 = max(x - 1, 0), min(x + 1, nx - 1)
                dz = (image[z1, y, x] - image[z0, y, x]) * along_z
                dy = (image[z, y1, x] - image[z, y0, x]) * along_y
                dx = (image[z, y, x1] - image[z, y, x0]) / (max(x1 - x0, 1) * spacing[2])
                out[z, y, x] += dz * dz + dy * dy + dx * dx


@njit(cache=True, nogil=True)
def lowest_of_cells(
    height: Float32, inside: Bool, cells_z: Int64, cells_y: Int64, cells_x: Int64, n_cells: tuple[int, int, int]
) -> Int64:
    """Return the lowest voxel inside the mask of each cell of a grid, the first of equals.

    Parameters
    ----------
    height
        float32 (z, y, x).
    inside
        bool (z, y, x), or of size 0 if there is no mask.
    cells_z, cells_y, cells_x
        int64, the cell of each voxel along each axis, from 0.
    n_cells
        Number of cells (z, y, x).

    Returns
    -------
    int64
        Indices into the flattened volume, in the order of the cells; cells without a voxel inside are left out.
    """
    nz, ny, nx = height.shape
    lowest = np.full(n_cells, np.inf, np.float32)
    where = np.full(n_cells, -1, np.int64)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                cell = (cells_z[z], cells_y[y], cells_x[x])
                if height[z, y, x] < lowest[cell] and (inside.size == 0 or inside[z, y, x]):
                    lowest[cell] = height[z, y, x]
                    where[cell] = (z * ny + y) * nx + x
    found = where.reshape(-1)
    return found[found >= 0]
