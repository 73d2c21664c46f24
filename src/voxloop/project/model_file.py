"""A trained classifier in a file of its own: it segments images without the project that it comes from.

The file is a zip archive of ``model.json`` and one ``.npy`` file per array. It may come from a stranger: nothing in it
is unpickled, sizes are checked before memory is taken, and no tree can lead a kernel out of its arrays.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from voxloop import __version__
from voxloop.classify import Classifier
from voxloop.errors import FormatError, InputError, MissingFileError, VoxloopError
from voxloop.io.atomic import replacing, storing
from voxloop.project import models
from voxloop.project.annotations import ClassId, ClassName, Color, LabelClass
from voxloop.project.images import Color as ColorSpace
from voxloop.project.images import Count, Index
from voxloop.project.record import Specs
from voxloop.project.stages import CONTEXT_VERSION, FEATURES_VERSION, SUPERVOXELS_VERSION
from voxloop.specs import PositiveFloat, Spec, describe_validation

if TYPE_CHECKING:
    from voxloop.project.project import Project

SUFFIX = ".voxmodel"
_HEADER = "model.json"
_ARRAY = re.compile(r"(first|second|calibration|smoothing|held)_[a-z_]{1,40}\.npy")
_MAX_HEADER = 2**20  # bytes
_MAX_ARRAYS = 2**31  # bytes of all arrays; a forest of 100 trees on 10,000 labels takes 10 MB
_MAX_FILES = 64
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of a zip archive: equal models are equal files


class _Class(Spec):
    class_id: ClassId
    name: ClassName
    color: Color


class _Versions(Spec):
    """Versions of what gives the bits; of another one the same specs mean something else."""

    voxloop: Annotated[str, Field(max_length=100)]
    supervoxels: int
    features: int
    context: int = 1  # of models from before it was counted
    classifier: int


class _Header(Spec):
    """What ``model.json`` holds."""

    format: Literal[1]
    versions: _Versions
    classes: Annotated[tuple[_Class, ...], Field(min_length=2, max_length=4096)]
    specs: Specs
    n_channels: Count
    channels: Annotated[tuple[Index, ...], Field(max_length=4096)] | None
    color: ColorSpace
    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat]
    unit: Annotated[str, Field(max_length=40)]


@dataclass(frozen=True)
class Model:
    """A classifier with all that it needs to segment another image.

    Attributes
    ----------
    classifier
        The forests.
    classes
        The classes, sorted by id.
    specs
        How an image is cut into supervoxels and described.
    n_channels, channels, color
        How many channels it was trained on, which of a file (None: all), and whether they are seen as L*a*b*.
    spacing, unit
        Voxel size (z, y, x) of the image that it was trained on.
    """

    classifier: Classifier
    classes: tuple[LabelClass, ...]
    specs: Specs
    n_channels: int
    channels: tuple[int, ...] | None
    color: ColorSpace
    spacing: tuple[float, float, float]
    unit: str

    @classmethod
    def of(cls, project: Project) -> Model:
        """Return the model that a project's labels give, trained if it has to be.

        Raises
        ------
        InputError
            If there are labels of fewer than two classes, or images with feature volumes of their own.
        """
        if any(record.feature_volumes for record in project.images):
            raise InputError("the classifier learns from feature volumes of its images, which other images do not have")
        classifier = project.train()
        first = next(r for i, r in enumerate(project.images) if project.annotations.labelled_voxels(i)[0].size)
        classes = tuple(sorted(project.annotations.classes, key=lambda c: c.class_id))
        described = (first.n_channels, first.channels, first.color, first.spacing, first.unit)
        return cls(classifier, classes, project.specs, *described)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the model to a file ``*.voxmodel``; equal models give equal bytes.

        Raises
        ------
        InputError
            If the name has another suffix, or the file exists.
        StorageError
            If it cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix != SUFFIX:
            raise InputError(f"{path} must end in {SUFFIX}")
        with (
            replacing(path, overwrite=overwrite) as temporary,
            storing(path),
            zipfile.ZipFile(temporary, "w") as archive,
        ):
            for name, content in self._contents().items():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
        return path

    def _contents(self) -> dict[str, bytes]:
        """Return what the archive holds, by name."""
        contents = {_HEADER: json.dumps(self._header().model_dump(mode="json"), indent=2).encode()}
        for name, array in sorted(self.classifier.to_arrays().items()):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            contents[f"{name}.npy"] = buffer.getvalue()
        return contents

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Model:
        """Return the model in a file, which may come from a stranger.

        Raises
        ------
        MissingFileError
            If there is no such file.
        FormatError
            If it is no model, damaged, or from another version of voxloop.
        """
        path = Path(path).expanduser()
        try:
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                header = _Header.model_validate_json(_contents(archive, _HEADER, _MAX_HEADER))
                classifier = Classifier.from_arrays(_arrays(archive))
        except OSError as error:
            raise MissingFileError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            raise FormatError(f"{path} is no model that can be used: {describe_validation(error)}") from None
        except VoxloopError as error:
            raise FormatError(f"{path} is no model that can be used: {error}") from None
        except Exception as error:  # damaged content makes zipfile, zlib and numpy raise nearly anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise FormatError(f"{path} is no model that can be used: {reason}") from error
        return cls._checked(path, header, classifier)

    @classmethod
    def _checked(cls, path: Path, header: _Header, classifier: Classifier) -> Model:
        """Return the model if its parts fit one another and this version of voxloop."""
        ours = _versions().model_dump(exclude={"voxloop"})
        if header.versions.model_dump(exclude={"voxloop"}) != ours:
            raise FormatError(
                f"{path} was made by voxloop {header.versions.voxloop}, whose features differ from those of "
                f"{__version__}: export it again from its project"
            )
        ids = [c.class_id for c in header.classes]
        if ids != sorted(set(ids)) or not set(classifier.classes.tolist()) <= set(ids):
            raise FormatError(f"{path} is no model that can be used: its classes are not those of its forest")
        classes = tuple(LabelClass(c.class_id, c.name, c.color) for c in header.classes)
        described = (header.n_channels, header.channels, header.color, header.spacing, header.unit)
        return cls(classifier, classes, header.specs, *described)

    def _header(self) -> _Header:
        return _Header(
            format=1,
            versions=_versions(),
            classes=tuple(_Class(class_id=c.class_id, name=c.name, color=c.color) for c in self.classes),
            specs=self.specs,
            n_channels=self.n_channels,
            channels=self.channels,
            color=self.color,
            spacing=self.spacing,
            unit=self.unit,
        )


def _versions() -> _Versions:
    return _Versions(
        voxloop=__version__,
        supervoxels=SUPERVOXELS_VERSION,
        features=FEATURES_VERSION,
        context=CONTEXT_VERSION,
        classifier=models.VERSION,
    )


def _contents(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return a member of an archive, of at most so many bytes whatever its header says."""
    info = archive.getinfo(name)
    if info.file_size > most:
        raise FormatError(f"{name} announces {info.file_size:,} bytes")
    with archive.open(info) as file:
        return file.read(most)


def _arrays(archive: zipfile.ZipFile) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of an archive; what they announce must be what is there, before memory is taken for it."""
    members = [info for info in archive.infolist() if info.filename != _HEADER]
    if len(members) > _MAX_FILES or any(not _ARRAY.fullmatch(info.filename) for info in members):
        raise FormatError("it holds other files than those of a model")
    if sum(info.file_size for info in members) > _MAX_ARRAYS:
        raise FormatError(f"its arrays announce more than {_MAX_ARRAYS:,} bytes")
    return {info.filename.removesuffix(".npy"): _array(archive, info) for info in members}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    stored = _contents(archive, info.filename, _MAX_ARRAYS)
    content = io.BytesIO(stored)
    if np.lib.format.read_magic(content) != (1, 0):
        raise FormatError(f"{info.filename} is an array of an unknown version")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(content)
    values = memoryview(stored)[content.tell() :]
    if dtype.kind not in "iuf" or min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != len(values):
        raise FormatError(f"{info.filename} is {dtype} of shape {shape} in {len(values)} bytes")
    array = np.frombuffer(values, dtype).copy()  # numba would compile its kernels anew for what is read-only
    return array.reshape(shape, order="F" if fortran_order else "C")
