"""TIFF: OME, ImageJ, tifffile's own and plain ones, classic and BigTIFF.

Uncompressed contiguous images are read through a memory map. Of others, strips and tiles are decoded when a block needs
them and kept while they fit in an eighth of the memory that is free, so that a volume that fits is decoded once.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray

from voxloop.errors import FormatError, InputError
from voxloop.io.cache import DecodedCache
from voxloop.io.ome_tiff import create
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.units import stored_unit

__all__ = ["TiffArray", "create", "read"]

# tifffile tells about oddities in its log, which without a handler goes to the standard error of a command.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SHARE_OF_FREE_MEMORY = 1 / 8
_UNCOMPRESSED = 1


def read(path: Path) -> StoredImage:
    """Return the largest image in `path`, with the voxel size and channel names of its metadata."""
    with reading(path, "TIFF"), _opened(path) as tif:
        series = _main_series(path, tif)
        axes = "".join(letter for letter, _ in _long_axes(series)).lower()
        unknown = [letter for letter in axes if letter not in "tzyxcs"]
        if len(unknown) == 1 and "z" not in axes:  # a plain stack of pages
            axes = axes.replace(unknown[0], "z")
        sizes, channel_names = _metadata(tif, series)
        return StoredImage(TiffArray(path), axes, sizes, channel_names)


@dataclass(frozen=True)
class TiffArray(StoredArray):
    """The largest image in a TIFF file; axes of length 1 other than y and x are left out."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "TIFF"

    def _open(self) -> Any:
        with _opened(self.path) as tif:
            series = _main_series(self.path, tif)
            shape = tuple(n for _, n in _long_axes(series))
            if series.dtype is None:
                raise FormatError(f"{self.path} has a sample format that is not known")
            if series.dataoffset is not None:
                dtype = series.dtype.newbyteorder(tif.byteorder)
                return np.memmap(self.path, dtype, mode="r", offset=series.dataoffset, shape=shape)
            return _Segments(self.path, series, shape)


