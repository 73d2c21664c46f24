"""DICOM: a series of single-frame images in one folder, or one such image.

The slices are sorted by their position along the normal of the image plane (DICOM PS3.3, C.7.6.2.1), which is axis z;
rows are y, columns x. Values are rescaled to the unit of the modality, such as Hounsfield units.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from voxloop.errors import FormatError, InputError
from voxloop.io.raw import rescale, rescaled_dtype
from voxloop.io.slices import SliceStack
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.units import affine_of
from voxloop.volume import Affine

_TAGS = [
    "SeriesInstanceUID",
    "SeriesDescription",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "NumberOfFrames",
    "RescaleSlope",
    "RescaleIntercept",
    "SliceThickness",
    "SpacingBetweenSlices",
]
# Decoders of imagecodecs by transfer syntax; pydicom itself reads the uncompressed ones and run lengths.
_CODECS = {
    "1.2.840.10008.1.2.4.50": "jpeg_decode",
    "1.2.840.10008.1.2.4.51": "jpeg_decode",
    "1.2.840.10008.1.2.4.57": "jpeg_decode",
    "1.2.840.10008.1.2.4.70": "jpeg_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
}
_MAX_GAP = 1.5  # of the usual distance between slices: less is rounding, more is a missing slice


@dataclass(frozen=True)
class _Slice:
    """What the header of one file says."""

    file: Path
    series: str
    description: str
    number: int
    shape: tuple[int, ...]
    pixel_size: tuple[float, float] | None
    corner: tuple[float, ...]
    position: float | None
    orientation: tuple[float, ...]
    dtype: np.dtype[Any]
    limits: tuple[int, int]
    slope: float
    intercept: float
    spacing: float | None


def read(path: Path) -> StoredImage:
    """Return the series in the folder `path` (or of the identifier after it), or the image in the file `path`."""
    with reading(path, "DICOM"):
        slices = _slices(path)
        first = slices[0]
        sizes = {}
        if first.pixel_size is not None:
            sizes = {a: (size, "millimeter") for a, size in zip("yx", first.pixel_size, strict=True)}
        if (spacing := _distance(slices)) is not None:
            sizes["z"] = (spacing, "millimeter")
        axes = "zyxs" if len(first.shape) == 3 else "zyx"
        return StoredImage(DicomSeries(path), axes, sizes, affine=_affine(slices, sizes))


@dataclass(frozen=True)
class DicomSeries(StoredArray):
    """The sorted slices of a series."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "DICOM"

    def _open(self) -> Any:
        slices = _slices(self.path)
        dtypes = [rescaled_dtype(s.dtype, s.limits, s.slope, s.intercept) for s in slices]
        dtype = np.result_type(*dtypes)

        def decode(z: int) -> NDArray[Any]:
            with reading(slices[z].file, "DICOM"):
                return rescale(_pixels(slices[z]), slices[z].slope, slices[z].intercept, dtype)

        return SliceStack(len(slices), slices[0].shape, dtype, decode)

    @property
    def stored_size(self) -> int:
        """Bytes of all slices on disk."""
        return sum(s.file.stat().st_size for s in _slices(self.path))


def _slices(path: Path) -> list[_Slice]:
    """Return the slices of the one series that is meant, sorted and checked."""
    if path.is_file():
        return [_checked_slice(path)]
    folder, series = (path, None) if path.is_dir() else (path.parent, path.name)
    visible = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    found = [s for s in map(_slice, visible) if s is not None]
    ids = sorted({s.series for s in found})
    if series is None and len(ids) > 1:
        listed = ", ".join(f"{i} ({_words(found, i)})" for i in ids)
        raise InputError(f"{folder} holds {len(ids)} series: {listed}; choose one, such as {folder / ids[0]}")
    chosen = [s for s in found if series in (None, s.series)]
    if not chosen:
        raise FormatError(f"{folder} holds no DICOM images" + (f" of series {series}" if series else ""))
    return _sorted(folder, chosen)


def _words(slices: list[_Slice], series: str) -> str:
    own = [s for s in slices if s.series == series]
    return f"{own[0].description or 'no description'}, {len(own)} images"


def _checked_slice(file: Path) -> _Slice:
    found = _slice(file)
    if found is None:
        raise FormatError(f"{file} is not a DICOM image")
    return found


