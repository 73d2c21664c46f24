"""NRRD, attached (.nrrd) or detached (.nhdr), of encodings raw, gzip and bzip2."""

from __future__ import annotations

import bz2
import gzip
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from voxloop.errors import FormatError, InputError
from voxloop.io.raw import ByteStream, Decompressed, data_file_beside, map_raw
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.units import SYMBOLS, affine_of, stored_unit
from voxloop.io.writers import Header, RawWriter
from voxloop.volume import Affine

# https://teem.sourceforge.net/nrrd/format.html#type
_TYPES = {
    "int8": ("signed char", "int8", "int8_t"),
    "uint8": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "int16": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "uint16": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "int32": ("int", "signed int", "int32", "int32_t"),
    "uint32": ("uint", "unsigned int", "uint32", "uint32_t"),
    "int64": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "uint64": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "float32": ("float",),
    "float64": ("double",),
}
_DTYPES = {spelling: np.dtype(name) for name, spellings in _TYPES.items() for spelling in spellings}
_STREAMS: dict[str, Callable[[IO[bytes]], ByteStream]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "gz": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "bz2": bz2.BZ2File,
}
_SPACE_KINDS = ("domain", "space")
_MAX_HEADER_NBYTES = 2**20
# Signs that turn a space's axes into those to the right, to the front, to the head.
_TO_RAS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (1, 1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1, 1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1, -1, 1)),
}
_ASCII_UNITS = {"angstrom": "angstrom", "micrometer": "um"}


def read(path: Path) -> StoredImage:
    """Return the image in `path`: the fastest of its spatial axes is x, one that is not spatial holds the channels."""
    with reading(path, "NRRD"):
        header, _ = _header(path)
        axes = _axes(header)
        names = [header[key] for i in range(1000) if (key := f"channel {i}") in header]
        sizes = _sizes(header, axes)
        return StoredImage(NrrdArray(path), axes[::-1], sizes, tuple(names), _affine(header, axes))


@dataclass(frozen=True)
class NrrdArray(StoredArray):
    """The voxels of an NRRD, the slowest axis first."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "NRRD"

    def _open(self) -> Any:
        header, offset = _header(self.path)
        file = self.path
        if (name := header.get("data file", header.get("datafile"))) is not None:
            if name.upper().startswith("LIST") or "%" in name:
                raise FormatError(f"{self.path} keeps its voxels in several files, which is not supported")
            file, offset = data_file_beside(self.path, name), 0
        shape = tuple(int(n) for n in header["sizes"])[::-1]
        dtype = _dtype(header)
        lines, skip = int(header.get("line skip", 0)), int(header.get("byte skip", 0))
        offset = _after_lines(file, offset, lines)
        encoding = str(header["encoding"]).lower()
        if encoding == "raw":
            nbytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
            offset = file.stat().st_size - nbytes if skip == -1 else offset + skip
            return map_raw(file, dtype=dtype, shape=shape, offset=offset)
        if encoding not in _STREAMS:
            raise FormatError(f"{self.path} has encoding {encoding!r}; expected raw, gzip or bzip2")
        deflate = encoding.startswith("g")
        stream = _STREAMS[encoding]
        return Decompressed(file, stream, dtype=dtype, shape=shape, start=offset, offset=skip, deflate=deflate)


def _header(path: Path) -> tuple[Mapping[str, Any], int]:
    """Return the fields of the header and where it ends."""
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER_NBYTES)
    end = min((start.find(blank) + len(blank) for blank in (b"\n\n", b"\n\r\n") if blank in start), default=len(start))
    return nrrd.read_header(start[:end].decode("utf-8", "replace").splitlines()), end


def _dtype(header: Mapping[str, Any]) -> np.dtype[Any]:
    dtype = _DTYPES.get(str(header["type"]).lower())
    if dtype is None:
        raise FormatError(f"type {header['type']!r} is not supported; expected {', '.join(_TYPES)}")
    return dtype.newbyteorder(">" if str(header.get("endian", "little")).lower() == "big" else "<")


def _axes(header: Mapping[str, Any]) -> str:
    """Return a letter per axis of the file, the fastest first."""
    n = int(header["dimension"])
    kinds = [str(kind).lower() for kind in header.get("kinds", ())]
    directions = header.get("space directions")
    if kinds and len(kinds) == n and any(kind in _SPACE_KINDS for kind in kinds):
        spatial = [kind in _SPACE_KINDS for kind in kinds]
    elif directions is not None and len(directions) == n:
        spatial = [direction is not None and not np.isnan(direction).any() for direction in directions]
    else:
        spatial = [True] * min(n, 3) + [False] * (n - 3)
    space, other = iter("xyz"), iter("ct")
    try:
        return "".join(next(space if is_spatial else other) for is_spatial in spatial)
    except StopIteration:
        raise FormatError(f"{n} axes, {sum(spatial)} of them spatial; expected at most x, y, z, c and t") from None


def _sizes(header: Mapping[str, Any], axes: str) -> dict[str, tuple[float, str]]:
    """Return the voxel size; of a patient's space without units it is in millimetres, as scanners export it."""
    if (directions := header.get("space directions")) is not None:
        lengths = [float(np.linalg.norm(d)) if d is not None else np.nan for d in directions]
        units = header.get("space units", ["mm" if "space" in header else ""])
        unit = stored_unit(str(units[0]).strip('"'))
        found = [(length, unit) for length in lengths]
    else:
        lengths = [float(spacing) for spacing in header.get("spacings", ())]
        names = [str(unit).strip('"') for unit in header.get("units", [""] * len(lengths))]
        found = [(length, stored_unit(name)) for length, name in zip(lengths, names, strict=False)]
    return {axis: size for axis, size in zip(axes, found, strict=False) if axis in "xyz" and np.isfinite(size[0])}


