"""Connected pieces of one block, with a table of what they hold and of what touches what.

Rows of voxels are first cut into runs of one label; runs that touch in the row or the slice before are joined by
union-find (He, Chao and Suzuki 2008, "A run-based two-scan labeling algorithm"). Everything after works on runs, of
which there is one for every few voxels. Runs are kept by their position in the flattened block, so that a run ends
where the next one starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part
from voxloop.kernels.tally import add, empty_table, entries, grown

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Uint32 = NDArray[np.uint32]
Labels = NDArray[np.signedinteger[Any]]
Parents = NDArray[np.signedinteger[Any]]
BlockShape = tuple[int, ...]  # (z, y, x)


def fragments(
    labels: Labels, image: Int16, start: Int64, shape: Int64, outside: int, areas: Int64
) -> tuple[Uint32, Int64, Int64, Int64, Int32, Int64]:
    """Cut a block into its 6-connected fragments of equal label.

    Parameters
    ----------
    labels
        int32 or int64 (z, y, x).
    image
        int16 (c, z, y, x); c may be 0.
    start
        int64 (3,), global coordinates of the block's first voxel.
    shape
        int64 (3,), shape of the whole volume.
    outside
        The label of voxels that belong to no fragment.
    areas
        int64 (3,), area of a voxel's face across z, y and x.

    Returns
    -------
    numbered : uint32 (z, y, x)
        Fragments numbered 1..f in the order of their first voxel, 0 outside.
    values : int64 (f,)
        The label of each fragment.
    first : int64 (f,)
        Index of the fragment's first voxel in the flattened volume.
    sums : int64 (f, 4 + c)
        Number of voxels, sums of global z, y, x and of the intensities.
    pairs : int32 (m, 2)
        Fragments a < b, counted from 0, that touch.
    area : int64 (m,)
        Area of the faces that they share.
    """
    # Not a kernel itself: it would be compiled, with all of its parts, for either type of labels.
    row_start, position, value = _cut_runs(labels)
    parent = _join_runs(labels, row_start)
    owner, n = _number(parent, value, outside)
    values, first, sums = _tabulate(position, value, owner, n, labels.shape, image.shape[0], start, shape)
    _add_intensities(image, row_start, position, owner, sums)
    pairs, area = _contacts(row_start, position, owner, n, labels.shape, areas)
    return _paint(position, owner, labels.shape), values, first, sums, pairs, area


@njit(cache=True, nogil=True)
def _cut_runs(labels: Labels) -> tuple[Int64, Int64, Int64]:
    """Return the runs: where each row's begin in the list (rows + 1), their positions (runs + 1) and labels."""
    nz, ny, nx = labels.shape
    rows = labels.reshape(nz * ny, nx)
    row_start = np.zeros(nz * ny + 1, np.int64)
    for r in range(nz * ny):
        n = 1
        for x in range(1, nx):
            n += rows[r, x] != rows[r, x - 1]
        row_start[r + 1] = row_start[r] + n
    position = np.empty(row_start[-1] + 1, np.int64)
    value = np.empty(row_start[-1] + 1, np.int64)
    i = 0
    for r in range(nz * ny):
        for x in range(nx):
            # Written always but kept only where a run starts: whether one does cannot be predicted.
            position[i] = r * nx + x
            value[i] = rows[r, x]
            i += x == 0 or rows[r, x] != rows[r, x - 1]
    position[i] = labels.size
    return row_start, position, value[:i]


@njit(cache=True, nogil=True)
def _join_runs(labels: Labels, row_start: Int64) -> Int64:
    """Return for each run itself, if it is the first of its fragment, or another run of the fragment before it."""
    nz, ny, nx = labels.shape
    rows = labels.reshape(nz * ny, nx)
    parent = np.arange(row_start[-1])
    runs, others = np.empty(nx + 1, np.int64), np.empty(nx + 1, np.int64)
    for r in range(nz * ny):
        for axis, step in ((1, 1), (0, ny)):  # the row before, the slice before
            if (axis == 1 and r % ny == 0) or r < step:
                continue
            n = _meeting(rows[r], rows[r - step], row_start[r], row_start[r - step], runs, others)
            for i in range(n):
                run, other = runs[i], parent[others[i]]
                if parent[run] == run:
                    parent[run] = other
                elif parent[run] != other:
                    unite(parent, run, other)
    return parent


@part()
def _meeting(row: Labels, other: Labels, run: int, other_run: int, runs: Int64, others: Int64) -> int:
    """Write which runs of two rows, counted from their first ones, share a label where they meet; return how many."""
    runs[0], others[0] = run, other_run
    n = int(row[0] == other[0])
    for x in range(1, row.size):
        # Written always but kept only where one of the runs starts: whether one does cannot be predicted.
        run += row[x] != row[x - 1]
        other_run += other[x] != other[x - 1]
        runs[n], others[n] = run, other_run
        starts = (row[x] != row[x - 1]) | (other[x] != other[x - 1])
        n += starts & (row[x] == other[x])
    return n


@part()
def unite(parent: Parents, a: int, b: int) -> None:
    """Join the sets of `a` and `b`; the lowest member of a set is its root."""
    while parent[a] != a:
        parent[a] = parent[parent[a]]
        a = parent[a]
    while parent[b] != b:
        parent[b] = parent[parent[b]]
        b = parent[b]
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


