"""What a project folder holds that cannot be computed again: images, specs, classes and labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike as ArrayInput

from voxloop.blocks import Executor, Progress, default_executor, memory_budget
from voxloop.errors import InputError, MissingFileError, ProjectError
from voxloop.io.atomic import remove_leftovers
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
    ImageRecord,
    ProjectImage,
    open_image,
)
from voxloop.project.record import ProjectRecord, Specs
from voxloop.project.runs import runs_from_mask, runs_from_points
from voxloop.project.storage import ProjectLock, read_document, write_document
from voxloop.specs import default_size
from voxloop.volume import ArrayLike, Volume

DOCUMENT = "project.json"
LOG = "annotations.jsonl"
# Where a killed write may have left something; the cache looks after itself.
_WRITTEN_TO = (".", "images", "models")


class ProjectFolder:
    """An open project folder: images, specs, classes and labels, each change on the disk when its call returns.

    `ImageFolder` makes it and adds images, `Project` what is computed.
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

    # Opening, closing

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
                for place in (folder / name for name in _WRITTEN_TO):
                    if place.is_dir():
                        remove_leftovers(place)
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


def is_project(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a voxloop project folder that can be read."""
    try:
        return (Path(path) / DOCUMENT).is_file()
    except OSError:  # the folder is closed to this user
        return False
