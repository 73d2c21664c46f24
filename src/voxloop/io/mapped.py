"""Memory maps that can be sent to another process."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from voxloop.volume import ArrayView


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


@dataclass(frozen=True)
class FileArray:
    """An uncompressed array in a file, mapped into memory for each access alone.

    What was read or written does not stay in the memory of the process, as it does with a memory map that is kept.

    Attributes
    ----------
    path, offset
        The file, and the byte at which the values begin.
    dtype, shape
        Type and number of the values, in C order.
    mode
        ``"r"`` to read only, ``"r+"`` to write as well.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    mode: Literal["r", "r+"]

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        return np.array(map_array(self.path, self.dtype, self.shape, self.offset)[key])

    def __setitem__(self, key: Any, values: Any, /) -> None:
        map_array(self.path, self.dtype, self.shape, self.offset, self.mode)[key] = values


def unmapped(array: Any) -> Any:
    """Return a memory map of numpy as a `FileArray`, also below the views of a volume, and any other array as it is.

    Another process can be given the result: a memory map itself would be sent there value by value. A part of a memory
    map is left as it is, for where in the file it lies is not known.
    """
    if isinstance(array, ArrayView):
        return replace(array, array=unmapped(array.array))  # type: ignore[type-var]  # every view is a dataclass
    whole = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous
    if not whole or array.filename is None:
        return array
    mode: Literal["r", "r+"] = "r+" if array.mode in ("r+", "w+") else "r"
    return FileArray(Path(array.filename).absolute(), array.dtype, array.shape, array.offset, mode)
