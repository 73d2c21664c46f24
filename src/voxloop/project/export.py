"""Writing the results of an image to files that other programs open, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, in_this_process, map_blocks, partition, within_memory
from voxloop.classify.cut import STRENGTH, check_strength
from voxloop.errors import InputError
from voxloop.io import create_volume, write_sidecar
from voxloop.io.writers import VolumeWriter
from voxloop.project.annotations import LabelClass
from voxloop.project.images import Crop, crop_box
from voxloop.project.paths import expand, has_field
from voxloop.project.results import ImageResults
from voxloop.project.sources import BY_CLASS, SOURCES, Layer, Painter, Source, make_layer, parse_cells
from voxloop.specs import FeatureSpec, digest_of

DType = Literal["uint8", "uint16", "uint32", "float32"]
Read = Callable[[Box], NDArray[Any]]
Convert = Callable[[NDArray[Any]], NDArray[Any]]
Rescale = Literal["data"] | tuple[float, float]

_BLOCK = (64, 256, 256)  # looked through at a time for the range of the data
_EXACT = 2**24  # up to here float32 holds every whole number


@dataclass(frozen=True)
class ExportOptions:
    """How a result is written.

    Attributes
    ----------
    crop
        Three slices (z, y, x) in voxels of the image: write a part of it.
    dtype
        Type of a voxel; by default the source's own.
    rescale
        The values that become the lowest and the highest of `dtype` (0 and 1 for ``float32``): two numbers, or
        ``"data"`` for the least and the largest value of what is written. Beyond them values are cut off.
    axes
        Order of the axes in the file, such as ``"czyx"``; by default the format's usual one.
    features
        For the source ``features``: cells such as ``"hessian:1.6"``, a family and a sigma.
    strength
        For the source ``graph_cut``: how much a contact of two classes costs, see `Project.graph_cut`.
    ome_zarr
        Version of OME-Zarr, ``"0.5"`` or ``"0.4"``.
    ome_tiff
        ``"plain"``, or ``"pyramid"`` for compressed tiles with coarser levels.
    """

    crop: Crop | None = None
    dtype: DType | None = None
    rescale: Rescale | None = None
    axes: str | None = None
    features: Sequence[str] = ()
    strength: float = STRENGTH
    ome_zarr: Literal["0.4", "0.5"] = "0.5"
    ome_tiff: Literal["plain", "pyramid"] = "plain"

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in get_args(DType):
            raise InputError(f"dtype is {self.dtype!r}; expected one of {', '.join(get_args(DType))}")
        if self.rescale not in (None, "data"):
            object.__setattr__(self, "rescale", _value_range(self.rescale))
        check_strength(self.strength)

    def check(self, spec: FeatureSpec, sources: Sequence[Source]) -> None:
        """Raise `InputError` if an option cannot be used, or goes with none of the sources."""
        if "features" in sources:
            parse_cells(self.features, spec)
        elif self.features:
            raise InputError(f"features goes with the source features, not with {', '.join(sources)}")
        if self.strength != STRENGTH and "graph_cut" not in sources:
            raise InputError(f"strength goes with the source graph_cut, not with {', '.join(sources)}")


def export_options(choices: Mapping[str, Any]) -> ExportOptions:
    """Return the options with these names, or raise `InputError` if there is none of a name."""
    known = [field.name for field in fields(ExportOptions)]
    if unknown := set(choices) - set(known):
        raise InputError(f"export has no option {sorted(unknown)[0]!r}; it has {', '.join(known)}")
    return ExportOptions(**choices)


def export(
    results: ImageResults,
    source: Source,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write one result of one image and return the files written; see `Project.export`."""
    folder = results.dataset_dir if has_field(path, "dataset_dir") else Path()
    targets = planned_files(source, path, name=results.name, dataset_dir=folder, classes=results.classes)
    options = options or ExportOptions()
    options.check(results.feature_spec, [source])
    return export_files(results, source, targets, options, overwrite=overwrite)


