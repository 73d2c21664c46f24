"""MetaImage, in one file (.mha) or a header with a file of voxels beside it (.mhd), plain or compressed.

https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from voxloop.errors import FormatError
from voxloop.io.raw import Decompressed, data_file_beside, map_raw
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.units import affine_of, stored_unit
from voxloop.volume import Affine

_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MAX_LINE_NBYTES = 2**16
_MAX_LINES = 1000


def read(path: Path) -> StoredImage:
    """Return the image in `path`; without a unit its lengths are in millimetres, as ITK takes them."""
    with reading(path, "MetaImage"):
        header, _ = _header(path)
        axes = "xyzt"[: len(_shape(header))]
        lengths = [float(s) for s in header.get("ElementSpacing", header.get("ElementSize", "")).split()]
        unit = stored_unit(header.get("DistanceUnits", "mm"))
        sizes = {axis: (abs(s), unit) for axis, s in zip(axes, lengths, strict=False) if axis != "t"}
        letters = axes[::-1] + ("c" if _n_channels(header) > 1 else "")
        return StoredImage(MetaImageArray(path), letters, sizes, affine=_affine(header, lengths))


@dataclass(frozen=True)
class MetaImageArray(StoredArray):
    """The voxels of a MetaImage, the slowest axis first, channels last."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "MetaImage"

    def _open(self) -> Any:
        header, offset = _header(self.path)
        file = self.path
        if (name := header["ElementDataFile"]) != "LOCAL":
            if name.upper().startswith("LIST") or "%" in name:
                raise FormatError(f"{self.path} keeps its voxels in several files, which is not supported")
            file, offset = data_file_beside(self.path, name), 0
        if not _is_true(header, "BinaryData", "True"):
            raise FormatError(f"{self.path} holds its voxels as text; expected BinaryData = True")
        dtype = np.dtype(_DTYPES[header["ElementType"].upper().removesuffix("_ARRAY")])
        big = _is_true(header, "BinaryDataByteOrderMSB") or _is_true(header, "ElementByteOrderMSB")
        dtype = dtype.newbyteorder(">" if big else "<")
        shape = _shape(header)[::-1]
        shape = (*shape, _n_channels(header)) if _n_channels(header) > 1 else shape
        if _is_true(header, "CompressedData"):
            return Decompressed(file, _ZlibStream, dtype=dtype, shape=shape, start=offset)
        skip = int(header.get("HeaderSize", 0))
        if skip == -1:  # the voxels end with the file
            offset = file.stat().st_size - int(np.prod(shape, dtype=object)) * dtype.itemsize
        return map_raw(file, dtype=dtype, shape=shape, offset=offset + max(skip, 0))


def _header(path: Path) -> tuple[Mapping[str, str], int]:
    """Return the fields of the header and where it ends: with the name of the file of voxels."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_MAX_LINES):
            line = file.readline(_MAX_LINE_NBYTES)
            key, equals, value = line.decode("utf-8", "replace").partition("=")
            if not equals:
                break
            fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                return fields, file.tell()
    raise FormatError(f"{path} has no MetaImage header: it does not name ElementDataFile")


def _shape(header: Mapping[str, str]) -> tuple[int, ...]:
    """Return the number of voxels along x, y, z."""
    shape = tuple(int(n) for n in header["DimSize"].split())
    if len(shape) != int(header["NDims"]) or not 2 <= len(shape) <= 4:
        raise FormatError(f"NDims is {header['NDims']} and DimSize {header['DimSize']!r}; expected 2 to 4 axes")
    return shape


def _affine(header: Mapping[str, str], lengths: list[float]) -> Affine | None:
    """Return where the voxels lie: MetaIO's space goes to the left, to the back, to the head."""
    turn = header.get("TransformMatrix", header.get("Rotation", header.get("Orientation", ""))).split()
    origin = header.get("Offset", header.get("Position", header.get("Origin", ""))).split()
    if len(turn) != 9 or len(origin) != 3 or len(lengths) != 3:
        return None
    columns = np.array(turn, float).reshape(3, 3).T * np.abs(lengths)
    return affine_of(np.column_stack([columns, np.array(origin, float)]) * np.array([[-1], [-1], [1]]))


def _n_channels(header: Mapping[str, str]) -> int:
    return int(header.get("ElementNumberOfChannels", 1))


def _is_true(header: Mapping[str, str], key: str, default: str = "False") -> bool:
    return header.get(key, default).lower() in ("true", "1")


class _ZlibStream:
    """The decompressed content of a file; a piece at a time is in memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        # 32: zlib and gzip, as MetaIO takes either.
        self._decompressor = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
        self._waiting = b""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""
        while not self._decompressor.eof:
            compressed = self._waiting or self._file.read(2**16)
            piece = self._decompressor.decompress(compressed, max(size, 1))
            self._waiting = self._decompressor.unconsumed_tail
            if piece or not compressed:
                return piece
        return b""
