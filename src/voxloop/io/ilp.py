"""ilastik projects (`.ilp`): images, classes, labels and chosen filters, read as plain HDF5; nothing is unpickled.

The layout is the one that ilastik's serializers write (`ilastik/applets/*/*Serializer.py` in its sources). Links out of
the file are refused, and no array is read before its size is known to be sound: projects come from strangers.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import psutil
from numpy.typing import NDArray

from voxloop.errors import FormatError
from voxloop.io.axistags import axes_of_axistags
from voxloop.io.heaps import check_heaps
from voxloop.io.stored import reading

# The groups of the two workflows whose labels are voxels, with the one on supervoxels first.
_LABEL_GROUPS = ("VoxelSegmentation", "PixelClassification")
_MAX_ENTRIES = 100_000  # of a list or matrix that is no image
_MAX_TEXT = 1_000_000  # bytes; a stack's path lists all its files
_SLICING = re.compile(r"\[\d{1,18}:\d{1,18}(?:,\d{1,18}:\d{1,18}){1,5}\]")
_SHARE_OF_FREE_MEMORY = 1 / 2
_SCRIPT = "import sys; from voxloop.io import ilp; ilp.read_all(sys.argv[1])"
_SECONDS, _BYTES_PER_SECOND = 60, 10_000_000


@dataclass(frozen=True)
class IlastikImage:
    """An image as the project describes it.

    Attributes
    ----------
    lane
        Its place among the images.
    name
        What it is called.
    path
        Its file, relative to the project's folder or not, or several separated by ``:`` or ``;``; inside the project
        file if `is_inside`.
    axes, shape
        A letter of t, z, y, x, c per dimension of the file, and its length; None in old projects.
    """

    lane: int
    name: str
    path: str
    is_inside: bool
    axes: str | None
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class IlastikFeatures:
    """The table of filters: `selected` (filters, sigmas) says which; `planar` which sigmas are computed in 2D."""

    filters: tuple[str, ...]
    sigmas: tuple[float, ...]
    selected: NDArray[np.bool_]
    planar: tuple[bool, ...]


@dataclass(frozen=True)
class LabelBlock:
    """Labels in a box of `shape` that begins at `start`, in the axes of the labels."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    dataset: h5py.Dataset

    def read(self) -> NDArray[np.integer[Any]]:
        """Return the labels: 0 is none, n is class n."""
        with reading(Path(self.dataset.file.filename), "an ilastik project"):
            return np.asarray(self.dataset[()])


