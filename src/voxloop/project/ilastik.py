"""Make a project of an ilastik project: its images, classes, labels and chosen filters."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Shape3
from voxloop.errors import FormatError, InputError, VoxloopError
from voxloop.io import count_frames, open_labels, open_volume, source_exists
from voxloop.io.inside import matching_files
from voxloop.io.stored import missing_library
from voxloop.project.annotations import MAX_CLASS_ID, ClassAdded, Edit, Group, Stroke, palette_color
from voxloop.project.images import is_windows_path
from voxloop.project.project import Project
from voxloop.project.runs import runs_from_mask
from voxloop.specs import FeatureFamily, FeatureSpec
from voxloop.volume import ArrayLike

if TYPE_CHECKING:
    from voxloop.io.ilp import IlastikFeatures, IlastikFile, IlastikImage, LabelBlock

_FAMILIES: dict[str, FeatureFamily] = {
    "GaussianSmoothing": "gaussian",
    "LaplacianOfGaussian": "laplacian",
    "GaussianGradientMagnitude": "gradient_magnitude",
    "DifferenceOfGaussians": "difference_of_gaussians",
    "StructureTensorEigenvalues": "structure_tensor",
    "HessianOfGaussianEigenvalues": "hessian",
}
_ANEW = "supervoxels, classifier and predictions are computed anew; export settings and bookmarks stay behind"


@dataclass(frozen=True)
class IlastikImport:
    """What came over from an ilastik project, and what did not.

    Attributes
    ----------
    project
        The folder of the new project.
    workflow, version
        Of the ilastik project.
    class_names
        The classes.
    labelled_voxels
        Number of labelled voxels of each image of the new project.
    features
        The chosen filters, None if none were chosen.
    missing
        Paths of the images that were not found; they and their labels are in the project, see `Project.relink`.
    notes
        What did not come over, or not as it was, in sentences.
    """

    project: Path
    workflow: str
    version: str
    class_names: tuple[str, ...]
    labelled_voxels: tuple[int, ...]
    features: FeatureSpec | None
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def import_ilastik(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> IlastikImport:
    """Make a project of an ilastik project of the workflows Voxel Segmentation or Pixel Classification.

    Parameters
    ----------
    path
        The `.ilp` file. Nothing in it is unpickled.
    folder
        The project folder to make.

    Returns
    -------
    IlastikImport
        What came over and what did not.

    Raises
    ------
    MissingFileError
        If the file cannot be read.
    FormatError
        If it is no such project, or damaged.
    InputError
        If the folder exists, or reading needs a library that is not installed.
    """
    try:
        from voxloop.io.ilp import IlastikFile, survives_reading
    except ModuleNotFoundError as error:
        raise missing_library("ilastik projects", error.name or "h5py") from error
    path, folder = Path(path), Path(folder)
    if not survives_reading(path):
        raise FormatError(f"{path} cannot be read as an ilastik project: it is damaged so that the HDF5 library fails")
    with IlastikFile(path) as ilp:
        project = Project.create(folder)
        try:
            with project:
                return _Import(ilp, project).run()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@dataclass(frozen=True)
class _Source:
    """Where an image is: its path, the axes to open it with, and its lengths along t, z, y, x and c."""

    path: str
    axes: str | None
    lengths: dict[str, int]

    @property
    def shape(self) -> Shape3:
        return self.lengths["z"], self.lengths["y"], self.lengths["x"]


class _LeftOutError(InputError):
    """An image that could not be right even if it was found."""


class _Import:
    def __init__(self, ilp: IlastikFile, project: Project) -> None:
        self.ilp = ilp
        self.project = project
        self.notes: list[str] = []
        self.missing: list[str] = []

    def run(self) -> IlastikImport:
        names = self._add_classes()
        masks = {mask.lane: mask for mask in self.ilp.masks()}
        for image in self.ilp.images():
            self._add_lane(image, masks.get(image.lane))
        if not self.project.images:
            raise FormatError(
                f"{self.ilp.path} has no image that can be imported: {self.notes[0] if self.notes else 'none'}"
            )
        features = self._choose_features()
        annotations = self.project.annotations
        return IlastikImport(
            project=self.project.folder,
            workflow=self.ilp.workflow,
            version=self.ilp.version,
            class_names=tuple(self.project.class_names.values()) or tuple(names),
            labelled_voxels=tuple(len(annotations.labelled_voxels(i)[0]) for i in range(len(self.project.images))),
            features=features,
            missing=tuple(self.missing),
            notes=(*self.notes, _ANEW),
        )

    # Classes

    def _add_classes(self) -> list[str]:
        names: list[str] = []
        for name, color in self.ilp.classes():
            names.append(_unused(_printable(name, 90) or f"Label {len(names) + 1}", names))
            class_id = len(names)
            rgb = "#{:02x}{:02x}{:02x}".format(*color) if color else palette_color(class_id)
            self.project.append(ClassAdded(class_id=class_id, name=names[-1], color=rgb))
        return names

    def _add_classes_up_to(self, value: int) -> None:
        """Add the classes that old projects do not name."""
        if value > MAX_CLASS_ID:
            raise FormatError(f"{self.ilp.path} has a label {value}; expected at most {MAX_CLASS_ID}")
        for class_id in range(self.project.annotations.next_class_id, value + 1):
            self.project.add_class(_unused(f"Label {class_id}", list(self.project.class_names.values())))

    # Images

    def _add_lane(self, image: IlastikImage, mask: IlastikImage | None) -> None:
        name = _printable(re.sub(r"[\\/]", "-", image.name), 200)
        try:
            source, is_there = self._find(image), True
        except VoxloopError as error:
            lengths = _lengths(image.axes, image.shape)
            if lengths is None or isinstance(error, _LeftOutError):
                self.notes.append(f"image {image.path[:200]} is left out, with its labels: {error}")
                return
            source, is_there = self._missing_source(image, lengths, error), False
        found_mask = self._find_mask(mask, source) if mask is not None and is_there else None
        n_frames = source.lengths["t"]
        indices = []
        for frame in range(n_frames):
            of_frame = None if n_frames == 1 else frame
            own_name = f"{name}-t{frame}" if name and n_frames > 1 else name
            try:
                own_name = own_name or f"image-{image.lane}"
                if is_there:
                    indices.append(self._add_found(source, own_name, of_frame, found_mask))
                else:
                    indices.append(self._add_missing(source, own_name, of_frame))
            except VoxloopError as error:
                self.notes.append(f"image {image.path[:200]} is left out, with its labels: {error}")
                return
        if mask is not None and not is_there:
            self.notes.append(f"prediction mask {mask.path[:200]} is left out: its image was not found")
        self._add_labels(image, source, indices)

    def _add_found(self, source: _Source, name: str, frame: int | None, mask: _Source | None) -> int:
        of_frame = None if mask is None else _mask_of(mask, frame)
        return self.project.add_image(source.path, axes=source.axes, frame=frame, name=name, mask=of_frame)

    def _find_mask(self, mask: IlastikImage, source: _Source) -> _Source | None:
        """Return where the prediction mask of an image is; None, and a note, if it cannot be used."""
        try:
            found = self._find(mask)
            if found.shape != source.shape or found.lengths["t"] not in (1, source.lengths["t"]):
                raise InputError(f"it has lengths {found.lengths}, but its image has {source.lengths}")
            open_labels(found.path, axes=found.axes, frame=0 if found.lengths["t"] > 1 else None)
        except VoxloopError as error:
            self.notes.append(f"prediction mask {mask.path[:200]} is left out: {error}")
            return None
        return found

    def _add_missing(self, source: _Source, name: str, frame: int | None) -> int:
        return self.project.add_missing_image(
            source.path,
            name=name,
            axes=source.axes or "",
            shape=source.shape,
            n_channels=source.lengths["c"],
            frame=frame,
        )

    def _find(self, image: IlastikImage) -> _Source:
        """Return where an image is, opened with axes under which it has the shape that ilastik saw."""
        path = self._path_of(image)
        expected = _lengths(image.axes, image.shape)
        problem: VoxloopError | None = None
        found = None
        for axes in dict.fromkeys((image.axes, None)):
            try:
                n_frames = count_frames(path, axes=axes)
                volume = open_volume(path, axes=axes, frame=0 if n_frames > 1 else None)
            except VoxloopError as error:
                problem = problem or error
                continue
            z, y, x = volume.shape
            found = {"t": n_frames, "z": z, "y": y, "x": x, "c": volume.n_channels}
            if expected in (None, found):
                return _Source(path, axes, found)
        if found is None and problem is not None:
            raise problem
        raise InputError(f"{path} has lengths {found}, but in ilastik it had {expected}")

    def _missing_source(self, image: IlastikImage, lengths: dict[str, int], error: VoxloopError) -> _Source:
        try:
            path = self._path_of(image)
        except InputError:
            path = _printable(image.path, 1000)
        self.missing.append(path)
        self.notes.append(f"an image was not found: {error}")
        return _Source(path, image.axes, lengths)

    def _path_of(self, image: IlastikImage) -> str:
        """Return the path as this program writes it."""
        if "://" in image.path:
            raise InputError(f"{image.path} is not a file: download it, then relink")
        if "\0" in image.path or not image.path:
            raise InputError("its path is empty or holds a zero byte")
        folder = self.ilp.path.absolute().parent
        if image.is_inside:
            return str(self.ilp.path.absolute() / image.path.lstrip("/"))
        files = _split_list(image.path)
        if len(files) > 1 and not source_exists(Path(_below(folder, image.path))):
            return _pattern_of([_below(folder, file) for file in files])
        return _below(folder, image.path)

    # Labels

    def _add_labels(self, image: IlastikImage, source: _Source, indices: Sequence[int]) -> None:
        orders = _label_orders(source, image.axes, self.ilp.version, is_voxel=self.ilp.is_voxel_segmentation)
        blocks = self.ilp.label_blocks(image.lane)
        order = next((o for o in orders if all(_fits(block, o, source.lengths) for block in blocks)), None)
        if order is None or sum(prod(block.shape) for block in blocks) > prod(source.lengths.values()):
            self.notes.append(f"labels of image {image.path[:200]} are left out: they are not inside it, or overlap")
            return
        edits: dict[int, list[Edit]] = {}
        for block in blocks:
            for frame, value, runs in _runs_of(block, order):
                self._add_classes_up_to(value)
                stroke = Stroke(image=indices[frame], class_id=value, runs=runs, source="ilastik")
                edits.setdefault(indices[frame], []).append(stroke)
        for of_image in edits.values():
            self.project.append(Group(edits=tuple(of_image)))

    # Features

    def _choose_features(self) -> FeatureSpec | None:
        table = self.ilp.features()
        if table is None or not table.selected.any():
            self.notes.append("no features were chosen in ilastik; voxloop's defaults are used")
            return None
        try:
            spec, notes = feature_spec(table)
        except InputError as error:
            raise FormatError(f"{self.ilp.path}: the choice of features cannot be used: {error}") from None
        self.notes += notes
        self.project.configure(features=spec)
        return spec


def _mask_of(mask: _Source, frame: int | None) -> str | ArrayLike:
    """Return the mask of a time point: its file, or voxels to keep where the file alone would not say which."""
    if mask.lengths["t"] > 1:
        return open_labels(mask.path, axes=mask.axes, frame=frame).data
    opened = open_labels(mask.path, axes=mask.axes)
    try:
        return mask.path if open_labels(mask.path).axes == opened.axes else opened.data
    except InputError:  # which axes it has is in the project only
        return opened.data


def feature_spec(table: IlastikFeatures) -> tuple[FeatureSpec, list[str]]:
    """Return the filters of a table as a spec of definition "ilastik", and sentences on where they differ."""
    cells = {(table.filters[row], table.sigmas[column]) for row, column in np.argwhere(table.selected).tolist()}
    known = {(_FAMILIES[name], sigma) for name, sigma in cells if name in _FAMILIES}
    notes = [f"filter {name[:100]!r} is not known" for name in sorted({n for n, _ in cells} - set(_FAMILIES))]
    sigmas = tuple(sigma for sigma in table.sigmas if any(s == sigma for _, s in known))
    spec = FeatureSpec(
        definition="ilastik",
        families=tuple(family for family in _FAMILIES.values() if any(f == family for f, _ in known)),
        sigmas=sigmas,
        sigmas_2d=tuple(s for s, planar in zip(table.sigmas, table.planar, strict=True) if planar and s in sigmas),
    )
    computed = {(family, sigma) for sigma in spec.sigmas for family in spec.families_at(sigma)}
    if lost := sorted(known - computed):
        notes.append(f"not computed at so small a sigma: {_listed(lost)}")
    return spec.changed(left_out=tuple(sorted(computed - known))), notes


def _listed(cells: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{family} at {sigma:g}" for family, sigma in cells)


def _lengths(axes: str | None, shape: Sequence[int] | None) -> dict[str, int] | None:
    """Return the lengths along t, z, y, x and c, None if they are not known."""
    if axes is None or shape is None:
        return None
    return {"t": 1, "z": 1, "y": 1, "x": 1, "c": 1} | dict(zip(axes, shape, strict=True))


def _label_orders(source: _Source, axes: str | None, version: str, *, is_voxel: bool) -> list[str]:
    """Return the orders of axes that labels may have, the likeliest first.

    ilastik brings images into the shortest of its own orders (t, z, y, x, then c) and stores labels like that; Pixel
    Classification of 1.3.3post2 to 1.4.0b7 stored them in the order of the file (its `pixelClassificationSerializer`
    says so). What does not fit the image is not it.
    """
    lengths = source.lengths
    shortest = "".join(a for a in "tzyx" if a in "yx" or lengths[a] > 1) + "c"
    of_file = axes or source.axes or "zyx"
    of_file = of_file if "c" in of_file else f"{of_file}c"
    in_file_order = not is_voxel and (1, 3, 3, 1, 2) <= _version_key(version) <= (1, 4, 0, -1, 7)
    likely = [of_file, shortest] if in_file_order else [shortest, of_file]
    return list(dict.fromkeys([*likely, "zyxc", "tzyxc", "tyxc", "yxc"]))


def _version_key(version: str) -> tuple[int, ...]:
    """Return a key that sorts versions such as 1.3.3post2, 1.4.0b7 and 1.4.0; (0,) if it is none."""
    match = re.fullmatch(r"(\d{1,5})\.(\d{1,5})\.(\d{1,5})(?:\.?(post|rc|b|a)(\d{1,5}))?.*", version)
    if match is None:
        return (0,)
    stage = {"a": -2, "b": -1, "rc": -1, None: 0, "post": 1}[match.group(4)]
    return (*(int(match.group(i)) for i in (1, 2, 3)), stage, int(match.group(5) or 0))


def _fits(block: LabelBlock, order: str, lengths: dict[str, int]) -> bool:
    """Whether a block with axes `order` lies inside an image of `lengths`; labels have one channel."""
    if len(order) != len(block.shape):
        return False
    inside = {**lengths, "c": 1}
    return all(a + n <= inside[axis] for axis, a, n in zip(order, block.start, block.shape, strict=True))


def _runs_of(block: LabelBlock, order: str) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Yield the time point, class and runs of the labels in a block."""
    dropped = [axis for axis in order if axis == "c"]
    present = [axis for axis in "tzyx" if axis in order]
    labels = block.read().transpose([order.index(axis) for axis in dropped + present])
    starts = dict(zip(order, block.start, strict=True))
    sizes = dict(zip(order, block.shape, strict=True))
    labels = labels.reshape([sizes.get(axis, 1) for axis in "tzyx"])
    offset = [starts.get(axis, 0) for axis in "zyx"]
    for t, of_frame in enumerate(labels):
        for value in np.unique(of_frame[of_frame > 0]).tolist():
            yield starts.get("t", 0) + t, int(value), runs_from_mask(of_frame == value, offset=offset)