def _slice(file: Path) -> _Slice | None:
    """Return what a file's header says, None if it is no DICOM file or holds no image, such as a DICOMDIR."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about values that break the standard, as many scanners write them
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
    except InvalidDicomError:
        return None
    if "Rows" not in header or "Columns" not in header:
        return None
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"{file} holds {header.NumberOfFrames} frames; expected a series with one image per file")
    allocated, stored = int(header.BitsAllocated), int(header.get("BitsStored") or header.BitsAllocated)
    signed = int(header.get("PixelRepresentation") or 0)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise FormatError(f"{file} has {allocated} bits per pixel; expected 8, 16 or 32")
    samples = int(header.get("SamplesPerPixel") or 1)
    shape = (int(header.Rows), int(header.Columns), samples)
    size = header.get("PixelSpacing")
    orientation = tuple(float(v) for v in header.get("ImageOrientationPatient") or ())
    position = header.get("ImagePositionPatient")
    return _Slice(
        file=file,
        series=str(header.get("SeriesInstanceUID", "")),
        description=str(header.get("SeriesDescription", "")),
        number=int(header.get("InstanceNumber") or 0),
        shape=shape if samples > 1 else shape[:2],
        pixel_size=(float(size[0]), float(size[1])) if size else None,
        corner=tuple(float(v) for v in position or ()),
        position=_along_normal(position, orientation) if position and len(orientation) == 6 else None,
        orientation=orientation,
        dtype=np.dtype(f"{'i' if signed else 'u'}{allocated // 8}"),
        limits=(-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1),
        slope=float(header.get("RescaleSlope") or 1),
        intercept=float(header.get("RescaleIntercept") or 0),
        spacing=float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 0) or None,
    )


def _along_normal(position: Any, orientation: tuple[float, ...]) -> float:
    """Return where an image lies along the normal of its plane."""
    normal = np.cross(orientation[:3], orientation[3:])
    return float(np.dot(normal, [float(v) for v in position]))


def _sorted(folder: Path, slices: list[_Slice]) -> list[_Slice]:
    """Return the slices by their position, by their number if they have none, or raise if they are no volume."""
    first = slices[0]
    for s in slices[1:]:
        if (s.shape, s.dtype) != (first.shape, first.dtype):
            raise InputError(f"{s.file} is {s.shape} {s.dtype} but {first.file.name} is {first.shape} {first.dtype}")
        if not np.allclose(s.orientation, first.orientation, atol=1e-3) or s.pixel_size != first.pixel_size:
            raise InputError(f"{s.file} has another orientation or pixel size than {first.file.name}")
    if any(s.position is None for s in slices):
        return sorted(slices, key=lambda s: s.number)
    ordered = sorted(slices, key=lambda s: s.position or 0.0)
    positions = [s.position or 0.0 for s in ordered]
    gaps = np.diff(positions)
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    for below, above, gap in zip(ordered, ordered[1:], gaps, strict=False):
        if gap < 1e-3 * max(usual, 1e-3):
            raise InputError(f"{folder} is no volume: {below.file.name} and {above.file.name} lie at one position")
        if gap > _MAX_GAP * usual:
            raise InputError(
                f"{folder} lacks slices: {below.file.name} and {above.file.name} are {gap:g} mm apart, others {usual:g}"
            )
    return ordered


def _distance(slices: list[_Slice]) -> float | None:
    """Return the distance between slices; of one slice, or of ones without positions, what the header says."""
    first, last = slices[0].position, slices[-1].position
    if len(slices) > 1 and first is not None and last is not None:
        return abs(last - first) / (len(slices) - 1)
    return slices[0].spacing


def _affine(slices: list[_Slice], sizes: dict[str, tuple[float, str]]) -> Affine | None:
    """Return where the voxels lie (DICOM PS3.3, C.7.6.2.1.1); the standard's space goes to the left and to the back."""
    first, last = slices[0], slices[-1]
    if first.position is None or set(sizes) != set("zyx"):
        return None
    along_row, along_column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    if len(slices) > 1:  # of a tilted gantry the slices are shifted against one another
        along_z = np.subtract(last.corner, first.corner) / (len(slices) - 1)
    else:
        along_z = np.cross(along_row, along_column) * sizes["z"][0]
    columns = [along_row * sizes["x"][0], along_column * sizes["y"][0], along_z, np.array(first.corner)]
    return affine_of(np.column_stack(columns) * np.array([[-1], [-1], [1]]))


def _pixels(image: _Slice) -> NDArray[Any]:
    """Return the stored values (y, x) or (y, x, s) of a slice."""
    dataset = pydicom.dcmread(image.file)
    syntax = dataset.file_meta.TransferSyntaxUID
    if str(syntax) in _CODECS:
        import imagecodecs  # here, for it takes long to import and most files need none

        decode: Callable[[bytes], NDArray[Any]] = getattr(imagecodecs, _CODECS[str(syntax)])
        pixels = decode(pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1))
    elif syntax.is_compressed and not syntax.is_deflated and str(syntax) != pydicom.uid.RLELossless:
        raise FormatError(f"{image.file} is compressed by {syntax.name}, which is not supported")
    else:
        pixels = dataset.pixel_array
    if pixels.shape != image.shape:
        raise FormatError(f"{image.file} holds an image of shape {pixels.shape}, its header announces {image.shape}")
    return _value_bits(pixels, image)


def _value_bits(stored: NDArray[Any], image: _Slice) -> NDArray[Any]:
    """Return integers without the bits that are no part of the value, and with the sign that codecs do not know of."""
    shift = image.dtype.itemsize * 8 - int(image.limits[1] - image.limits[0]).bit_length()
    unsigned = stored.astype(f"u{image.dtype.itemsize}")
    values: NDArray[Any] = (unsigned << shift).view(image.dtype) >> shift
    return values
