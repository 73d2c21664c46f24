"""Joining rows of the fragment table: union-find, sums over what was joined, and who is to join whom."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.fragments import unite

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@njit(cache=True, nogil=True)
def join(n: int, pairs: Int64) -> tuple[Int64, int]:
    """Join the members of each pair.

    Parameters
    ----------
    n
        Number of things.
    pairs
        int64 (m, 2), which to join.

    Returns
    -------
    group : int64 (n,)
        Group of each thing, numbered 0.. in the order of the groups' lowest members.
    n_groups : int
        Number of groups.
    """
    parent = np.arange(n)
    for i in range(pairs.shape[0]):
        unite(parent, pairs[i, 0], pairs[i, 1])
    group = np.empty(n, np.int64)
    n_groups = 0
    for i in range(n):
        if parent[i] == i:
            group[i] = n_groups
            n_groups += 1
        else:
            group[i] = group[parent[i]]  # a parent comes first
    return group, n_groups


@njit(cache=True, nogil=True)
def add_rows(group: Int64, rows: Int64, n_groups: int) -> Int64:
    """Return the sums of the int64 `rows` (n, f) over each group (n_groups, f)."""
    sums = np.zeros((n_groups, rows.shape[1]), np.int64)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            sums[group[i], j] += rows[i, j]
    return sums


@njit(cache=True, nogil=True)
def sum_contacts(pairs: Int64, faces: Int64, n: int) -> tuple[Int64, Int64]:
    """Return each contact once.

    Parameters
    ----------
    pairs
        int64 (m, 2), pieces that touch, in any order; pairs of a piece with itself are dropped.
    faces
        int64 (m, 3), how many faces they share across z, y and x.
    n
        Number of pieces.

    Returns
    -------
    pairs : int64 (k, 2)
        The pairs a < b, sorted.
    faces : int64 (k, 3)
        The sums of their faces.
    """
    low, high = np.minimum(pairs[:, 0], pairs[:, 1]), np.maximum(pairs[:, 0], pairs[:, 1])
    order = _sorted_by(low, _sorted_by(high, np.arange(low.size), n), n)
    unique = np.empty((low.size, 2), np.int64)
    total = np.empty((low.size, 3), np.int64)
    k = -1
    for i in order:
        a, b = low[i], high[i]
        if a == b:
            continue
        if k < 0 or unique[k, 0] != a or unique[k, 1] != b:
            k += 1
            unique[k, 0], unique[k, 1] = a, b
            total[k] = 0
        for axis in range(3):
            total[k, axis] += faces[i, axis]
    return unique[: k + 1].copy(), total[: k + 1].copy()


@njit(cache=True, nogil=True)
def _sorted_by(keys: Int64, order: Int64, n: int) -> Int64:
    """Return `order` sorted by the key (0..n-1) of each entry; a counting sort, equal keys stay in order."""
    slot = np.zeros(n + 1, np.int64)
    for key in keys:
        slot[key + 1] += 1
    slot = np.cumsum(slot)
    result = np.empty_like(order)
    for i in order:
        result[slot[keys[i]]] = i
        slot[keys[i]] += 1
    return result


@njit(cache=True, nogil=True)
def choose_neighbours(pairs: Int64, area: Float64, colours: Float64, small: Bool) -> Int64:
    """Return for each small piece the neighbour to join, for each other itself.

    The neighbour of the largest contact; among equals the one of the closest mean intensities, then the lower id.

    Parameters
    ----------
    pairs
        int64 (m, 2), pieces that touch; each pair once.
    area
        float64 (m,), area of contact.
    colours
        float64 (n, c), mean intensities.
    small
        bool (n,), which pieces are to join another.
    """
    n = small.size
    chosen = np.arange(n)
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