class IlastikFile:
    """An ilastik project, open to read; a context manager.

    Raises
    ------
    MissingFileError
        If the file cannot be read.
    FormatError
        If it is no ilastik project of the workflows Voxel Segmentation or Pixel Classification, or is damaged. So do
        all methods.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "an ilastik project"):
            check_heaps(path)
            self._file = h5py.File(path, "r")
            try:
                self.version = self._text(self._file, "ilastikVersion")
                self.workflow = self._text(self._file, "workflowName") or "of an unknown workflow"
                groups = [g for name in _LABEL_GROUPS if (g := self._group(self._file, name)) is not None]
                if self._group(self._file, "Input Data") is None or not groups:
                    expected = "an ilastik project of Voxel Segmentation or Pixel Classification"
                    raise FormatError(f"{path} is not {expected}, but {self.workflow[:80]}")
                self._labels = groups[0]
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def is_voxel_segmentation(self) -> bool:
        """Whether it is of the workflow on supervoxels."""
        return bool(self._labels.name == f"/{_LABEL_GROUPS[0]}")

    def images(self) -> list[IlastikImage]:
        """Return the images; an empty lane is left out."""
        return self._infos("Raw Data")

    def masks(self) -> list[IlastikImage]:
        """Return the prediction masks, at most one a lane."""
        return self._infos("Prediction Mask")

    def classes(self) -> list[tuple[str, tuple[int, int, int] | None]]:
        """Return name and colour (red, green, blue from 0 to 255) of each class; that of label 1 comes first."""
        with reading(self.path, "an ilastik project"):
            names = [_decoded(name) for name in self._list(self._labels, "LabelNames")]
            colors = self._list(self._labels, "LabelColors")
            if len(colors) and (colors.ndim != 2 or colors.shape[1] < 3 or colors.dtype.kind not in "iuf"):
                raise FormatError(
                    f"{self.path} has LabelColors of shape {colors.shape}; expected red, green, blue a class"
                )
            rgb = [tuple(int(np.clip(part, 0, 255)) for part in color[:3]) for color in colors]
            return [(name, rgb[i] if i < len(rgb) else None) for i, name in enumerate(names)]  # type: ignore[misc]  # three parts

    def features(self) -> IlastikFeatures | None:
        """Return the table of filters, None if none was ever chosen."""
        with reading(self.path, "an ilastik project"):
            group = self._group(self._file, "FeatureSelections")
            if group is None or "SelectionMatrix" not in group:
                return None
            filters = tuple(_decoded(name) for name in self._list(group, "FeatureIds"))
            sigmas = tuple(float(sigma) for sigma in self._list(group, "Scales"))
            selected = self._list(group, "SelectionMatrix").astype(np.bool_)
            if selected.shape != (len(filters), len(sigmas)):
                raise FormatError(
                    f"{self.path} chooses features in a table of shape {selected.shape}, "
                    f"but has {len(filters)} filters and {len(sigmas)} sigmas"
                )
            planar = self._list(group, "ComputeIn2d").astype(np.bool_).reshape(-1)
            planar = planar if len(planar) == len(sigmas) else np.zeros(len(sigmas), np.bool_)
            return IlastikFeatures(filters, sigmas, selected, tuple(planar.tolist()))

    def label_blocks(self, lane: int) -> list[LabelBlock]:
        """Return the blocks of a lane that hold labels, each to be read on its own."""
        with reading(self.path, "an ilastik project"):
            sets = self._group(self._labels, "LabelSets")
            names = [] if sets is None else sorted(sets.keys(), key=_number_in)
            of_lane = self._group(sets, names[lane]) if sets is not None and lane < len(names) else None
            if of_lane is None:
                return []
            return [self._block(of_lane, name) for name in sorted(of_lane.keys(), key=_number_in)]

    def _block(self, of_lane: h5py.Group, name: str) -> LabelBlock:
        free = int(psutil.virtual_memory().available * _SHARE_OF_FREE_MEMORY)
        dataset = self._dataset(of_lane, name, max_size=free)
        text = _decoded(dataset.attrs.get("blockSlice", ""))
        if not _SLICING.fullmatch(text):
            raise FormatError(f"{self.path}: {name} lies at {text[:80]!r}; expected the like of [0:10,5:20,0:30,0:1]")
        bounds = [tuple(int(end) for end in part.split(":")) for part in text[1:-1].split(",")]
        shape = tuple(stop - start for start, stop in bounds)
        if min(shape) < 1 or dataset.shape != shape or dataset.dtype.kind not in "biu":
            raise FormatError(
                f"{self.path}: {name} is {dataset.dtype} of shape {dataset.shape}, but lies at {text[:80]}"
            )
        return LabelBlock(tuple(start for start, _ in bounds), shape, dataset)

    def _infos(self, role: str) -> list[IlastikImage]:
        with reading(self.path, "an ilastik project"):
            data = self._group(self._file, "Input Data")
            lanes = data and self._group(data, "infos")
            found = []
            for index, name in enumerate(sorted(lanes.keys(), key=_number_in) if lanes else []):
                lane = self._group(lanes, name)
                if lane is None:
                    continue
                # Projects of before 1.0 have one image a lane and no roles.
                info = lane if "filePath" in lane and role == "Raw Data" else self._group(lane, role)
                if info is not None and len(info):
                    found.append(self._info(index, info))
            return found

    def _info(self, lane: int, info: h5py.Group) -> IlastikImage:
        path = self._text(info, "filePath")
        is_inside = self._text(info, "location") == "ProjectInternal"
        if is_inside:
            path = self._text(info, "inner_path") or f"Input Data/local_data/{self._text(info, 'datasetId')}"
        tags = self._text(info, "axistags")
        axes = axes_of_axistags({"axistags": tags})[0] if tags else self._text(info, "axisorder") or None
        lengths = self._list(info, "shape")
        shape = tuple(int(n) for n in lengths) if lengths.dtype.kind in "iu" and len(lengths) else None
        if axes is None or set(axes) - set("tzyxc") or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes):
            axes = None
        if axes is None or shape is None or len(shape) != len(axes) or min(shape) < 1 or max(shape) >= 2**31:
            shape = None
        return IlastikImage(lane, self._text(info, "nickname"), path, is_inside, axes, shape)

    def _group(self, parent: h5py.Group, name: str) -> h5py.Group | None:
        node = self._node(parent, name)
        if node is not None and not isinstance(node, h5py.Group):
            raise FormatError(f"{self.path}: {name!r} is no group")
        return node

    def _text(self, parent: h5py.Group, name: str) -> str:
        if self._node(parent, name) is None:
            return ""
        value = self._dataset(parent, name, max_size=_MAX_TEXT)
        is_text = value.size == 1 and (h5py.check_string_dtype(value.dtype) or value.dtype.kind in "fS")
        return _decoded(value[()]) if is_text else ""

    def _list(self, parent: h5py.Group, name: str) -> NDArray[Any]:
        """Return a list or matrix; empty if there is none, or one that ilastik marks as empty."""
        if self._node(parent, name) is None:
            return np.empty(0)
        dataset = self._dataset(parent, name, max_size=_MAX_ENTRIES)
        if dataset.dtype.kind not in "biufS" and not h5py.check_string_dtype(dataset.dtype):
            raise FormatError(f"{self.path}: {name!r} holds {dataset.dtype}; expected numbers or names")
        return np.empty(0) if dataset.attrs.get("isEmpty", False) or not dataset.shape else np.asarray(dataset[()])

    def _dataset(self, parent: h5py.Group, name: str, *, max_size: int) -> h5py.Dataset:
        """Return a dataset of at most `max_size` bytes or entries that lies in this file."""
        node = self._node(parent, name)
        if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external:
            raise FormatError(f"{self.path}: {name!r} is no array in this file")
        if max(node.size or 0, node.nbytes) > max_size:
            raise FormatError(
                f"{self.path}: {name!r} announces {node.nbytes:,} bytes, more than it can be or memory holds"
            )
        return node

    def _node(self, parent: h5py.Group, name: str) -> Any:
        link = parent.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{self.path}: {name!r} is a link to elsewhere")
        return parent[name]


def survives_reading(path: Path) -> bool:
    """Return whether all that is read of an ilastik project can be read: HDF5 loops or crashes on some damage.

    It is tried in a process of its own, which may go on for a minute and the time that a slow disk takes. Errors of
    voxloop's own do not count: whoever reads the file meets them again.
    """
    if not sys.executable:  # Python inside another program cannot start itself
        return True
    try:
        seconds = _SECONDS + path.stat().st_size / _BYTES_PER_SECOND
        tried = subprocess.run([sys.executable, "-c", _SCRIPT, str(path)], capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    except OSError:  # of the file, which its reader will name
        return True
    return tried.returncode in (0, 1)


def read_all(path: str | Path) -> None:
    """Read everything that an import reads, and throw it away."""
    with IlastikFile(Path(path)) as ilp:
        ilp.classes()
        ilp.features()
        for image in (*ilp.images(), *ilp.masks()):
            for block in ilp.label_blocks(image.lane):
                block.read()


def _decoded(value: Any) -> str:
    """Return the text of a string or of an array of one string."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)[0] if value.size == 1 else ""
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _number_in(name: str) -> tuple[int, str]:
    """Return the first number in a name, by which ilastik sorts lanes and blocks."""
    match = re.search(r"\d{1,18}", name)
    return int(match.group()) if match else 0, name
