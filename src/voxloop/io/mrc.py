"""MRC2014 (Cheng et al., J. Struct. Biol. 192, 146, 2015) and its dialects: .mrc, .rec, .map, .st."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from voxloop.errors import FormatError, InputError
from voxloop.io.raw import map_raw
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.units import METRES
from voxloop.io.writers import Header, RawWriter

_HEADER_NBYTES = 1024
_IMOD_STAMP = 1146047817  # "IMOD", https://bio3d.colorado.edu/imod/doc/mrc_format.txt
_IMOD_AT = slice(40, 48)  # stamp and flags, within the second block of extra space
_SIGNED_BYTES = 1
_STAMP_AT = slice(212, 214)
_BIG_ENDIAN_STAMPS = (b"\x11\x11",)
_MODES = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}


def read(path: Path) -> StoredImage:
    """Return the volume in `path`, with its voxel size in nanometres."""
    with reading(path, "MRC"):
        header = _header(path)
        order = [int(header[field]) for field in ("maps", "mapr", "mapc")]
        # Old writers leave the axes at 0: then they are z, y, x.
        axes = "".join("xyz"[i - 1] for i in order) if sorted(order) == [1, 2, 3] else "zyx"
        sizes = {}
        for axis in "xyz":
            if header[f"m{axis}"] > 0:
                sizes[axis] = (float(header.cella[axis]) / int(header[f"m{axis}"]) / 10, "nanometer")
        return StoredImage(MrcArray(path), ("t" if len(_shape(header)) == 4 else "") + axes, sizes)


@dataclass(frozen=True)
class MrcArray(StoredArray):
    """The volume in an MRC file, sections first."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "MRC"

    def _open(self) -> Any:
        header = _header(self.path)
        dtype = mrcfile.utils.data_dtype_from_header(header)
        if dtype == np.int8 and _imod_bytes_are_unsigned(header):
            dtype = np.dtype(np.uint8)
        offset = _HEADER_NBYTES + int(header.nsymbt)
        return map_raw(self.path, dtype=dtype, shape=_shape(header), offset=offset)


def _shape(header: np.recarray[Any, Any]) -> tuple[int, ...]:
    """Return the shape of a volume, of an image as one section, or of several volumes."""
    if min(header.nx, header.ny, header.nz, header.nsymbt + 1) < 1:
        raise FormatError(f"an image of {header.nx} x {header.ny} x {header.nz} voxels is announced")
    shape = tuple(int(n) for n in mrcfile.utils.data_shape_from_header(header))
    return (1, *shape) if len(shape) == 2 else shape


def _header(path: Path) -> np.recarray[Any, Any]:
    """Return the header; the extended one, of any announced length, is not read.

    Old files have neither the mark "MAP " nor a machine stamp: they are in the byte order in which they make sense.
    """
    with path.open("rb") as file:
        start = file.read(_HEADER_NBYTES)
    if len(start) < _HEADER_NBYTES:
        raise FormatError(f"{path} has no MRC header")
    # Without axes, but arrays still: the fields keep their byte order, which mrcfile looks at.
    headers = [np.frombuffer(start, HEADER_DTYPE.newbyteorder(o)).reshape(()).view(np.recarray) for o in "<>"]
    if start[_STAMP_AT] in _BIG_ENDIAN_STAMPS:
        headers.reverse()
    size = path.stat().st_size
    for header in headers:
        shape = [int(header[field]) for field in ("nx", "ny", "nz")]
        if min(shape) > 0 <= int(header.nsymbt) and prod(shape) <= size and int(header.mode) in _MODES.values():
            return header
    return headers[0]


def _imod_bytes_are_unsigned(header: np.recarray[Any, Any]) -> bool:
    """Return whether mode 0 means 0 to 255, as in files of IMOD that do not say otherwise."""
    order = header.dtype["nx"].byteorder
    stamp, flags = np.frombuffer(header.extra2.tobytes()[_IMOD_AT], np.dtype(np.int32).newbyteorder(order))
    return bool(stamp == _IMOD_STAMP and not flags & _SIGNED_BYTES)


def create(path: Path, header: Header) -> RawWriter:
    """Return a writer of an MRC2014 volume; `uint8` is stored as `uint16`, for the bytes of MRC are signed."""
    dtype = np.dtype(np.uint16) if header.dtype == np.uint8 else header.dtype
    if dtype.name not in _MODES or header.n_channels > 1:
        raise InputError(
            f"an MRC file cannot hold {header.dtype} of {header.n_channels} channel(s); "
            f"expected uint8, {', '.join(_MODES)} of one"
        )
    if header.unit in METRES:
        factor = METRES[header.unit] / METRES["angstrom"]
        size = tuple(s * factor for s in header.spacing[::-1])
    else:
        size = (0.0, 0.0, 0.0)  # which says that it is not known
    with mrcfile.new_mmap(path, shape=header.spatial_shape, mrc_mode=_MODES[dtype.name]) as mrc:
        mrc.set_volume()
        mrc.voxel_size = size
        mrc.add_label("voxloop")
    return RawWriter(path, replace(header, dtype=dtype), offset=_HEADER_NBYTES)
