"""Opening volumes, whatever their format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from voxloop.errors import InputError
from voxloop.io.formats import format_of_file, name_without_suffix
from voxloop.io.inside import usable_path
from voxloop.io.stored import StoredImage
from voxloop.io.units import common_spacing, unit_name
from voxloop.volume import FrameView, Spacing, Volume, check_axes


def open_volume(
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    spacing: Spacing | None = None,
    unit: str | None = None,
    channels: Sequence[int | str] | None = None,
    frame: int | None = None,
    name: str | None = None,
    dataset: str | None = None,
    scale: int | None = None,
) -> Volume:
    """Open an image; its voxels stay in the file until a block is read.

    Parameters
    ----------
    path
        TIFF, OME-TIFF or ImageJ TIFF, `.npy`, a Zarr array (v2 or v3), or an OME-Zarr image (0.4 or 0.5), of which the
        finest scale is opened; ``image.zarr/1`` opens the next coarser one. With ``pip install "voxloop[formats]"``
        also HDF5 and N5 (``cells.h5/volumes/raw``), NIfTI, MRC, NRRD, MetaImage, DICOM (a folder), PNG, JPEG, BMP, and
        stacks of images: a folder, ``slices/*.png``, or ``slice_{slice_index}.png``. With ``pip install
        "voxloop[bioio]"`` also the files of microscope vendors; ``cells.lif/2`` opens the third image of several.
    axes
        What the axes of the file are, a letter of ``t z y x c s`` each, where the file is silent or wrong.
    spacing
        Physical size of a voxel (z, y, x), where the file is silent or wrong.
    unit
        Unit of the spacing, such as ``"nm"`` or ``"nanometer"``; by default the file's.
    channels
        Indices or names of the channels to open, in this order; by default all.
    frame
        Which time point of a series, counted from 0; `count_frames` tells how many there are.
    name
        What the volume is called; by default the file's name without its suffix, and the frame.
    dataset
        Which of several in a container, the same as a longer `path`: ``"volumes/raw"`` for ``cells.h5/volumes/raw``.
    scale
        Which scale of an OME-Zarr or N5 pyramid, 0 for the finest, the same as a longer `path`.

    Returns
    -------
    Volume
        Of axes (z, y, x) or (z, y, x, c); 2D images have one slice, RGB samples are channels. If the voxel size is not
        known along every axis, the spacing is (1, 1, 1) and the unit is ``"pixel"``. The volume pickles as its path.

    Raises
    ------
    MissingFileError
        If the file does not exist or cannot be read.
    FormatError
        If the format is unknown or the file is damaged.
    InputError
        If the axes do not fit, there are several time points, no voxels, or voxels that are not numbers; if an
        argument cannot be used.
    """
    path = usable_path(path)
    if dataset is not None:
        path = path / dataset.lstrip("/")
    own_name = name_without_suffix(path) if frame is None else f"{name_without_suffix(path)}-t{frame}"
    if scale is not None:
        path = _path_of_scale(path, scale)
    stored = format_of_file(path).module.read(path)
    try:
        volume = _described(stored, axes=axes, spacing=spacing, unit=unit, frame=frame)
        volume = replace(volume, name=name or own_name, path=path)
        return volume if channels is None else volume.with_channels(channels)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None


def count_frames(path: str | os.PathLike[str], *, axes: str | None = None) -> int:
    """Return the number of time points in an image, 1 without a time axis; arguments and errors as `open_volume`."""
    path = usable_path(path)
    stored = format_of_file(path).module.read(path)
    try:
        axes = check_axes(
            axes or stored.axes, stored.array.shape, frame=0 if "t" in (axes or stored.axes or "") else None
        )
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    return dict(zip(axes, stored.array.shape, strict=True)).get("t", 1)


def open_labels(
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    spacing: Spacing | None = None,
    unit: str | None = None,
    frame: int | None = None,
    name: str | None = None,
    dataset: str | None = None,
) -> Volume:
    """Open a label volume or a mask: as `open_volume`, of integers or booleans and one channel.

    Raises
    ------
    InputError
        If the voxels are not integers or booleans, or there are several channels; else as `open_volume`.
    """
    volume = open_volume(path, axes=axes, spacing=spacing, unit=unit, frame=frame, name=name, dataset=dataset)
    if volume.dtype.kind not in "biu":
        raise InputError(f"{path} has dtype {volume.dtype}; expected labels: integers or booleans")
    if volume.n_channels > 1:
        raise InputError(f"{path} has {volume.n_channels} channels; expected labels: one channel")
    return volume


def _path_of_scale(path: Path, scale: int) -> Path:
    """Return the path of one scale of a pyramid, 0 for the finest."""
    format_ = format_of_file(path)
    find = getattr(format_.module, "scales", None)
    scales: list[Path] = find(path) if find else []
    if not scales:
        raise InputError(f"scale is {scale} but {path} is no OME-Zarr or N5 pyramid of several scales")
    if not 0 <= scale < len(scales):
        raise InputError(f"scale is {scale} but {path} has {len(scales)} scales, counted from 0")
    return scales[scale]


def _origin(stored: StoredImage, spacing: Spacing) -> Spacing:
    """Return the place of the first voxel in the unit of `spacing`, which is that of all axes together."""
    z, y, x = (
        stored.origin.get(axis, 0.0) * size / stored.sizes[axis][0] if axis in stored.sizes else 0.0
        for axis, size in zip("zyx", spacing, strict=True)
    )
    return (z, y, x) if np.isfinite([z, y, x]).all() else (0.0, 0.0, 0.0)


def _described(
    stored: StoredImage, *, axes: str | None, spacing: Spacing | None, unit: str | None, frame: int | None
) -> Volume:
    """Return the volume with what the file says, or the caller where he knows better."""
    shape = stored.array.shape
    own_axes = stored.axes
    axes = check_axes(axes or own_axes, shape, frame=frame)
    # Sizes belong to the dimensions of the array, also where the caller gives these other letters.
    renamed = dict(zip(own_axes or axes, axes, strict=True))
    sizes = {axis: size for axis, size in stored.sizes.items() if axis not in renamed}
    sizes |= {renamed[axis]: size for axis, size in stored.sizes.items() if axis in renamed}
    known = common_spacing(sizes, dict(zip(axes, shape, strict=True)))
    stored_spacing, known_unit = known or ((1.0, 1.0, 1.0), "pixel")
    if spacing is not None and sizes:
        # Sizes that are known along some axes only still tell in which unit the caller thinks.
        known_unit = next(iter(sizes.values()))[1]
    volume = Volume.from_array(
        stored.array if frame is None else FrameView(stored.array, axes.index("t"), frame),
        axes=axes if frame is None else axes.replace("t", ""),
        spacing=stored_spacing,
        unit=known_unit,
    )
    volume = replace(volume, axes=axes)
    if known is not None and axes == own_axes:
        volume = replace(volume, affine=stored.affine, origin=_origin(stored, stored_spacing))
    if spacing is not None or unit is not None:
        unit = None if unit is None else unit_name(unit)
        volume = volume.with_spacing(volume.spacing if spacing is None else spacing, unit)
    if len(stored.channel_names) == volume.n_channels:
        volume = replace(volume, channel_names=stored.channel_names)
    return volume
