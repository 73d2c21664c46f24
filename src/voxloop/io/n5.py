"""N5, read and written by z5py, as in ilastik: compression raw, gzip, bzip2, xz, blosc and zstd.

The axes of an N5 dataset are named in the order x, y, z; seen from here they are (z, y, x).
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import z5py
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.errors import FormatError, InputError
from voxloop.io.axistags import axes_of_axistags, axistags_attributes
from voxloop.io.stored import ForwardReader, StoredArray, StoredImage, reading
from voxloop.io.units import SYMBOLS, stored_unit
from voxloop.io.writers import Header, VolumeWriter

_DATASET = "exported_data"
_CHUNK = 64
_COMPRESSIONS = ("raw", "gzip", "bzip2", "xz", "blosc", "zstd")
_DTYPES = "uint8 uint16 uint32 uint64 int8 int16 int32 int64 float32 float64"
_MAX_LISTED = 10


def read(path: Path) -> StoredImage:
    """Return the dataset in the folder `path`, or the sole one (or the finest scale) below it."""
    with reading(path, "N5"):
        folder = path if "dimensions" in _attributes(path) else _sole_dataset(path)
        attributes = _attributes(folder)
        axes, sizes = axes_of_axistags(attributes)
        if axes is None and "axes" in attributes:
            axes = "".join(reversed(attributes["axes"])).lower()
        sizes = sizes if any(size for size, _ in sizes.values()) else _sizes(attributes, _attributes(folder.parent))
        names = attributes.get("channel_names", ())
        return StoredImage(N5Array(folder), axes, sizes, tuple(str(name) for name in names))


def scales(path: Path) -> list[Path]:
    """Return the scales s0, s1, ... of the pyramid in `path`, the finest first; none if there is no pyramid."""
    with reading(path, "N5"):
        if "dimensions" in _attributes(path):
            return []
        finest = _sole_dataset(path)
        found = [folder for folder in finest.parent.iterdir() if re.fullmatch(r"s\d+", folder.name)]
        return sorted(found, key=lambda folder: int(folder.name[1:])) if finest.name == "s0" else []


@dataclass(frozen=True)
class N5Array(StoredArray):
    """The N5 dataset in a folder, its last axis first."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "N5"

    def _open(self) -> Any:
        # What Java writes as lz4 is framed, what z5py writes is not, and each takes the other's for damaged.
        if (compression := _compression(_attributes(self.path))) not in _COMPRESSIONS:
            raise FormatError(f"{self.path} is compressed by {compression}; expected {', '.join(_COMPRESSIONS)}")
        dataset = _open(self.path, "r")
        return ForwardReader(dataset.shape, dataset.dtype, dataset.__getitem__)

    @property
    def stored_size(self) -> int:
        """Bytes of the blocks on disk."""
        files = (Path(folder) / name for folder, _, names in os.walk(self.path) for name in names)
        return sum(file.stat().st_size for file in files if file.name != "attributes.json")


def _open(folder: Path, mode: str) -> Any:
    """Return a dataset; z5py finds it from the root of the container, whose attributes hold the version of N5."""
    folder = folder.absolute()
    root = next((parent for parent in folder.parents if "n5" in _attributes(parent)), None)
    if root is None:
        raise FormatError(f"{folder} lies in no N5 container: no attributes.json above it tells a version")
    return z5py.N5File(str(root), mode=mode)[folder.relative_to(root).as_posix()]


def _compression(attributes: Mapping[str, Any]) -> str:
    """Return the type of compression; the first version of N5 named it elsewhere."""
    return str(attributes.get("compressionType") or attributes["compression"]["type"])


def _attributes(folder: Path) -> dict[str, Any]:
    file = folder / "attributes.json"
    attributes = json.loads(file.read_bytes()) if file.is_file() else {}
    if not isinstance(attributes, dict):
        raise FormatError(f"{file} holds no attributes")
    return attributes


