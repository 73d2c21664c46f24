"""An image with its axes and voxel size. The voxels stay where they are until a block is read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isfinite, prod
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.errors import InputError

Spacing = tuple[float, float, float]


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


@dataclass(frozen=True)
class AxesView:
    """An array seen with axes (z, y, x) or (z, y, x, c), whatever the order of its own.

    Missing spatial axes appear with length 1; `t` and `s` (samples, RGB) of length 1 disappear, a longer `s` is `c`.
    Only the asked-for part is read from the array.
    """

    array: ArrayLike
    axes: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a voxel."""
        return np.dtype(self.array.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x), with c at the end if there are several channels."""
        lengths = dict(zip(self.axes, self.array.shape, strict=True))
        spatial = tuple(int(lengths.get(axis, 1)) for axis in "zyx")
        return (*spatial, int(lengths["c"])) if lengths.get("c", 1) > 1 else spatial

    @property
    def ndim(self) -> int:
        """3, or 4 with channels."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        if len(keys) > self.ndim or not all(isinstance(k, slice | int | np.integer) for k in keys):
            raise InputError(f"key must be at most {self.ndim} integers or slices, not {key!r}")
        wanted = dict(zip("zyxc", keys, strict=False))
        own = tuple(_as_slice(wanted.get(axis, slice(None)), n) for axis, n in zip(self.axes, self.array.shape, strict=True))
        part = np.asarray(self.array[own])
        kept = [axis for axis in self.axes if axis in "zyx" or (axis == "c" and self.ndim == 4)]
        part = part.reshape([n for axis, n in zip(self.axes, part.shape, strict=True) if axis in kept])
        order = [kept.index(axis) for axis in "zyxc" if axis in kept]
        part = part.transpose(order)
        for position, axis in enumerate("zyx"):
            if axis not in kept:
                part = np.expand_dims(part, position)
        final = tuple(
            0 if isinstance(k, int | np.integer) else (k if axis not in self.axes else slice(None))
            for axis, k in zip("zyxc", keys, strict=False)
        )
        return part[final]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)


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
    path
        The file it came from, if any, with `axes` as it was read.
    """

    data: ArrayLike
    spacing: Spacing = (1.0, 1.0, 1.0)
    unit: str = "pixel"
    name: str = "volume"
    channel_names: tuple[str, ...] = ()
    path: Path | None = field(default=None, compare=False)
    axes: str = ""

    def __post_init__(self) -> None:
        if len(self.data.shape) not in (3, 4):
            raise InputError(f"data has shape {tuple(self.data.shape)}; expected (z, y, x) or (z, y, x, c)")
        if prod(self.data.shape) == 0:
            raise InputError(f"data has shape {tuple(self.data.shape)}: there are no voxels in it")
        if np.dtype(self.data.dtype).kind not in "biuf":
            raise InputError(f"data has dtype {self.data.dtype}; expected integers, floats or booleans")
        check_spacing(self.spacing)

    @classmethod
    def from_array(
        cls, array: ArrayLike, *, axes: str | None = None, spacing: Spacing = (1.0, 1.0, 1.0), **fields: Any
    ) -> Self:
        """Return a volume over `array`.

        Parameters
        ----------
        array
            Array-like of 2 to 5 dimensions.
        axes
            One letter per dimension of ``t z y x c s`` in any order; by default ``yx``, ``zyx`` or ``zyxc``.
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
        view: ArrayLike = array if axes in ("zyx", "zyxc") else AxesView(array, axes)
        if len(view.shape) == 4 and view.shape[3] == 1:
            view = AxesView(array, axes)
        return cls(view, spacing=spacing, axes=axes, **fields)

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
        return np.dtype(self.data.dtype)

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
        """Spacing (z, y, x) with the finest axis as 1; a change of unit does not change it."""
        return relative_spacing(self.spacing)

    def read(self, box: Box | None = None) -> NDArray[Any]:
        """Return the voxels of `box` as (c, z, y, x), contiguous, in the volume's own dtype."""
        part = np.asarray(self.data[(box or self.box).slices])
        part = part[np.newaxis] if part.ndim == 3 else np.moveaxis(part, 3, 0)
        return np.ascontiguousarray(part)

    def with_spacing(self, spacing: Spacing, unit: str | None = None) -> Self:
        """Return the same voxels with another physical size."""
        return replace(self, spacing=spacing, unit=unit or self.unit)


def check_spacing(spacing: Spacing) -> Spacing:
    """Return `spacing` as three floats, or raise `InputError` unless they are positive and finite."""
    values = tuple(float(s) for s in spacing)
    if len(values) != 3 or not all(isfinite(s) and s > 0 for s in values):
        raise InputError(f"spacing must be three positive numbers (z, y, x), not {spacing}")
    return values


def relative_spacing(spacing: Spacing) -> Spacing:
    """Return `spacing` (z, y, x) divided by its smallest entry."""
    finest = min(spacing)
    z, y, x = (s / finest for s in spacing)
    return z, y, x


def check_axes(axes: str | None, shape: tuple[int, ...]) -> str:
    """Return the axes of an array of `shape`, one letter a dimension, or raise `InputError` if they do not fit."""
    defaults = {2: "yx", 3: "zyx", 4: "zyxc"}
    if axes is None:
        if len(shape) not in defaults:
            raise InputError(f"the image has {len(shape)} dimensions, shape {shape}; name them with axes, such as 'tzyxc'")
        axes = defaults[len(shape)]
    axes = axes.lower()
    if len(axes) != len(shape):
        raise InputError(f"axes is {axes!r} ({len(axes)} letters) but the image has shape {shape}")
    if len(set(axes)) != len(axes) or set(axes) - set("tzyxcs") or not {"y", "x"} <= set(axes):
        raise InputError(f"axes is {axes!r}; expected y, x and some of t, z, c, s, each once")
    lengths = dict(zip(axes, shape, strict=True))
    if lengths.get("t", 1) > 1:
        raise InputError(f"the image has {lengths['t']} time points (axes {axes}); voxloop segments one at a time: cut one out")
    if "s" in lengths:
        if lengths["s"] > 1 and lengths.get("c", 1) > 1:
            raise InputError(f"axes is {axes!r} with shape {shape}: samples and channels together are not supported")
        # Colour samples are channels to voxloop; of two channel-like axes the longer one is kept.
        axes = axes.replace("c", "t").replace("s", "c") if lengths["s"] > 1 and "t" not in axes else axes.replace("s", "c" if "c" not in axes else "t")
    return axes
