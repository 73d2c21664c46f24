"""The file formats: how a file is recognised, and the module that reads and writes it.

A new format is a new row here and a module with `read`, and `create` if it can be written.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from voxloop.errors import FormatError, MissingFileError
from voxloop.io.stored import StoredImage
from voxloop.io.writers import Header, VolumeWriter


class FormatModule(Protocol):
    """What the module of a format provides."""

    def read(self, path: Path) -> StoredImage:
        """Return the image in `path`; its voxels stay there."""

    def create(self, path: Path, header: Header) -> VolumeWriter:
        """Return a writer of a new file or folder `path`."""


@dataclass(frozen=True)
class Format:
    """One format: its name, its suffixes, the first bytes of a file or the files that mark a folder, its module."""

    name: str
    suffixes: tuple[str, ...]
    module_name: str
    magic: tuple[bytes, ...] = ()
    folder_marks: tuple[str, ...] = ()

    @property
    def module(self) -> FormatModule:
        """The module, imported when it is first needed: some of the libraries below take half a second."""
        return cast("FormatModule", import_module(f"voxloop.io.{self.module_name}"))


FORMATS = (
    Format("TIFF", (".tif", ".tiff", ".btf"), "tiff", magic=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    Format("NumPy", (".npy",), "npy", magic=(b"\x93NUMPY",)),
    Format("Zarr", (".zarr",), "zarr", folder_marks=("zarr.json", ".zarray", ".zgroup")),
)


def format_of_file(path: Path) -> Format:
    """Return the format of an existing file or folder, by its suffix or else by its content.

    Raises
    ------
    MissingFileError
        If there is nothing, or it cannot be read.
    FormatError
        If the format is not known.
    """
    try:
        if path.is_dir():
            return _format_of_folder(path)
        with path.open("rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist") from None
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror}") from error
    for format_ in FORMATS:
        if not format_.folder_marks and (_has_suffix(path, format_) or start.startswith(format_.magic)):
            return format_
    raise FormatError(f"{path} is in no known format; expected {_known()}")


def format_to_write(path: Path) -> Format:
    """Return the format that the suffix of `path` asks for, or raise `FormatError`."""
    for format_ in FORMATS:
        if _has_suffix(path, format_):
            return format_
    raise FormatError(f"{path.name} names no known format; expected {_known()}")


def name_without_suffix(path: Path) -> str:
    """Return the file's name without the suffix of its format (and without ``.ome`` before it)."""
    lower = path.name.lower()
    suffix = next((s for f in FORMATS for s in f.suffixes if lower.endswith(s)), "")
    name = path.name[: len(path.name) - len(suffix)]
    return name[:-4] if suffix and name.lower().endswith(".ome") else name


def _format_of_folder(path: Path) -> Format:
    for format_ in FORMATS:
        if any((path / mark).is_file() for mark in format_.folder_marks):
            return format_
    raise FormatError(f"{path} is a folder but not a Zarr store; expected {_known()}")


def _has_suffix(path: Path, format_: Format) -> bool:
    return path.name.lower().endswith(format_.suffixes)


def _known() -> str:
    return ", ".join(f"{f.name} ({' '.join(f.suffixes)})" for f in FORMATS)
