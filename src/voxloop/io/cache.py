"""Decoded pieces of a file, kept while memory lasts."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from numpy.typing import NDArray


class DecodedCache:
    """Decoded segments up to a number of bytes; the ones not used for longest go first."""

    def __init__(self, max_nbytes: int) -> None:
        self._max_nbytes = max_nbytes
        self._nbytes = 0
        self._segments: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        # Threads that want the same segment wait for the first to decode it.
        self._segment_locks = [threading.Lock() for _ in range(61)]

    def lock_of(self, page: int, index: int) -> threading.Lock:
        """Return the lock under which segment `index` of `page` is looked up and decoded."""
        return self._segment_locks[hash((page, index)) % len(self._segment_locks)]

    def get(self, key: tuple[int, int]) -> NDArray[Any] | None:
        """Return the segment, or None if it is not there."""
        with self._lock:
            if key in self._segments:
                self._segments.move_to_end(key)
            return self._segments.get(key)

    def put(self, key: tuple[int, int], segment: NDArray[Any]) -> None:
        """Keep a segment, unless it alone is too large."""
        if segment.nbytes > self._max_nbytes:
            return
        with self._lock:
            self._segments[key] = segment
            self._nbytes += segment.nbytes
            while self._nbytes > self._max_nbytes:
                self._nbytes -= self._segments.popitem(last=False)[1].nbytes
