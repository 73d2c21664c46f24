"""Sums by key in an open hash table: int64 (2^m, 2), a key (-1 if empty) beside its sum, in one line of the cache."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@njit(cache=True, nogil=True)
def empty_table(size: int) -> Int64:
    """Return an empty table of at least `size` slots."""
    n = 64
    while n < size:
        n *= 2
    return np.full((n, 2), -1, np.int64)


@njit(cache=True, nogil=True)
def add(table: Int64, key: int, amount: int) -> int:
    """Add to the sum of a key; return 1 if it is a new one. The caller keeps half of the table empty."""
    mask = table.shape[0] - 1
    slot = (((key ^ (key >> 31)) & 0x7FFFFFFF) * 2654435761 >> 12) & mask
    while table[slot, 0] != key:
        if table[slot, 0] < 0:
            table[slot, 0], table[slot, 1] = key, amount
            return 1
        slot = (slot + 1) & mask
    table[slot, 1] += amount
    return 0


@njit(cache=True, nogil=True)
def grown(table: Int64) -> Int64:
    """Return the table in twice the room."""
    more = empty_table(2 * table.shape[0])
    for i in range(table.shape[0]):
        if table[i, 0] >= 0:
            add(more, table[i, 0], table[i, 1])
    return more


@njit(cache=True, nogil=True)
def entries(table: Int64) -> Int64:
    """Return the keys and their sums, int64 (k, 2), in no particular order."""
    n = 0
    for i in range(table.shape[0]):
        n += table[i, 0] >= 0
    found = np.empty((n, 2), np.int64)
    k = 0
    for i in range(table.shape[0]):
        if table[i, 0] >= 0:
            found[k, 0], found[k, 1] = table[i, 0], table[i, 1]
            k += 1
    return found
