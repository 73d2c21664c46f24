"""Files of microscope vendors (CZI, ND2, LIF, DeltaVision, ...), through bioio and its reader of each format."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bioio import BioImage
from bioio_base.exceptions import UnsupportedFileFormatError
from bioio_base.reader import Reader

from voxloop.errors import FormatError, InputError
from voxloop.io.inside import split_inside
from voxloop.io.stored import ForwardReader, StoredArray, StoredImage, reading
from voxloop.io.units import stored_unit

# bioio tells in its log which of its readers refused a file; without a handler that goes to the standard error.
logging.getLogger("bioio").addHandler(logging.NullHandler())

_FORMAT = "a microscope file"
# What pip installs to read a suffix; all others go through Bio-Formats, which runs in Java.
_READERS = {
    ".czi": "bioio-czi",
    ".dv": "bioio-dv",
    ".lif": "bioio-lif",
    ".nd2": "bioio-nd2",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
}
_ANY_READER = "bioio-bioformats"


def read(path: Path) -> StoredImage:
    """Return the image in a file; ``cells.lif/NAME`` or ``cells.lif/3`` names one of several."""
    file, name = split_inside(path)
    with reading(file, _FORMAT):
        reader = _reader(file)
        scene = _scene(file, list(reader.scenes), name)
        image = _image(reader, scene)
        named = "C" in image.dims and "C" in image.coords
        names = tuple(str(channel) for channel in image.coords["C"].values) if named else ()
        return StoredImage(BioioArray(file, scene), "".join(image.dims).lower(), _sizes(reader), names)


@dataclass(frozen=True)
class BioioArray(StoredArray):
    """An image of a file that bioio reads, with the axes that the reader of its format gives it."""

    scene: int

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return _FORMAT

    def _open(self) -> Any:
        data, lock = _image(_reader(self.path), self.scene).data, threading.Lock()

        def read_box(box: tuple[slice, ...]) -> Any:
            # The readers keep a file open that they share between threads, and blocks are read in threads already.
            with lock:
                return data[box].compute(scheduler="synchronous")

        return ForwardReader(data.shape, data.dtype, read_box)


def _reader(file: Path) -> Reader:
    """Return what reads the file's format. BioImage would also bring the axes into an order, which we do ourselves."""
    try:
        return BioImage(file).reader
    except UnsupportedFileFormatError:
        reader = _READERS.get(file.suffix.lower(), _ANY_READER)
        if find_spec(reader.replace("-", "_")) is None:
            raise InputError(f"{file} needs {reader}, which is not installed: pip install {reader}") from None
        raise FormatError(f"{file} cannot be read by {reader}: it is damaged, or in another format") from None


def _scene(file: Path, scenes: list[str], name: str) -> int:
    """Return the index of the image that a name or a number stands for."""
    if name in scenes:
        return scenes.index(name)
    if name.isdecimal() and int(name) < len(scenes):
        return int(name)
    if not name and len(scenes) == 1:
        return 0
    listed = ", ".join(scenes[:10]) + (", ..." if len(scenes) > 10 else "")
    wanted = f"no image {name!r}; it holds" if name else f"{len(scenes)} images:"
    raise InputError(f"{file} holds {wanted} {listed}; choose one, such as {file}/0")


def _image(reader: Reader, scene: int) -> Any:
    """Return an image as an xarray over a dask array; tiles of a mosaic are put together."""
    reader.set_scene(scene)
    image = reader.xarray_dask_data
    return reader.mosaic_xarray_dask_data if "M" in image.dims else image


def _sizes(reader: Reader) -> dict[str, tuple[float, str]]:
    """Return the size of a voxel as far as the file tells: in micrometres unless the reader says otherwise."""
    sizes, properties = reader.physical_pixel_sizes, reader.dimension_properties
    known = {}
    for axis in "ZYX":
        size, unit = getattr(sizes, axis), getattr(properties, axis).unit
        if size:
            known[axis.lower()] = (abs(float(size)), "micrometer" if unit is None else stored_unit(str(unit)))
    return known
