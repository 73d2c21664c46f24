"""Zarr arrays (v2, v3) and OME-Zarr images (0.4 and 0.5).

Written arrays are unsharded, in chunks of at most 64^3 voxels: many readers want small random pieces, and what is
bound for a cluster's file system can be resharded there.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import zarr
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from voxloop.blocks import Block, Box, Shape3, map_blocks, partition
from voxloop.errors import FormatError
from voxloop.io.pyramid import CHUNK, downsample, pyramid_factors
from voxloop.io.stored import StoredArray, StoredImage, reading
from voxloop.io.units import stored_unit
from voxloop.io.writers import Header, VolumeWriter


@dataclass(frozen=True)
class ZarrArray(StoredArray):
    """The Zarr array in a folder."""

    @property
    def format_name(self) -> str:
        """What the format is called in messages."""
        return "Zarr"

    def _open(self) -> Any:
        return zarr.open_array(self.path, mode="r")

    @property
    def stored_size(self) -> int:
        """Bytes of the chunks on disk."""
        files = (Path(folder) / name for folder, _, names in os.walk(self.path) for name in names)
        return sum(file.stat().st_size for file in files if not file.name.startswith(".") and file.suffix != ".json")


def read(path: Path) -> StoredImage:
    """Return the array in `path`, or the finest scale of the OME-Zarr image there."""
    with reading(path, "Zarr"):
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Array):
            found = _scale_of_parent(path)
            return found or StoredImage(ZarrArray(path), _axes_of_dimension_names(node))
        multiscale = _multiscale(node.attrs.asdict())
        if multiscale is None:
            names = ", ".join(sorted(name for name, _ in node.members())) or "nothing"
            raise FormatError(
                f"{path} is a Zarr group without an OME-Zarr image; open an array in it (it holds {names})"
            )
        return _scale(path, multiscale, multiscale["datasets"][0], node.attrs.asdict())


def scales(path: Path) -> list[Path]:
    """Return the scales of the OME-Zarr image in `path`, the finest first; none if there is no such image."""
    with reading(path, "Zarr"):
        node = zarr.open(path, mode="r")
        multiscale = None if isinstance(node, zarr.Array) else _multiscale(node.attrs.asdict())
        return [] if multiscale is None else [path / dataset["path"] for dataset in multiscale["datasets"]]


def _multiscale(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the first multiscale image in a group's attributes: under `ome` from 0.5 on."""
    multiscales = cast("Mapping[str, Any]", attributes.get("ome", attributes)).get("multiscales")
    return dict(multiscales[0]) if multiscales else None


def _scale_of_parent(path: Path) -> StoredImage | None:
    """Return the array with what an OME-Zarr group above says about it, or None if there is no such group."""
    path = path.absolute()
    for parent in path.parents:
        if not any((parent / mark).is_file() for mark in ("zarr.json", ".zgroup")):
            return None
        attributes = zarr.open_group(parent, mode="r").attrs.asdict()
        for dataset in (_multiscale(attributes) or {}).get("datasets", ()):
            if parent / dataset["path"] == path:
                return _scale(parent, cast("dict[str, Any]", _multiscale(attributes)), dataset, attributes)
    return None


def _scale(
    group: Path, multiscale: Mapping[str, Any], dataset: Mapping[str, Any], attributes: Mapping[str, Any]
) -> StoredImage:
    """Return one scale of a multiscale image: its array, axes, voxel size and channel names."""
    name = Path(dataset["path"])
    if name.is_absolute() or ".." in name.parts:  # not for a stranger to choose
        raise FormatError(f"{group} names a scale {dataset['path']!r}, which is not in it")
    if not (group / name).is_dir():
        raise FormatError(f"{group} names a scale {dataset['path']!r} but does not hold it")
    array = ZarrArray(group / dataset["path"])
    axes = multiscale["axes"]
    # The transformation of the whole image applies after that of the scale.
    factors, offsets = np.ones(len(axes)), np.zeros(len(axes))
    for transformations in (dataset, multiscale):
        for transformation in transformations.get("coordinateTransformations", ()):
            if transformation["type"] == "scale":
                factors *= np.asarray(transformation["scale"], float)
                offsets *= np.asarray(transformation["scale"], float)
            elif transformation["type"] == "translation" and "translation" in transformation:
                offsets += np.asarray(transformation["translation"], float)
    letters = [axis["name"].lower() for axis in axes]
    sizes = {
        letter: (float(factor), stored_unit(axis.get("unit")))
        for letter, factor, axis in zip(letters, factors, axes, strict=True)
        if letter in ("z", "y", "x")
    }
    origin = dict(zip(letters, offsets.tolist(), strict=True))
    return StoredImage(array, "".join(letters), sizes, _channel_names(attributes), origin=origin)


