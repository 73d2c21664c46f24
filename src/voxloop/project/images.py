"""The images of a project: where they are, how they are read, and how a wrong one is noticed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxloop.blocks import Box, Shape3, partition
from voxloop.color import as_lab
from voxloop.errors import InputError, MissingFileError, ProjectError
from voxloop.io import open_labels, open_volume, source_exists
from voxloop.io.units import unit_name
from voxloop.specs import PositiveFloat, Spec, digest_of
from voxloop.volume import ArrayLike, Volume

Crop = tuple[slice, slice, slice]
Color = Literal["stored", "lab"]
Channels = Sequence[int | str]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
_CHECKED_SIDE = 64  # voxels that are looked at together: of an embedding with 64 channels 70 MB
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def is_windows_path(path: str) -> bool:
    """Return whether a path is an absolute one of Windows."""
    return bool(_WINDOWS.match(path))


class FileRecord(Spec):
    """A file of the project: `relative` to the project folder is tried first, then `absolute`.

    Without a fingerprint nobody has read it yet: it was missing when the project was made from that of another program.
    """

    relative: str
    absolute: str
    axes: str
    fingerprint: str

    def find(self, folder: Path) -> Path:
        """Return where the file is now, or raise `MissingFileError`."""
        if path := self.found(folder):
            return path
        raise MissingFileError(
            f"{self.absolute} is missing, also beside the project; if it was moved: voxloop relink {folder} OLD NEW"
        )

    def found(self, folder: Path) -> Path | None:
        """Return where the file is now, None if it is missing."""
        return next((p for p in (folder / self.relative, Path(self.absolute)) if source_exists(p)), None)

    def moved(self, old: str, new: Path) -> Path | None:
        """Return where the file is if what was in the folder (or was the file) `old` is now in `new`.

        None if it was not in `old`. Paths of Windows are understood on other systems: projects travel.
        """
        flavour = PureWindowsPath if is_windows_path(self.absolute) else PurePosixPath
        try:
            below = flavour(self.absolute).relative_to(flavour(old))
        except ValueError:
            return None
        return new.joinpath(*below.parts)


class FeatureVolumeRecord(Spec):
    """A volume of the user's own that describes the voxels of an image, whole or in the image's crop."""

    name: str
    file: FileRecord
    cropped: bool

    @property
    def content_digest(self) -> str:
        """Digest of what the features from it depend on; where the file is, is not among it."""
        return digest_of(self.name, self.file.fingerprint)


class ImageRecord(Spec):
    """What the project remembers of an image.

    `channels` and `frame` say which channels (None for all) and which time point of its file it is; with `color` "lab"
    its red, green and blue are seen as L*a*b*. `shape`, `n_channels` and `dtype` are those after that choice.
    """

    name: str
    file: FileRecord
    shape: tuple[Count, Count, Count]
    n_channels: Count
    dtype: str
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    unit: str
    crop: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None
    mask: FileRecord | None = None
    feature_volumes: tuple[FeatureVolumeRecord, ...] = ()
    channels: tuple[Index, ...] | None = None
    frame: Index | None = None
    color: Color = "stored"

    def describe(self) -> str:
        """Return shape, type and voxel size as a reader of microscopes writes them."""
        z, y, x = self.shape
        channels = f", {self.n_channels} channels" if self.n_channels > 1 else ""
        spacing = " x ".join(f"{s:g}" for s in self.spacing)
        more = [*(["in Lab"] if self.color == "lab" else []), *(["masked"] if self.mask else [])]
        more += [] if self.file.fingerprint else ["file missing"]
        return ", ".join([f"{z} x {y} x {x} {self.dtype}{channels}", f"voxel {spacing} {self.unit}", *more])

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
        return digest_of(self.file.fingerprint, self.mask and self.mask.fingerprint, relative, self.shape, self.color)


@dataclass(frozen=True)
class ProjectImage:
    """An image that was opened and is the one that the project was made with."""

    volume: Volume
    mask: ArrayLike | None
    feature_volumes: tuple[tuple[Volume, str], ...] = ()  # each with the digest of its content


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
    channels: Channels | None,
    frame: int | None,
    color: Color,
    name: str | None,
    like: ImageRecord | None,
) -> tuple[ImageRecord, ProjectImage]:
    """Open an image for the first time; one that no file holds as it is gets stored in the project folder.

    It must have the same channels as the image `like`: one classifier learns from both.
    """
    if color not in ("stored", "lab"):
        raise InputError(f"color is {color!r}; expected 'stored' or 'lab'")
    if isinstance(image, Volume):
        if frame is not None:
            raise InputError("frame goes with a file; a Volume has one time point")
        volume = image.with_spacing(spacing or image.spacing, unit_name(unit or image.unit))
    else:
        volume = open_volume(image, axes=axes, spacing=spacing, unit=unit, frame=frame)
    chosen = None if channels is None else volume.channel_indices(channels)
    seen = volume if chosen is None else volume.with_channels(chosen)
    shown = as_lab(seen) if color == "lab" else seen
    if like is not None:
        _check_alike(volume.name, shown.n_channels, color, like)
    box = crop_box(crop, volume.shape)
    mask_record, mask_data = _record_mask(folder, mask, index, volume.shape, box)
    if isinstance(image, Volume) and not _is_whole_file(image):
        volume = _stored(folder / "images" / f"{index}.npy", volume)
    assert volume.path is not None
    used = seen.crop(box) if box else seen
    shown = shown.crop(box) if box else shown
    record = ImageRecord(
        name=name or volume.name,
        file=file_record(folder, volume.path, volume.axes, used.fingerprint()),
        shape=used.shape,
        n_channels=shown.n_channels,
        dtype=str(used.dtype),
        spacing=used.spacing,
        unit=used.unit,
        crop=tuple(zip(box.start, box.stop, strict=True)) if box else None,
        mask=mask_record,
        channels=chosen,
        frame=frame,
        color=color,
    )
    return record, ProjectImage(shown, mask_data)


def check_alike(record: ImageRecord, like: ImageRecord) -> None:
    """Raise `InputError` unless two images have the same channels: one classifier learns from both."""
    _check_alike(record.name, record.n_channels, record.color, like)


def _check_alike(name: str, n_channels: int, color: Color, like: ImageRecord) -> None:
    if (n_channels, color) != (like.n_channels, like.color):
        raise InputError(
            f"{name} has {channels_in_words(n_channels, color)} but {like.name} has "
            f"{channels_in_words(like.n_channels, like.color)}: the images of a project need the same channels"
        )


def channels_in_words(n_channels: int, color: Color) -> str:
    """Return how many channels there are, and of what colours, for a message."""
    return f"{n_channels} channel{'s' * (n_channels != 1)}{' in Lab' * (color == 'lab')}"


def record_missing_image(
    folder: Path, path: str, *, name: str, axes: str, shape: Shape3, n_channels: int, frame: int | None
) -> ImageRecord:
    """Return the record of an image whose file is not there, to be found by `relink` later."""
    where = file_record(folder, Path(path), axes, "") if not is_windows_path(path) else None
    file = where or FileRecord(relative=path, absolute=path, axes=axes, fingerprint="")
    return ImageRecord(
        name=name,
        file=file,
        shape=shape,
        n_channels=n_channels,
        dtype="unknown",
        spacing=(1.0, 1.0, 1.0),
        unit="pixel",
        frame=frame,
    )


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
    if not record.file.fingerprint:
        raise ProjectError(
            f"{path} was missing when the project was made; it is there now, so: voxloop relink {folder} {path} {path}"
        )
    used = as_recorded(path, record)
    check_same(path, used, record.shape, record.file.fingerprint)
    volume = as_lab(used) if record.color == "lab" else used
    volumes = tuple((_open_feature_volume(folder, record, own), own.content_digest) for own in record.feature_volumes)
    if record.mask is None:
        return ProjectImage(volume, None, volumes)
    mask_path = record.mask.find(folder)
    mask = mask_as_recorded(mask_path, record)
    check_same(mask_path, mask, record.shape, record.mask.fingerprint)
    return ProjectImage(volume, mask.data, volumes)


def record_feature_volume(
    folder: Path, record: ImageRecord, path: str | os.PathLike[str], *, axes: str | None, name: str | None
) -> tuple[ImageRecord, Volume]:
    """Return the record of an image with one feature volume more, and that volume.

    The volume has the shape of the image's file, and is cropped as the image is, or that of the image.
    """
    whole = open_volume(path, axes=axes, name=name)
    cropped = record.crop is not None and whole.shape != record.shape
    volume = whole
    if cropped and record.crop is not None:
        start, stop = zip(*record.crop, strict=True)
        if all(b <= n for b, n in zip(stop, whole.shape, strict=True)):
            volume = whole.crop(Box(start, stop))
    if volume.shape != record.shape:
        raise InputError(f"{whole.name} has shape {whole.shape} but {record.name} has shape {record.shape}")
    if any(own.name == whole.name for own in record.feature_volumes):
        raise InputError(f"{record.name} has a feature volume {whole.name!r} already; give another name")
    _check_finite(volume)
    assert whole.path is not None
    file = file_record(folder, whole.path, whole.axes, volume.fingerprint())
    own = FeatureVolumeRecord(name=whole.name, file=file, cropped=cropped)
    return record.changed(feature_volumes=(*record.feature_volumes, own)), volume


def _check_finite(volume: Volume) -> None:
    """Raise `InputError` if a value is not finite as float32: with it in the project no features could be computed."""
    if volume.dtype.kind != "f":
        return
    for block in partition(volume.shape, (_CHECKED_SIDE,) * 3):
        with np.errstate(over="ignore"):
            finite = np.isfinite(volume.read(block.inner).astype(np.float32))
        if not finite.all():
            channel, *inside = (int(i) for i in np.argwhere(~finite)[0])
            voxel = tuple(i + start for i, start in zip(inside, block.inner.start, strict=True))
            raise InputError(
                f"{volume.name} must hold finite numbers within the range of float32, "
                f"but not channel {channel} of voxel (z, y, x) = {voxel}"
            )


def _open_feature_volume(folder: Path, record: ImageRecord, own: FeatureVolumeRecord) -> Volume:
    return check_feature_volume(own.file.find(folder), record, own)


def check_feature_volume(path: Path, record: ImageRecord, own: FeatureVolumeRecord) -> Volume:
    """Open the file at `path` as the feature volume `own` of an image; raises `ProjectError` if it is another one."""
    volume = open_volume(path, axes=own.file.axes, name=own.name)
    volume = _cropped(path, volume, record) if own.cropped else volume
    check_same(path, volume, record.shape, own.file.fingerprint)
    return volume


def as_recorded(path: Path, record: ImageRecord) -> Volume:
    """Open the file at `path` as the image of `record`: its channels, time point and part, in the file's colours."""
    volume = open_volume(
        path,
        axes=record.file.axes,
        spacing=record.spacing,
        unit=record.unit,
        channels=record.channels,
        frame=record.frame,
        name=record.name,
    )
    return _cropped(path, volume, record)