@njit(cache=True, nogil=True)
def _number(parent: Int64, value: Int64, outside: int) -> tuple[Int64, int]:
    """Return the fragment of each run (-1 outside), numbered by first run, and how many there are."""
    owner = np.empty(parent.size, np.int64)
    n = 0
    for i in range(parent.size):
        if value[i] == outside:
            owner[i] = -1
        elif parent[i] == i:
            owner[i] = n
            n += 1
        else:
            owner[i] = owner[parent[i]]
    return owner, n


@njit(cache=True, nogil=True)
def _tabulate(
    position: Int64,
    value: Int64,
    owner: Int64,
    n: int,
    block_shape: BlockShape,
    n_channels: int,
    start: Int64,
    shape: Int64,
) -> tuple[Int64, Int64, Int64]:
    """Return each fragment's label, first voxel, and sums, those of the intensities still 0."""
    _, ny, nx = block_shape
    values = np.empty(n, np.int64)
    first = np.full(n, -1, np.int64)
    sums = np.zeros((n, 4 + n_channels), np.int64)
    for i in range(owner.size):
        k = owner[i]
        if k < 0:
            continue
        begin, end = position[i], position[i + 1]
        row = begin // nx
        z, y, x = start[0] + row // ny, start[1] + row % ny, start[2] + begin % nx
        if first[k] < 0:
            values[k] = value[i]
            first[k] = (z * shape[1] + y) * shape[2] + x
        length = end - begin
        sums[k, 0] += length
        sums[k, 1] += length * z
        sums[k, 2] += length * y
        sums[k, 3] += length * x + length * (length - 1) // 2
    return values, first, sums


@njit(cache=True, nogil=True)
def _add_intensities(image: Int16, row_start: Int64, position: Int64, owner: Int64, sums: Int64) -> None:
    """Add the intensities of each run to the sums of its fragment."""
    n_channels, nz, ny, nx = image.shape
    before = np.zeros(nx + 1, np.int64)  # the sum of the voxels before each one of a row
    for c in range(n_channels):
        for r in range(nz * ny):
            line, total = image[c, r // ny, r % ny], 0
            for x in range(nx):
                total += line[x]
                before[x + 1] = total
            for i in range(row_start[r], row_start[r + 1]):
                if owner[i] >= 0:
                    sums[owner[i], 4 + c] += before[position[i + 1] - r * nx] - before[position[i] - r * nx]


@njit(cache=True, nogil=True)
def _paint(position: Int64, owner: Int64, block_shape: BlockShape) -> Uint32:
    """Return the fragments of the voxels, from 1."""
    numbered = np.empty(block_shape, np.uint32)
    flat = numbered.reshape(-1)
    i = 0
    for p in range(flat.size):
        i += position[i + 1] == p
        flat[p] = owner[i] + 1
    return numbered


@njit(cache=True, nogil=True)
def _contacts(
    row_start: Int64, position: Int64, owner: Int64, n: int, shape: BlockShape, areas: Int64
) -> tuple[Int32, Int64]:
    """Return the pairs of fragments that touch, and their area of contact."""
    nz, ny, nx = shape
    table, used = empty_table(16 * n), 0
    # A row first notes where it touches another fragment, without a branch: whether it does cannot be predicted.
    keys, area = np.empty(5 * nx + 1, np.int64), np.empty(5 * nx + 1, np.int64)
    for r in range(nz * ny):
        m = 0
        for i in range(row_start[r], row_start[r + 1] - 1):
            keys[m], area[m] = _key(owner[i], owner[i + 1], n), areas[2]
            m += (owner[i] >= 0) & (owner[i + 1] >= 0) & (owner[i] != owner[i + 1])
        for axis, step in ((1, 1), (0, ny)):
            if (axis == 1 and r % ny == 0) or r < step:
                continue
            i, j, shift = row_start[r], row_start[r - step], step * nx
            while i < row_start[r + 1]:
                i_ends, j_ends = position[i + 1], position[j + 1] + shift
                length = min(i_ends, j_ends) - max(position[i], position[j] + shift)
                keys[m], area[m] = _key(owner[i], owner[j], n), length * areas[axis]
                m += (owner[i] >= 0) & (owner[j] >= 0) & (owner[i] != owner[j])
                i += i_ends <= j_ends
                j += j_ends <= i_ends
        while 2 * (used + m) > table.shape[0]:
            table = grown(table)
        for k in range(m):
            used += add(table, keys[k], area[k])
    found = entries(table)
    pairs = np.empty((len(found), 2), np.int32)
    for i in range(len(found)):
        pairs[i, 0], pairs[i, 1] = found[i, 0] // n, found[i, 0] % n
    return pairs, found[:, 1].copy()


@part()
def _key(a: int, b: int, n: int) -> int:
    """Return one number for two fragments in any order."""
    return min(a, b) * n + max(a, b)


@njit(cache=True, nogil=True)
def count_touching(before: Int64, after: Int64, width: int) -> Int64:
    """Count the faces that fragments share across two planes.

    Parameters
    ----------
    before, after
        int64 (n,), the fragments at both sides of each face, from 1; 0 is outside.
    width
        More than there are fragments in `after`.

    Returns
    -------
    int64 (m, 2)
        Fragment in `before` times `width` plus fragment in `after`, in no particular order, and the number of faces.
    """
    table, used = empty_table(64), 0
    i = 0
    while i < before.size:
        end = i + 1
        while end < before.size and before[end] == before[i] and after[end] == after[i]:
            end += 1
        if before[i] > 0 and after[i] > 0:
            used += add(table, before[i] * width + after[i], end - i)
            if 2 * used > table.shape[0]:
                table = grown(table)
        i = end
    return entries(table)