class _Segments:
    """An image in strips or tiles, which are decoded when they are needed.

    Any page is seen as (sample plane, depth, length, width, sample), the order in which tifffile places segments. Some
    of the image's leading axes count the pages, the others are the longer ones of these five.
    """

    def __init__(self, path: Path, series: tifffile.TiffPageSeries, shape: tuple[int, ...]) -> None:
        keyframe = series.keyframe
        self.shape = shape
        self.dtype = np.dtype(series.dtype)
        self._file = np.memmap(path, np.uint8, mode="r")
        self._decode = keyframe.decode
        self._jpegtables = keyframe.jpegtables
        self._nodata = keyframe.nodata
        self._page_shape = keyframe.shaped
        self._offsets, self._counts = _segment_table(path, series, self._file.size)
        places = [self._decode(None, i)[1:] for i in range(self._offsets.shape[1])]
        self._starts = np.array([corner for corner, _ in places])
        self._stops = self._starts + [(1, *segment_shape) for _, segment_shape in places]
        self._n_page_axes = _n_page_axes(shape, len(self._offsets))
        # The system keeps uncompressed bytes already.
        free = psutil.virtual_memory().available if keyframe.compression != _UNCOMPRESSED else 0
        self._cache = DecodedCache(int(free * _SHARE_OF_FREE_MEMORY))

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        ranges = [range(*k.indices(n)) for k, n in zip(key, self.shape, strict=True)]
        pages_shape, image_shape = self.shape[: self._n_page_axes], self.shape[self._n_page_axes :]
        spans = [range(min(r), max(r) + 1) if r else range(0) for r in ranges[self._n_page_axes :]]
        within = _on_page(spans, image_shape, self._page_shape)
        page_shape = tuple(len(r) for r in within)
        wanted = self._overlapping(within)
        pages = itertools.product(*ranges[: self._n_page_axes])
        out = np.empty((prod(len(r) for r in ranges[: self._n_page_axes]), *page_shape), self.dtype)
        for part, position in zip(out, pages, strict=True):
            page = int(np.ravel_multi_index(position, pages_shape)) if position else 0
            for index, target, source in wanted:
                part[target] = self._segment(page, index)[source]
        image = out.reshape([len(r) for r in (*ranges[: self._n_page_axes], *spans)])
        steps = (*(1 for _ in pages_shape), *(r.step for r in ranges[self._n_page_axes :]))
        return image[tuple(slice(None, None, step) for step in steps)]

    def _overlapping(self, within: list[range]) -> list[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """Return the segments that hold a part of any page: their index, and where in the part and in them that is."""
        first = np.array([r.start for r in within])
        starts = np.maximum(self._starts, first)
        stops = np.minimum(self._stops, [r.stop for r in within])
        return [
            (
                int(i),
                tuple(map(slice, starts[i] - first, stops[i] - first)),
                tuple(map(slice, starts[i] - self._starts[i], stops[i] - self._starts[i])),
            )
            for i in np.flatnonzero((starts < stops).all(axis=1))
        ]

    def _segment(self, page: int, index: int) -> NDArray[Any]:
        """Return a decoded strip or tile with its five axes."""
        with self._cache.lock_of(page, index):
            segment = self._cache.get((page, index))
            if segment is None:
                segment = self._decoded(page, index)
                self._cache.put((page, index), segment)
        return segment

    def _decoded(self, page: int, index: int) -> NDArray[Any]:
        offset, count = self._offsets[page, index], self._counts[page, index]
        data = self._file[offset : offset + count].tobytes() if count else None
        segment, _, shape = self._decode(data, index, jpegtables=self._jpegtables)
        if segment is None:
            return np.full((1, *shape), self._nodata, self.dtype)
        decoded: NDArray[Any] = segment[np.newaxis]
        return decoded


def _segment_table(path: Path, series: tifffile.TiffPageSeries, file_size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the offset and size of each segment (page, segment), or raise if the file ends before one does."""
    pages = [page for page in series.pages if page is not None]
    if len(pages) < len(series.pages):
        raise FormatError(f"{path} lacks {len(series.pages) - len(pages)} of its {len(series.pages)} planes")
    offsets = np.array([page.dataoffsets for page in pages], np.int64)
    counts = np.array([page.databytecounts for page in pages], np.int64)
    if (offsets + counts).max(initial=0) > file_size:
        raise FormatError(f"{path} is truncated: it has {file_size} bytes, its last plane ends beyond")
    return offsets, counts


def _n_page_axes(shape: tuple[int, ...], n_pages: int) -> int:
    """Return how many of the leading axes of the image count its pages."""
    for n in range(len(shape)):
        if prod(shape[:n]) == n_pages:
            return n
    raise ValueError(f"{n_pages} pages for shape {shape} are a layout that is not supported")


def _on_page(ranges: list[range], image_shape: tuple[int, ...], page_shape: tuple[int, ...]) -> list[range]:
    """Return the ranges along the five axes of a page from those along the image's axes on a page.

    Axes of length 1 are on the page but need not be among the image's.
    """
    remaining = list(zip(ranges, image_shape, strict=True))
    placed = []
    for n in page_shape:
        if remaining and remaining[0][1] == n:
            placed.append(remaining.pop(0)[0])
        elif n == 1:
            placed.append(range(1))
    if remaining or len(placed) != len(page_shape):
        raise ValueError(f"pages of shape {page_shape} for {image_shape} are a layout that is not supported")
    return placed


@contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF file; a broken chain of pages, which tifffile only logs, is an error."""
    broken: list[str] = []
    this_thread = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == this_thread and record.getMessage().startswith("<tifffile.TiffPages"):
                broken.append(record.getMessage())

    listener = Listener(logging.WARNING)
    logging.getLogger("tifffile").addHandler(listener)
    try:
        with tifffile.TiffFile(path) as tif:
            len(tif.pages)  # walks the chain
            if broken:
                raise FormatError(f"{path} is truncated or damaged: its list of pages breaks off")
            yield tif
    finally:
        logging.getLogger("tifffile").removeHandler(listener)


def _main_series(path: Path, tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the largest image: thumbnails and the like come beside it."""
    sizes = [series.size for series in tif.series]
    if not sizes:
        raise FormatError(f"{path} holds no image")
    if sizes.count(max(sizes)) > 1:
        raise InputError(f"{path} holds {len(sizes)} images, several of one size; expected one image")
    return tif.series[sizes.index(max(sizes))]


def _long_axes(series: tifffile.TiffPageSeries) -> list[tuple[str, int]]:
    """Return letter and length of the axes y, x and all that are longer than 1."""
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    return [(letter, n) for letter, n in zip(axes, shape, strict=True) if n != 1 or letter in "YX"]


def _metadata(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> tuple[dict[str, tuple[float, str]], tuple[str, ...]]:
    """Return voxel sizes with units per axis and channel names, as far as the file tells."""
    if tif.is_ome and tif.ome_metadata:
        return _ome_metadata(tif.ome_metadata, list(tif.series).index(series))
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_sizes(tif.imagej_metadata, series.keyframe), ()
    own = (tif.shaped_metadata or ({},))[0]
    return _plain_sizes(own, series.keyframe), ()


def _ome_metadata(xml: str, index: int) -> tuple[dict[str, tuple[float, str]], tuple[str, ...]]:
    """Sizes and channel names of an image in OME-XML (any version of the schema)."""
    images = [element for element in ElementTree.fromstring(xml) if element.tag.endswith("}Image")]
    pixels = next((e for e in images[index] if e.tag.endswith("}Pixels")), None) if index < len(images) else None
    if pixels is None:
        return {}, ()
    sizes = {}
    for axis in "ZYX":
        if size := pixels.get(f"PhysicalSize{axis}"):
            # Micrometre is the default of the schema.
            sizes[axis.lower()] = (float(size), stored_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
    names = [element.get("Name") for element in pixels if element.tag.endswith("}Channel")]
    return sizes, tuple(n for n in names if n) if all(names) else ()


def _imagej_sizes(metadata: dict[str, Any], page: tifffile.TiffPage) -> dict[str, tuple[float, str]]:
    """Sizes as ImageJ writes them: x and y in the resolution tags, z in `spacing`, each 1 where it is missing."""
    unit = stored_unit(metadata.get("unit"))
    y, x = _resolution(page) or (1.0, 1.0)
    sizes = {"y": (y, stored_unit(metadata["yunit"]) if "yunit" in metadata else unit), "x": (x, unit)}
    if "spacing" in metadata or metadata.get("slices", 1) > 1:
        z = abs(float(metadata.get("spacing", 1.0)))  # negative where slices were counted downwards
        sizes["z"] = (z, stored_unit(metadata["zunit"]) if "zunit" in metadata else unit)
    return sizes


def _plain_sizes(metadata: dict[str, Any], page: tifffile.TiffPage) -> dict[str, tuple[float, str]]:
    """Sizes from the resolution tags, and from `spacing` and `unit` where tifffile was told them."""
    unit = stored_unit(metadata.get("unit"))
    sizes = {}
    if isinstance(metadata.get("spacing"), int | float):
        sizes["z"] = (float(metadata["spacing"]), unit)
    resolution = _resolution(page)
    tag_unit = {2: "inch", 3: "centimeter"}.get(int(page.resolutionunit), unit)
    # 1 pixel per nothing is what writers put that know no resolution.
    if resolution is not None and (resolution != (1.0, 1.0) or tag_unit != unit):
        sizes |= {"y": (resolution[0], tag_unit), "x": (resolution[1], tag_unit)}
    return sizes


def _resolution(page: tifffile.TiffPage) -> tuple[float, float] | None:
    """Size of a pixel (y, x) in the unit of the resolution tags."""
    pixels_per_unit = []
    for name in ("YResolution", "XResolution"):
        tag = page.tags.get(name)
        if tag is None or not all(tag.value):  # a rational with a 0 in it says nothing
            return None
        numerator, denominator = tag.value
        pixels_per_unit.append(numerator / denominator)
    y, x = pixels_per_unit
    return 1 / y, 1 / x