def mask_as_recorded(path: Path, record: ImageRecord) -> Volume:
    """Open the file at `path` as the mask of an image, its part."""
    assert record.mask is not None
    return _cropped(path, open_labels(path, axes=record.mask.axes), record)


def _cropped(path: Path, volume: Volume, record: ImageRecord) -> Volume:
    if record.crop is None:
        return volume
    start, stop = zip(*record.crop, strict=True)
    if any(b > n for b, n in zip(stop, volume.shape, strict=True)):
        raise ProjectError(f"{path} has shape {volume.shape}: it is not the image that the project was made with")
    return volume.crop(Box(start, stop))


def check_same(path: Path, volume: Volume, shape: Shape3, fingerprint: str) -> None:
    """Raise `ProjectError` unless a file holds what it held when the project was made."""
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
    return file_record(folder, volume.path, volume.axes, used.fingerprint()), used.data


def _is_whole_file(volume: Volume) -> bool:
    """Whether the file that a volume came from holds just its voxels: a part or some channels of it do not count."""
    if volume.path is None:
        return False
    try:
        whole = open_volume(volume.path, axes=volume.axes or None)
    except InputError:  # of several time points it is one
        return False
    return whole.shape == volume.shape and whole.fingerprint() == volume.fingerprint()


def _stored(path: Path, volume: Volume) -> Volume:
    """Write a volume that no file holds, and return it as it is read back."""
    from voxloop.io import save_volume

    path.parent.mkdir(exist_ok=True)
    save_volume(path, volume.data, overwrite=True)
    return open_volume(path, spacing=volume.spacing, unit=volume.unit, name=volume.name)


def file_record(folder: Path, path: Path, axes: str, fingerprint: str) -> FileRecord:
    """Return what is remembered of a file, seen from the project folder."""
    absolute = path.resolve()
    try:
        relative = Path(os.path.relpath(absolute, folder.resolve())).as_posix()
    except ValueError:  # another drive on Windows
        relative = absolute.as_posix()
    return FileRecord(relative=relative, absolute=str(absolute), axes=axes, fingerprint=fingerprint)


def crop_box(crop: Crop | None, shape: Shape3) -> Box | None:
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