def _sole_dataset(path: Path) -> Path:
    """Return the one dataset below a folder; of a pyramid s0, s1, ... the finest scale."""
    found = []
    for folder, subfolders, _ in os.walk(path):
        if "dimensions" in _attributes(Path(folder)):
            found.append(Path(folder))
            subfolders.clear()  # below are blocks
    found.sort()
    if not found:
        raise FormatError(f"{path} is an N5 group without datasets")
    if len({dataset.parent for dataset in found}) == 1 and all(re.fullmatch(r"s\d+", d.name) for d in found):
        return next((d for d in found if d.name == "s0"), found[0])
    if len(found) > 1:
        names = [dataset.relative_to(path).as_posix() for dataset in found]
        listed = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
        raise InputError(f"{path} holds {len(found)} datasets: {listed}; choose one, such as {found[0]}")
    return found[0]


def _sizes(attributes: Mapping[str, Any], parent: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Return the voxel size of TensorStore and Neuroglancer (resolution, units) or BigDataViewer (pixelResolution).

    A group's applies to its scales, times their downsampling factors.
    """
    for level in (attributes, parent):
        resolution: Any = level.get("pixelResolution", level.get("resolution"))
        unit: Any = level.get("units", level.get("unit"))
        if isinstance(resolution, Mapping):
            resolution, unit = resolution.get("dimensions"), resolution.get("unit")
        if resolution:
            units = unit if isinstance(unit, list) else [unit] * len(resolution)
            factors = attributes.get("downsamplingFactors", [1] * len(resolution))
            names = [str(axis).lower() for axis in attributes.get("axes", "xyzct"[: len(resolution)])]
            found = zip(names, resolution, factors, units, strict=False)
            return {axis: (float(r) * float(f), stored_unit(u)) for axis, r, f, u in found if axis in "xyz"}
    return {}


def create(path: Path, header: Header) -> N5Writer:
    """Return a writer of a container with the dataset `exported_data`, of any axes, or of one that was begun before."""
    if header.dtype.name not in _DTYPES.split():
        raise InputError(f"an N5 cannot hold {header.dtype}; expected one of {_DTYPES.replace(' ', ', ')}")
    return N5Writer(path, header)


class N5Writer(VolumeWriter):
    """Writes blocks of at most 64^3 voxels, by gzip, which every reader knows. Voxels never written are 0."""

    def __init__(self, path: Path, header: Header) -> None:
        self.header = header
        self.block_shape = cast("Shape3", tuple(min(_CHUNK, n) for n in header.spatial_shape))
        self._lock = threading.Lock()
        self._folder = path / _DATASET
        if not path.is_dir():
            self._begin(path)
        self._dataset = _open(self._folder, "r+")

    def _begin(self, path: Path) -> None:
        header = self.header
        self._folder.mkdir(parents=True)
        (path / "attributes.json").write_text(json.dumps({"n5": "2.0.0"}))
        metadata = {
            "dimensions": header.stored_shape[::-1],
            "blockSize": [(*self.block_shape, header.n_channels)["zyxc".index(axis)] for axis in header.axes[::-1]],
            "dataType": header.dtype.name,
            "compression": {"type": "gzip", "level": 1},
        }
        (self._folder / "attributes.json").write_text(json.dumps({**metadata, **_metadata(header)}))

    def _write(self, box: Box, block: NDArray[Any]) -> None:
        with self._lock:  # a block written in part is read, changed and written: by one thread at a time
            try:
                self._dataset[self.header.stored_slices(box)] = self.header.stored_block(block)
            except RuntimeError as error:  # all that z5 knows
                raise OSError(str(error)) from error

    def finish(self) -> None:
        """Do nothing: each block is a closed file already."""

    def close(self) -> None:
        """Do nothing: each block is a closed file already."""


def _metadata(header: Header) -> dict[str, Any]:
    """Return axes, voxel size and names as TensorStore, BigDataViewer and ilastik look for them."""
    metadata: dict[str, Any] = {"axes": list(header.axes[::-1]), **axistags_attributes(header)}
    if header.unit != "pixel":
        unit, sizes = SYMBOLS[header.unit], dict(zip("zyx", header.spacing, strict=True))
        resolution = [sizes.get(axis, 1.0) for axis in header.axes[::-1]]
        units = [unit if axis in sizes else "" for axis in header.axes[::-1]]
        metadata |= {"resolution": resolution, "units": units}
        if len(header.axes) == 3:
            metadata["pixelResolution"] = {"dimensions": resolution, "unit": unit}
    for key in ("channel_names", "class_names", "class_colors"):
        if values := getattr(header, key):
            metadata[key] = values
    return metadata
