"""HDF5: a dataset anywhere in a file, with the axes that ilastik, Fiji or the dimension scales tell.

Written files follow ilastik: the dataset `exported_data` with the attribute `axistags`, in chunks compressed by gzip.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.errors import FormatError, InputError
from voxloop.io.axistags import axes_of_axistags, axistags_attributes
from voxloop.io.heaps import check_heaps
from voxloop.io.inside import split_inside
from voxloop.io.stored import ForwardReader, StoredArray, StoredImage, reading
from voxloop.io.units import METRES, stored_unit
from voxloop.io.writers import Header, VolumeWriter

_DATASET = "exported_data"
_CHUNK = 64
_CHUNK_CACHE_NBYTES = 2**26
_MAX_LISTED = 10


def read(path: Path) -> StoredImage:
    """Return the dataset that `path` names inside a file, or the sole one in it."""
    file, name = split_inside(path)
    with reading(file, "HDF5"):
        check_heaps(file)
    with reading(file, "HDF5"), h5py.File(file, "r") as opened:
        name = name or _sole_dataset(file, opened)
        dataset = _dataset(file, opened, name)
        attributes = {key: _text(value) for key, value in dataset.attrs.items()}
        axes, sizes = axes_of_axistags(attributes)
        axes = axes or _axes_of_dimensions(dataset)
        sizes = sizes if any(size for size, _ in sizes.values()) else _other_sizes(attributes)
        names = json.loads(attributes.get("channel_names", "[]"))
        return StoredImage(Hdf5Array(file, name), axes, sizes, tuple(str(n) for n in names))


@dataclass(frozen=True)
class Hdf5Array(StoredArray):
    """A dataset in an HDF5 file."""

    name: str

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "HDF5"

    def _open(self) -> Any:
        opened = _OpenedDataset(self.path, self.name)
        return ForwardReader(opened.dataset.shape or (), opened.dataset.dtype, opened.read)


class _OpenedDataset:
    """A dataset and its file, opened anew in a process that was forked: two processes must not share a handle.

    Threads may: h5py lets one into the HDF5 library at a time.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self.dataset = self._open()

    def _open(self) -> h5py.Dataset:
        self._process = os.getpid()
        return _dataset(self._path, h5py.File(self._path, "r", rdcc_nbytes=_CHUNK_CACHE_NBYTES), self._name)

    def read(self, box: tuple[slice, ...]) -> NDArray[Any]:
        """Return the voxels of a box."""
        if self._process != os.getpid():
            self.dataset = self._open()
        voxels: NDArray[Any] = self.dataset[box]
        return voxels


