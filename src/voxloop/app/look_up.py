"""Volumes that are not there: each slice is looked up from the supervoxel ids when the viewer asks for it.

An update changes a table with an entry a supervoxel, and the next slice shows it. No voxels are written.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.supervoxels.outlines import boundaries, hatch
from voxloop.volume import ArrayLike

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


class TableView:
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
    def ndim(self) -> int:
        """3."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a value."""
        return self.table.dtype

    @property
    def size(self) -> int:
        """Number of voxels."""
        return int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return self.draw(self.ids[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[(slice(None),) * 3], dtype=dtype)

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
    """A hatch over some supervoxels, and their outline: the value in the table, 0 for the rest and in the gaps."""

    def draw(self, ids: NDArray[np.uint32]) -> NDArray[Any]:
        """Return the hatches in a slice, or in each slice of a volume; higher values lie on top and are denser."""
        values = self.table[ids]
        drawn = np.zeros(ids.shape, np.uint8)
        for value, period in ((1, 8), (2, 3)):
            region = values == value
            if region.any():
                drawn[_each_slice(lambda part, period=period: hatch(part, period=period), region) > 0] = value
        return drawn


def _each_slice(draw: Any, volume: NDArray[Any]) -> NDArray[np.uint8]:
    if volume.ndim == 2:
        return draw(volume).view(np.uint8)
    if volume.ndim < 2:  # a single voxel or row, read for its value
        return np.zeros(volume.shape, np.uint8)
    return np.stack([_each_slice(draw, part) for part in volume])
