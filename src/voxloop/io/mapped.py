"""Memory maps that can be sent to another process."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike


class MappedArray(np.memmap[Any, np.dtype[Any]]):
    """The memory map of an array in a file. It pickles as the file's path and maps it again where it is unpickled.

    `numpy.memmap` itself pickles with all of its bytes, and so do parts of this one.
    """

    def __reduce__(self) -> Any:
        if not isinstance(self.base, mmap.mmap):
            return np.array(self).__reduce__()
        mode = "r" if self.mode == "r" else "r+"
        return map_array, (str(self.filename), self.dtype.str, self.shape, self.offset, mode)


def map_array(
    path: str | Path, dtype: DTypeLike, shape: tuple[int, ...], offset: int = 0, mode: Literal["r", "r+"] = "r"
) -> MappedArray:
    """Return the array of `shape` in C order that begins at byte `offset` of a file, mapped into memory.

    Parameters
    ----------
    path
        An uncompressed file.
    dtype, shape
        Of the array; there must be an element in it.
    offset
        Bytes before its first element.
    mode
        ``"r"`` to read only, ``"r+"`` to write as well.
    """
    return MappedArray(path, np.dtype(dtype), mode=mode, offset=offset, shape=shape)
