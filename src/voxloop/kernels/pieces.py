"""Joining rows of the fragment table: union-find, sums over what was joined, and who is to join whom."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.fragments import unite

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Uint32 = NDArray[np.uint32]
Faces = NDArray[np.signedinteger[Any]]


@njit(cache=True, nogil=True)
def join(n: int, pairs: Int32) -> tuple[Int32, int]:
    """Join the members of each pair.

    Parameters
    ----------
    n
        Number of things.
    pairs
        int32 (m, 2), which to join.

    Returns
    -------
    group : int32 (n,)
        Group of each thing, numbered 0.. in the order of the groups' lowest members.
    n_groups : int
        Number of groups.
    """
    parent = np.arange(n, dtype=np.int32)
    for i in range(pairs.shape[0]):
        unite(parent, pairs[i, 0], pairs[i, 1])
    group = np.empty(n, np.int32)
    n_groups = 0
    for i in range(n):
        if parent[i] == i:
            group[i] = n_groups
            n_groups += 1
        else:
            group[i] = group[parent[i]]  # a parent comes first
    return group, n_groups


@njit(cache=True, nogil=True)
def add_rows(group: Int32, rows: Int64, n_groups: int) -> Int64:
    """Return the sums of the int64 `rows` (n, f) over each group (n_groups, f)."""
    sums = np.zeros((n_groups, rows.shape[1]), np.int64)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            sums[group[i], j] += rows[i, j]
    return sums


@njit(cache=True, nogil=True)
def sum_contacts(pairs: Int32, faces: Faces, group: Int32, n: int) -> tuple[Int32, Int64]:
    """Return each contact of groups once.

    Parameters
    ----------
    pairs
        int32 (m, 2), pieces that touch, in any order; pairs within a group are dropped.
    faces
        int32 or int64 (m, 3), how many faces they share across z, y and x.
    group
        int32, the group of each piece.
    n
        Number of groups.

    Returns
    -------
    pairs : int32 (k, 2)
        The pairs of groups a < b, sorted.
    faces : int64 (k, 3)
        The sums of their faces.
    """
    # Two counting sorts, by the higher and then by the lower piece. The other piece travels along, and the sorted one
    # is known from where its entries end: looking either up would miss the cache once an entry more.
    end_of_low, end_of_high = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        if a != b:
            end_of_low[min(a, b) + 1] += 1
            end_of_high[max(a, b) + 1] += 1
    end_of_low, end_of_high = np.cumsum(end_of_low), np.cumsum(end_of_high)
    size = end_of_low[n]

    high_other, high_entry = np.empty(size, np.int32), np.empty(size, np.uint32)
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        if a != b:
            slot = end_of_high[max(a, b)]
            high_other[slot], high_entry[slot] = min(a, b), i
            end_of_high[max(a, b)] += 1
    low_other, low_entry = np.empty(size, np.int32), np.empty(size, np.uint32)
    start = 0
    for high in range(n):
        for i in range(start, end_of_high[high]):
            slot = end_of_low[high_other[i]]
            low_other[slot], low_entry[slot] = high, high_entry[i]
            end_of_low[high_other[i]] += 1
        start = end_of_high[high]
    return _merge_runs(low_other, low_entry, end_of_low, faces)


@njit(cache=True, nogil=True)
def _merge_runs(other: Int32, entry: Uint32, end_of_low: Int64, faces: Faces) -> tuple[Int32, Int64]:
    """Return sorted contacts, each once, with the sums of their faces."""
    k = 0
    start = 0
    for low in range(end_of_low.size - 1):
        for i in range(start, end_of_low[low]):
            k += i == start or other[i] != other[i - 1]
        start = end_of_low[low]
    unique, total = np.empty((k, 2), np.int32), np.zeros((k, 3), np.int64)
    k, start = -1, 0
    for low in range(end_of_low.size - 1):
        for i in range(start, end_of_low[low]):
            if i == start or other[i] != other[i - 1]:
                k += 1
                unique[k, 0], unique[k, 1] = low, other[i]
            for axis in range(3):
                total[k, axis] += faces[entry[i], axis]
        start = end_of_low[low]
    return unique, total


@njit(cache=True, nogil=True)
def choose_neighbours(pairs: Int32, area: Float64, colours: Float64, small: Bool) -> Int32:
    """Return for each small piece the neighbour to join, for each other itself.

    The neighbour of the largest contact; among equals the one of the closest mean intensities, then the lower id.

    Parameters
    ----------
    pairs
        int32 (m, 2), pieces that touch; each pair once.
    area
        float64 (m,), area of contact.
    colours
        float64 (n, c), mean intensities.
    small
        bool (n,), which pieces are to join another.
    """
    n = small.size
    chosen = np.arange(n, dtype=np.int32)
    largest = np.zeros(n, np.float64)
    closest = np.zeros(n, np.float64)
    for i in range(pairs.shape[0]):
        contrast = 0.0
        for c in range(colours.shape[1]):
            difference = colours[pairs[i, 0], c] - colours[pairs[i, 1], c]
            contrast += difference * difference
        for side in range(2):
            a, b = pairs[i, side], pairs[i, 1 - side]
            if not small[a] or area[i] < largest[a]:
                continue
            tie = area[i] == largest[a]
            if tie and (contrast > closest[a] or (contrast == closest[a] and b > chosen[a])):
                continue
            chosen[a], largest[a], closest[a] = b, area[i], contrast
    return chosen
