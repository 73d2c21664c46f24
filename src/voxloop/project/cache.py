"""Arrays that can be computed again, kept by name and digest and read as memory maps.

An entry is a folder ``<cache>/<name>/<digest>`` with one uncompressed ``.npy`` file per array and ``entry.json``, which
says where in the files the values are, so that nothing in them has to be interpreted to read them.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from voxloop.errors import InputError
from voxloop.io.atomic import folder_written_atomically, partial_path, remove_leftovers, reserve, storing
from voxloop.io.mapped import map_array

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
_DTYPE = r"\|[bui]1|<[uif][248]"
_HEADER = "entry.json"


class _StoredArray(BaseModel):
    """Where the values of an array are: C order, from byte `offset` to the end of ``<name>.npy``."""

    model_config = ConfigDict(frozen=True)

    dtype: Annotated[str, Field(pattern=f"^({_DTYPE})$")]
    shape: tuple[Annotated[int, Field(ge=0, lt=2**48)], ...]
    offset: Annotated[int, Field(ge=0, lt=2**16)]

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return self.offset + prod(self.shape) * np.dtype(self.dtype).itemsize


class _Header(BaseModel):
    """What ``entry.json`` holds."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    name: str
    digest: str
    arrays: dict[Annotated[str, Field(pattern=f"^{_NAME.pattern}$")], _StoredArray]
    meta: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Entry:
    """Arrays that belong together, and JSON-able facts about them."""

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]