def _dataset(file: Path, opened: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset whose voxels lie in this file or in its folder, or raise `InputError`."""
    if name not in opened:
        raise InputError(f"{file} holds no dataset {name!r}; it holds {_listed(opened)}")
    dataset = opened[name]
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{name!r} in {file} is a group; choose a dataset: {_listed(opened)}")
    # Links, external storage and virtual datasets may lead to any file of the machine: not for a stranger to choose.
    others = [dataset.file.filename, *(source for source, _, _ in dataset.external or ())]
    if dataset.is_virtual:
        others += [source.file_name for source in dataset.virtual_sources() if source.file_name != "."]
    folder = file.absolute().parent
    for other in others:
        if not (folder / other).resolve().is_relative_to(folder.resolve()):
            raise FormatError(f"{file} takes {name!r} from {other}, which is not in its folder")
    return dataset


def _sole_dataset(file: Path, opened: h5py.File) -> str:
    found = _datasets(opened)
    if not found:
        raise FormatError(f"{file} holds no image: no dataset of numbers with two or more dimensions")
    if len(found) > 1:
        raise InputError(f"{file} holds {len(found)} datasets: {_listed(opened)}; choose one, such as {file}{found[0]}")
    return found[0]


def _datasets(opened: h5py.File) -> list[str]:
    """Return the names of all datasets of numbers with at least two dimensions."""
    found: list[str] = []

    def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "biuf" and len(node.shape or ()) > 1:
            found.append(f"/{name}")

    opened.visititems(visit)
    return found


def _listed(opened: h5py.File) -> str:
    found = _datasets(opened)
    words = [f"{name} {opened[name].shape} {opened[name].dtype}" for name in found[:_MAX_LISTED]]
    return ", ".join([*words, *(["..."] if len(found) > _MAX_LISTED else [])]) or "none"


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _axes_of_dimensions(dataset: h5py.Dataset) -> str | None:
    """Return the axes that dimension labels name with a letter each."""
    labels = [str(dimension.label) for dimension in dataset.dims]
    return "".join(labels).lower() if labels and all(len(label) == 1 for label in labels) else None


def _other_sizes(attributes: Mapping[str, Any]) -> dict[str, tuple[float, str]]:
    """Return the voxel size (z, y, x) of Fiji's HDF5 plugin, in micrometres, or of CREMI, in nanometres."""
    for key, unit in (("element_size_um", "micrometer"), ("resolution", "nanometer")):
        if key in attributes and np.size(attributes[key]) == 3:
            unit = stored_unit(attributes.get("unit", unit)) if key == "resolution" else unit
            return {axis: (float(size), unit) for axis, size in zip("zyx", attributes[key], strict=True)}
    return {}


def create(path: Path, header: Header) -> Hdf5Writer:
    """Return a writer of the dataset `exported_data`, of any axes."""
    return Hdf5Writer(path, header)


class Hdf5Writer(VolumeWriter):
    """Writes a chunked dataset; HDF5 itself lets one thread write at a time."""

    def __init__(self, path: Path, header: Header) -> None:
        self.header = header
        self.block_shape = cast("Shape3", tuple(min(_CHUNK, n) for n in header.spatial_shape))
        self._sink = _Sink(path)
        self._file = h5py.File(self._sink, "w", rdcc_nbytes=_CHUNK_CACHE_NBYTES)
        self._dataset = self._file.create_dataset(
            _DATASET,
            shape=header.stored_shape,
            dtype=header.dtype,
            chunks=tuple((*self.block_shape, header.n_channels)["zyxc".index(axis)] for axis in header.axes),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fillvalue=0,
        )
        for dimension, axis in zip(self._dataset.dims, header.axes, strict=True):
            dimension.label = axis
        self._dataset.attrs.update(_attributes(header))

    def _write(self, box: Box, block: NDArray[Any]) -> None:
        self._dataset[self.header.stored_slices(box)] = self.header.stored_block(block)
        self._sink.check()

    def finish(self) -> None:
        """Write what is still in memory."""
        self.close()
        self._sink.check()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._sink.close()


class _Sink(io.FileIO):
    """The file that HDF5 writes to; it keeps an error to itself until it is asked, and from then on takes no bytes.

    HDF5 does not survive a full disk: it tries to write the rest once more when the process ends, and crashes it.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error that was met, if any."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any, /) -> int:
        """Write all bytes, or none after an error."""
        remaining = memoryview(data)
        while remaining and self._error is None:
            try:
                remaining = remaining[super().write(remaining) :]
            except OSError as error:
                self._error = error
        return len(data)

    def truncate(self, size: int | None = None, /) -> int:
        """Set the length of the file."""
        if self._error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self._error = error
        return size or 0


def _attributes(header: Header) -> dict[str, Any]:
    attributes: dict[str, Any] = axistags_attributes(header)
    if header.unit in METRES:
        # Fiji takes the sizes in the order of the axes.
        factor = METRES[header.unit] / METRES["micrometer"]
        space = header.axes.replace("c", "")
        attributes["element_size_um"] = [header.spacing["zyx".index(axis)] * factor for axis in space]
    for key in ("channel_names", "class_names", "class_colors"):
        if values := getattr(header, key):
            attributes[key] = json.dumps(values)
    return attributes
