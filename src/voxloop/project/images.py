"""The images of a project: where they are, how they are read, and how a wrong one is noticed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxloop.blocks import Box, Shape3
from voxloop.errors import InputError, MissingFileError, ProjectError
from voxloop.io import open_labels, open_volume, source_exists
from voxloop.specs import PositiveFloat, Spec, digest_of
from voxloop.volume import ArrayLike, Volume

Crop = tuple[slice, slice, slice]
Count = Annotated[int, Field(ge=1)]


class FileRecord(Spec):
    """A file of the project: `relative` to the project folder is tried first, then `absolute`."""

    relative: str
    absolute: str
    axes: str
    fingerprint: str

    def find(self, folder: Path) -> Path:
        """Return where the file is now, or raise `MissingFileError`."""
        candidates = [folder / self.relative, Path(self.absolute)]
        for path in candidates:
            if source_exists(path):
                return path
        raise MissingFileError(f"{self.absolute} is missing; it is not beside the project either ({candidates[0]})")


class ImageRecord(Spec):
    """What the project remembers of an image."""

    name: str
    file: FileRecord
    shape: tuple[Count, Count, Count]
    n_channels: Count
    dtype: str
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    unit: str
    crop: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None
    mask: FileRecord | None = None

    def describe(self) -> str:
        """Return shape, type and voxel size as a reader of microscopes writes them."""
        z, y, x = self.shape
        channels = f", {self.n_channels} channels" if self.n_channels > 1 else ""
        spacing = " x ".join(f"{s:g}" for s in self.spacing)
        masked = ", masked" if self.mask else ""
        return f"{z} x {y} x {x} {self.dtype}{channels}, voxel {spacing} {self.unit}{masked}"

    @property
    def crop_slices(self) -> Crop | None:
        """The part of its file that the image is, as slices (z, y, x); None for all of it."""
        if self.crop is None:
            return None
        z, y, x = (slice(*bounds) for bounds in self.crop)
        return z, y, x

    @property
    def content_digest(self) -> str:
        """Digest of all that supervoxels and features depend on; the name and the unit are not among it."""
        finest = min(self.spacing)
        relative = [round(s / finest, 9) for s in self.spacing]
        return digest_of(self.file.fingerprint, self.mask and self.mask.fingerprint, relative, self.shape)


@dataclass(frozen=True)
class ProjectImage:
    """An image that was opened and is the one that the project was made with."""

    volume: Volume
    mask: ArrayLike | None


def record_image(
    folder: Path,
    image: str | os.PathLike[str] | Volume,
    index: int,
    *,
    axes: str | None,
    spacing: tuple[float, float, float] | None,
    unit: str | None,
    mask: str | os.PathLike[str] | ArrayLike | None,
    crop: Crop | None,
) -> tuple[ImageRecord, ProjectImage]:
    """Open an image for the first time; one that no file holds as it is gets stored in the project folder."""
    if isinstance(image, Volume):
        volume = image.with_spacing(spacing or image.spacing, unit)
    else:
        volume = open_volume(image, axes=axes, spacing=spacing, unit=unit)
    box = _crop_box(crop, volume.shape)
    mask_record, mask_data = _record_mask(folder, mask, index, volume.shape, box)
    if isinstance(image, Volume) and not _is_whole_file(image):
        volume = _stored(folder / "images" / f"{index}.npy", volume)
    assert volume.path is not None
    used = volume.crop(box) if box else volume
    record = ImageRecord(
        name=volume.name,
        file=_file_record(folder, volume.path, volume.axes, used.fingerprint()),
        shape=used.shape,
        n_channels=used.n_channels,
        dtype=str(used.dtype),
        spacing=used.spacing,
        unit=used.unit,
        crop=tuple(zip(box.start, box.stop, strict=True)) if box else None,
        mask=mask_record,
    )
    return record, ProjectImage(used, mask_data)


def open_image(folder: Path, record: ImageRecord) -> ProjectImage:
    """Open an image again.

    Raises
    ------
    MissingFileError
        If the file is neither at its place relative to the project nor at its old place.
    ProjectError
        If its shape or content is not what it was.
    """
    path = record.file.find(folder)
    volume = open_volume(path, axes=record.file.axes, spacing=record.spacing, unit=record.unit, name=record.name)
    box = None
    if record.crop is not None:
        start, stop = zip(*record.crop, strict=True)
        box = Box(start, stop)
        if any(b > n for b, n in zip(stop, volume.shape, strict=True)):
            raise ProjectError(f"{path} has shape {volume.shape}: it is not the image that the project was made with")
        volume = volume.crop(box)
    _check_same(path, volume, record.shape, record.file.fingerprint)
    if record.mask is None:
        return ProjectImage(volume, None)
    mask_path = record.mask.find(folder)
    mask = open_labels(mask_path, axes=record.mask.axes)
    mask = mask.crop(box) if box else mask
    _check_same(mask_path, mask, record.shape, record.mask.fingerprint)
    return ProjectImage(volume, mask.data)


def _check_same(path: Path, volume: Volume, shape: Shape3, fingerprint: str) -> None:
    if volume.shape != tuple(shape):
        raise ProjectError(f"{path} has shape {volume.shape} but had {tuple(shape)} when the project was made")
    if volume.fingerprint() != fingerprint:
        raise ProjectError(f"{path} has changed since the project was made: its voxels differ")


def _record_mask(
    folder: Path, mask: str | os.PathLike[str] | ArrayLike | None, index: int, shape: Shape3, box: Box | None
) -> tuple[FileRecord | None, ArrayLike | None]:
    """Open or store the mask of an image of `shape`, which is cut to `box`."""
    if mask is None:
        return None, None
    if isinstance(mask, str | os.PathLike):
        volume = open_labels(mask)
    else:
        array: NDArray[Any] = np.asarray(mask)
        if array.shape != shape:
            raise InputError(f"mask has shape {array.shape} but the image has shape {shape}")
        volume = _stored(folder / "images" / f"{index}-mask.npy", Volume.from_array((array != 0).astype(np.uint8)))
    if volume.shape != shape:
        raise InputError(f"mask has shape {volume.shape} but the image has shape {shape}")
    assert volume.path is not None
    used = volume.crop(box) if box else volume
    return _file_record(folder, volume.path, volume.axes, used.fingerprint()), used.data


def _is_whole_file(volume: Volume) -> bool:
    """Whether the file that a volume came from holds just its voxels: a part or some channels of it do not count."""
    if volume.path is None:
        return False
    whole = open_volume(volume.path, axes=volume.axes or None)
    return whole.shape == volume.shape and whole.fingerprint() == volume.fingerprint()


def _stored(path: Path, volume: Volume) -> Volume:
    """Write a volume that no file holds, and return it as it is read back."""
    from voxloop.io import save_volume

    path.parent.mkdir(exist_ok=True)
    save_volume(path, volume.data, overwrite=True)
    return open_volume(path, spacing=volume.spacing, unit=volume.unit, name=volume.name)


def _file_record(folder: Path, path: Path, axes: str, fingerprint: str) -> FileRecord:
    absolute = path.resolve()
    try:
        relative = Path(os.path.relpath(absolute, folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        relative = absolute.as_posix()
    return FileRecord(relative=relative, absolute=str(absolute), axes=axes, fingerprint=fingerprint)


def _crop_box(crop: Crop | None, shape: Shape3) -> Box | None:
    """Return the box that three slices without steps cut out of `shape`, or raise `InputError`."""
    if crop is None:
        return None
    bounds = []
    for axis, part, length in zip("zyx", crop, shape, strict=True):
        start = 0 if part.start is None else part.start
        stop = length if part.stop is None else part.stop
        if part.step not in (None, 1) or not 0 <= start < stop <= length:
            raise InputError(f"crop along {axis} is {start}:{stop}; expected a part of 0:{length}")
        bounds.append((start, stop))
    start, stop = zip(*bounds, strict=True)
    return Box(start, stop)
