"""Smooth random fields that are known everywhere but stored on a coarse lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Grid = tuple[Floats, Floats, Floats]
"""Coordinates of a grid, one vector per axis (z, y, x), in voxels of the finest axis."""


@dataclass(frozen=True)
class SmoothField:
    """Value noise: a cubic B-spline whose coefficients are independent normal numbers (mean 0, variance 1).

    `step` is the distance between lattice points; features of the field are about twice as large.
    """

    lattice: Floats
    step: float

    @classmethod
    def random(cls, rng: np.random.Generator, extent: Sequence[float], step: float) -> SmoothField:
        """Return a field over coordinates 0..extent (z, y, x)."""
        shape = [int(np.ceil(length / step)) + 4 for length in extent]
        return cls(rng.standard_normal(shape, dtype=np.float32), step)

    def on(self, grid: Grid) -> Floats:
        """Return the values on a grid, of shape (len(z), len(y), len(x)), scaled to variance 1 on average."""
        positions = [coordinates / np.float32(self.step) for coordinates in grid]
        starts = [int(p.min()) for p in positions]
        used = tuple(slice(a, int(p.max()) + 4) for a, p in zip(starts, positions, strict=True))
        values = self.lattice[used]
        for axis, (position, start) in enumerate(zip(positions, starts, strict=True)):
            values = _spline_along(values, axis, position - np.float32(start))
        # The squared weights of a cubic B-spline sum to 0.479 per axis, averaged over positions.
        return values * np.float32(0.479**-1.5)


def _spline_along(coefficients: Floats, axis: int, positions: Floats) -> Floats:
    """Evaluate uniform cubic B-splines along one axis at `positions` (in lattice steps)."""
    first = np.floor(positions).astype(np.intp)
    t = (positions - first).astype(np.float32)
    square, cube, rest = t * t, t * t * t, (1 - t) * (1 - t) * (1 - t)
    weights = (rest / 6, (3 * cube - 6 * square + 4) / 6, (3 * (t + square - cube) + 1) / 6, cube / 6)
    shape = [1, 1, 1]
    shape[axis] = len(t)
    parts = [np.take(coefficients, first + k, axis=axis) * w.reshape(shape) for k, w in enumerate(weights)]
    total: Floats = (parts[0] + parts[1]) + (parts[2] + parts[3])
    return total
