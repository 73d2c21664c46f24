"""Volumes that are not there: each slice is looked up from the supervoxel ids when the viewer asks for it.

An update changes a table with an entry a supervoxel, and the next slice shows it. No voxels are written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.active import PlaneSuggestion
from voxloop.supervoxels.outlines import boundaries, hatch, ring
from voxloop.volume import ArrayLike, Spacing, relative_spacing

# A plane less slanted than this against a slice, in voxels of height a voxel, is drawn by its rim.
_SLANTED = 0.05
_KEPT_SLICES = 4  # one for each direction to look in, and one more


class IdSlices:
    """The supervoxel ids (z, y, x), slice by slice; several layers that show the same slice read it once."""

    def __init__(self, labels: ArrayLike) -> None:
        self.labels = labels
        self._slices: OrderedDict[Any, NDArray[np.uint32]] = OrderedDict()

    def __getitem__(self, key: Any) -> NDArray[np.uint32]:
        name = str(key)
        if name not in self._slices:
            ids = np.asarray(self.labels[key])
            if ids.ndim != 2:
                return ids
            self._slices[name] = ids
            while len(self._slices) > _KEPT_SLICES:
                self._slices.popitem(last=False)
        self._slices.move_to_end(name)
        return self._slices[name]


class LazyVolume(ABC):
    """An array-like (z, y, x) whose slices are drawn when they are asked for."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of a value."""

    @abstractmethod
    def __getitem__(self, key: Any) -> NDArray[Any]: ...

    @property
    def ndim(self) -> int:
        """3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[(slice(None),) * 3], dtype=dtype)


class TableView(LazyVolume):
    """An array (z, y, x) whose voxels are ``table[id]``, with the id of the supervoxel that they lie in.

    Parameters
    ----------
    ids
        Supervoxel ids.
    table
        (n + 1,) value of each id, that of voxels outside the mask first. May be changed or replaced.
    """

    def __init__(self, ids: IdSlices, table: NDArray[Any]) -> None:
        self.ids = ids
        self.table = table

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""
        return tuple(self.ids.labels.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a value."""
        return self.table.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return self.draw(self.ids[key])

    def draw(self, ids: NDArray[np.uint32]) -> NDArray[Any]:
        """Return the values of a piece of the volume."""
        return self.table[ids]


class OutsideView(TableView):
    """1 where the ids, here those of a mask, are 0."""

    def __init__(self, ids: IdSlices) -> None:
        super().__init__(ids, np.zeros(0, np.uint8))

    def draw(self, ids: NDArray[np.uint32]) -> NDArray[Any]:
        """Return what lies outside of a piece of the volume."""
        return np.asarray(ids == 0, np.uint8)


class OutlineView(TableView):
    """1 on the borders between supervoxels, drawn slice by slice, else 0."""

    def __init__(self, ids: IdSlices) -> None:
        super().__init__(ids, np.zeros(0, np.uint8))

    def draw(self, ids: NDArray[np.uint32]) -> NDArray[Any]:
        """Return the outlines in a slice, or in each slice of a volume."""
        return _each_slice(boundaries, ids)


class HatchView(TableView):
    """Marks on supervoxels: a hatch (1) over those with a 1 in the table, a ring (2) around those with a 2."""

    def draw(self, ids: NDArray[np.uint32]) -> NDArray[Any]:
        """Return the marks in a slice, or in each slice of a volume; rings lie on top, with the outline inside them."""
        values = self.table[ids]
        drawn = np.zeros(ids.shape, np.uint8)
        for value, mark in ((1, hatch), (2, _outline_and_ring)):
            region = values == value
            if region.any():
                drawn[_each_slice(mark, region) > 0] = value
        return drawn


class TraceView(LazyVolume):
    """1 where the round patch of a plane cuts a slice, a line one voxel thin, else 0.

    Parameters
    ----------
    shape
        Voxels along (z, y, x).
    spacing
        Size of a voxel (z, y, x).
    """

    def __init__(self, shape: Sequence[int], spacing: Spacing) -> None:
        self._shape = tuple(int(n) for n in shape)
        self._steps = relative_spacing(spacing)
        self.plane: PlaneSuggestion | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""
        return np.dtype(np.uint8)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        parts = key if isinstance(key, tuple) else (key,)
        parts = (*parts, *(slice(None),) * (self.ndim - len(parts)))
        places = [np.arange(n)[part] for n, part in zip(self.shape, parts, strict=True)]
        across = [axis for axis, place in enumerate(places) if place.ndim == 1]
        drawn = np.zeros([places[axis].size for axis in across], np.uint8)
        if self.plane is None or not across:
            return drawn
        offsets = [(p - c) * step for p, c, step in zip(places, self.plane.center, self._steps, strict=True)]
        # Only a box around the patch is looked at.
        near = [np.flatnonzero(np.abs(offsets[axis]) <= self.plane.radius) for axis in across]
        grid = np.ix_(*(offsets[axis][rows] for axis, rows in zip(across, near, strict=True)))
        terms = [offset if axis not in across else grid[across.index(axis)] for axis, offset in enumerate(offsets)]
        distance = sum(n * t for n, t in zip(self.plane.normal, terms, strict=True))
        from_center = np.sqrt(sum(t * t for t in terms))
        half = 0.5 * max(abs(self.plane.normal[axis]) * self._steps[axis] for axis in across)
        drawn[np.ix_(*near)] = self._is_drawn(distance, from_center, half)
        return drawn

    def _is_drawn(self, distance: NDArray[Any], from_center: NDArray[Any], half: float) -> NDArray[np.bool_]:
        """Return the cut; of a plane that lies in the slice, its rim."""
        radius = self.plane.radius
        if half >= _SLANTED:
            return (np.abs(distance) <= half) & (from_center <= radius)
        return (np.abs(distance) <= 0.5 * max(self._steps)) & (np.abs(from_center - radius + 0.5) <= 0.5)


def _outline_and_ring(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return boundaries(region) | ring(region)


def _each_slice(draw: Any, volume: NDArray[Any]) -> NDArray[np.uint8]:
    if volume.ndim == 2:
        return draw(volume).view(np.uint8)
    if volume.ndim < 2:  # a single voxel or row, read for its value
        return np.zeros(volume.shape, np.uint8)
    return np.stack([_each_slice(draw, part) for part in volume])