def export_files(
    results: ImageResults,
    source: Source,
    targets: Mapping[int | None, Path],
    options: ExportOptions,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write one result of one image to the files that `planned_files` names, or to some of them."""
    box = crop_box(options.crop, results.volume.shape) or results.volume.box
    cells = parse_cells(options.features, results.feature_spec) if source == "features" else ()
    written = []
    digest = results.digest()
    for class_id, target in targets.items():
        how = asdict(replace(options, crop=None))
        key = digest and digest_of("export", digest, source, class_id, how, box.start, box.stop)
        layer = make_layer(source, results, class_id=class_id, cells=cells, strength=options.strength)
        layer = _converted(layer, source, results, box, options)
        written += _write(layer, source, results, box, target, options, overwrite=overwrite, key=key)
    return written


def planned_files(
    source: Source, path: str | os.PathLike[str], *, name: str, dataset_dir: Path, classes: Sequence[LabelClass]
) -> dict[int | None, Path]:
    """Return the files that an export of `source` writes, by the class that each is about (None: all of them).

    Parameters
    ----------
    source, path
        As for `Project.export`.
    name, dataset_dir
        Of the image.
    classes
        All classes.

    Raises
    ------
    InputError
        If there is no such source, the pattern is wrong, or two files would have one name.
    """
    if source not in SOURCES:
        raise InputError(f"source is {source!r}; expected one of {', '.join(SOURCES)}")
    values: dict[str, Any] = {"nickname": name, "result_type": source, "dataset_dir": dataset_dir}
    if source not in BY_CLASS or not has_field(path, "class"):
        return {None: expand(path, **values)}
    files: dict[int | None, Path] = {c.class_id: expand(path, **values, class_name=c.name) for c in classes}
    check_distinct(list(files.values()))
    return files


def check_distinct(files: Sequence[Path]) -> None:
    """Raise `InputError` if two results would be written to one file."""
    seen: set[str] = set()
    for file in files:
        key = os.path.normcase(file.absolute()).casefold()  # as macOS and Windows compare names
        if key in seen:
            raise InputError(f"two results would be written to {file}; tell them apart in the pattern")
        seen.add(key)


def _write(
    layer: Layer,
    source: Source,
    results: ImageResults,
    box: Box,
    path: Path,
    options: ExportOptions,
    *,
    overwrite: bool,
    key: str | None,
) -> list[Path]:
    volume = results.volume.crop(box)
    # Names stand for the labels 1, 2, ...: a class that was removed leaves a gap to fill.
    by_id = {c.class_id: c for c in layer.classes}
    ids = range(1, max(by_id, default=0) + 1)
    described: dict[str, Any] = {
        "spacing": volume.spacing,
        "unit": volume.unit,
        "channel_names": layer.channel_names,
        "class_names": [by_id[i].name if i in by_id else f"removed {i}" for i in ids],
        "class_colors": [by_id[i].color if i in by_id else "#000000" for i in ids],
    }
    with create_volume(
        path,
        (*box.shape, layer.n_channels) if layer.n_channels > 1 else box.shape,
        layer.dtype,
        content=layer.content,
        channel_colors=layer.channel_colors,
        axes=options.axes,
        affine=volume.affine,
        origin=volume.origin,
        ome_zarr=options.ome_zarr,
        ome_tiff=options.ome_tiff,
        overwrite=overwrite,
        key=key,
        **described,
    ) as writer:
        _write_blocks(writer, layer, box, results, stage=f"export {source}")
        # Before the file appears: one that is there is complete.
        sidecar = write_sidecar(path, axes=writer.header.axes, **described)
    return [path] if sidecar is None else [path, sidecar]


def _write_blocks(writer: VolumeWriter, layer: Layer, box: Box, results: ImageResults, *, stage: str) -> None:
    """Write all blocks, in other processes if the format can be written from several, within the memory budget."""
    executor = results.executor if writer.any_process else in_this_process(results.executor)
    # Supervoxel ids, values, and their copy in the axes of the file, which an encoder may hold a second time.
    voxel_bytes = 4 + 3 * layer.dtype.itemsize * layer.n_channels
    executor = within_memory(executor, memory=results.memory, item_bytes=prod(writer.block_shape) * voxel_bytes)
    done = writer.log.done() if writer.log else ()
    blocks = [block for block in partition(box.shape, writer.block_shape) if block.index not in done]
    write = partial(_write_block, writer, layer.read, box)
    for _ in map_blocks(write, blocks, executor=executor, progress=results.progress, stage=stage):
        pass


def _write_block(writer: VolumeWriter, read: Read, box: Box, block: Block) -> None:
    writer.write(block.inner, read(_moved(block.inner, box)))
    if writer.log is not None:
        writer.log.note(block.index)


def _moved(part: Box, box: Box) -> Box:
    """Return the place in the image of a part of `box`."""
    start, stop = (tuple(a + b for a, b in zip(at, box.start, strict=True)) for at in (part.start, part.stop))
    return Box(start, stop)  # type: ignore[arg-type]  # three of each


def _converted(layer: Layer, source: Source, results: ImageResults, box: Box, options: ExportOptions) -> Layer:
    """Return a layer with the type and the range of values asked for."""
    dtype = np.dtype(options.dtype) if options.dtype else layer.dtype
    if options.rescale is not None:
        if layer.content == "labels":
            raise InputError(f"rescale does not go with {source}: its values are labels")
        low, high = _data_range(layer, results, box) if options.rescale == "data" else options.rescale
        return replace(layer, dtype=dtype, read=_then(layer.read, partial(_rescaled, low, high, dtype)))
    if dtype == layer.dtype:
        return layer
    if layer.maximum is None and dtype.kind != "f":
        raise InputError(
            f"{source} is {layer.dtype}: as {dtype} it needs rescale, the two values that become 0 and "
            f"{np.iinfo(dtype).max}, such as (0, 1), or 'data'"
        )
    highest = _EXACT if dtype.kind == "f" else int(np.iinfo(dtype).max)
    if (layer.maximum or 0) > highest:
        raise InputError(f"{source} reaches {layer.maximum:,}, which {dtype} cannot hold")
    content: Literal["image", "labels"] = "image" if dtype.kind == "f" else layer.content
    return replace(layer, dtype=dtype, read=_then(layer.read, partial(_as_type, dtype)), content=content)


def _then(read: Read, convert: Convert) -> Read:
    """Return what reads a box and converts its values."""
    return read.converted(convert) if isinstance(read, Painter) else partial(_read_converted, read, convert)


def _read_converted(read: Read, convert: Convert, box: Box) -> NDArray[Any]:
    return convert(read(box))


def _as_type(dtype: np.dtype[Any], values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(dtype)


def _rescaled(low: float, high: float, dtype: np.dtype[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return values with `low` and `high` as the ends of `dtype`, those beyond cut off."""
    shares = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    scaled: NDArray[Any] = shares.astype(dtype) if dtype.kind == "f" else np.rint(shares * np.iinfo(dtype).max)
    return scaled.astype(dtype, copy=False)


def _data_range(layer: Layer, results: ImageResults, box: Box) -> tuple[float, float]:
    """Return the least and the largest value of a layer in `box`; of a constant one, a range that makes it 0."""
    low, high = np.inf, -np.inf
    blocks, ends = partition(box.shape, _BLOCK), partial(_ends, layer.read, box)
    for least, largest in map_blocks(ends, blocks, executor=results.executor, progress=results.progress, stage="range"):
        low, high = min(low, least), max(high, largest)
    return (low, high) if high > low else (low, low + 1)


def _ends(read: Read, box: Box, block: Block) -> tuple[float, float]:
    values = read(_moved(block.inner, box))
    return float(values.min()), float(values.max())


def _value_range(values: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"rescale must be 'data' or two numbers, the lower one first, not {values!r}")
    return low, high