def _affine(header: Mapping[str, Any], axes: str) -> Affine | None:
    """Return where the voxels lie in a patient; None if the space is another one, or damaged."""
    signs = _TO_RAS.get(str(header.get("space", "")).lower())
    directions, origin = header.get("space directions"), header.get("space origin")
    if signs is None or directions is None or origin is None or not set("xyz") <= set(axes):
        return None
    columns = [np.asarray(directions[axes.index(axis)], float) for axis in "xyz"]
    affine = np.column_stack([*columns, np.asarray(origin, float)]) * np.array(signs)[:, np.newaxis]
    return affine_of(affine)


def _after_lines(file: Path, offset: int, n_lines: int) -> int:
    """Return where the voxels begin after lines to be skipped."""
    with file.open("rb") as stream:
        stream.seek(offset)
        for _ in range(n_lines):
            stream.readline(_MAX_HEADER_NBYTES)
        return stream.tell()


def create(path: Path, header: Header) -> RawWriter:
    """Return a writer of an uncompressed NRRD of axes (z, y, x), (c, z, y, x) or (z, y, x, c).

    Names become key/value pairs. Without an affine the origin of space is the first voxel.
    """
    if header.dtype.name not in _TYPES:
        raise InputError(f"an NRRD cannot hold {header.dtype}; expected {', '.join(_TYPES)}")
    fastest_first = header.axes[::-1]
    # Slicer and ITK take directions, not spacings.
    columns = np.diag(header.spacing[::-1]) if header.affine is None else np.array(header.affine)[:, :3]
    origin = np.zeros(3) if header.affine is None else np.array(header.affine)[:, 3]
    directions = [_vector(columns[:, "xyz".index(axis)]) if axis != "c" else "none" for axis in fastest_first]
    lines = [
        "NRRD0004",
        f"type: {header.dtype.name.replace('float32', 'float').replace('float64', 'double')}",
        f"dimension: {len(header.axes)}",
        "space dimension: 3" if header.affine is None else "space: right-anterior-superior",
        f"sizes: {' '.join(map(str, header.stored_shape[::-1]))}",
        f"space directions: {' '.join(directions)}",
        f"kinds: {' '.join('list' if axis == 'c' else 'domain' for axis in fastest_first)}",
        f"endian: {sys.byteorder}",
        "encoding: raw",
        f"space origin: {_vector(origin)}",
    ]
    if header.unit != "pixel":
        lines.append("space units: " + " ".join([f'"{_ASCII_UNITS.get(header.unit, SYMBOLS[header.unit])}"'] * 3))
    lines += [f"{key}:={_escaped(value)}" for key, value in _pairs(header).items()]
    start = ("\n".join(lines) + "\n\n").encode()
    path.write_bytes(start)
    return RawWriter(path, header, offset=len(start))


def _vector(values: NDArray[np.float64]) -> str:
    return f"({','.join(f'{value:.17g}' for value in values)})"


def _pairs(header: Header) -> dict[str, str]:
    """Return the names of channels, and those of classes with their colours as Slicer has them."""
    pairs = {f"channel {i}": name for i, name in enumerate(header.channel_names)}
    for i, name in enumerate(header.class_names):
        pairs |= {f"Segment{i}_Name": name, f"Segment{i}_LabelValue": str(i + 1)}
    for i, color in enumerate(header.class_colors):
        pairs[f"Segment{i}_Color"] = " ".join(f"{byte / 255:.6f}" for byte in bytes.fromhex(color[1:]))
    return pairs


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", " ")
