"""A check of HDF5 files for damage that the HDF5 library does not survive."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from voxloop.errors import FormatError

# HDF5 File Format Specification, III.E: a collection of objects of varying length, such as strings.
_SIGNATURE = b"GCOL\x01\0\0\0"
_HEADER = 16
_FREE = 0  # the index of the object that is the free space at the end
# Strings are written early; a scan of all of a file of many gigabytes would take longer than to read what is asked for.
_SCANNED = 2**28


def check_heaps(path: Path) -> None:
    """Raise `FormatError` if a heap of strings has free space of no size: HDF5 (up to 2.0) reads that for ever."""
    with path.open("rb") as file:
        length = min(file.seek(0, 2), _SCANNED)
        if length == 0:
            return
        with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ) as content:
            start = content.find(_SIGNATURE)
            while start >= 0:
                if _is_endless(content, start):
                    raise FormatError(f"{path} is damaged: its strings at byte {start} have no end")
                start = content.find(_SIGNATURE, start + 1)


def _is_endless(content: mmap.mmap, start: int) -> bool:
    """Return whether walking the objects of the heap at `start` stays at one for ever."""
    if start + _HEADER > len(content):
        return False
    (size,) = struct.unpack_from("<Q", content, start + 8)
    place, end = start + _HEADER, min(start + size, len(content))
    while place + _HEADER <= end:
        index, size = struct.unpack_from("<H6xQ", content, place)
        if index == _FREE and size == 0:
            return True
        place += size if index == _FREE else _HEADER + -(-size // 8) * 8
    return False