def _channel_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    omero = cast("Mapping[str, Any]", attributes.get("ome", attributes)).get("omero", {})
    labels = [channel.get("label") for channel in omero.get("channels", ())]
    return tuple(str(label) for label in labels) if all(labels) else ()


def _axes_of_dimension_names(array: zarr.Array[Any]) -> str | None:
    """Return the axes of a v3 array whose dimensions are named z, y, x and so on."""
    names = getattr(array.metadata, "dimension_names", None)
    if not names or not all(isinstance(name, str) and len(name) == 1 for name in names):
        return None
    return "".join(names).lower()


def create(path: Path, header: Header) -> OmeZarrWriter:
    """Return a writer of an OME-Zarr image of axes (z, y, x) or (c, z, y, x), or of one that was begun before."""
    return OmeZarrWriter(path, header)


class OmeZarrWriter(VolumeWriter):
    """Writes the finest scale block by block, then makes the coarser ones from it, each in bounded memory.

    A scale halves the axes whose voxels are less than twice as long as the shortest, so that voxels become cubes; the
    last scale fits into a chunk. Voxels never written are 0. A copy in another process writes whole chunks.
    """

    any_process = True

    def __init__(self, path: Path, header: Header) -> None:
        self.header = header
        self.block_shape = cast("Shape3", tuple(min(CHUNK, n) for n in header.spatial_shape))
        self._path = path
        self._lock = threading.Lock()
        self._factors = pyramid_factors(header.spatial_shape, header.spacing)
        ome = _ome(header, self._factors)
        self._zarr_format: Literal[2, 3] = 3 if header.ome_zarr == "0.5" else 2
        attributes: dict[str, Any] = {"ome": ome} if header.ome_zarr == "0.5" else ome
        if path.is_dir():
            self._group = zarr.open_group(path, mode="r+", zarr_format=self._zarr_format)
            self._finest = cast("zarr.Array[Any]", self._group["0"])
        else:
            self._group = zarr.open_group(path, mode="w-", zarr_format=self._zarr_format, attributes=attributes)
            self._finest = self._create_scale(0, header.spatial_shape)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)  # without the lock: chunks in part are for the process that made the store

    def _create_scale(self, level: int, shape: Shape3) -> zarr.Array[Any]:
        has_channels = len(self.header.shape) == 4
        lead = (self.header.n_channels,) if has_channels else ()
        return self._group.create_array(
            str(level),
            shape=(*lead, *shape),
            dtype=self.header.dtype,
            chunks=(*(1 for _ in lead), *(min(CHUNK, n) for n in shape)),
            fill_value=0,
            overwrite=True,  # who goes on with an image makes the coarser scales anew
            **self._encoding(),
        )

    def _encoding(self) -> dict[str, Any]:
        if self._zarr_format == 3:
            names = list(self.header.axes)
            return {"compressors": BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), "dimension_names": names}
        blosc = Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE)
        return {"compressors": blosc, "chunk_key_encoding": {"name": "v2", "separator": "/"}}

    def _write(self, box: Box, block: NDArray[Any]) -> None:
        if self._is_aligned(box):
            self._write_chunks(box, block)
        else:
            # Chunks written in part are read, changed and written: by one thread at a time.
            with self._lock:
                self._write_chunks(box, block)

    def _write_chunks(self, box: Box, block: NDArray[Any]) -> None:
        """Write chunk by chunk: after an error among several at once, Zarr would go on writing in the background."""
        block = self.header.stored_block(block)
        for piece in self._pieces(box):
            z, y, x = piece.slices_in(box)
            for channel in np.ndindex(self._finest.shape[:-3]):
                self._finest[(*channel, *piece.slices)] = block[(*channel, z, y, x)]

    def _pieces(self, box: Box) -> Iterator[Box]:
        """Cut a box where chunks meet."""
        edges = [
            [a, *range(a - a % c + c, b, c), b] for a, b, c in zip(box.start, box.stop, self.block_shape, strict=True)
        ]
        for pairs in itertools.product(*(itertools.pairwise(along) for along in edges)):
            start, stop = zip(*pairs, strict=True)
            yield Box(start, stop)

    def _is_aligned(self, box: Box) -> bool:
        return all(
            a % c == 0 and (b % c == 0 or b == n)
            for a, b, c, n in zip(box.start, box.stop, self.block_shape, self.header.spatial_shape, strict=True)
        )

    def finish(self) -> None:
        """Make the coarser scales, and remove the chunks that a process left half written when it was killed."""
        for leftover in self._path.rglob("*.partial"):  # as zarr-python calls a chunk until it is complete
            leftover.unlink()
        finer = self._finest
        previous = (1, 1, 1)
        for level, factors in enumerate(self._factors[1:], start=1):
            step = cast("Shape3", tuple(f // p for f, p in zip(factors, previous, strict=True)))
            shape = cast("Shape3", tuple(-(-n // s) for n, s in zip(finer.shape[-3:], step, strict=True)))
            coarser = self._create_scale(level, shape)
            self._fill(coarser, finer, step)
            finer, previous = coarser, factors

    def _fill(self, coarser: zarr.Array[Any], finer: zarr.Array[Any], step: Shape3) -> None:
        """Fill a scale from the finer one, chunk by chunk and channel by channel."""

        def fill_chunk(block: Block) -> None:
            box = block.inner
            source = tuple(slice(a * s, b * s) for a, b, s in zip(box.start, box.stop, step, strict=True))
            for channel in np.ndindex(coarser.shape[:-3]):
                part = np.asarray(finer[(*channel, *source)])
                coarser[(*channel, *box.slices)] = downsample(part, step, self.header.content)

        for _ in map_blocks(fill_chunk, partition(coarser.shape[-3:], self.block_shape)):
            pass

    def close(self) -> None:
        """Do nothing: each chunk is a closed file already."""


def _ome(header: Header, factors: list[Shape3]) -> dict[str, Any]:
    """Return the metadata of an OME-Zarr image: of version 0.5 under the key `ome`, of 0.4 with versions inside."""
    unit = {} if header.unit == "pixel" else {"unit": header.unit}
    space = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    lead = [1.0] if len(header.shape) == 4 else []
    datasets = []
    for level, factor in enumerate(factors):
        scale = [f * s for f, s in zip(factor, header.spacing, strict=True)]
        # The centre of a coarse voxel lies between those that it was made of.
        places = zip(header.origin, factor, header.spacing, strict=True)
        translation = [origin + (f - 1) / 2 * s for origin, f, s in places]
        transformations = [
            {"type": "scale", "scale": [*lead, *scale]},
            {"type": "translation", "translation": [0.0 for _ in lead] + translation},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transformations})
    axes = [*([{"name": "c", "type": "channel"}] if lead else []), *space]
    method = {"image": "mean", "labels": "nearest"}[header.content]
    version = {"version": header.ome_zarr}
    inside, outside = ({}, version) if header.ome_zarr == "0.5" else (version, {})
    multiscale = {"name": header.name, "type": method, "axes": axes, "datasets": datasets, **inside}
    ome: dict[str, Any] = {**outside, "multiscales": [multiscale]}
    if header.channel_names:
        colors = header.channel_colors or ("#ffffff",) * header.n_channels
        named = zip(header.channel_names, colors, strict=True)
        ome["omero"] = {"channels": [_omero_channel(name, color, header.dtype) for name, color in named]}
    if header.content == "labels":
        ome["image-label"] = {**_image_label(header), **inside}
    return ome


def _omero_channel(name: str, color: str, dtype: np.dtype[Any]) -> dict[str, Any]:
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    window = {"min": float(limits.min), "max": float(limits.max)} if limits else {"min": 0.0, "max": 1.0}
    return {
        "label": name,
        "color": color[1:].upper(),
        "window": {**window, "start": window["min"], "end": window["max"]},
    }


def _image_label(header: Header) -> dict[str, Any]:
    """Return names and colours of the classes 1, 2, ... as OME-Zarr has them."""
    named = list(enumerate(header.class_names, start=1))
    label: dict[str, Any] = {"properties": [{"label-value": i, "class": name} for i, name in named]} if named else {}
    if header.class_colors:
        colors = enumerate(header.class_colors, start=1)
        label["colors"] = [{"label-value": i, "rgba": [*bytes.fromhex(color[1:]), 255]} for i, color in colors]
    return label
