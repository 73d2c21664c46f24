"""What is written, and the writers that take it block by block."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.errors import InputError
from voxloop.io.atomic import storing
from voxloop.io.done_log import DoneLog
from voxloop.io.units import unit_name
from voxloop.volume import Affine, Spacing, check_spacing

Content = Literal["image", "labels"]
OmeZarrVersion = Literal["0.4", "0.5"]
OmeTiffLayout = Literal["plain", "pyramid"]


@dataclass(frozen=True)
class Header:
    """What a file is to hold and to say about it, and where it will appear; the arguments of `create_volume`."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    spacing: Spacing = (1.0, 1.0, 1.0)
    unit: str = "pixel"
    name: str = "volume"
    channel_names: tuple[str, ...] = ()
    channel_colors: tuple[str, ...] = ()
    content: Content = "image"
    class_names: tuple[str, ...] = ()
    class_colors: tuple[str, ...] = ()
    axes: str = ""
    affine: Affine | None = None
    origin: Spacing = (0.0, 0.0, 0.0)
    ome_zarr: OmeZarrVersion = "0.5"
    ome_tiff: OmeTiffLayout = "plain"

    def __post_init__(self) -> None:
        if len(self.shape) not in (3, 4) or prod(self.shape) == 0:
            raise InputError(f"shape must be (z, y, x) or (z, y, x, c) with voxels in it, not {self.shape}")
        if self.dtype.kind not in "biuf":
            raise InputError(f"dtype must be integers, floats or booleans, not {self.dtype}")
        if self.content not in ("image", "labels"):
            raise InputError(f"content must be 'image' or 'labels', not {self.content!r}")
        if self.content == "labels" and (self.dtype.kind == "f" or self.n_channels > 1):
            raise InputError(f"labels must be integers of one channel, not {self.dtype} of shape {self.shape}")
        if self.channel_names and len(self.channel_names) != self.n_channels:
            raise InputError(f"channel_names has {len(self.channel_names)} names for {self.n_channels} channel(s)")
        for what in ("channel", "class"):
            colors, names = getattr(self, f"{what}_colors"), getattr(self, f"{what}_names")
            if colors and len(colors) != len(names):
                raise InputError(f"{what}_colors has {len(colors)} entries, {what}_names {len(names)}")
            for color in colors:
                if not re.fullmatch("#[0-9a-fA-F]{6}", color):
                    raise InputError(f"{what}_colors holds {color!r}; expected colours such as '#ff8800'")
        # Masks are stored as 0 and 1: neither OME format has booleans that its readers agree on.
        dtype = np.dtype(np.uint8) if self.dtype.kind == "b" else self.dtype.newbyteorder("=")
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "spacing", check_spacing(self.spacing))
        object.__setattr__(self, "unit", unit_name(self.unit))
        object.__setattr__(self, "axes", self.axes or "zyxc"[: len(self.shape)])
        if self.ome_zarr not in ("0.4", "0.5"):
            raise InputError(f"ome_zarr must be '0.4' or '0.5', not {self.ome_zarr!r}")
        if self.ome_tiff not in ("plain", "pyramid"):
            raise InputError(f"ome_tiff must be 'plain' or 'pyramid', not {self.ome_tiff!r}")

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.shape[3] if len(self.shape) == 4 else 1

    @property
    def spatial_shape(self) -> Shape3:
        """Voxels along (z, y, x)."""
        z, y, x = self.shape[:3]
        return z, y, x

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Size along each of `axes`, the order in the file."""
        return tuple(self.shape["zyxc".index(axis)] for axis in self.axes)

    def stored_slices(self, box: Box) -> tuple[slice, ...]:
        """Slices that cut `box`, with all channels, out of an array of the file's axes."""
        slices = (*box.slices, slice(0, self.n_channels))
        return tuple(slices["zyxc".index(axis)] for axis in self.axes)

    def stored_block(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return a block (z, y, x) or (z, y, x, c) with the axes of the file, C-contiguous."""
        return np.ascontiguousarray(block.transpose(["zyxc".index(axis) for axis in self.axes]))


class VolumeWriter(ABC):
    """Takes a volume block by block, in any order, from any number of threads.

    Attributes
    ----------
    header
        What is written.
    block_shape
        Blocks (z, y, x) that are cheap to write: of this shape and aligned with it.
    any_process
        Whether the writer can be sent to other processes, which then write such blocks side by side.
    log
        Which blocks are done, for whoever writes them in one piece; None where that is not kept.
    """

    any_process: ClassVar[bool] = False
    log: DoneLog | None = None

    header: Header
    block_shape: Shape3

    def write(self, box: Box, block: NDArray[Any]) -> None:
        """Write the voxels of `box`.

        Parameters
        ----------
        box
            Where the block lies in the volume.
        block
            Voxels (z, y, x), or (z, y, x, c) if the volume has channels last, of the volume's dtype or one that it
            holds without loss.

        Raises
        ------
        InputError
            If the box reaches beyond the volume, or the block has another shape or a dtype that does not fit.
        """
        if not all(0 <= a < b <= n for a, b, n in zip(box.start, box.stop, self.header.spatial_shape, strict=True)):
            raise InputError(
                f"box reaches from {box.start} to {box.stop} but the volume has shape {self.header.spatial_shape}"
            )
        expected = (*box.shape, *self.header.shape[3:])
        if block.shape != expected:
            raise InputError(f"block has shape {block.shape}; expected {expected}")
        if not np.can_cast(block.dtype, self.header.dtype, "safe"):
            raise InputError(f"block has dtype {block.dtype}, which a volume of {self.header.dtype} cannot hold")
        with storing(self.header.path):
            self._write(box, block.astype(self.header.dtype, copy=False))

    @abstractmethod
    def finish(self) -> None:
        """Write what remains and close."""

    @abstractmethod
    def close(self) -> None:
        """Close without finishing; also after `finish`."""

    @abstractmethod
    def _write(self, box: Box, block: NDArray[Any]) -> None:
        """Write a checked block."""


class RawWriter(VolumeWriter):
    """Writes into a file whose voxels lie uncompressed, in C order, from `offset` on.

    Rows go to their place by seek and write rather than through a memory map: on a full disk a map ends the process
    by a signal, where a write raises an error that can be told to the user. Voxels never written are 0.
    """

    def __init__(self, path: Path, header: Header, *, offset: int) -> None:
        self.header = header
        self.block_shape = _slab_shape(header)
        self._shape = header.stored_shape
        self._offset = offset
        self._lock = threading.Lock()
        self._file = self._open(path)
        # The file has its full length from the start, also where no block is written.
        length = os.fstat(self._file.fileno()).st_size
        self._file.truncate(max(length, offset + prod(header.shape) * header.dtype.itemsize))

    def _open(self, path: Path) -> IO[bytes]:
        return path.open("r+b", buffering=0)

    def _write(self, box: Box, block: NDArray[Any]) -> None:
        slices, block = self.header.stored_slices(box), self.header.stored_block(block)
        n_outer = _n_scattered_axes(block.shape, self._shape)
        strides = [prod(self._shape[axis + 1 :]) for axis in range(len(self._shape))]
        first = sum(s.start * stride for s, stride in zip(slices, strides, strict=True))
        for index in np.ndindex(block.shape[:n_outer]):
            position = first + sum(i * stride for i, stride in zip(index, strides, strict=False))
            self._write_run(position, block[index])

    def _write_run(self, position: int, run: NDArray[Any]) -> None:
        remaining = run.data.cast("B")
        with self._lock:
            self._file.seek(self._offset + position * self.header.dtype.itemsize)
            while remaining:
                remaining = remaining[self._file.write(remaining) :]

    def finish(self) -> None:
        """Close the file: it is complete."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EncodedWriter(RawWriter):
    """Collects the voxels in a file without a name, beside `path`, and encodes them when all are there.

    Blocks come in any order and shape, but a compressed stream is written from its beginning.
    """

    def __init__(self, path: Path, header: Header) -> None:
        super().__init__(path, header, offset=0)

    def _open(self, path: Path) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=path.parent, buffering=0)

    @abstractmethod
    def _encode(self, voxels: NDArray[Any]) -> None:
        """Write the file from the memory map of all voxels, with the axes of the header."""

    def finish(self) -> None:
        """Encode what was collected."""
        self._encode(np.memmap(self._file, self.header.dtype, mode="r", shape=self._shape))
        super().finish()


def _slab_shape(header: Header) -> Shape3:
    """Return blocks of some 8 MB that lie in one piece in the file: slabs across its slowest axes of space."""
    slab = list(header.spatial_shape)
    for axis in map("zyx".index, header.axes.replace("c", "")):
        plane = prod(slab) // slab[axis] * header.n_channels * header.dtype.itemsize
        slab[axis] = min(slab[axis], max(1, 2**23 // plane))
    z, y, x = slab
    return z, y, x


def _n_scattered_axes(block_shape: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Return how many leading axes must be stepped through, so that the rest of the block is one run in the file."""
    n = len(shape)
    while n > 0 and block_shape[n:] == shape[n:]:
        n -= 1
    return n
