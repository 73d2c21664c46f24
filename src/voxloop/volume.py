"""An image with its axes and voxel size. The voxels stay where they are until a block is read."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan, prod
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3, partition
from voxloop.errors import InputError

Spacing = tuple[float, float, float]
Affine = tuple[tuple[float, float, float, float], ...]

_DEFAULT_AXES = {2: "yx", 3: "zyx", 4: "zyxc"}
_HASHED_WHOLE = 256_000_000  # bytes; a quarter of a second to half a second


@runtime_checkable
class ArrayLike(Protocol):
    """What voxloop needs of an array: numpy, memory maps, Zarr arrays and the readers of `voxloop.io` have it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""

    @property
    def dtype(self) -> Any:
        """Type of an element."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return the part that basic slicing asks for."""


class ArrayView(ABC):
    """Base of the views: what follows from the array below and from the `shape` and `__getitem__` of the view."""

    array: ArrayLike

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(z, y, x), with the channels at the end if there are several."""

    @property
    def ndim(self) -> int:
        """3, or 4 with channels."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def stored_size(self) -> int:
        """Bytes on disk, 0 for an array in memory."""
        return int(getattr(self.array, "stored_size", 0))

    @abstractmethod
    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        """Return the part that integers and slices ask for."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[()], dtype=dtype, copy=copy)

    def _checked_keys(self, key: Any) -> tuple[slice | int, ...]:
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > self.ndim or not all(isinstance(k, slice | int | np.integer) for k in keys):
            raise InputError(f"key must be at most {self.ndim} integers or slices, not {key!r}")
        return keys


@dataclass(frozen=True)
class AxesView(ArrayView):
    """An array seen with axes (z, y, x) or (z, y, x, c), whatever the order of its own.

    Missing spatial axes appear with length 1. Channels are the one of `c` and `s` (samples, RGB) that is longer than 1;
    every other axis has length 1 and disappears. Only the part asked for is read from the array.
    """

    array: ArrayLike
    axes: str

    @property
    def view_axes(self) -> str:
        """The array's letters of the view's axes: ``zyx``, then ``c`` or ``s`` if there are several channels."""
        return "zyx" + "".join(a for a in "cs" if self._length(a) > 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x), with the channels at the end if there are several."""
        return tuple(self._length(a) for a in self.view_axes)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = self._checked_keys(key)
        asked = {a: _as_slice(k, self._length(a)) for a, k in zip(self.view_axes, keys, strict=False)}
        part = np.asarray(self.array[tuple(asked.get(a, slice(None)) for a in self.axes)])
        lengths = dict(zip(self.axes, part.shape, strict=True))
        dropped = [a for a in self.axes if a not in self.view_axes]
        present = [a for a in self.view_axes if a in self.axes]
        part = part.transpose([self.axes.index(a) for a in dropped + present])
        part = part.reshape([lengths.get(a, 1) for a in self.view_axes])
        view: NDArray[Any] = part[tuple(self._own_key(a, k) for a, k in zip(self.view_axes, keys, strict=False))]
        return view

    def _length(self, axis: str) -> int:
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    def _own_key(self, axis: str, key: Any) -> Any:
        """Return what is left of a key after the array was read: integers were read as slices of length 1."""
        if isinstance(key, slice):
            return slice(None) if axis in self.axes else key
        return 0


@dataclass(frozen=True)
class FrameView(ArrayView):
    """One time point of an array: index `frame` of its dimension `axis`, which disappears."""

    array: ArrayLike
    axis: int
    frame: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis that is left."""
        return (*self.array.shape[: self.axis], *self.array.shape[self.axis + 1 :])

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = self._checked_keys(key)
        keys = (*keys, *(slice(None),) * (self.ndim - len(keys)))
        asked = [_as_slice(k, n) for k, n in zip(keys, self.shape, strict=True)]
        asked.insert(self.axis, slice(self.frame, self.frame + 1))
        part = np.asarray(self.array[tuple(asked)]).squeeze(self.axis)
        view: NDArray[Any] = part[tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)]
        return view


@dataclass(frozen=True)
class ChannelView(ArrayView):
    """Some channels of an array (z, y, x, c), in the order of `channels`; a single one gives (z, y, x)."""

    array: ArrayLike
    channels: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x), with the channels at the end if there are several."""
        spatial = tuple(self.array.shape[:3])
        return (*spatial, len(self.channels)) if len(self.channels) > 1 else spatial

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = self._checked_keys(key)
        spatial = (*keys[:3], *(slice(None),) * (3 - len(keys)))
        parts = [np.asarray(self.array[(*spatial, c)]) for c in self.channels]
        if len(parts) == 1:
            return parts[0]
        return np.stack(parts, axis=-1)[(..., *keys[3:])]


