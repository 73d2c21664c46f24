"""Voxels that lie one after the other in a file, plain or compressed."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import FormatError, InputError
from voxloop.volume import ArrayLike

_PIECE = 2**20
_MAX_DEFLATE_RATIO = 1032  # of zlib and gzip: a run of 258 bytes takes at least 2 bits (RFC 1951)


class ByteStream(Protocol):
    """What is needed of a decompressed stream; the standard library's have no type in common."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


def map_raw(path: Path, *, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> NDArray[Any]:
    """Return a memory map of the C-ordered array at `offset`, or raise `FormatError` if the file ends before it."""
    _check_shape(path, shape)
    size, needed = path.stat().st_size, offset + prod(shape) * dtype.itemsize
    if offset < 0 or size < needed:
        raise FormatError(f"{path} is truncated: it has {size} bytes, its header announces {needed}")
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)


class Decompressed:
    """A C-ordered array in a compressed stream.

    When the first voxel is asked for, the stream is decompressed into a temporary file, which is mapped: a stream has
    no way in but its beginning, and the voxels may be more than fit into memory. No more is decompressed than the
    header announces.

    Parameters
    ----------
    path
        The file.
    decompress
        Makes the decompressed stream of the file, which is at `start`.
    start
        Where the compressed stream begins, bytes.
    offset
        Where the array begins in the decompressed stream, bytes.
    deflate
        Whether the compression is that of zlib and gzip.
    """

    def __init__(
        self,
        path: Path,
        decompress: Callable[[IO[bytes]], ByteStream],
        *,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        start: int = 0,
        offset: int = 0,
        deflate: bool = True,
    ) -> None:
        _check_shape(path, shape)
        self.shape, self.dtype = shape, dtype
        self._path, self._stream, self._start, self._offset = path, decompress, start, offset
        self._nbytes = prod(shape) * dtype.itemsize
        self._lock = threading.Lock()
        self._voxels: NDArray[Any] | None = None
        size = path.stat().st_size
        if offset < 0 or (deflate and offset + self._nbytes > size * _MAX_DEFLATE_RATIO):
            raise FormatError(f"{path} is truncated: {size} bytes cannot hold the {self._nbytes} that it announces")

    def __getitem__(self, key: Any) -> NDArray[Any]:
        with self._lock:
            if self._voxels is None:
                self._voxels = self._decompress()
        part: NDArray[Any] = self._voxels[key]
        return part

    def _decompress(self) -> NDArray[Any]:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if self._nbytes > free:
            raise InputError(
                f"{self._path} takes {self._nbytes} bytes when it is decompressed, but {folder} has {free} free"
            )
        # Closed as soon as it is mapped: the map keeps the file, which has no name, until the array is gone.
        with tempfile.TemporaryFile() as file, self._path.open("rb") as compressed:
            compressed.seek(self._start)
            stream = self._stream(compressed)
            self._skip(stream)
            remaining = self._nbytes
            while remaining:
                piece = stream.read(min(_PIECE, remaining))
                if not piece:
                    raise FormatError(f"{self._path} is truncated: {remaining} of {self._nbytes} bytes are missing")
                file.write(piece)
                remaining -= len(piece)
            file.flush()
            return np.memmap(file, self.dtype, mode="r", shape=self.shape)

    def _skip(self, stream: ByteStream) -> None:
        remaining = self._offset
        while remaining:
            piece = stream.read(min(_PIECE, remaining))
            if not piece:
                raise FormatError(f"{self._path} is truncated: its voxels are missing")
            remaining -= len(piece)


class Transposed:
    """An array with the order of its axes reversed, as Fortran order is to C order."""

    def __init__(self, array: ArrayLike) -> None:
        self._array = array
        self.shape = tuple(array.shape)[::-1]
        self.dtype = array.dtype

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        return np.asarray(self._array[key[::-1]]).T


class Rescaled:
    """An array whose values are ``slope * stored + intercept``.

    Integers stay integers where slope and intercept are; other values are ``float32`` if that holds the stored ones
    exactly, else ``float64``.
    """

    def __init__(self, array: ArrayLike, slope: float, intercept: float) -> None:
        self._array, self._slope, self._intercept = array, slope, intercept
        self.shape = array.shape
        stored = np.dtype(array.dtype)
        limits = (int(np.iinfo(stored).min), int(np.iinfo(stored).max)) if stored.kind in "iu" else None
        self.dtype = rescaled_dtype(stored, limits, slope, intercept)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return rescale(np.asarray(self._array[key]), self._slope, self._intercept, self.dtype)


def rescaled_dtype(
    stored: np.dtype[Any], limits: tuple[int, int] | None, slope: float, intercept: float
) -> np.dtype[Any]:
    """Return the type of ``slope * stored + intercept``; `limits` are the least and the largest stored integer."""
    if limits is not None and float(slope).is_integer() and float(intercept).is_integer():
        ends = [int(slope) * limit + int(intercept) for limit in limits]
        for candidate in (stored.newbyteorder("="), np.dtype(np.int16), np.dtype(np.int32), np.dtype(np.int64)):
            if np.iinfo(candidate).min <= min(ends) <= max(ends) <= np.iinfo(candidate).max:
                return candidate
    exact = np.can_cast(stored, np.float32, "safe")
    return np.dtype(np.float32 if exact else np.float64)


def rescale(stored: NDArray[Any], slope: float, intercept: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return ``slope * stored + intercept`` as `dtype`, rounded once."""
    if dtype.kind in "iu":
        integers: NDArray[Any] = stored.astype(dtype) * dtype.type(int(slope)) + dtype.type(int(intercept))
        return integers
    scaled: NDArray[Any] = stored.astype(np.float64) * slope + intercept
    return scaled.astype(dtype, copy=False)


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if not shape or min(shape) < 1:
        raise FormatError(f"{path} announces an image of shape {shape}: there are no voxels in it")


def data_file_beside(header: Path, name: str) -> Path:
    """Return the file of voxels that a header names; it must lie in the header's folder or below.

    A header from a stranger could otherwise have any file of the machine read as an image.
    """
    folder = header.absolute().parent
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
        raise FormatError(f"{header} names the data file {name!r}; expected one in its own folder")
    if not path.is_file():
        raise FormatError(f"{header} names the data file {name!r}, which does not exist")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise FormatError(f"{header} names the data file {name!r}, which leads out of its folder")
    return path
