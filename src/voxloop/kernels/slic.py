"""SLIC on one block: which cluster each voxel belongs to, and the integer sums that the clusters' means come from.

The distance of a voxel and a cluster depends on the two alone, computed from global coordinates in a fixed order of
operations, so that it has the same bits in whichever block it is computed. No fastmath here: it would break that.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part
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
) -> None:
    """Give each voxel of a block to its nearest cluster. Ties go to the cluster that comes first.

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
        int32 (z + 2, y + 2, x + 2), all of it `OUTSIDE`; all but the border is filled with positions in `centers`,
        `UNREACHED` or `OUTSIDE`.
    """
    _, nz, ny, nx = image.shape
    values, nearest, owner = _row_buffers(image.shape[0], ny, nx, reach)
    width = (owner.shape[1] - nx) // 2
    first_x, spatial_x = _windows_along_x(centers, start[2], reach, weights, width)
    spans = _spans_along_z(centers, start[0], reach, nz)
    rows = np.arange(ny)
    low_x = int(np.int64(0))  # not a literal, for which the kernel would be compiled once more
    for z in range(nz):
        _load_rows(image, inside, z, rows, low_x, width, values, nearest, owner)
        _claim_rows(
            z, start, rows, centers, colours, reach, weights, spans[z], first_x, spatial_x, values, nearest, owner
        )
        for y in range(ny):
            source, target = owner[y, width : width + nx], labels[z + 1, y + 1, 1 : nx + 1]
            for x in range(nx):  # a loop: numba takes seconds to compile the errors of an assigned slice
                target[x] = source[x]


@njit(cache=True, nogil=True)
def add_up_nearest(
    image: Int16,
    inside: Bool,
    start: Int64,
    low: Int64,
    high: Int64,
    centers: Float64,
    colours: Float32,
    reach: Float64,
    weights: Float64,
    lattice: Int64,
    sums: Int64,
) -> None:
    """Add up the voxels that are nearest to each cluster, in evenly spaced rows along x.

    Parameters
    ----------
    image, inside, start, centers, colours, reach, weights
        As of `assign`.
    low, high
        int64 (3,), the box within the block that is added up.
    lattice
        int64 (n,), a row y of a slice z, both global, takes part if y % n is entry z % n.
    sums
        int64 (k + 2, 4 + c), zeros; row k + 2 gets number, z, y, x and intensities of cluster k (the first two rows
        are those of `OUTSIDE` and `UNREACHED`, for the caller to drop).
    """
    nx, stride = high[2] - low[2], lattice.size
    values, nearest, owner = _row_buffers(image.shape[0], (high[1] - low[1]) // stride + 1, nx, reach)
    width = (owner.shape[1] - nx) // 2
    window = start + low
    first_x, spatial_x = _windows_along_x(centers, window[2], reach, weights, width)
    spans = _spans_along_z(centers, start[0], reach, image.shape[1])
    ends = np.empty(nx + 1, np.int64)
    running = np.zeros((image.shape[0], nx + 1), np.int64)
    for z in range(low[0], high[0]):
        first_row = low[1] + (lattice[(start[0] + z) % stride] - window[1]) % stride
        rows = np.arange(first_row, high[1], stride)
        _load_rows(image, inside, z, rows, low[2], width, values, nearest, owner)
        _claim_rows(
            z, start, rows, centers, colours, reach, weights, spans[z], first_x, spatial_x, values, nearest, owner
        )
        for j in range(rows.size):
            n = _cut_row(owner[j], width, nx, ends)
            for c in range(image.shape[0]):
                line, total = image[c, z, rows[j]], 0
                for x in range(nx):
                    total += line[low[2] + x]
                    running[c, x + 1] = total
            _add_runs(owner[j, width:], ends, n, running, start[0] + z, start[1] + rows[j], window[2], sums)


@part()
def _row_buffers(n_channels: int, n_rows: int, nx: int, reach: Float64) -> tuple[Float32, Float32, Int32]:
    """Return the rows of a slice, smallest distances and their clusters; with a margin of one window at each end."""
    width = LANES * (int(2 * reach[2] + LANES) // LANES)  # of a cluster's window along x
    values = np.zeros((n_channels, n_rows, nx + 2 * width), np.float32)
    return values, np.empty(values.shape[1:], np.float32), np.empty(values.shape[1:], np.int32)


@part()
def _windows_along_x(
    centers: Float64, start: int, reach: Float64, weights: Float64, width: int
) -> tuple[Int64, Float32]:
    """Return where each cluster's window starts in a padded row, and its distances along x (inf out of reach)."""
    n = centers.shape[0]
    first = np.empty(n, np.int64)
    spatial = np.empty((n, width), np.float32)
    for k in range(n):
        x0 = int(np.ceil(centers[k, 2] - reach[2]))
        first[k] = x0 - start + width
        for j in range(width):
            dx = (x0 + j) - centers[k, 2]
            spatial[k, j] = weights[2] * dx * dx if dx <= reach[2] else np.inf
    return first, spatial


