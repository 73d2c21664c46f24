"""Pieces of one or two voxels, which noise leaves by the thousand, go to the cluster around them before any is counted.

They are half to nine tenths of all pieces of SLIC on electron micrographs. Each takes a row in the table of fragments
and a dozen contacts, and all would join a neighbour in the end.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part
from voxloop.kernels.slic import OUTSIDE

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

LARGEST = 2  # voxels of a crumb
RIM = 2  # voxels around a box that decide what becomes of the crumbs in it


@njit(cache=True, nogil=True)
def dissolve_crumbs(labels: Int32, low: Int64, shape: Int64, areas: Int64) -> Int32:
    """Give the voxels of each 6-connected piece of one or two voxels to the label of the largest contact.

    All at once: what a crumb touches is what `labels` says. Of equal contacts the lowest label wins; crumbs that touch
    nothing but `OUTSIDE` stay.

    Parameters
    ----------
    labels
        int32 (z, y, x), with a border of `OUTSIDE` of one voxel.
    low, shape
        int64 (3,), the box that is asked for: its first voxel in `labels`, and its shape. It keeps a distance of `RIM`
        from the border except where the volume ends.
    areas
        int64 (3,), of a face across z, y and x.

    Returns
    -------
    int32 array of the given shape.
    """
    result = np.empty((shape[0], shape[1], shape[2]), np.int32)
    _, ny, nx = labels.shape
    flat = labels.reshape(-1)
    steps = np.array([-ny * nx, ny * nx, -nx, nx, -1, 1])
    same = np.empty(shape[2], np.int8)
    touched, contact = np.empty(10, np.int32), np.empty(10, np.int64)  # two voxels have ten more neighbours
    for z in range(shape[0]):
        for y in range(shape[1]):
            first = ((z + low[0]) * ny + y + low[1]) * nx + low[2]
            _count_same(flat, first, ny * nx, nx, same)
            row = result[z, y]
            for x in range(row.size):  # a loop: numba takes seconds to compile the errors of an assigned slice
                row[x] = flat[first + x]
            for x in range(row.size):
                if same[x] < LARGEST and row[x] != OUTSIDE:
                    row[x] = _successor(flat, first + x, steps, areas, touched, contact)
    return result


@part()
def _count_same(flat: Int32, first: int, plane: int, line: int, same: Int8) -> None:
    """Count the six neighbours of each voxel of a row that have its label."""
    n = same.size
    own = flat[first : first + n]
    above, below = flat[first - plane : first - plane + n], flat[first + plane : first + plane + n]
    before, behind = flat[first - line : first - line + n], flat[first + line : first + line + n]
    left, right = flat[first - 1 : first - 1 + n], flat[first + 1 : first + 1 + n]
    for x in range(n):
        v = own[x]
        count = np.int8(v == above[x]) + np.int8(v == below[x]) + np.int8(v == before[x])
        same[x] = count + np.int8(v == behind[x]) + np.int8(v == left[x]) + np.int8(v == right[x])


@part()
def _successor(flat: Int32, voxel: int, steps: Int64, areas: Int64, touched: Int32, contact: Int64) -> int:
    """Return the label that a voxel with at most one neighbour of its own label takes."""
    label = int(flat[voxel])
    partner = voxel
    for i in range(6):
        if flat[voxel + steps[i]] == label:
            partner = voxel + steps[i]
    for i in range(6):
        if partner + steps[i] != voxel and flat[partner + steps[i]] == label and partner != voxel:
            return label
    n = 0
    for member in (voxel, partner):
        for i in range(6):
            other = flat[member + steps[i]]
            if other != label and other != OUTSIDE:
                touched[n], contact[n] = other, areas[i // 2]
                n += 1
        if partner == voxel:
            break
    largest, chosen = 0, label
    for i in range(n):
        area = 0
        for j in range(n):
            if touched[j] == touched[i]:
                area += contact[j]
        if area > largest or (area == largest and touched[i] < chosen):
            largest, chosen = area, int(touched[i])
    return chosen
