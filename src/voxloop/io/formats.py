"""The file formats: how a file is recognised, and the module that reads and writes it.

A new format is a new row here and a module with `read`, and `create` if it can be written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, cast

from voxloop.errors import FormatError, InputError, MissingFileError
from voxloop.io.inside import is_numbered, is_pattern, matching_files, name_of_pattern, split_inside
from voxloop.io.stored import StoredImage, missing_library
from voxloop.io.writers import Header, VolumeWriter

Description = Literal["spacing", "channels", "classes"]


class FormatModule(Protocol):
    """What the module of a format provides; `create` only where it can be written."""

    def read(self, path: Path) -> StoredImage:
        """Return the image in `path`; its voxels stay there."""

    def create(self, path: Path, header: Header) -> VolumeWriter:
        """Return a writer of a new file or folder `path`."""


@dataclass(frozen=True)
class Format:
    """One format: its name and suffixes, the module that reads it, and what else tells that a file is in it.

    Attributes
    ----------
    magic, magic_offset
        Bytes that its files hold, and where.
    folder_marks
        Files that mark a folder as a store of this format.
    holds_datasets
        Whether a path may lead on into a file, such as ``cells.h5/volumes/raw``.
    writable
        Whether it can be written.
    resumable
        Whether `create` goes on with what it finds at its path: blocks are files of their own.
    axes
        Orders of axes that a written file can have, the usual one first; none if it can have any, (z, y, x, c) usually.
    describes
        What a written file says of its content: the size of a voxel, the names of channels, those of classes.
    extra
        What to install if its library is missing: an optional dependency of voxloop.
    """

    name: str
    suffixes: tuple[str, ...]
    module_name: str
    magic: tuple[bytes, ...] = ()
    magic_offset: int = 0
    folder_marks: tuple[str, ...] = ()
    holds_datasets: bool = False
    writable: bool = True
    resumable: bool = False
    axes: tuple[str, ...] = ()
    describes: tuple[Description, ...] = ("spacing", "channels", "classes")
    extra: str = "formats"

    @property
    def module(self) -> FormatModule:
        """The module, imported when it is first needed: some of the libraries below take half a second."""
        try:
            return cast("FormatModule", import_module(f"voxloop.io.{self.module_name}"))
        except ModuleNotFoundError as error:
            raise missing_library(self.name, error.name or self.module_name, extra=self.extra) from error

    def axes_to_write(self, asked: str | None, n_axes: int) -> str:
        """Return the order of axes of a file of `n_axes` axes, or raise `InputError` if it cannot be as asked for."""
        usual = "zyxc"[:n_axes]
        possible = [axes for axes in self.axes if len(axes) == n_axes]
        if asked is None:
            return possible[0] if possible else usual
        if sorted(asked) != sorted(usual):
            raise InputError(f"axes is {asked!r}; expected the letters of {usual!r}, each once, in any order")
        if self.axes and asked not in possible:
            raise InputError(f"axes is {asked!r}, which {self.name} does not hold; expected {' or '.join(possible)}")
        return asked

    def has_suffix(self, name: str) -> bool:
        """Return whether a file's name ends as those of this format do."""
        return name.lower().endswith(self.suffixes)

    def has_magic(self, start: bytes) -> bool:
        """Return whether the first bytes of a file are those of this format."""
        return bool(self.magic) and start[self.magic_offset :].startswith(self.magic)


_N5 = Format("N5", (".n5",), "n5", folder_marks=("attributes.json",), resumable=True)
_STACK = Format(
    "PNG, JPEG or BMP", (".png", ".jpg", ".jpeg", ".bmp"), "stack", magic=(b"\x89PNG", b"\xff\xd8\xff"),
    axes=("zyx", "zyxc"), describes=(),
)  # fmt: skip
_DICOM = Format("DICOM", (".dcm", ".ima"), "dicom", magic=(b"DICM",), magic_offset=128, writable=False)
FORMATS = (
    Format(
        "TIFF", (".tif", ".tiff", ".btf"), "tiff", magic=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        axes=("zyx", "czyx", "zcyx"),
    ),
    Format("NumPy", (".npy",), "npy", magic=(b"\x93NUMPY",), describes=()),
    Format(
        "Zarr", (".zarr",), "zarr", folder_marks=("zarr.json", ".zarray", ".zgroup"), resumable=True,
        axes=("zyx", "czyx"),
    ),
    Format("NumPy archive", (".npz",), "npz", holds_datasets=True, writable=False),
    Format("HDF5", (".h5", ".hdf5"), "hdf5", magic=(b"\x89HDF\r\n\x1a\n",), holds_datasets=True),
    _N5,
    _STACK,
    Format(
        "NIfTI", (".nii", ".nii.gz"), "nifti", magic=(b"n+1\0",), magic_offset=344,
        axes=("zyx", "czyx"), describes=("spacing",),
    ),
    Format(
        "MRC", (".mrc", ".rec", ".map", ".st"), "mrc", magic=(b"MAP ",), magic_offset=208,
        axes=("zyx", "zyxc"), describes=("spacing",),
    ),
    Format("NRRD", (".nrrd", ".nhdr"), "nrrd", magic=(b"NRRD",), axes=("zyx", "czyx", "zyxc")),
    Format("MetaImage", (".mha", ".mhd"), "metaimage", writable=False),
    _DICOM,
    Format(
        "Microscope file",
        (".czi", ".dv", ".ics", ".lif", ".nd2", ".oib", ".oif", ".oir", ".r3d", ".sldy", ".vsi", ".zvi"), "bioio",
        holds_datasets=True, writable=False, extra="bioio",
    ),
)  # fmt: skip
_START = 348  # bytes, up to the end of the last magic


