"""Writing OME-TIFF: uncompressed planes into which blocks go directly, or compressed tiles with coarser levels."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import tifffile
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.io.pyramid import downsample
from voxloop.io.units import METRES, SYMBOLS
from voxloop.io.writers import Content, Header, RawWriter

_MAX_CLASSIC_SIZE = 2**31  # bytes; some readers take the offsets of classic TIFF as signed
# The pixel types of the OME schema that are numbers of ours.
_DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
_TILE = 256  # pixels along y and x; the coarsest level fits into one
_BUFFER = 2**24  # bytes of tiles that are compressed at a time


def create(path: Path, header: Header) -> RawWriter:
    """Return a writer of an OME-TIFF of axes (z, y, x), (c, z, y, x) or (z, c, y, x)."""
    if header.dtype.name not in _DTYPES:
        raise InputError(f"a TIFF cannot hold {header.dtype}; expected one of {', '.join(_DTYPES)}")
    if header.ome_tiff == "pyramid":
        return PyramidWriter(path, header)
    nbytes = prod(header.shape) * header.dtype.itemsize
    position = tifffile.imwrite(
        path,
        ome=True,
        bigtiff=nbytes > _MAX_CLASSIC_SIZE,
        returnoffset=True,
        **_described(header),
        **resolution_tags(header),
    )
    if position is None:
        raise InputError(f"a TIFF of shape {header.shape} cannot be written block by block")
    return RawWriter(path, header, offset=position[0])


class PyramidWriter(RawWriter):
    """Writes tiles compressed by deflate; each plane has SubIFDs of half its size, a quarter, and so on.

    A compressed file is written from its beginning, so the levels lie in files without a name until all voxels are
    there. Not more than a row of tiles is in memory: a map of the files would count as such.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        super().__init__(path, header, offset=0)

    def _open(self, path: Path) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=path.parent, buffering=0)

    def finish(self) -> None:
        """Make the coarser levels and encode all."""
        *lead, y, x = self.header.stored_shape
        levels = [_Level(self._file, (prod(lead), y, x), self.header.dtype)]
        try:
            while max(levels[-1].shape[1:]) > _TILE:
                levels.append(levels[-1].coarser(self._open(self._path)))
                levels[-2].halve_into(levels[-1], self.header.content)
            self._encode([(*lead, *level.shape[1:]) for level in levels], levels)
        finally:
            for level in levels:
                level.file.close()

    def _encode(self, shapes: list[tuple[int, ...]], levels: list[_Level]) -> None:
        finest = {**_described(self.header), "subifds": len(levels) - 1}
        coarser = {"subfiletype": 1, "photometric": "minisblack", "metadata": None}
        # Of what is not compressible, deflate makes a little more; the levels add up to a third.
        bigtiff = prod(shapes[0]) * self.header.dtype.itemsize * 1.4 > _MAX_CLASSIC_SIZE
        with tifffile.TiffWriter(self._path, bigtiff=bigtiff, ome=True) as tif:
            for k, (shape, level) in enumerate(zip(shapes, levels, strict=True)):
                tif.write(
                    level.tiles(),
                    **{**(coarser if k else finest), "shape": shape, "dtype": self.header.dtype},
                    tile=(_TILE, _TILE),
                    compression="zlib",
                    buffersize=_BUFFER,
                    **resolution_tags(self.header, factor=2**k),
                )


@dataclass(frozen=True)
class _Level:
    """The planes (plane, y, x) of one size, in a file that holds nothing else."""

    file: IO[bytes]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def tiles(self) -> Iterator[NDArray[Any]]:
        """Yield the tiles of all planes, row by row; those at the right and lower border may be smaller."""
        for rows in self._strips(_TILE):
            for x in range(0, self.shape[2], _TILE):
                yield rows[:, x : x + _TILE]

    def coarser(self, file: IO[bytes]) -> _Level:
        """Return a level of half the size along y and x, which is to be written into `file`."""
        planes, y, x = self.shape
        return _Level(file, (planes, -(-y // 2), -(-x // 2)), self.dtype)

    def halve_into(self, coarser: _Level, content: Content) -> None:
        """Write the planes at half their size into a coarser level."""
        for rows in self._strips(2 * _TILE):
            coarser.file.write(np.ascontiguousarray(downsample(rows[np.newaxis], (1, 2, 2), content)).data)

    def _strips(self, n_rows: int) -> Iterator[NDArray[Any]]:
        """Yield pieces (y, x) of all planes that are up to `n_rows` high."""
        planes, height, width = self.shape
        row_size = width * self.dtype.itemsize
        for row in range(0, planes * height, height):
            for start in range(row, row + height, n_rows):
                strip = np.empty((min(n_rows, row + height - start), width), self.dtype)
                self.file.seek(start * row_size)
                _read_into(self.file, strip)
                yield strip


def _read_into(file: IO[bytes], array: NDArray[Any]) -> None:
    remaining = array.data.cast("B")
    while remaining:
        n = file.readinto(remaining)  # type: ignore[attr-defined]  # files have it, typing.IO has not
        if not n:
            raise OSError("a temporary file is shorter than what was written to it")
        remaining = remaining[n:]


def _described(header: Header) -> dict[str, Any]:
    """Return what tifffile is told of the image, whatever its layout."""
    return {
        "shape": header.stored_shape,
        "dtype": header.dtype,
        "photometric": "minisblack",
        "metadata": _ome_fields(header),
    }


def _ome_fields(header: Header) -> dict[str, Any]:
    fields: dict[str, Any] = {"axes": header.axes.upper(), "Name": header.name}
    # By default it holds the time: then equal volumes would not be equal files.
    fields["UUID"] = str(uuid5(NAMESPACE_URL, f"voxloop:{header.name}:{header.shape}:{header.dtype}"))
    for axis, size in zip("ZYX", header.spacing, strict=True):
        fields |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": SYMBOLS[header.unit]}
    if header.channel_names:
        fields["Channel"] = {"Name": list(header.channel_names)}
    if header.channel_colors:
        fields["Channel"]["Color"] = [_signed_rgba(color) for color in header.channel_colors]
    if header.class_names:
        colors = header.class_colors or ("",) * len(header.class_names)
        named = enumerate(zip(header.class_names, colors, strict=True), start=1)
        fields["MapAnnotation"] = {
            "Namespace": "voxloop/classes",
            **{str(i): json.dumps({"name": name, "color": color}) for i, (name, color) in named},
        }
    return fields


def _signed_rgba(color: str) -> int:
    """Return an opaque colour as OME-XML has it: red, green, blue, alpha as the bytes of a signed integer."""
    return int.from_bytes(bytes.fromhex(f"{color[1:]}ff"), signed=True)


def resolution_tags(header: Header, *, factor: int = 1) -> dict[str, Any]:
    """Resolution in pixels per centimetre, for readers that do not know OME-XML, of pixels `factor` times as large."""
    if header.unit not in METRES:
        return {}
    per_centimetre = [METRES["centimeter"] / (size * factor * METRES[header.unit]) for size in header.spacing]
    return {"resolution": (per_centimetre[2], per_centimetre[1]), "resolutionunit": "CENTIMETER"}
