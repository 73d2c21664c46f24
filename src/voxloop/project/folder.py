"""What a project folder holds that cannot be computed again: images, specs, classes and labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike as ArrayInput

from voxloop.blocks import Executor, Progress, Shape3, default_executor, memory_budget
from voxloop.errors import InputError, MissingFileError, ProjectError, StorageError
from voxloop.io import count_frames
from voxloop.io.atomic import reason_of, remove_leftovers
from voxloop.project import imports
from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.annotations import (
    ERASER,
    Annotations,
    ClassAdded,
    Cleared,
    Event,
    Redo,
    Stroke,
    Undo,
    palette_color,
)
from voxloop.project.images import (
    Channels,
    Color,
    Crop,
    ImageRecord,
    ProjectImage,
    check_alike,
    open_image,
    record_feature_volume,
    record_image,
    record_missing_image,
)
from voxloop.project.record import ProjectRecord, Specs
from voxloop.project.relinking import relink
from voxloop.project.runs import runs_from_mask, runs_from_points
from voxloop.project.storage import ProjectLock, read_document, write_document
from voxloop.specs import default_size
from voxloop.volume import ArrayLike, Volume

DOCUMENT = "project.json"
LOG = "annotations.jsonl"

ImageInput = str | os.PathLike[str] | Volume


class ProjectFolder:
    """An open project folder: images, specs, classes and labels, each change on the disk when its call returns.

    Made by `create`, opened by `open`; `Project` adds what is computed.
    """

    def __init__(
        self,
        folder: Path,
        record: ProjectRecord,
        log: AnnotationLog,
        lock: ProjectLock | None,
        *,
        executor: Executor,
        progress: Progress | None,
        memory: int,
    ) -> None:
        self.folder = folder
        self.executor = executor
        self.progress = progress
        self.memory = memory
        self._record = record
        self._log = log
        self._lock = lock
        self._opened: dict[int, ProjectImage] = {}

    # Making, opening, closing

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

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        read_only: bool = False,
        executor: Executor | None = None,
        progress: Progress | None = None,
        memory: int | str | None = None,
    ) -> Self:
        """Open a project.

        Parameters
        ----------
        folder
            The project folder.
        read_only
            Look only: needs no lock, and changes nothing on the disk.
        executor, progress, memory
            As for `create`.

        Raises
        ------
        MissingFileError
            If there is no project in the folder.
        ProjectInUseError
            If another process has it open; the message says who.
        ProjectVersionError
            If a newer voxloop wrote it.
        ProjectError
            If it is damaged, or its labels are missing.
        """
        folder = Path(folder)
        budget, executor = memory_budget(memory), executor or default_executor()
        if not is_project(folder):
            raise MissingFileError(f"{folder} is no voxloop project: it has no {DOCUMENT}, or none that you may read")
        lock = None if read_only else ProjectLock(folder)
        if lock is not None:
            lock.acquire()
        try:
            if lock is not None:
                remove_leftovers(folder)
                executor.check_folder(folder)
            record = ProjectRecord.from_document(read_document(folder / DOCUMENT, read_only=read_only))
            if not (folder / LOG).exists():
                raise ProjectError(f"{folder} has lost its labels: {LOG} is missing; put it back from a backup")
            log = AnnotationLog.open(folder / LOG, [image.shape for image in record.images], read_only=read_only)
            return cls(folder, record, log, lock, executor=executor, progress=progress, memory=budget)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """Let go of the folder. Everything is on the disk already."""
        self._log.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Images and specs

    @property
    def read_only(self) -> bool:
        """Whether the project was opened to look at only."""
        return self._lock is None

    @property
    def recovered(self) -> str | None:
        """What a crash left unfinished and opening the project cut off, in one sentence; None after a clean end."""
        return self._log.recovered

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """What the project remembers of its images."""
        return self._record.images

    @property
    def specs(self) -> Specs:
        """What was chosen for each stage; a size of supervoxels that nobody chose follows from the first image."""
        specs = self._record.specs
        if self.images and specs.slic.size is None and specs.slic.n_segments is None:
            size = default_size(prod(self.images[0].shape))
            return specs.changed(slic=specs.slic.changed(size=size))
        return specs

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
            If the shape is another one, or there is a feature volume of this name.
        """
        self._check_writable()
        changed, _ = record_feature_volume(self.folder, self._image_record(image), path, axes=axes, name=name)
        images = tuple(changed if i == image else record for i, record in enumerate(self.images))
        self._save(self._record.changed(images=images))
        self._opened.pop(image, None)

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

    def configure(self, **choices: Any) -> None:
        """Choose the specs of stages; what they make stale is computed again when it is next asked for.

        Parameters
        ----------
        **choices
            `slic`, `features`, `classifier` or `query`: a spec, or a dict of the fields that change.

        Raises
        ------
        InputError
            If a value is wrong, or an image has fewer voxels than `slic` asks for supervoxels; nothing changes then.
        """
        specs = self._record.specs.configured(**choices)
        asked_for = specs.slic.n_segments or 1
        for image in self.images:
            if asked_for > (n_voxels := prod(image.shape)):
                raise InputError(f"n_segments is {asked_for} but {image.name} has only {n_voxels} voxels")
        if specs != self._record.specs:
            self._save(self._record.changed(specs=specs))

    def volume(self, image: int = 0) -> Volume:
        """Return the voxels of an image."""
        return self._image(image).volume

    def mask(self, image: int = 0) -> ArrayLike | None:
        """Return the mask (z, y, x) of an image, not 0 inside; None if all of the image counts."""
        return self._image(image).mask

    # Labels

    @property
    def annotations(self) -> Annotations:
        """Classes and labelled voxels."""
        return self._log.annotations

    @property
    def class_names(self) -> dict[int, str]:
        """Names of the classes by id."""
        return {c.class_id: c.name for c in self.annotations.classes}

    def append(self, event: Event) -> None:
        """Write an annotation event; when this returns, it is on the disk."""
        self._log.append(event)

    def keep(self, event: Event) -> None:
        """Write an annotation event as `append` does; what the disk refuses counts too, in memory until `save`."""
        self._log.keep(event)

    def save(self) -> None:
        """Write what `keep` could not; nothing else waits to be saved, ever."""
        self._log.save()

    @property
    def n_unsaved(self) -> int:
        """Number of annotation events that are in memory only, because the disk refused them."""
        return self._log.n_unsaved

    def add_class(self, name: str, color: str | None = None) -> int:
        """Add a class and return its id; its colour is the next one of a palette unless given as ``#rrggbb``."""
        class_id = self.annotations.next_class_id
        self.append(ClassAdded(class_id=class_id, name=name, color=color or palette_color(class_id)))
        return class_id

    def class_id(self, name_or_id: str | int) -> int:
        """Return the id of a class given by name or id, or raise `InputError`."""
        for class_id, name in self.class_names.items():
            if name_or_id in (class_id, name):
                return class_id
        known = ", ".join(self.class_names.values()) or "none yet"
        raise InputError(f"there is no class {name_or_id!r}; the classes are: {known}")

    def paint(self, label: str | int, where: ArrayInput, *, image: int = 0, source: str = "python") -> None:
        """Label voxels.

        Parameters
        ----------
        label
            A class by name or id.
        where
            Voxels as integers (v, 3) in order (z, y, x), or as a boolean mask of the image's shape.
        image
            Which image.
        source
            Where the stroke comes from, for the table of strokes.
        """
        self.append(self._stroke(self.class_id(label), where, image, source))

    def erase(self, where: ArrayInput, *, image: int = 0) -> None:
        """Take the labels of voxels away; `where` as for `paint`."""
        self.append(self._stroke(ERASER, where, image, "python"))

    def clear_labels(self, image: int | None = None) -> None:
        """Take the labels of an image away, or of all images."""
        self.append(Cleared(image=image))

    def undo(self) -> None:
        """Take the last step back, a stroke or a change of classes."""
        self.append(Undo())

    def redo(self) -> None:
        """Do the step again that was undone last."""
        self.append(Redo())

    def import_points(self, path: str | os.PathLike[str], *, image: int = 0) -> None:
        """Label voxels from a CSV table with columns z, y, x and class (name or id); new names become classes."""
        found = imports.read_points(path, self._image_record(image).shape)
        self.append(imports.label_step(found.items(), self.annotations, image))

    def import_labels(
        self,
        labels: str | os.PathLike[str] | ArrayInput,
        *,
        image: int = 0,
        mapping: Mapping[int, str | int] | None = None,
    ) -> None:
        """Label voxels from a label volume, all in one step.

        Parameters
        ----------
        labels
            File or integer array of the image's shape.
        image
            Which image.
        mapping
            Class of each value, by name or id; names that are no classes yet become classes, values that are not in
            it are ignored. By default value n > 0 is class n.

        Raises
        ------
        InputError
            If the volume has another shape or dtype, or a value has no class.
        """
        record = self._image_record(image)
        found = imports.read_label_volume(labels, record.shape, record.crop_slices, mapping)
        if mapping is None and (unknown := [value for value in found if value not in self.class_names]):
            raise InputError(f"labels holds {unknown[0]} but there is no class {unknown[0]}; map its values to classes")
        named = [(value if mapping is None else mapping[value], runs) for value, runs in found.items()]
        self.append(imports.label_step(named, self.annotations, image))

    def count_labelled_voxels(self) -> dict[str, int]:
        """Return the number of labelled voxels of each class over all images."""
        totals = np.zeros(self.annotations.next_class_id, np.int64)
        for index in range(len(self.images)):
            totals += np.bincount(self.annotations.labelled_voxels(index)[1], minlength=totals.size)
        return {name: int(totals[class_id]) for class_id, name in self.class_names.items()}

    # Behind the scenes

    def _add(self, record: ImageRecord) -> None:
        self._save(self._record.changed(images=(*self.images, record)))
        self._log.annotations.add_image(record.shape)

    def _save(self, record: ProjectRecord) -> None:
        self._check_writable()
        write_document(self.folder / DOCUMENT, record.to_document())
        self._record = record

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ProjectError(f"{self.folder.name} was opened to look at only")

    def _image_record(self, image: int) -> ImageRecord:
        if not 0 <= image < len(self.images):
            raise InputError(f"image is {image} but the project has {len(self.images)}, counted from 0")
        return self.images[image]

    def _image(self, image: int) -> ProjectImage:
        record = self._image_record(image)
        if image not in self._opened:
            self._opened[image] = open_image(self.folder, record)
        return self._opened[image]

    def _stroke(self, class_id: int, where: ArrayInput, image: int, source: str) -> Stroke:
        shape = self._image_record(image).shape
        array = np.asarray(where)
        if array.dtype == np.bool_ and array.shape != shape:
            raise InputError(f"where has shape {array.shape} but the image has shape {shape}")
        runs = runs_from_mask(array) if array.dtype == np.bool_ else runs_from_points(array)
        return Stroke(image=image, class_id=class_id, runs=runs, source=source)


def _as_list(image: ImageInput | list[ImageInput] | tuple[ImageInput, ...] | None) -> Sequence[ImageInput]:
    if image is None:
        return []
    return image if isinstance(image, list | tuple) else [image]


def is_project(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a voxloop project folder that can be read."""
    try:
        return (Path(path) / DOCUMENT).is_file()
    except OSError:  # the folder is closed to this user
        return False