def format_of_file(path: Path) -> Format:
    """Return the format of an existing file or folder, by its suffix or else by its content.

    Raises
    ------
    MissingFileError
        If there is nothing, or it cannot be read.
    FormatError
        If the format is not known.
    """
    if is_pattern(path):
        if not matching_files(path):
            raise MissingFileError(f"{path} matches no file")
        return _STACK
    if _is_series_in_folder(path):
        return _DICOM
    file, inside = split_inside(path)
    try:
        if path.is_dir():
            return _format_of_folder(path)
        with file.open("rb") as stream:
            start = stream.read(_START)
    except FileNotFoundError:
        raise MissingFileError(f"{path} does not exist") from None
    except OSError as error:
        raise MissingFileError(f"{path} cannot be read: {error.strerror}") from error
    for format_ in FORMATS:
        if not format_.folder_marks and (format_.has_suffix(file.name) or format_.has_magic(start)):
            if inside and not format_.holds_datasets:
                raise MissingFileError(f"{path} does not exist: {file} is a file")
            return format_
    raise FormatError(f"{path} is in no known format; expected {_known(FORMATS)}")


def format_to_write(path: Path) -> Format:
    """Return the format that the suffix of `path` asks for, or raise `FormatError`."""
    writable = [format_ for format_ in FORMATS if format_.writable]
    for format_ in writable:
        if format_.has_suffix(path.name) and path.suffix.lower() not in (".jpg", ".jpeg", ".nhdr"):
            if not is_numbered(path):
                return format_
            if path.suffix.lower() not in (".png", ".bmp", ".tif", ".tiff"):
                raise FormatError(f"{path.name} asks for a file per slice; expected .png, .bmp, .tif or .tiff")
            return _STACK
    raise FormatError(f"{path.name} names no known format; expected {_known(writable)}")


def name_without_suffix(path: Path) -> str:
    """Return the file's name without the suffix of its format (and without ``.ome`` before it).

    Of a path into a file the name inside is added, of a pattern it is what is before the first wildcard.
    """
    if is_numbered(path) or (is_pattern(path) and matching_files(path)):
        return name_of_pattern(path)
    file, inside = split_inside(path)
    suffix = max((s for f in FORMATS for s in f.suffixes if file.name.lower().endswith(s)), key=len, default="")
    name = file.name[: len(file.name) - len(suffix)]
    name = name[:-4] if suffix and name.lower().endswith(".ome") else name
    return f"{name}-{inside.rsplit('/', 1)[-1]}" if inside else name


def folder_of(path: Path) -> Path:
    """Return the folder that the file, store or stack of `path` lies in, also where `path` leads into it."""
    outer = split_inside(path.absolute())[0]
    marks = [mark for format_ in FORMATS for mark in format_.folder_marks]
    while any((outer.parent / mark).is_file() for mark in marks):
        outer = outer.parent
    return outer.parent


def _format_of_folder(path: Path) -> Format:
    for format_ in FORMATS:
        if any((path / mark).is_file() for mark in format_.folder_marks):
            return format_
    if any(folder.suffix.lower() == ".n5" for folder in (path, *path.parents)):
        return _N5  # whose groups need no attributes
    visible = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    if any(_is_dicom(file) for file in visible):
        return _DICOM
    if any(_STACK.has_suffix(file.name) or file.suffix.lower() in (".tif", ".tiff") for file in visible):
        return _STACK
    raise FormatError(
        f"{path} is a folder but not a Zarr store, an N5 container, a DICOM series or a stack of images; "
        f"expected {_known(FORMATS)}"
    )


def _is_dicom(file: Path) -> bool:
    """Return whether a file is DICOM; most scanners write no suffix."""
    if _DICOM.has_suffix(file.name):
        return True
    with file.open("rb") as stream:
        return _DICOM.has_magic(stream.read(_START))


def _is_series_in_folder(path: Path) -> bool:
    """Return whether a path is that of a DICOM folder, followed by the identifier of a series in it."""
    return bool(re.fullmatch(r"\d+(\.\d+)+", path.name)) and path.parent.is_dir() and not path.exists()


def _known(formats: Sequence[Format]) -> str:
    return ", ".join(f"{f.name} ({' '.join(f.suffixes)})" for f in formats)
