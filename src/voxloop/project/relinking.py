"""Files of a project that have moved: where they are now, and that they are the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voxloop.errors import InputError, MissingFileError, ProjectError
from voxloop.io import open_volume, source_exists
from voxloop.project.images import (
    FileRecord,
    ImageRecord,
    as_recorded,
    channels_in_words,
    check_feature_volume,
    check_same,
    file_record,
    mask_as_recorded,
)
from voxloop.volume import Volume


def relink(
    folder: Path, images: Iterable[ImageRecord], old: str, new: Path
) -> tuple[tuple[ImageRecord, ...], list[Path]]:
    """Return the records of images of which some files have moved from `old` to `new`, and where those are now.

    See `ImageFolder.relink`, which says what is raised.
    """
    known: list[Path] = []
    found: list[Path] = []

    def there(file: FileRecord | None) -> Path | None:
        """Return where a file is now if it was in `old` and is in `new`."""
        path = None if file is None else file.moved(old, new)
        if path is None:
            return None
        known.append(path)
        if not source_exists(path):
            return None
        found.append(path)
        return path

    images = tuple(images)
    records = []
    for record in images:
        if path := there(record.file):
            record = _relinked(folder, record, path)
        if path := there(record.mask):
            record = _relinked_mask(folder, record, path)
        for k, own in enumerate(record.feature_volumes):
            if path := there(own.file):
                record = _relinked_feature_volume(folder, record, k, path)
        records.append(record)
    if not known:
        first = images[0].file.absolute if images else "none: it has no images"
        raise InputError(f"no image or mask of {folder} was in {old}; the first was {first}")
    if not found:
        raise MissingFileError(f"{known[0]} does not exist, nor another image or mask that was in {old}")
    return tuple(records), found


def _relinked(folder: Path, record: ImageRecord, path: Path) -> ImageRecord:
    """Return the record of an image whose file is now at `path`; raises `ProjectError` if that is another image."""
    if record.file.fingerprint:
        used = as_recorded(path, record)
        check_same(path, used, record.shape, record.file.fingerprint)
        return record.changed(file=file_record(folder, path, record.file.axes, record.file.fingerprint))
    used = _first_look(path, record)
    return record.changed(
        file=file_record(folder, path, used.axes, used.fingerprint()),
        dtype=str(used.dtype),
        spacing=used.spacing,
        unit=used.unit,
    )


def _first_look(path: Path, record: ImageRecord) -> Volume:
    """Open a file that is to be the image of `record`, which nobody has read: with its axes or with the file's own."""
    problem: InputError | ProjectError | None = None
    for axes in dict.fromkeys((record.file.axes or None, None)):
        try:
            volume = open_volume(path, axes=axes, frame=record.frame)
        except InputError as error:
            problem = problem or error
            continue
        if volume.shape == record.shape and volume.n_channels == record.n_channels:
            return volume
        problem = ProjectError(
            f"{path} has shape {volume.shape} and {channels_in_words(volume.n_channels, 'stored')}, but the image has "
            f"{tuple(record.shape)} and {channels_in_words(record.n_channels, 'stored')}"
        )
    assert problem is not None
    raise problem


def _relinked_mask(folder: Path, record: ImageRecord, path: Path) -> ImageRecord:
    """Return the record of an image whose mask is now at `path`; raises `ProjectError` if that is another mask."""
    assert record.mask is not None
    check_same(path, mask_as_recorded(path, record), record.shape, record.mask.fingerprint)
    return record.changed(mask=file_record(folder, path, record.mask.axes, record.mask.fingerprint))


def _relinked_feature_volume(folder: Path, record: ImageRecord, k: int, path: Path) -> ImageRecord:
    """Return the record of an image whose feature volume `k` is now at `path`, if that is the same one."""
    own = record.feature_volumes[k]
    check_feature_volume(path, record, own)
    moved = own.changed(file=file_record(folder, path, own.file.axes, own.file.fingerprint))
    volumes = (*record.feature_volumes[:k], moved, *record.feature_volumes[k + 1 :])
    return record.changed(feature_volumes=volumes)