@part()
def _spans_along_z(centers: Float64, start: int, reach: Float64, nz: int) -> Int64:
    """Return for each slice the first cluster that reaches it and the end of those that do: ids follow z roughly."""
    spans = np.zeros((nz, 2), np.int64)
    spans[:, 0] = centers.shape[0]
    for k in range(centers.shape[0]):
        z0 = max(int(np.ceil(centers[k, 0] - reach[0])) - start, 0)
        z1 = min(int(np.floor(centers[k, 0] + reach[0])) - start + 1, nz)
        for z in range(z0, z1):
            spans[z, 0] = min(spans[z, 0], k)
            spans[z, 1] = k + 1
    return spans


@part()
def _load_rows(
    image: Int16,
    inside: Bool,
    z: int,
    rows: Int64,
    low_x: int,
    pad: int,
    values: Float32,
    nearest: Float32,
    owner: Int32,
) -> None:
    """Copy rows of one slice to where they have `pad` voxels more on each side; those outside the mask can't be won."""
    nx = owner.shape[1] - 2 * pad
    for c in range(image.shape[0]):
        for j in range(rows.size):
            source, target = image[c, z, rows[j], low_x : low_x + nx], values[c, j, pad : pad + nx]
            for x in range(nx):
                target[x] = source[x]
    nearest[: rows.size] = np.inf
    owner[: rows.size] = UNREACHED
    if inside.size > 0:
        for j in range(rows.size):
            for x in range(nx):
                if not inside[z, rows[j], low_x + x]:
                    nearest[j, x + pad] = -1.0
                    owner[j, x + pad] = OUTSIDE


