"""SLIC on one block: which cluster each voxel belongs to, and the integer sums that the clusters' means come from.

The distance of a voxel and a cluster depends on the two alone, computed from global coordinates in a fixed order of
operations, so that it has the same bits in whichever block it is computed. No fastmath here: it would break that.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.simd import LANES, claim

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

OUTSIDE = -2  # label of a voxel outside the mask
UNREACHED = -1  # label of a voxel inside that no cluster reaches


@njit(cache=True, nogil=True)
def assign(
    image: Int16,
    inside: Bool,
    start: Int64,
    centers: Float64,
    colours: Float32,
    reach: Float64,
    weights: Float64,
    labels: Int32,
    sums: Int64,
) -> None:
    """Give each voxel of a block to its nearest cluster and add up what each cluster got.

    A slice at a time, so that the distances stay in cache. Ties go to the cluster that comes first.

    Parameters
    ----------
    image
        int16 (c, z, y, x), the block.
    inside
        bool (z, y, x), or of size 0 if there is no mask.
    start
        int64 (3,), global coordinates of the block's first voxel.
    centers
        float64 (k, 3), global coordinates (z, y, x) of the clusters in reach, lower ids first.
    colours
        float32 (k, c), their mean intensities.
    reach
        float64 (3,), how far a cluster reaches along each axis in voxels.
    weights
        float64 (3,), weight of a squared distance of one voxel along each axis.
    labels
        int32 (z, y, x), is filled with positions in `centers`, `UNREACHED` or `OUTSIDE`; of size 0 if not wanted.
    sums
        int64 (k + 2, 4 + c), zeros; row k + 2 gets number, z, y, x and intensities of cluster k (the first two rows
        are those of `OUTSIDE` and `UNREACHED`, for the caller to drop).
    """
    n_channels, nz, ny, nx = image.shape
    width = LANES * (int(2 * reach[2] + LANES) // LANES)  # of a cluster's window along x
    values = np.zeros((n_channels, ny, nx + 2 * width), np.float32)
    nearest = np.empty(values.shape[1:], np.float32)
    owner = np.empty(values.shape[1:], np.int32)
    first_x, spatial_x = _windows_along_x(centers, start, reach, weights, width)
    for z in range(nz):
        _load_slice(image, inside, z, width, values, nearest, owner)
        for k in range(centers.shape[0]):
            dz = (z + start[0]) - centers[k, 0]
            if abs(dz) > reach[0]:
                continue
            y0 = max(int(np.ceil(centers[k, 1] - reach[1])) - start[1], 0)
            y1 = min(int(np.floor(centers[k, 1] + reach[1])) - start[1] + 1, ny)
            for y in range(y0, y1):
                dy = (y + start[1]) - centers[k, 1]
                elsewhere = np.float32(weights[0] * dz * dz + weights[1] * dy * dy)
                for lane in range(0, width, LANES):
                    claim(values, colours, k, spatial_x, lane, elsewhere, nearest, owner, y, first_x[k] + lane)
        _add_up(image, z, start, width, owner, sums)
        if labels.size > 0:
            labels[z] = owner[:, width : width + nx]


@njit(cache=True, nogil=True)
def _windows_along_x(
    centers: Float64, start: Int64, reach: Float64, weights: Float64, width: int
) -> tuple[Int64, Float32]:
    """Return where each cluster's window starts in a padded row, and its distances along x (inf out of reach)."""
    n = centers.shape[0]
    first = np.empty(n, np.int64)
    spatial = np.empty((n, width), np.float32)
    for k in range(n):
        x0 = int(np.ceil(centers[k, 2] - reach[2]))
        first[k] = x0 - start[2] + width
        for j in range(width):
            dx = (x0 + j) - centers[k, 2]
            spatial[k, j] = weights[2] * dx * dx if dx <= reach[2] else np.inf
    return first, spatial


