"""NumPy arrays in `.npy` files: voxels only, no axes, no voxel size. Read through a memory map, never unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxloop.errors import FormatError
from voxloop.io.stored import StoredArray, StoredImage
from voxloop.io.writers import Header, RawWriter


@dataclass(frozen=True)
class NpyArray(StoredArray):
    """The array in a `.npy` file."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "NumPy array"

    def _open(self) -> Any:
        with self.path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            fmt = np.lib.format
            read_header = fmt.read_array_header_1_0 if version == (1, 0) else fmt.read_array_header_2_0
            shape, fortran_order, dtype = read_header(file)
            offset = file.tell()
        if dtype.hasobject:
            raise FormatError(f"{self.path} holds Python objects; expected integers, floats or booleans")
        if 0 in shape:  # which cannot be mapped
            return np.empty(shape, dtype)
        return np.memmap(self.path, dtype, mode="r", offset=offset, shape=shape, order="F" if fortran_order else "C")


def read(path: Path) -> StoredImage:
    """Return the array in `path`."""
    return StoredImage(NpyArray(path))


def create(path: Path, header: Header) -> RawWriter:
    """Return a writer of a `.npy` file of any axes; voxel size and names are not stored."""
    with path.open("wb") as file:
        description = {"shape": header.stored_shape, "fortran_order": False, "descr": header.dtype.str}
        np.lib.format.write_array_header_1_0(file, description)
        offset = file.tell()
    return RawWriter(path, header, offset=offset)
