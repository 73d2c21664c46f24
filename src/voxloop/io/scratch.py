"""Where a computation keeps what it has for each block between two passes: in memory, or in a folder.

A folder outlives the process. What was written under the same key is found again by the next run, which so goes on
where the last one was stopped.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from voxloop.blocks import Block
from voxloop.errors import StorageError
from voxloop.io.atomic import partial_path, remove_leftovers, reserve, storing, write_atomically

Arrays = Mapping[str, NDArray[Any]]

_LENGTHS_AT = 26  # bytes into a member's header of a zip archive: the lengths of its name and its extra field
NOTE = "key.txt"  # says what a folder is, and under which key


class Scratch(Protocol):
    """Arrays by name; several arrays under one name appear together or not at all."""

    @property
    def outlives_process(self) -> bool:
        """Whether what was put is still there after the process has ended."""

    def has(self, name: str) -> bool:
        """Whether something was put under a name."""

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name, instead of what was there before."""

    def get(self, name: str, *keys: str) -> Arrays:
        """Return the arrays under a name; if keys are given, only these have to be there."""

    def drop(self, name: str) -> None:
        """Forget what is under a name, if anything."""

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of zeros to write to; where it is kept is free again when it is let go."""


@dataclass(frozen=True)
class Memory:
    """Arrays in the memory of this process."""

    outlives_process: ClassVar[bool] = False
    _kept: dict[str, Arrays] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether something was put under a name."""
        return name in self._kept

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name, instead of what was there before."""
        self._kept[name] = arrays

    def get(self, name: str, *keys: str) -> Arrays:
        """Return the arrays under a name, or those of `keys` alone."""
        kept = self._kept[name]
        return {key: kept[key] for key in keys or kept}

    def drop(self, name: str) -> None:
        """Forget what is under a name, if anything."""
        self._kept.pop(name, None)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of zeros."""
        return np.zeros(shape, dtype)


@dataclass(frozen=True)
class Folder:
    """Arrays in files of a folder; any process that reaches the folder can read and write them."""

    outlives_process: ClassVar[bool] = True
    path: Path

    def has(self, name: str) -> bool:
        """Whether something was put under a name."""
        return zipfile.is_zipfile(self._file(name))  # not if a power cut left it without its end

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name, instead of what was there before.

        Raises
        ------
        StorageError
            If they cannot be written.
        """
        final = self._file(name)
        partial = partial_path(final)
        try:
            # Not flushed to the disk: after a power cut it can be computed again.
            with storing(final):
                with partial.open("xb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
                partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)

    def get(self, name: str, *keys: str) -> Arrays:
        """Return the arrays under a name, or those of `keys` alone.

        Raises
        ------
        StorageError
            If the file is damaged.
        """
        try:
            with self._file(name).open("rb") as file, zipfile.ZipFile(file) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                return {key: _read_member(file, members[key]) for key in keys or members}
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise StorageError(f"{self._file(name)} is damaged; delete it to compute it again") from error

    def drop(self, name: str) -> None:
        """Forget what is under a name, if anything."""
        self._file(name).unlink(missing_ok=True)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return the memory map of a file without a name, full of zeros, that goes with the array.

        Raises
        ------
        StorageError
            If there is no space on the disk for all of it.
        """
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        if n_bytes == 0:  # there is nothing to map
            return np.zeros(shape, dtype)
        with storing(self.path), tempfile.TemporaryFile(dir=self.path) as file:
            reserve(file, n_bytes, self.path)
            return np.asarray(np.memmap(file, np.dtype(dtype), mode="r+", shape=shape))

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npz"


def _read_member(file: IO[bytes], member: zipfile.ZipInfo) -> NDArray[Any]:
    """Return an array that `numpy.savez` has written, as fast as the file can be read.

    `numpy.load` takes four times as long, for it looks at the checksum each time; `_prepare` does that once.
    """
    file.seek(member.header_offset + _LENGTHS_AT)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    file.seek(name_length + extra_length, os.SEEK_CUR)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _is_whole(path: Path) -> bool:
    """Return whether an archive is what was written, by its checksums: a power cut may leave holes in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except zipfile.BadZipFile:
        return False


class Stored(Protocol):
    """What can be taken apart into arrays by name, and put together again."""

    def to_arrays(self) -> Arrays:
        """Return all of it as arrays by name."""

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Return what `to_arrays` took apart."""


Part = TypeVar("Part", bound=Stored)


@dataclass(frozen=True)
class Once(Generic[Part]):
    """A function of a block that is not computed twice, not even by two processes one after the other.

    Attributes
    ----------
    scratch
        Where results are kept.
    compute
        The function.
    kind
        The class of its results.
    """

    scratch: Scratch
    compute: Callable[[Block], Part]
    kind: type[Part]

    def __call__(self, block: Block) -> Part:
        """Return the result for a block: that of an earlier call, else it is computed and kept."""
        name = f"block-{block.index}"
        if self.scratch.has(name):
            return self.kind.from_arrays(self.scratch.get(name))
        part = self.compute(block)
        self.scratch.put(name, part.to_arrays())
        return part


@contextmanager
def scratch_folder(path: Path | None, key: str) -> Iterator[Folder]:
    """Yield a folder for intermediate results, which is removed when the block ends without an error.

    Parameters
    ----------
    path
        Where: after an error it stays, and is found again under the same key. None: a temporary folder, which is
        removed in any case.
    key
        Digest of all that the results depend on; results under another key are removed.

    Raises
    ------
    StorageError
        If the folder cannot be made.
    """
    if path is None:
        with tempfile.TemporaryDirectory(prefix="voxloop-") as temporary:
            yield Folder(Path(temporary))
        return
    with storing(path):
        _prepare(path, key)
    yield Folder(path.absolute())
    with suppress(OSError):  # the work is done; what cannot be removed now is so by the next run
        _remove(path)


def _prepare(path: Path, key: str) -> None:
    """Make sure that the folder is there and holds nothing of another key and nothing half written or damaged."""
    if path.exists():
        remove_leftovers(path)
    note = path / NOTE
    if not note.is_file() or note.read_text() != key:
        if path.exists() and not note.is_file() and any(path.iterdir()):
            raise StorageError(f"{path} is not empty and no scratch folder of voxloop: choose another one")
        _remove(path)
        path.mkdir(parents=True)
        write_atomically(note, key.encode())
    for file in path.glob("*.npz"):
        if not _is_whole(file):
            file.unlink()


def _remove(path: Path) -> None:
    """Remove a folder, its note last: who is killed on the way leaves one that can be told from a stranger's."""
    if not path.exists():
        return
    for each in path.iterdir():
        if each.name != NOTE:
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    (path / NOTE).unlink(missing_ok=True)
    path.rmdir()
