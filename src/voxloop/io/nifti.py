"""NIfTI-1 and NIfTI-2 in one file, plain (.nii) or compressed (.nii.gz).

The first axis of the file is x, the second y, the third z, whatever way the patient lay: the voxels keep their order,
so that labels fit the file that they were painted on, and the slices are those that were acquired.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from voxloop.errors import FormatError, InputError
from voxloop.io.raw import Decompressed, Rescaled, map_raw
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.units import METRES, affine_of, stored_unit
from voxloop.io.writers import EncodedWriter, Header, RawWriter, VolumeWriter
from voxloop.volume import Affine

NiftiHeader = Any  # nibabel.Nifti1Header or Nifti2Header, whose methods have no types

_GZIP = b"\x1f\x8b"
_MAX_NIFTI1_LENGTH = 32767  # along an axis, a 16-bit integer
_HEADER_NBYTES = 540  # of NIfTI-2, the longer one
_FIRST_VOXEL = {348: 352, 540: 544}  # bytes, by the header's length
_INTENT_VECTOR, _INTENT_LABEL = 1007, 1002


def read(path: Path) -> StoredImage:
    """Return the image in `path`; values are scaled as the header says."""
    with reading(path, "NIfTI"):
        header = _header(path)
        _, axes = _layout(header)
        unit = stored_unit(header.get_xyzt_units()[0])
        # The shortest decimal that a size in single precision stands for: 0.3 rather than 0.30000001192092896.
        sizes = {axis: (float(str(size)), unit) for axis, size in zip("xyz", header["pixdim"][1:4], strict=True)}
        return StoredImage(NiftiArray(path), axes, sizes, affine=_affine(header))


@dataclass(frozen=True)
class NiftiArray(StoredArray):
    """The voxels of a NIfTI file, the last axis of the file first."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "NIfTI"

    def _open(self) -> Any:
        header = _header(self.path)
        shape, _ = _layout(header)
        dtype = header.get_data_dtype()
        if dtype.names:  # colours, a byte each
            dtype = np.dtype(np.uint8)
        offset = max(int(header.get_data_offset()), _FIRST_VOXEL[header.template_dtype.itemsize])
        if _is_compressed(self.path):
            array: Any = Decompressed(self.path, _gunzip, dtype=dtype, shape=shape, offset=offset)
        else:
            array = map_raw(self.path, dtype=dtype, shape=shape, offset=offset)
        slope, intercept = header.get_slope_inter()
        if slope is None or (slope, intercept or 0.0) == (1.0, 0.0):
            return array
        return Rescaled(array, slope, intercept or 0.0)


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == _GZIP


def _gunzip(file: IO[bytes]) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=file)


def _header(path: Path) -> NiftiHeader:
    """Return the header; extensions, of any announced length, are not read."""
    with path.open("rb") as file:
        start = (_gunzip(file) if _is_compressed(path) else file).read(_HEADER_NBYTES)
    header_types: tuple[Any, ...] = (nibabel.Nifti1Header, nibabel.Nifti2Header)
    for header_type in header_types:
        nbytes = header_type.template_dtype.itemsize
        length = start[:4]
        if nbytes in (int.from_bytes(length, "little"), int.from_bytes(length, "big")) and len(start) >= nbytes:
            header = header_type(start[:nbytes], check=False)
            if not bytes(header["magic"]).startswith(b"n+"):
                raise FormatError(f"{path} holds the header of a pair of files; expected a NIfTI in one file")
            return header
    raise FormatError(f"{path} has no NIfTI header")


def _layout(header: NiftiHeader) -> tuple[tuple[int, ...], str]:
    """Return the shape, the last axis of the file first, and the axes; the fifth axis of the file holds channels."""
    shape = [int(n) for n in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if not 1 <= len(shape) <= 5:
        raise FormatError(f"the header announces {len(shape)} axes; expected at most x, y, z, time and channels")
    shape += [1] * (2 - len(shape))
    axes = "xyztc"[: len(shape)][::-1]
    fields = header.get_data_dtype().names
    return (*shape[::-1], *((len(fields),) if fields else ())), axes + ("s" if fields else "")


def _affine(header: NiftiHeader) -> Affine | None:
    """Return where the voxels lie: the sform, or else the qform; None if the header has neither, or a damaged one."""
    if not (int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0):
        return None
    try:
        affine = header.get_best_affine()
    except (HeaderDataError, ValueError):  # a quaternion that is none
        return None
    return affine_of(affine)


def create(path: Path, header: Header) -> VolumeWriter:
    """Return a writer of a NIfTI-1 file, NIfTI-2 if an axis is longer than 32767; channels are the fifth axis.

    Lengths are stored in micrometres, millimetres or metres, which are all that NIfTI has. Without an affine the
    origin of space is the first voxel.
    """
    start = _start_of_file(header)
    if header.path.name.lower().endswith(".gz"):
        return _GzipWriter(path, header, start)
    path.write_bytes(start)
    return RawWriter(path, header, offset=len(start))


class _GzipWriter(EncodedWriter):
    def __init__(self, path: Path, header: Header, start: bytes) -> None:
        self._path, self._start = path, start
        super().__init__(path, header)

    def _encode(self, voxels: NDArray[Any]) -> None:
        # Level 1, as nibabel: higher ones take several times as long for a few per cent. No time, for equal bytes.
        with (
            self._path.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed,
        ):
            compressed.write(self._start)
            for plane in voxels.reshape(-1, *voxels.shape[-2:]):
                compressed.write(plane.data)


def _start_of_file(header: Header) -> bytes:
    """Return the header and the four bytes that say that no extension follows."""
    z, y, x = header.spatial_shape
    shape = (x, y, z, 1, header.n_channels) if header.n_channels > 1 else (x, y, z)
    nifti = nibabel.Nifti1Header() if max(shape) <= _MAX_NIFTI1_LENGTH else nibabel.Nifti2Header()
    try:
        nifti.set_data_dtype(header.dtype)
    except HeaderDataError:
        raise InputError(f"a NIfTI file cannot hold {header.dtype}; expected another type") from None
    factor, unit = _in_nifti_units(header.unit)
    spacing = tuple(size * factor for size in header.spacing)
    nifti.set_data_shape(shape)
    nifti.set_zooms([*spacing[::-1], *([1.0] * (len(shape) - 3))])
    nifti.set_xyzt_units(unit)
    nifti.set_slope_inter(1.0, 0.0)
    affine = np.diag([*spacing[::-1], 1.0])
    if header.affine is not None:
        affine[:3] = np.multiply(header.affine, factor)
    nifti.set_sform(affine, code="aligned")
    nifti.set_qform(affine, code="aligned")
    nifti["intent_code"] = _INTENT_VECTOR if header.n_channels > 1 else _INTENT_LABEL * (header.content == "labels")
    nifti["descrip"] = b"voxloop"
    nifti["magic"] = nifti.single_magic
    nifti["vox_offset"] = _FIRST_VOXEL[nifti.template_dtype.itemsize]
    return bytes(nifti.binaryblock) + b"\0" * 4


def _in_nifti_units(unit_of_spacing: str) -> tuple[float, str | int]:
    """Return the size of a unit in the nearest one that NIfTI has, and nibabel's name of that."""
    if unit_of_spacing not in METRES:
        return 1.0, 0
    metres = METRES[unit_of_spacing]
    unit, name = next(
        (u, n) for u, n in (("meter", "meter"), ("millimeter", "mm"), ("micrometer", "micron"), (None, "micron"))
        if u is None or metres >= METRES[u]
    )  # fmt: skip
    return metres / METRES[unit or "micrometer"], name