class ArrayCache:
    """Entries of arrays in a folder, at most one digest of each name.

    The whole folder, or any part of it, may be deleted at any time while the project is closed.

    Parameters
    ----------
    folder
        The cache's own folder; created when the first entry is written.
    read_only
        Leave what crashed writes left behind where it is. Only the project's one writer may remove it.
    """

    def __init__(self, folder: str | Path, *, read_only: bool = False) -> None:
        self._folder = Path(folder)
        if not read_only and self._folder.is_dir():
            for name in self._folder.iterdir():
                remove_leftovers(name)

    def digest_of(self, name: str) -> str | None:
        """Return the digest of the entry that is there under a name, or None; the entry itself is not looked at."""
        _check("name", name, _NAME)
        folder = self._folder / name
        there = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return next((digest for digest in there if _DIGEST.fullmatch(digest)), None)

    def scratch(self, name: str) -> Path:
        """Return where intermediate results of an entry may be kept; nothing is there at first."""
        _check("name", name, _NAME)
        return self._folder / "scratch" / name

    def get(self, name: str, digest: str) -> Entry | None:
        """Return an entry with its arrays as read-only memory maps, or None if it has to be computed.

        A damaged entry is as good as none; a warning is logged.
        """
        folder = self._entry_folder(name, digest)
        if not folder.is_dir():
            return None
        try:
            header = _Header.model_validate_json((folder / _HEADER).read_bytes())
            if (header.name, header.digest) != (name, digest):
                raise ValueError(f"it says that it is {header.name} {header.digest}")
            arrays = {key: _open_map(folder / f"{key}.npy", stored) for key, stored in header.arrays.items()}
        except (OSError, ValueError) as error:  # ValidationError is a ValueError
            reason = f"{error.error_count()} wrong fields in {_HEADER}" if isinstance(error, ValidationError) else error
            logger.warning("%s in the cache is damaged and will be computed again: %s", name, reason)
            return None
        return Entry(arrays, dict(header.meta))

    def put(
        self, name: str, digest: str, arrays: Mapping[str, NDArray[Any]], *, meta: Mapping[str, Any] | None = None
    ) -> None:
        """Write an entry; one of the same name, whatever its digest, is replaced.

        Parameters
        ----------
        name
            What the entry is: lower-case letters, digits, ``-`` and ``_``.
        digest
            Hexadecimal digest of everything that the arrays follow from.
        arrays
            Integer, floating or boolean arrays by name.
        meta
            JSON-able facts to keep with them.

        Raises
        ------
        InputError
            If a name, digest or dtype cannot be used.
        StorageError
            If it could not be written.
        """
        sizes = {key: (array.shape, array.dtype) for key, array in arrays.items()}
        with self.create(name, digest, sizes) as draft:
            draft.meta.update(meta or {})
            for key, array in arrays.items():
                draft.arrays[key][...] = array

    @contextmanager
    def create(
        self, name: str, digest: str, arrays: Mapping[str, tuple[tuple[int, ...], DTypeLike]]
    ) -> Iterator[Entry]:
        """Yield an entry to fill in, block by block, from any thread; it counts when the `with` ends without an error.

        Parameters
        ----------
        name, digest
            As for `put`.
        arrays
            Shape and dtype of each array; all values are 0 at first.

        Yields
        ------
        Entry
            Its arrays are writable memory maps, not to be written to afterwards; `meta` is empty.

        Raises
        ------
        InputError
            If a name, digest or dtype cannot be used, or the facts in `meta` are no JSON.
        StorageError
            If it could not be written; space for all of it is reserved at the start.
        """
        final = self._entry_folder(name, digest)
        for key in arrays:
            _check("array name", key, _NAME)
        with folder_written_atomically(final) as folder:
            with storing(final):
                stored = {key: _reserve(folder / f"{key}.npy", *size) for key, size in arrays.items()}
                draft = Entry({key: _open_map(folder / f"{key}.npy", at, mode="r+") for key, at in stored.items()}, {})
            yield draft
            header = {"format": 1, "name": name, "digest": digest, "meta": draft.meta}
            header["arrays"] = {key: at.model_dump() for key, at in stored.items()}
            try:
                text = json.dumps(header, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise InputError(f"meta of {name} is no JSON: {error}") from None
            with storing(final):
                for array in draft.arrays.values():
                    if isinstance(array, np.memmap):
                        array.flush()
                (folder / _HEADER).write_text(text)
        _remove_others(final)

    def _entry_folder(self, name: str, digest: str) -> Path:
        _check("name", name, _NAME)
        _check("digest", digest, _DIGEST)
        return self._folder / name / digest


def _check(what: str, value: str, pattern: re.Pattern[str]) -> None:
    """Raise `InputError` unless `value` can be the name of a file on any system."""
    if not pattern.fullmatch(value):
        raise InputError(f"{what} must match {pattern.pattern}, not {value!r}")


def _reserve(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> _StoredArray:
    """Make a ``.npy`` file of zeros that has all of its space on the disk."""
    kind = np.dtype(dtype).newbyteorder("<")
    if not re.fullmatch(_DTYPE, kind.str):
        raise InputError(f"{path.stem} has dtype {kind}; expected booleans, integers or floats of at most 8 bytes")
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})
        stored = _StoredArray(dtype=kind.str, shape=shape, offset=file.tell())
        reserve(file, stored.n_bytes, path.parent)
    return stored


def _open_map(path: Path, stored: _StoredArray, *, mode: Literal["r", "r+"] = "r") -> NDArray[Any]:
    """Return the values of an array as a memory map, or raise `ValueError` if the file has another size."""
    if path.stat().st_size != stored.n_bytes:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {stored.n_bytes}")
    if prod(stored.shape) == 0:  # there is nothing to map
        return np.zeros(stored.shape, dtype=stored.dtype)
    return map_array(path, stored.dtype, stored.shape, stored.offset, mode)


def _remove_others(entry: Path) -> None:
    """Remove the entries of the same name with another digest; what is mapped in memory stays readable."""
    for other in entry.parent.iterdir():
        if other != entry and not other.name.startswith("."):
            with suppress(OSError):  # Windows keeps what is mapped; it goes after a later write
                shutil.rmtree(other.rename(partial_path(other)), ignore_errors=True)
