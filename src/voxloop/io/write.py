"""Writing volumes whole or block by block. A file appears when it is complete, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from voxloop.blocks import Block, map_blocks, partition
from voxloop.errors import InputError
from voxloop.io.atomic import replacing as replacing_one
from voxloop.io.atomic import replacing_files, replacing_resumably, storing
from voxloop.io.done_log import DoneLog
from voxloop.io.formats import Format, format_to_write, name_without_suffix
from voxloop.io.inside import is_numbered, usable_path
from voxloop.io.writers import Content, Header, OmeTiffLayout, OmeZarrVersion, VolumeWriter
from voxloop.volume import Affine, ArrayLike, Spacing, Volume


@contextmanager
def create_volume(
    path: str | os.PathLike[str],
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    spacing: Spacing = (1.0, 1.0, 1.0),
    unit: str = "pixel",
    name: str | None = None,
    channel_names: Sequence[str] = (),
    channel_colors: Sequence[str] = (),
    content: Content = "image",
    class_names: Sequence[str] = (),
    class_colors: Sequence[str] = (),
    axes: str | None = None,
    affine: Affine | None = None,
    origin: Spacing = (0.0, 0.0, 0.0),
    ome_zarr: OmeZarrVersion = "0.5",
    ome_tiff: OmeTiffLayout = "plain",
    overwrite: bool = False,
    key: str | None = None,
) -> Iterator[VolumeWriter]:
    """Write a volume block by block, in bounded memory.

    The volume appears at `path` when the ``with`` block ends; after an exception nothing is left, and what was there
    before still is. Voxels that were not written are 0.

    Parameters
    ----------
    path
        Where to; the suffix says in which format: ``.tif``, ``.tiff`` (OME-TIFF, BigTIFF from 2 GB),
        ``.npy`` (voxels only), ``.zarr`` (OME-Zarr with a pyramid of scales), ``.h5`` (HDF5, with the axes as
        ilastik has them), ``.n5``, ``.nii``, ``.nii.gz``, ``.mrc`` or ``.nrrd``. A path such as
        ``cells_{slice_index:04d}.png`` writes a file per slice (PNG, BMP or TIFF).
    shape
        (z, y, x), or (z, y, x, c) with channels.
    dtype
        Type of a voxel; booleans are stored as ``uint8``.
    spacing, unit
        Physical size of a voxel (z, y, x), such as ``(50, 4.6, 4.6)`` and ``"nm"``.
    name
        What the image is called; by default the file's name without its suffix.
    channel_names, channel_colors
        One per channel, or none; colours such as ``"#ff8800"``, kept by OME-TIFF and OME-Zarr.
    content
        Whether coarser scales are made by the mean (``"image"``) or by picking a voxel (``"labels"``).
    class_names, class_colors
        What the labels 1, 2, ... are called, and their colours such as ``"#ff8800"``.
    axes
        Order of the axes in the file, such as ``"czyx"``; by default the format's usual one. HDF5, N5 and npy hold any,
        TIFF ``zcyx`` as well as ``czyx``, NRRD ``zyxc`` as well as ``czyx``.
    affine
        Where the voxels lie in space, see `Volume`; kept by NIfTI and NRRD.
    origin
        Centre of the first voxel (z, y, x) in `unit`; kept by OME-Zarr.
    ome_zarr
        Version of OME-Zarr: 0.5 is Zarr 3, 0.4 is Zarr 2, for older programs.
    ome_tiff
        ``"plain"`` is uncompressed and opens everywhere; ``"pyramid"`` has tiles compressed by deflate and coarser
        levels of every plane, for viewers that zoom.
    overwrite
        Whether an existing file may be replaced.
    key
        Digest of all voxels. If the writing of an OME-Zarr image or an N5 is stopped or killed, the next call with the
        same key goes on with it: the writer's `log` says which blocks are there, and wants to know of each that is.

    Yields
    ------
    VolumeWriter
        Its `write` takes the blocks.

    Raises
    ------
    InputError
        If an argument cannot be used, or `path` exists.
    FormatError
        If the suffix is not known.
    MissingFileError
        If the folder to write into does not exist.
    StorageError
        If the disk is full or writing is not permitted.
    """
    path = usable_path(path)
    format_ = format_to_write(path)
    with storing(path):
        _check_target(path, format_)
    header = Header(
        path=path,
        shape=tuple(int(n) for n in shape),
        dtype=np.dtype(dtype),
        spacing=spacing,
        unit=unit,
        name=name or name_without_suffix(path),
        channel_names=tuple(channel_names),
        channel_colors=tuple(channel_colors),
        content=content,
        class_names=tuple(class_names),
        class_colors=tuple(class_colors),
        axes=format_.axes_to_write(axes, len(shape)),
        affine=affine,
        origin=origin,
        ome_zarr=ome_zarr,
        ome_tiff=ome_tiff,
    )
    resuming = key if format_.resumable else None
    with _place(path, overwrite=overwrite, key=resuming) as (temporary, log):
        with storing(path):
            writer = format_.module.create(temporary, header)
            if resuming is not None and log is not None:
                log.start(resuming)
                writer.log = log
        try:
            yield writer
            with storing(path):
                writer.finish()
        finally:
            writer.close()


@contextmanager
def _place(path: Path, *, overwrite: bool, key: str | None) -> Iterator[tuple[Path, DoneLog | None]]:
    """Yield where to write what will appear at `path`, and the log of what is there already, with a key."""
    if key is not None:
        with replacing_resumably(path, overwrite=overwrite, key=key) as (temporary, log):
            yield temporary, log
    else:
        replacing = replacing_files if is_numbered(path) else replacing_one
        with replacing(path, overwrite=overwrite) as temporary:
            yield temporary, None


def save_volume(
    path: str | os.PathLike[str],
    array: ArrayLike,
    *,
    axes: str | None = None,
    spacing: Spacing = (1.0, 1.0, 1.0),
    unit: str = "pixel",
    name: str | None = None,
    channel_names: Sequence[str] = (),
    channel_colors: Sequence[str] = (),
    content: Content = "image",
    class_names: Sequence[str] = (),
    class_colors: Sequence[str] = (),
    affine: Affine | None = None,
    origin: Spacing = (0.0, 0.0, 0.0),
    ome_tiff: OmeTiffLayout = "plain",
    overwrite: bool = False,
) -> None:
    """Write an array, block by block and in threads: it may lie on disk and be larger than memory.

    Parameters
    ----------
    path
        Where to; see `create_volume`, also for the other arguments and the errors.
    array
        Array-like, such as a `Volume`'s data.
    axes
        One letter per dimension of ``t z y x c s``; by default ``yx``, ``zyx`` or ``zyxc``.
    """
    volume = Volume.from_array(array, axes=axes, spacing=spacing)
    with create_volume(
        path,
        volume.data.shape,
        volume.dtype,
        spacing=spacing,
        unit=unit,
        name=name,
        channel_names=channel_names,
        channel_colors=channel_colors,
        content=content,
        class_names=class_names,
        class_colors=class_colors,
        affine=affine,
        origin=origin,
        ome_tiff=ome_tiff,
        overwrite=overwrite,
    ) as writer:

        def write_block(block: Block) -> None:
            writer.write(block.inner, np.asarray(volume.data[block.inner.slices]))

        for _ in map_blocks(write_block, partition(volume.shape, writer.block_shape)):
            pass


def _check_target(path: Path, format_: Format) -> None:
    """Refuse to replace a folder that is not such a store: there may be anything in it."""
    if path.is_dir() and not any((path / mark).is_file() for mark in format_.folder_marks):
        raise InputError(f"{path} is a folder, which is not replaced by a {format_.name} file")
