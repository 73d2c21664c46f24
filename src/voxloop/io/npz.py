"""NumPy archives (`.npz`): arrays by name, voxels only. Never unpickled."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from voxloop.errors import FormatError, InputError
from voxloop.io.inside import split_inside
from voxloop.io.raw import Decompressed, Transposed
from voxloop.io.stored import StoredArray, StoredImage, reading

_SUFFIX = ".npy"


def read(path: Path) -> StoredImage:
    """Return the array that `path` names inside an archive, or the sole one in it."""
    file, name = split_inside(path)
    with reading(file, "NumPy archive"), zipfile.ZipFile(file) as archive:
        names = [n.removesuffix(_SUFFIX) for n in archive.namelist() if n.endswith(_SUFFIX)]
        if name and name not in names:
            raise InputError(f"{file} holds no array {name!r}; it holds {', '.join(names) or 'none'}")
        if not name and len(names) != 1:
            raise InputError(f"{file} holds {len(names)} arrays ({', '.join(names)}); choose one, such as {file}/NAME")
    return StoredImage(NpzArray(file, name or names[0]))


@dataclass(frozen=True)
class NpzArray(StoredArray):
    """One array of an archive."""

    name: str

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "NumPy archive"

    def _open(self) -> Any:
        with self.path.open("rb") as file:
            stream = self._stream(file)
            version = np.lib.format.read_magic(stream)
            fmt = np.lib.format
            read_header = fmt.read_array_header_1_0 if version == (1, 0) else fmt.read_array_header_2_0
            shape, fortran_order, dtype = read_header(stream)
            offset = stream.tell()
        if dtype.hasobject:
            raise FormatError(f"{self.path} holds Python objects; expected integers, floats or booleans")
        stored_shape = shape[::-1] if fortran_order else shape
        array = Decompressed(self.path, self._stream, dtype=dtype, shape=stored_shape, offset=offset)
        return Transposed(array) if fortran_order else array

    def _stream(self, file: IO[bytes]) -> IO[bytes]:
        return zipfile.ZipFile(file).open(self.name + _SUFFIX)
