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
def add_rows(group: Int32, rows: Int64, sums: Int64) -> None:
    """Add each of the int64 `rows` (n, f) to the row of its group in `sums` (n_groups, f)."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            sums[group[i], j] += rows[i, j]


@njit(cache=True, nogil=True)
def count_contacts(pairs: Int32, group: Int32, counts: Int64) -> None:
    """Count the contacts of each group with higher ones.

    Parameters
    ----------
    pairs
        int32 (m, 2), pieces that touch, in any order; pairs within a group do not count.
    group
        int32, the group of each piece.
    counts
        int64 (n + 1,); the number of group i is added to entry i + 1.
    """
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        if a != b:
            counts[min(a, b) + 1] += 1


@njit(cache=True, nogil=True)
def place_contacts(pairs: Int32, area: Int64, group: Int32, ends: Int64, higher: Int32, placed_area: Int64) -> None:
    """Put the contacts of each group with higher ones where those of the group are.

    Parameters
    ----------
    pairs, group
        As in `count_contacts`.
    area
        int64 (m,), area of contact.
    ends
        int64 (n,), where the next contact of each group goes; moves on.
    higher, placed_area
        int32 and int64 (k,), get the other group and the area.
    """
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        if a != b:
            slot = ends[min(a, b)]
            higher[slot], placed_area[slot] = max(a, b), area[i]
            ends[min(a, b)] += 1


@njit(cache=True, nogil=True)
def merge_contacts(ends: Int64, higher: Int32, area: Int64) -> Int32:
    """Sum up the contacts of each pair of groups, in place.

    Parameters
    ----------
    ends, higher, area
        After `place_contacts`; the first k entries of `area` become the sums.

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
