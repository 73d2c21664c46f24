"""Joining rows of the fragment table: union-find, sums over what was joined, and who is to join whom."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.fragments import unite
from voxloop.kernels.part import part

Bool = NDArray[np.bool_]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

FEW = 64  # are sorted by insertion alone


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
def count_contacts(pairs: Int32, group: Int32, first: int, counts: Int64) -> None:
    """Count the contacts of each of some groups with higher ones.

    Parameters
    ----------
    pairs
        int32 (m, 2), pieces that touch, in any order; pairs within a group do not count.
    group
        int32, the group of each piece.
    first
        The first of the n groups that count.
    counts
        int64 (n + 1,); the number of group `first` + i is added to entry i + 1.
    """
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        low = min(a, b) - first
        if a != b and 0 <= low < counts.size - 1:
            counts[low + 1] += 1


@njit(cache=True, nogil=True)
def place_contacts(
    pairs: Int32, area: Int64, group: Int32, first: int, ends: Int64, higher: Int32, placed_area: Int64
) -> None:
    """Put the contacts of each of some groups with higher ones where those of the group are.

    Parameters
    ----------
    pairs, group, first
        As in `count_contacts`.
    area
        int64 (m,), area of contact.
    ends
        int64 (n,), where the next contact of each group from `first` on goes; moves on.
    higher, placed_area
        int32 and int64 (k,), get the other group and the area.
    """
    for i in range(pairs.shape[0]):
        a, b = group[pairs[i, 0]], group[pairs[i, 1]]
        low = min(a, b) - first
        if a != b and 0 <= low < ends.size:
            slot = ends[low]
            higher[slot], placed_area[slot] = max(a, b), area[i]
            ends[low] += 1


@njit(cache=True, nogil=True)
def merge_contacts(ends: Int64, higher: Int32, area: Int64) -> Int64:
    """Sort the contacts of each group and sum up those with the same other group, in place.

    Parameters
    ----------
    ends, higher, area
        After `place_contacts`; the contacts that are left move to the front of `higher` and `area`.

    Returns
    -------
    int64 (n + 1,)
        Where those of each group start, and the end of the last.
    """
    starts = np.zeros(ends.size + 1, np.int64)
    k, start = 0, 0
    for low in range(ends.size):
        end = ends[low]
        _sort(higher[start:end], area[start:end])
        for i in range(start, end):
            if k > starts[low] and higher[k - 1] == higher[i]:
                area[k - 1] += area[i]
            else:
                higher[k], area[k] = higher[i], area[i]
                k += 1
        start = end
        starts[low + 1] = k
    return starts


@part()
def _sort(keys: Int32, values: Int64) -> None:
    """Sort by the keys as Shell did: nearly all pieces have few neighbours. Numba's sort takes seconds to compile."""
    gap = 1
    while FEW * gap < keys.size:
        gap = (9 * gap + 4) // 4
    while gap > 0:
        for i in range(gap, keys.size):
            key, value = keys[i], values[i]
            j = i
            while j >= gap and keys[j - gap] > key:
                keys[j], values[j] = keys[j - gap], values[j - gap]
                j -= gap
            keys[j], values[j] = key, value
        gap = 4 * gap // 9


@njit(cache=True, nogil=True)
def choose_neighbours(
    first: int, starts: Int64, higher: Int32, area: Int64, sums: Int64, small: Bool, chosen: Int32, largest: Int64
) -> None:
    """Choose for each small piece the neighbour to join, among those known so far and those of some more contacts.

    The neighbour of the largest contact; among equals the one of the closest mean intensities, then the lower id.

    Parameters
    ----------
    first
        The first of the r pieces whose contacts with higher ones these are.
    starts, higher, area
        int64 (r + 1,), int32 (m,) and int64 (m,): where the contacts of each of these pieces start, the others and the
        areas; each pair once.
    sums
        int64 (n, 4 + c), number of voxels, three sums that do not matter here, sums of the intensities.
    small
        bool (n,), which pieces are to join another.
    chosen, largest
        int32 and int64 (n,), the neighbour of each small piece and their area of contact; at first the piece and 0.
    """
    for row in range(starts.size - 1):
        low = first + row
        for i in range(starts[row], starts[row + 1]):
            for side in range(2):
                piece, other = (low, higher[i]) if side == 0 else (higher[i], low)
                if small[piece] and (
                    area[i] > largest[piece]
                    or (area[i] == largest[piece] and _is_closer(sums, piece, other, chosen[piece]))
                ):
                    chosen[piece], largest[piece] = other, area[i]


@part()
def _is_closer(sums: Int64, piece: int, other: int, than: int) -> bool:
    """Return whether the mean intensities of a piece are closer to one piece than to another, or as close and lower."""
    contrast, known = _contrast(sums, piece, other), _contrast(sums, piece, than)
    return contrast < known or (contrast == known and other < than)


@part()
def _contrast(sums: Int64, a: int, b: int) -> float:
    """Return the squared distance of the mean intensities of two pieces."""
    total = 0.0
    for c in range(4, sums.shape[1]):
        difference = sums[a, c] / sums[a, 0] - sums[b, c] / sums[b, 0]
        total += difference * difference
    return total
