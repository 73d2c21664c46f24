"""The images of a project folder: the first ones with the folder, more of them, and where they have moved to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from voxloop.blocks import Executor, Progress, Shape3
from voxloop.errors import InputError, MissingFileError, StorageError
from voxloop.io import count_frames
from voxloop.io.atomic import reason_of
from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.folder import DOCUMENT, LOG, ProjectFolder
from voxloop.project.images import (
    Channels,
    Color,
    Crop,
    ImageRecord,
    check_alike,
    record_feature_volume,
    record_image,
    record_missing_image,
)
from voxloop.project.record import ProjectRecord
from voxloop.project.relinking import relink
from voxloop.project.storage import write_document
from voxloop.volume import ArrayLike, Volume

ImageInput = str | os.PathLike[str] | Volume


class ImageFolder(ProjectFolder):
    """A project folder that is made with images, gets more of them, and follows those that move."""

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        image: ImageInput | list[ImageInput] | tuple[ImageInput, ...] | None = None,
        *,
        classes: Sequence[str] = (),
        executor: Executor | None = None,
        progress: Progress | None = None,
        memory: int | str | None = None,
        **image_options: Any,
    ) -> Self:
        """Make a project in a new folder and open it.

        Parameters
        ----------
        folder
            Where to; must not exist.
        image
            The first image or images, as for `add_image`; more may follow.
        classes
            Names of the first classes.
        executor, progress
            What runs the blocks (by default a thread a processor), and who is told how far the work is.
        memory
            What computing may take, such as ``"2GB"`` or bytes; see `voxloop.blocks.memory_budget`.
        **image_options
            Options of `add_images`, for each of them.

        Raises
        ------
        InputError
            If the folder exists, or an image or a class name cannot be used; no folder is then left behind.
        StorageError
            If the folder cannot be written.
        """
        folder = Path(folder)
        if folder.exists():
            raise InputError(f"{folder} exists; open it, or choose another name for the new project")
        try:
            folder.mkdir()
        except FileNotFoundError:
            raise MissingFileError(f"{folder} cannot be made: the folder {folder.parent} does not exist") from None
        except OSError as error:
            raise StorageError(f"{folder} cannot be made: {reason_of(error)}") from error
        try:
            # The log comes first: a project without one has lost its labels, and is not opened.
            AnnotationLog.open(folder / LOG, []).close()
            write_document(folder / DOCUMENT, ProjectRecord().to_document())
            project = cls.open(folder, executor=executor, progress=progress, memory=memory)
            try:
                for name in classes:
                    project.add_class(name)
                for each in _as_list(image):
                    project.add_images(each, **image_options)
            except BaseException:
                project.close()
                raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return project

    def add_image(
        self,
        image: ImageInput,
        *,
        axes: str | None = None,
        spacing: tuple[float, float, float] | None = None,
        unit: str | None = None,
        mask: str | os.PathLike[str] | ArrayLike | None = None,
        crop: Crop | None = None,
        channels: Channels | None = None,
        frame: int | None = None,
        color: Color = "stored",
        name: str | None = None,
    ) -> int:
        """Add an image and return its index.

        Parameters
        ----------
        image
            A file, which stays where it is, or a volume; voxels that no file holds are stored in the project.
        axes, spacing, unit
            Correct what the file says, see `voxloop.open_volume`.
        mask
            File or array of the image's shape; voxels with 0 are left out of everything.
        crop
            Three slices (z, y, x): use a part of the image only.
        channels
            Indices or names of the channels to use; by default all.
        frame
            Which time point of a series, counted from 0: each is an image of its own.
        color
            ``"lab"`` to see red, green and blue as CIE L*a*b*, in which distances are as large as they look.
        name
            What it is called; by default the file's name without its suffix.

        Raises
        ------
        InputError
            If the image or mask cannot be used, or has other channels than the images before: one classifier learns
            from all of them.
        """
        self._check_writable()
        if not isinstance(image, str | os.PathLike | Volume):
            raise InputError(f"image must be a file or a Volume (see Volume.from_array), not {type(image).__name__}")
        index = len(self.images)
        record, opened = record_image(
            self.folder,
            image,
            index,
            axes=axes,
            spacing=spacing,
            unit=unit,
            mask=mask,
            crop=crop,
            channels=channels,
            frame=frame,
            color=color,
            name=name,
            like=self.images[0] if self.images else None,
        )
        self._add(record)
        self._opened[index] = opened
        return index

    def add_images(self, image: ImageInput, *, frames: slice | None = None, **image_options: Any) -> list[int]:
        """Add an image, or time points of a series as an image each, and return their indices.

        Parameters
        ----------
        image
            As for `add_image`.
        frames
            Which time points of a file; ``slice(None)`` for all. Without it the file must have one.
        **image_options
            Options of `add_image`, for each of them.
        """
        if frames is None:
            return [self.add_image(image, **image_options)]
        if isinstance(image, Volume):
            raise InputError("frames go with a file; a Volume has one time point")
        n_frames = count_frames(image, axes=image_options.get("axes"))
        chosen = range(n_frames)[frames]
        if not chosen:
            raise InputError(f"frames are {frames.start}:{frames.stop} but {image} has {n_frames} time points")
        return [self.add_image(image, frame=frame, **image_options) for frame in chosen]

    def add_missing_image(
        self, path: str, *, name: str, axes: str, shape: Shape3, n_channels: int, frame: int | None = None
    ) -> int:
        """Add an image whose file is not there, to be labelled now and found by `relink` later; return its index.

        Parameters
        ----------
        path
            Where it was, an absolute path.
        name
            What it is called.
        axes
            A letter per dimension of the file, or empty if the file will tell.
        shape
            Voxels along (z, y, x).
        n_channels
            Number of channels.
        frame
            Which time point of a series.
        """
        record = record_missing_image(
            self.folder, path, name=name, axes=axes, shape=shape, n_channels=n_channels, frame=frame
        )
        if self.images:
            check_alike(record, self.images[0])
        self._add(record)
        return len(self.images) - 1

    def add_feature_volume(
        self, path: str | os.PathLike[str], *, image: int = 0, axes: str | None = None, name: str | None = None
    ) -> None:
        """Describe an image by a volume of your own as well: another program's probabilities, a network's embedding.

        Parameters
        ----------
        path
            A file of the image's shape, or of that of its file if the image is a crop, with any number of channels. It
            stays where it is.
        image
            Which image.
        axes
            Order of the file's axes, if it is not what the file says.
        name
            What the columns are called; by default the file's name without its suffix.

        Raises
        ------
        InputError
            If the shape is another one, a value is not finite, or there is a feature volume of this name.
        """
        self._check_writable()
        changed, _ = record_feature_volume(self.folder, self._image_record(image), path, axes=axes, name=name)
        self._replace(image, changed)

    def remove_feature_volume(self, name: str, *, image: int = 0) -> None:
        """No longer describe an image by a volume of your own; its file stays.

        Parameters
        ----------
        name
            What its columns are called.
        image
            Which image.

        Raises
        ------
        InputError
            If the image has no feature volume of this name.
        """
        self._check_writable()
        record = self._image_record(image)
        kept = tuple(own for own in record.feature_volumes if own.name != name)
        if len(kept) == len(record.feature_volumes):
            known = ", ".join(repr(own.name) for own in kept) or "none"
            raise InputError(f"{record.name} has no feature volume {name!r}; those that it has: {known}")
        self._replace(image, record.changed(feature_volumes=kept))

    def missing_files(self) -> list[str]:
        """Return where files of the images were that are missing now, absolute paths as they were remembered."""
        files = [
            file
            for record in self.images
            for file in (record.file, record.mask, *(own.file for own in record.feature_volumes))
            if file is not None
        ]
        return sorted({file.absolute for file in files if file.found(self.folder) is None})

    def relink(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> list[Path]:
        """Say that what was in the folder `old` is in `new` now, or that the file `old` is `new`.

        Parameters
        ----------
        old
            A folder above images or masks of the project as it remembers them (see `missing_files`), or one of them.
        new
            The folder, or the file, that has taken its place.

        Returns
        -------
        list of Path
            Where the files are now; those that `new` does not hold are left as they were.

        Raises
        ------
        InputError
            If no image or mask of the project was in `old`.
        MissingFileError
            If none of them is in `new`.
        ProjectError
            If a file there is another one, by its content; nothing is changed then.
        """
        self._check_writable()
        records, found = relink(self.folder, self.images, os.fspath(old), Path(new).absolute())
        self._save(self._record.changed(images=records))
        self._opened.clear()
        return found

    def _replace(self, image: int, changed: ImageRecord) -> None:
        images = tuple(changed if i == image else record for i, record in enumerate(self.images))
        self._save(self._record.changed(images=images))
        self._opened.pop(image, None)

    def _add(self, record: ImageRecord) -> None:
        self._save(self._record.changed(images=(*self.images, record)))
        self._log.annotations.add_image(record.shape)


def _as_list(image: ImageInput | list[ImageInput] | tuple[ImageInput, ...] | None) -> Sequence[ImageInput]:
    if image is None:
        return []
    return image if isinstance(image, list | tuple) else [image]
