"""Joining rows of the fragment table: union-find, sums over what was joined, and who is to join whom."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.fragments import unite

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FEW = 64


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
def sort_contacts(pairs: Int32, area: Int64, group: Int32, n: int) -> tuple[Int64, Int32, Int64]:
    """Return the contacts of groups by the lower group of the two.

    Parameters
    ----------
    pairs
        int32 (m, 2), pieces that touch, in any order; pairs within a group are dropped.
    area
        int64 (m,), area of contact.
    group
        int32, the group of each piece.
    n
        Number of groups.

    Returns
    -------
    ends : int64 (n,)
        Where the contacts of each group with higher ones end.
    higher : int32 (k,)
        The other group of each contact; a pair of groups may be there several times.
    area : int64 (k,)
        The areas.
    """
    ends = np.zeros(n + 1, np.int64)
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        if a != b:
            ends[min(a, b) + 1] += 1
    ends = np.cumsum(ends)
    higher, sorted_area = np.empty(ends[n], np.int32), np.empty(ends[n], np.int64)
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        if a != b:
            slot = ends[min(a, b)]
            higher[slot], sorted_area[slot] = max(a, b), area[i]
            ends[min(a, b)] += 1
    return ends[:n], higher, sorted_area


@njit(cache=True, nogil=True)
def merge_contacts(ends: Int64, higher: Int32, area: Int64) -> Int32:
    """Sum up the contacts of each pair of groups, in place.

    Parameters
    ----------
    ends, higher, area
        From `sort_contacts`; the first k entries of `area` become the sums.

    Returns
    -------
    int32 (k, 2)
        The pairs a < b, sorted.
    """
    number = np.zeros(ends.size, np.int64)
    k, start = 0, 0
    for low in range(ends.size):
        end = ends[low]
        _sort(higher[start:end], area[start:end])
        first = k
        for i in range(start, end):
            if k > first and higher[k - 1] == higher[i]:
                area[k - 1] += area[i]
            else:
                higher[k], area[k] = higher[i], area[i]
                k += 1
        number[low] = k - first
        start = end
    pairs = np.empty((k, 2), np.int32)
    k = 0
    for low in range(ends.size):
        for _ in range(number[low]):
            pairs[k, 0], pairs[k, 1] = low, higher[k]
            k += 1
    return pairs


@njit(cache=True, nogil=True)
def _sort(keys: Int32, values: Int64) -> None:
    """Sort by the keys: a few by insertion, as nearly all pieces have few neighbours."""
    if keys.size > FEW:
        order = np.argsort(keys)
        keys[:], values[:] = keys[order], values[order]
        return
    for i in range(1, keys.size):
        key, value = keys[i], values[i]
        j = i
        while j > 0 and keys[j - 1] > key:
            keys[j], values[j] = keys[j - 1], values[j - 1]
            j -= 1
        keys[j], values[j] = key, value


@njit(cache=True, nogil=True)
def choose_neighbours(pairs: Int32, area: Int64, colours: Float64, small: Bool) -> Int32:
    """Return for each small piece the neighbour to join, for each other itself.

    The neighbour of the largest contact; among equals the one of the closest mean intensities, then the lower id.

    Parameters
    ----------
    pairs
        int32 (m, 2), pieces that touch; each pair once.
    area
        int64 (m,), area of contact.
    colours
        float64 (n, c), mean intensities.
    small
        bool (n,), which pieces are to join another.
    """
    n = small.size
    chosen = np.arange(n, dtype=np.int32)
    largest = np.zeros(n, np.int64)
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