@njit(cache=True, nogil=True)
def _load_slice(image: Int16, inside: Bool, z: int, pad: int, values: Float32, nearest: Float32, owner: Int32) -> None:
    """Copy one slice into rows with `pad` voxels more on each side; voxels outside the mask can't be won."""
    n_channels, _, ny, nx = image.shape
    for c in range(n_channels):
        for y in range(ny):
            for x in range(nx):
                values[c, y, x + pad] = image[c, z, y, x]
    nearest[:] = np.inf
    owner[:] = UNREACHED
    if inside.size > 0:
        for y in range(ny):
            for x in range(nx):
                if not inside[z, y, x]:
                    nearest[y, x + pad] = -1.0
                    owner[y, x + pad] = OUTSIDE


@njit(cache=True, nogil=True)
def _add_up(image: Int16, z: int, start: Int64, pad: int, owner: Int32, sums: Int64) -> None:
    """Add the voxels of one slice to the sums of their clusters."""
    n_channels, _, ny, nx = image.shape
    counted = sums[:, 0].copy()
    y_start, x_start = start[1], start[2] - pad
    for y in range(ny):
        for x in range(pad, pad + nx):
            k = np.uint64(owner[y, x] + 2)  # unsigned: saves the test for a negative index
            sums[k, 0] += 1
            sums[k, 2] += y + y_start
            sums[k, 3] += x + x_start
    for c in range(n_channels):
        for y in range(ny):
            for x in range(nx):
                sums[np.uint64(owner[y, x + pad] + 2), 4 + c] += image[c, z, y, x]
    for i in range(sums.shape[0]):
        sums[i, 1] += (sums[i, 0] - counted[i]) * (z + start[0])


@njit(cache=True, nogil=True)
def add_up_cells(
    image: Int16, inside: Bool, start: Int64, cells_z: Int64, cells_y: Int64, cells_x: Int64, sums: Int64
) -> None:
    """Add the voxels of a block to the sums of the seed grid's cells.

    Parameters
    ----------
    image, inside, start
        As in `assign`.
    cells_z, cells_y, cells_x
        int64, the cell of each voxel along each axis, counted from the block's first cell.
    sums
        int64 (cells along z, y, x, 4 + c), zeros; gets number, z, y, x and intensities.
    """
    n_channels, nz, ny, nx = image.shape
    z_start, y_start, x_start = start
    for z in range(nz):
        for y in range(ny):
            row = sums[cells_z[z], cells_y[y]]
            for x in range(nx):
                if inside.size > 0 and not inside[z, y, x]:
                    continue
                k = cells_x[x]
                row[k, 0] += 1
                row[k, 1] += z + z_start
                row[k, 2] += y + y_start
                row[k, 3] += x + x_start
                for c in range(n_channels):
                    row[k, 4 + c] += image[c, z, y, x]


@njit(cache=True, nogil=True)
def clusters_in_reach(centers: Float64, reach: Float64, block_shape: Int64, grid: Int64) -> tuple[Int64, Int64]:
    """Return which clusters reach which block, lower ids first.

    Parameters
    ----------
    centers
        float64 (n, 3), global coordinates (z, y, x).
    reach
        float64 (3,), voxels along each axis.
    block_shape, grid
        int64 (3,), size of a block and number of blocks along each axis.

    Returns
    -------
    offsets : int64 (blocks + 1,)
        Where in `ids` the clusters of each block start.
    ids : int64 (m,)
        Clusters, from 0.
    """
    offsets = np.zeros(grid[0] * grid[1] * grid[2] + 1, np.int64)
    ids = np.empty(0, np.int64)
    for fill in (False, True):
        for k in range(centers.shape[0]):
            low, high = np.empty(3, np.int64), np.empty(3, np.int64)
            for a in range(3):
                low[a] = max(0, int(np.ceil(centers[k, a] - reach[a]))) // block_shape[a]
                high[a] = min(grid[a] - 1, int(np.floor(centers[k, a] + reach[a])) // block_shape[a])
            for i in range(low[0], high[0] + 1):
                for j in range(low[1], high[1] + 1):
                    for m in range(low[2], high[2] + 1):
                        block = (i * grid[1] + j) * grid[2] + m
                        if fill:
                            ids[offsets[block]] = k
                        offsets[block if fill else block + 1] += 1
        if not fill:
            offsets = np.cumsum(offsets)
            ids = np.empty(offsets[-1], np.int64)
    # Filling moved each block's offset to the next one's.
    offsets[1:] = offsets[:-1].copy()
    offsets[0] = 0
    return offsets, ids