@dataclass(frozen=True)
class CropView(ArrayView):
    """A box of an array (z, y, x) or (z, y, x, c)."""

    array: ArrayLike
    box: Box

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x) of the box, with the channels at the end if there are several."""
        return (*self.box.shape, *self.array.shape[3:])

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = self._checked_keys(key)
        keys = (*keys, *(slice(None),) * (3 - len(keys)))
        cut = [_shifted(k, start, n) for k, start, n in zip(keys[:3], self.box.start, self.box.shape, strict=True)]
        return np.asarray(self.array[(*cut, *keys[3:])])


def _shifted(key: slice | int, start: int, length: int) -> slice | int:
    """Return a key of an axis of `length` as the key of a longer axis, where the first begins at `start`."""
    if not isinstance(key, slice):
        index: int = _as_slice(key, length).start
        return start + index
    first, stop, step = key.indices(length)
    if step < 1:
        raise InputError(f"slices must have a step of at least 1, not {step}")
    return slice(start + first, start + max(first, stop), step)


def _as_slice(key: slice | int, length: int) -> slice:
    """Turn an integer index into a slice of length one, so that every axis stays."""
    if isinstance(key, slice):
        return key
    index = int(key) + (length if key < 0 else 0)
    if not 0 <= index < length:
        raise IndexError(f"index {int(key)} is out of bounds for an axis of length {length}")
    return slice(index, index + 1)


@dataclass(frozen=True)
class Volume:
    """An image of shape (z, y, x) or (z, y, x, c) with the physical size of a voxel.

    Attributes
    ----------
    data
        Array-like of shape (z, y, x) or (z, y, x, c); read only where a block is asked for.
    spacing
        Physical size of a voxel (z, y, x) in `unit`.
    unit
        Unit of `spacing`, such as ``"nanometer"``; ``"pixel"`` if it is not known.
    name
        What the volume is called on screen and in file names.
    channel_names
        One per channel, or empty.
    affine
        Where the voxels lie in a patient or scanner, as in NIfTI: 3 rows of 4 numbers that take the index (x, y, z, 1)
        of a voxel to its centre (to the right, to the front, to the head) in `unit`. None if it is not known.
    origin
        Centre (z, y, x) of the first voxel in `unit`, along the volume's own axes: where a part lies in the image that
        it was cut out of, or what an OME-Zarr says.
    path
        The file it came from, if any, with `axes` as it was read.
    """

    data: ArrayLike
    spacing: Spacing = (1.0, 1.0, 1.0)
    unit: str = "pixel"
    name: str = "volume"
    channel_names: tuple[str, ...] = ()
    affine: Affine | None = None
    origin: Spacing = (0.0, 0.0, 0.0)
    path: Path | None = field(default=None, compare=False)
    axes: str = ""

    def __post_init__(self) -> None:
        if len(self.data.shape) not in (3, 4):
            raise InputError(f"data has shape {tuple(self.data.shape)}; expected (z, y, x) or (z, y, x, c)")
        if prod(self.data.shape) == 0:
            raise InputError(f"data has shape {tuple(self.data.shape)}: there are no voxels in it")
        if np.dtype(self.data.dtype).kind not in "biuf":
            raise InputError(f"data has dtype {self.data.dtype}; expected integers, floats or booleans")
        if self.channel_names and len(self.channel_names) != self.n_channels:
            raise InputError(f"channel_names has {len(self.channel_names)} names for {self.n_channels} channel(s)")
        object.__setattr__(self, "spacing", check_spacing(self.spacing))

    @classmethod
    def from_array(
        cls, array: ArrayLike, *, axes: str | None = None, spacing: Spacing = (1.0, 1.0, 1.0), **fields: Any
    ) -> Self:
        """Return a volume over `array`.

        Parameters
        ----------
        array
            Array-like of 2 to 6 dimensions.
        axes
            One letter per dimension of ``t z y x c s`` (s: colour samples) in any order; by default ``yx``, ``zyx``
            or ``zyxc``.
        spacing
            Physical size of a voxel (z, y, x).
        **fields
            Further fields of `Volume`.

        Raises
        ------
        InputError
            If the axes do not fit the array, or time has more than one point.
        """
        axes = check_axes(axes, tuple(array.shape))
        view = AxesView(array, axes)
        as_it_is = isinstance(array, np.ndarray) and axes == view.view_axes.replace("s", "c")
        return cls(array if as_it_is else view, spacing=spacing, axes=axes, **fields)

    @property
    def shape(self) -> Shape3:
        """Voxels along (z, y, x)."""
        z, y, x = (int(n) for n in self.data.shape[:3])
        return z, y, x

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return int(self.data.shape[3]) if len(self.data.shape) == 4 else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    @property
    def n_voxels(self) -> int:
        """Number of voxels, channels not counted."""
        return prod(self.shape)

    @property
    def box(self) -> Box:
        """The box that holds the whole volume."""
        return Box.of_shape(self.shape)

    @property
    def is_2d(self) -> bool:
        """Whether there is one slice only."""
        return self.shape[0] == 1

    @property
    def relative_spacing(self) -> Spacing:
        """Spacing (z, y, x) with the finest axis as 1; a change of unit does not change it.

        An axis of one voxel counts as 1: how thick the slice of a 2D image is must not matter.
        """
        sizes = [s for s, n in zip(self.spacing, self.shape, strict=True) if n > 1] or self.spacing
        z, y, x = (s / min(sizes) if n > 1 else 1.0 for s, n in zip(self.spacing, self.shape, strict=True))
        return z, y, x

    def read(self, box: Box | None = None) -> NDArray[Any]:
        """Return the voxels of `box` as (c, z, y, x), C-contiguous and writeable, in the volume's own dtype.

        Of an array in memory the result may be a view: do not change it.

        Raises
        ------
        InputError
            If the box reaches beyond the volume.
        """
        box = box or self.box
        if not all(0 <= a <= b <= n for a, b, n in zip(box.start, box.stop, self.shape, strict=True)):
            raise InputError(f"box reaches from {box.start} to {box.stop} but the volume has shape {self.shape}")
        part = np.asarray(self.data[box.slices])
        part = part[np.newaxis] if part.ndim == 3 else np.moveaxis(part, 3, 0)
        # A memory map is read-only and a TIFF's may be unaligned: to numba those are types of their own to compile for.
        return np.require(part, requirements=["C", "A", "W"])

    def crop(self, box: Box) -> Self:
        """Return a part of the volume; nothing is copied.

        Raises
        ------
        InputError
            If the box is empty or reaches beyond the volume.
        """
        if box.size == 0 or box.grow((0, 0, 0), self.box) != box:
            raise InputError(f"box reaches from {box.start} to {box.stop} but the volume has shape {self.shape}")
        z, y, x = (o + i * s for o, i, s in zip(self.origin, box.start, self.spacing, strict=True))
        affine = _shifted_affine(self.affine, box.start)
        return replace(self, data=CropView(self.data, box), affine=affine, origin=(z, y, x))

    def with_channels(self, channels: Sequence[int | str]) -> Self:
        """Return the volume with some of its channels, given by index or name, in the order given.

        Raises
        ------
        InputError
            If a channel does not exist, is named twice, or none is named.
        """
        indices = self.channel_indices(channels)
        names = tuple(self.channel_names[i] for i in indices) if self.channel_names else ()
        data = self.data if self.n_channels == 1 else ChannelView(self.data, indices)
        return replace(self, data=data, channel_names=names)

    def channel_indices(self, channels: Sequence[int | str]) -> tuple[int, ...]:
        """Return the indices of channels given by index or name; raises as `with_channels`."""
        indices = tuple(self._channel_index(channel) for channel in channels)
        if not indices or len(set(indices)) != len(indices):
            raise InputError(f"channels must name at least one channel and none twice, not {list(channels)}")
        return indices

    def _channel_index(self, channel: int | str) -> int:
        if isinstance(channel, str) and channel in self.channel_names:
            return self.channel_names.index(channel)
        if not isinstance(channel, str) and 0 <= channel < self.n_channels:
            return int(channel)
        names = f" named {', '.join(self.channel_names)}" if self.channel_names else ""
        raise InputError(f"channels holds {channel!r} but the volume has {self.n_channels} channel(s){names}")

    def fingerprint(self) -> str:
        """Return a hexadecimal digest of the content, the same on every machine.

        Up to 256 MB every voxel counts. Beyond, the digest covers 8 x 8 x 8 blocks of 16^3 voxels, spread evenly from
        corner to corner, and the size of the file: another image, another contrast or an edit of a compressed file is
        noticed, a small edit of a large uncompressed file may not be.
        """
        digest = hashlib.blake2b(f"{self.shape} {self.n_channels} {self.dtype.name}".encode(), digest_size=16)
        for box in self._fingerprint_boxes():
            part = self.read(box)
            digest.update(part.astype(part.dtype.newbyteorder("<"), copy=False).data)
        if self._nbytes > _HASHED_WHOLE:
            digest.update(str(getattr(self.data, "stored_size", 0)).encode())
        return digest.hexdigest()

    @property
    def _nbytes(self) -> int:
        return self.n_voxels * self.n_channels * self.dtype.itemsize

    def _fingerprint_boxes(self) -> list[Box]:
        # Not slice by slice: a chunked file would decode each chunk once for each of its slices.
        slab = (64, *self.shape[1:])
        if self._nbytes <= _HASHED_WHOLE:
            return [block.inner for block in partition(self.shape, slab)]
        starts = [sorted({round(i * max(0, n - 16) / 7) for i in range(8)}) for n in self.shape]
        corners = itertools.product(*starts)
        return [Box(c, tuple(min(a + 16, n) for a, n in zip(c, self.shape, strict=True))) for c in corners]  # type: ignore[arg-type]  # three of each

    def with_spacing(self, spacing: Spacing, unit: str | None = None) -> Self:
        """Return the same voxels with another physical size; in another unit their place in space is not known."""
        unit = unit or self.unit
        affine = None if unit != self.unit else _scaled_affine(self.affine, self.spacing, check_spacing(spacing))
        z, y, x = (o * n / s for o, n, s in zip(self.origin, check_spacing(spacing), self.spacing, strict=True))
        return replace(self, spacing=spacing, unit=unit, affine=affine, origin=(z, y, x))


def _shifted_affine(affine: Affine | None, start: Shape3) -> Affine | None:
    """Return the affine of a part that begins at voxel `start` (z, y, x)."""
    if affine is None:
        return None
    z, y, x = start
    return tuple((a, b, c, a * x + b * y + c * z + d) for a, b, c, d in affine)


def _scaled_affine(affine: Affine | None, spacing: Spacing, new: Spacing) -> Affine | None:
    """Return the affine of voxels of another size (z, y, x): the same directions and first voxel."""
    if affine is None:
        return None
    z, y, x = (n / s for n, s in zip(new, spacing, strict=True))
    return tuple((a * x, b * y, c * z, d) for a, b, c, d in affine)


def check_spacing(spacing: Sequence[float]) -> Spacing:
    """Return `spacing` as three floats, or raise `InputError` unless they are positive and finite."""
    try:
        z, y, x = (float(s) for s in spacing)
    except (TypeError, ValueError):
        z = y = x = nan
    if not all(isfinite(s) and s > 0 for s in (z, y, x)):
        raise InputError(f"spacing must be three positive numbers (z, y, x), not {spacing}")
    return z, y, x


def relative_spacing(spacing: Spacing) -> Spacing:
    """Return `spacing` (z, y, x) divided by its smallest entry."""
    finest = min(spacing)
    z, y, x = (s / finest for s in spacing)
    return z, y, x


def check_axes(axes: str | None, shape: tuple[int, ...], *, frame: int | None = None) -> str:
    """Return the axes of an array of `shape`, a lower-case letter a dimension; by default ``yx``, ``zyx`` or ``zyxc``.

    Raises
    ------
    InputError
        If the axes do not fit the shape, are not y, x and some of t, z, c, s, or mean several time points of which no
        `frame` is chosen; if there is no such frame.
    """
    if axes is None:
        if len(shape) not in _DEFAULT_AXES:
            raise InputError(f"the image has shape {shape}; name its dimensions with axes, such as 'tzyxc'")
        axes = _DEFAULT_AXES[len(shape)]
    axes = axes.lower()
    if len(axes) != len(shape):
        raise InputError(f"axes is {axes!r} ({len(axes)} letters) but the image has shape {shape}")
    if len(set(axes)) != len(axes) or set(axes) - set("tzyxcs") or not {"y", "x"} <= set(axes):
        raise InputError(f"axes is {axes!r} for shape {shape}; expected y, x and some of t, z, c, s, each once")
    lengths = dict(zip(axes, shape, strict=True))
    if frame is None and lengths.get("t", 1) > 1:
        raise InputError(
            f"the image has {lengths['t']} time points (axes {axes!r}, shape {shape}): "
            "choose time points (frame, or --frames), or name the axes if they are not time"
        )
    if frame is not None and not 0 <= frame < lengths.get("t", 0):
        raise InputError(
            f"frame is {frame} but the image has {lengths.get('t', 'no')} time points (axes {axes!r}, shape {shape})"
        )
    if lengths.get("s", 1) > 1 and lengths.get("c", 1) > 1:
        raise InputError(
            f"the image has colour samples and channels (axes {axes!r}, shape {shape}); expected one of them"
        )
    return axes