@part()
def _claim_rows(
    z: int,
    start: Int64,
    rows: Int64,
    centers: Float64,
    colours: Float32,
    reach: Float64,
    weights: Float64,
    span: Int64,
    first_x: Int64,
    spatial_x: Float32,
    values: Float32,
    nearest: Float32,
    owner: Int32,
) -> None:
    """Let each cluster of the span win the voxels of evenly spaced rows of slice `z` that it is the nearest to."""
    if rows.size == 0:
        return
    first = rows[0] + start[1]
    step = rows[1] - rows[0] if rows.size > 1 else 1
    for k in range(span[0], span[1]):
        dz = (z + start[0]) - centers[k, 0]
        if abs(dz) > reach[0]:
            continue
        low = int(np.ceil(centers[k, 1] - reach[1])) - first
        high = int(np.floor(centers[k, 1] + reach[1])) - first
        across_z = weights[0] * dz * dz
        for j in range(max((low + step - 1) // step, 0), min(high // step + 1, rows.size)):
            dy = (first + j * step) - centers[k, 1]
            elsewhere = np.float32(across_z + weights[1] * dy * dy)
            for lane in range(0, spatial_x.shape[1], LANES):
                claim(values, colours, k, spatial_x, lane, elsewhere, nearest, owner, j, first_x[k] + lane)


@part()
def _cut_row(owner: Int32, pad: int, nx: int, ends: Int64) -> int:
    """Cut a row into runs of one cluster: write where each begins and where the last ends, return their number."""
    n = 0
    for x in range(nx):
        ends[n] = x  # written always but kept only where a run starts: whether one does cannot be predicted
        n += x == 0 or owner[pad + x] != owner[pad + x - 1]
    ends[n] = nx
    return n


@part()
def _add_runs(owner: Int32, ends: Int64, n: int, running: Int64, z: int, y: int, x: int, sums: Int64) -> None:
    """Add the `n` runs of a row, whose first voxel lies at the global z, y, x, to the sums of their clusters."""
    for i in range(n):
        begin, end = ends[i], ends[i + 1]
        length = end - begin
        row = sums[np.uint64(owner[begin] + 2)]  # unsigned: saves the test for a negative index
        row[0] += length
        row[1] += length * z
        row[2] += length * y
        row[3] += length * (x + begin) + length * (length - 1) // 2
        for c in range(running.shape[0]):
            row[4 + c] += running[c, end] - running[c, begin]


@njit(cache=True, nogil=True)
def add_up_cells(
    image: Int16,
    inside: Bool,
    start: Int64,
    low: Int64,
    cells_z: Int64,
    cells_y: Int64,
    cells_x: Int64,
    sums: Int64,
) -> None:
    """Add the voxels of a box within a block to the sums of the seed grid's cells.

    Parameters
    ----------
    image, inside, start
        As of `assign`.
    low
        int64 (3,), the first voxel of the box within the block.
    cells_z, cells_y, cells_x
        int64, the cell of each voxel of the box along each axis, counted from the box's first cell.
    sums
        int64 (cells along z, y, x, 4 + c), zeros; gets number, z, y, x and intensities.
    """
    n_channels, nx = image.shape[0], cells_x.size
    z_start, y_start, x_start = start + low
    ends = np.empty(nx, np.int64)  # of the cells along a row
    n_ends = 0
    for x in range(1, nx + 1):
        if x == nx or cells_x[x] != cells_x[x - 1]:
            ends[n_ends] = x
            n_ends += 1
    running = np.zeros((2 + n_channels, nx + 1), np.int64)  # number, x and intensities of all voxels before each one
    for z in range(cells_z.size):
        for y in range(cells_y.size):
            at_z, at_y = z + low[0], y + low[1]
            number, total = 0, 0
            for x in range(nx):
                counts = inside.size == 0 or inside[at_z, at_y, x + low[2]]
                number += counts
                total += counts * (x + x_start)
                running[0, x + 1], running[1, x + 1] = number, total
            for c in range(n_channels):
                total = 0
                for x in range(nx):
                    counts = inside.size == 0 or inside[at_z, at_y, x + low[2]]
                    total += counts * image[c, at_z, at_y, x + low[2]]
                    running[2 + c, x + 1] = total
            begin = 0
            for i in range(n_ends):
                end = ends[i]
                cell = sums[cells_z[z], cells_y[y], cells_x[begin]]
                number = running[0, end] - running[0, begin]
                cell[0] += number
                cell[1] += number * (z + z_start)
                cell[2] += number * (y + y_start)
                for c in range(1 + n_channels):
                    cell[3 + c] += running[1 + c, end] - running[1 + c, begin]
                begin = end


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
            low_z, high_z = _blocks_in_reach(centers[k, 0], reach[0], block_shape[0], grid[0])
            low_y, high_y = _blocks_in_reach(centers[k, 1], reach[1], block_shape[1], grid[1])
            low_x, high_x = _blocks_in_reach(centers[k, 2], reach[2], block_shape[2], grid[2])
            for i in range(low_z, high_z + 1):
                for j in range(low_y, high_y + 1):
                    for m in range(low_x, high_x + 1):
                        block = (i * grid[1] + j) * grid[2] + m
                        if fill:
                            ids[offsets[block]] = k
                        offsets[block if fill else block + 1] += 1
        if not fill:
            for block in range(1, offsets.size):
                offsets[block] += offsets[block - 1]
            ids = np.empty(offsets[-1], np.int64)
    # Filling moved each block's offset to the next one's.
    for block in range(offsets.size - 1, 0, -1):
        offsets[block] = offsets[block - 1]
    offsets[0] = 0
    return offsets, ids


@part(error_model="numpy")
def _blocks_in_reach(center: float, reach: float, size: int, n: int) -> tuple[int, int]:
    """Return the first and the last of `n` blocks along an axis that a cluster reaches."""
    # Whole numbers divided as floats: as exact up to 2^53, and much faster.
    return int(max(0.0, np.ceil(center - reach)) / size), min(n - 1, int(np.floor(center + reach) / size))


@njit(cache=True, nogil=True)
def add_at(ids: Int64, rows: Int64, sums: Int64) -> None:
    """Add each of `rows` (k, f) to the row of `sums` (n, f) that `ids` names."""
    for i in range(ids.size):
        for j in range(rows.shape[1]):
            sums[ids[i], j] += rows[i, j]


@njit(cache=True, nogil=True, error_model="numpy")
def move_clusters(sums: Int64, centers: Float64, colours: Float32) -> None:
    """Set centres (n, 3) and intensities (n, c) to the means of the voxels that add up to `sums` (n, 4 + c).

    Clusters without voxels stay where they are.
    """
    for k in range(sums.shape[0]):
        number = sums[k, 0]
        if number == 0:
            continue
        for i in range(3):
            centers[k, i] = sums[k, 1 + i] / number
        for c in range(colours.shape[1]):
            colours[k, c] = sums[k, 4 + c] / number
