"""The images of a batch: of each the part, the time point and the mask that count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxloop.errors import InputError, VoxloopError
from voxloop.io import count_frames, folder_of, name_without_suffix, open_labels, open_volume
from voxloop.project.images import Channels, Crop, crop_box
from voxloop.project.paths import expand
from voxloop.volume import ArrayLike, Volume


@dataclass(frozen=True)
class BatchImage:
    """An image to segment.

    Attributes
    ----------
    path
        Its file, as for `open_volume`.
    mask
        A label volume of the image's shape; voxels with 0 are left out of everything.
    crop
        Three slices (z, y, x) in voxels: only this part is segmented.
    frame
        Which time point of a series, counted from 0.
    name
        What it is called (``{nickname}``); by default the file's name, and the frame.
    """

    path: str | os.PathLike[str]
    mask: str | os.PathLike[str] | None = None
    crop: Crop | None = None
    frame: int | None = None
    name: str | None = None

    @property
    def file(self) -> Path:
        """Its path, with ``~`` resolved."""
        return Path(self.path).expanduser()

    @property
    def fields(self) -> dict[str, Any]:
        """What ``{nickname}`` and ``{dataset_dir}`` stand for, as arguments of `planned_files`."""
        end = "" if self.frame is None else f"-t{self.frame}"
        return {"name": self.name or name_without_suffix(self.file) + end, "dataset_dir": folder_of(self.file)}

    def __str__(self) -> str:
        return str(self.file) if self.frame is None else f"{self.file} (time point {self.frame})"

    def open(self, *, channels: Channels | None, **opening: Any) -> tuple[Volume, ArrayLike | None]:
        """Return the image and its mask, both cut to the part that counts; arguments and errors as of `open_volume`."""
        volume = open_volume(self.file, channels=channels, frame=self.frame, name=self.fields["name"], **opening)
        box = crop_box(self.crop, volume.shape) or volume.box
        if self.mask is None:
            return volume.crop(box), None
        mask = open_labels(self.mask)
        if mask.shape != volume.shape:
            raise InputError(f"mask {self.mask} has shape {mask.shape} but {self} has shape {volume.shape}")
        return volume.crop(box), mask.crop(box).data


def batch_images(
    images: Sequence[str | os.PathLike[str] | BatchImage],
    *,
    mask: str | os.PathLike[str] | None,
    frames: slice | None,
    axes: str | None,
) -> list[BatchImage]:
    """Return the images of a batch, each with its mask, and a series as its time points.

    A file that cannot be read stays one image, which will fail where the others do not.
    """
    found: list[BatchImage] = []
    for image in images:
        one = image if isinstance(image, BatchImage) else BatchImage(image)
        if mask is not None and one.mask is None:
            fields = one.fields
            pattern = expand(mask, dataset_dir=fields["dataset_dir"], nickname=fields["name"], result_type="mask")
            one = replace(one, mask=pattern)
        found += [one] if frames is None or one.frame is not None else _frames(one, frames, axes)
    if not found:
        raise InputError("there are no images to segment")
    for k, one in enumerate(found):
        if one in found[:k]:
            raise InputError(f"{one} is named twice among the images")
    return found


def _frames(image: BatchImage, frames: slice, axes: str | None) -> list[BatchImage]:
    try:
        n = count_frames(image.file, axes=axes)
    except VoxloopError:
        return [image]
    chosen = [replace(image, frame=t) for t in range(*frames.indices(n))] if n > 1 else [image]
    if not chosen:
        raise InputError(f"frames is {frames.start}:{frames.stop} but {image} has {n} time points")
    return chosen