def _split_list(text: str) -> list[str]:
    """Return the files of a stack, which ilastik separates by ``:`` or, on Windows, by ``;``."""
    if ";" in text or is_windows_path(text):
        return text.split(";")
    return text.split(":")


def _below(folder: Path, text: str) -> str:
    """Return an absolute path; one of Windows stays as it is elsewhere."""
    if is_windows_path(text):
        return text
    return str(folder / text.replace("\\", "/")) if not PurePosixPath(text).is_absolute() else text


def _pattern_of(files: Sequence[str]) -> str:
    """Return the pattern that stands for the files of a stack, such as ``scans/s_{slice_index}.png``."""
    patterns = {re.sub(r"\d+(\D*\.\w+)$", r"{slice_index}\1", file) for file in files}
    pattern = min(patterns)
    if len(patterns) > 1 or "{slice_index}" not in pattern:
        raise _LeftOutError(f"it is a stack of {len(files)} files that are not numbered")
    found = [str(file) for file in matching_files(Path(pattern))]
    if found and found != list(files):  # ilastik sorts s_10 before s_9
        raise _LeftOutError(f"its {len(files)} files are not all of {pattern} in the order of their numbers")
    return pattern


def _printable(text: str, length: int) -> str:
    return "".join(c for c in text if c.isprintable()).strip()[:length].strip()


def _unused(name: str, names: Sequence[str]) -> str:
    """Return a name that is not among `names`: with a number after it, if need be."""
    candidates = [name, *(f"{name} {i}" for i in range(2, len(names) + 3))]
    return next(c for c in candidates if c not in names)
