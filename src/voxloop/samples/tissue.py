"""Geometry of made-up nervous tissue: cells that fill space, and what lies inside them.

Everything is laid out in *tissue space*, where cells and organelles are straight and simple. A smooth random
displacement from image to tissue space bends them all together. Lengths are in voxels of the finest axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from voxloop.samples.noise import Floats, Grid, SmoothField

Position = tuple[Floats, Floats, Floats]
"""Coordinates (z, y, x) of points in tissue space, three arrays of one shape."""

CELL_RADIUS = 28.0
CELL_LENGTH = 140.0
MITOCHONDRIA_SHARE = 0.09


@dataclass(frozen=True)
class Warp:
    """Displacement from image to tissue space: slow bends and small dents, one field per axis."""

    bends: tuple[SmoothField, SmoothField, SmoothField]
    dents: tuple[SmoothField, SmoothField, SmoothField]
    scale: float

    @classmethod
    def random(cls, rng: np.random.Generator, extent: Sequence[float], scale: float) -> Warp:
        """Return a displacement over coordinates 0..extent (z, y, x)."""
        bends = [SmoothField.random(rng, extent, 38 * scale) for _ in range(3)]
        dents = [SmoothField.random(rng, extent, 11 * scale) for _ in range(3)]
        return cls(tuple(bends), tuple(dents), scale)  # type: ignore[arg-type]  # three of each

    def positions(self, grid: Grid) -> Position:
        """Return the tissue positions of the points of an image grid, each array of shape (z, y, x)."""
        z, y, x = np.meshgrid(*grid, indexing="ij")
        big, small = np.float32(11 * self.scale), np.float32(1.8 * self.scale)
        for axis, coordinate in enumerate((z, y, x)):
            coordinate += big * self.bends[axis].on(grid) + small * self.dents[axis].on(grid)
        return z, y, x


@dataclass(frozen=True)
class Cells:
    """Cells as rods: a point belongs to the rod whose surface is nearest (a Voronoi diagram of weighted segments).

    `start` and `axis` (unit vectors) have shape (n, 3); `length`, `radius`, `brightness` have shape (n,).
    """

    start: Floats
    axis: Floats
    length: Floats
    radius: Floats
    brightness: Floats

    def surface_distance(self, cell: int, position: Position) -> Floats:
        """Return the signed distance of each position to the surface of one rod."""
        return _rod_distance(position, self.start[cell], self.axis[cell], self.length[cell], self.radius[cell])

    def owners(self, position: Position) -> tuple[NDArray[np.intp], Floats]:
        """Return the cell that each position belongs to, and its distance to the membrane (halfway to the next)."""
        first = np.full(position[0].shape, np.inf, np.float32)
        second = first.copy()
        owner = np.zeros(first.shape, np.intp)
        for cell in self._candidates(position):
            distance = self.surface_distance(cell, position)
            owner[distance < first] = cell
            np.minimum(second, np.maximum(first, distance), out=second)
            np.minimum(first, distance, out=first)
        gap: Floats = (second - first) / np.float32(2)
        return owner, gap

    def _candidates(self, position: Position) -> list[int]:
        """Return the cells that are nearest or second to some position: distances change no faster than positions."""
        middle = np.array([(p.min() + p.max()) / 2 for p in position], np.float32)
        reach = _rod_distance(position, middle, np.zeros(3, np.float32), np.float32(0), np.float32(0)).max()
        distances = _rod_distance(middle, self.start.T, self.axis.T, self.length, self.radius)
        limit = np.partition(distances, 1)[1] + 2 * reach + 1e-3
        return [int(cell) for cell in np.flatnonzero(distances <= limit)]


def _rod_distance(
    position: Sequence[Floats] | Floats,
    start: Floats,
    axis: Floats,
    length: Floats | np.float32,
    radius: Floats | np.float32,
) -> Floats:
    """Signed distance to a rod with round ends: of many positions to one rod, or of one position to many rods."""
    offset = [p - c for p, c in zip(position, start, strict=True)]
    along = np.clip(dot(offset, axis), 0, length)
    dz, dy, dx = (o - along * u for o, u in zip(offset, axis, strict=True))
    distance: Floats = np.sqrt(dz * dz + dy * dy + dx * dx) - radius
    return distance


def grow_cells(rng: np.random.Generator, extent: Sequence[float], scale: float) -> Cells:
    """Scatter rods evenly over the extent (z, y, x) and a margin, so that no cell ends at the image's border."""
    margin = 2.2 * CELL_RADIUS * scale
    low = np.full(3, -margin)
    high = np.asarray(extent) + margin
    volume_of_cell = np.pi * (CELL_RADIUS * scale) ** 2 * CELL_LENGTH * scale
    n = max(8, round(float(np.prod(high - low)) / volume_of_cell))
    middle = scatter(rng, low, high, n)
    axis = directions(rng, n)
    length = CELL_LENGTH * scale * rng.uniform(0.2, 1.6, n)
    radius = scale * rng.gamma(1.6, 6.0, n)
    brightness = rng.normal(180, 8, n)
    dark = rng.random(n) < 0.1
    brightness[dark] = rng.uniform(125, 145, int(dark.sum()))
    radius[dark] = 0
    return Cells(
        start=(middle - axis * length[:, None] / 2).astype(np.float32),
        axis=axis.astype(np.float32),
        length=length.astype(np.float32),
        radius=radius.astype(np.float32),
        brightness=brightness.astype(np.float32),
    )


@dataclass(frozen=True)
class Organelle:
    """A tube or an ellipsoid of revolution inside one cell.

    `kind` is what it is; `half_length` reaches from `centre` to either tip along `axis`; `grain` is the direction
    across the inner folds (cristae); `clearance` is kept from the cell's membrane.
    """

    kind: Literal["mitochondrion", "dense body", "reticulum"]
    form: Literal["tube", "ellipsoid"]
    centre: Floats
    axis: Floats
    grain: Floats
    half_length: float
    radius: float
    cell: int
    brightness: float
    clearance: float

    def signed_distance(self, position: Position) -> Floats:
        """Return the distance of each position to the surface, negative inside, were the organelle alone."""
        offset = [p - c for p, c in zip(position, self.centre, strict=True)]
        along = dot(offset, self.axis)
        dz, dy, dx = offset
        off = np.sqrt(np.maximum(dz * dz + dy * dy + dx * dx - along * along, 0))
        return _tube(along, off, self) if self.form == "tube" else _ellipsoid(along, off, self)

    def depth(self, position: Position, owner: NDArray[np.intp], gap: Floats) -> Floats:
        """Return how deep each position lies inside (negative outside); the cell's membrane is kept clear of."""
        inside = np.minimum(-self.signed_distance(position), gap - np.float32(self.clearance))
        return np.where(owner == self.cell, inside, np.float32(-np.inf))

    @property
    def reach(self) -> Floats:
        """Half the size (z, y, x) of a box around `centre` that holds the organelle."""
        return np.abs(self.axis) * np.float32(self.half_length) + np.float32(1.2 * self.radius)


def _tube(along: Floats, off: Floats, tube: Organelle) -> Floats:
    """Signed distance to a capsule whose radius swells and narrows along it."""
    beyond = np.maximum(np.abs(along) - (tube.half_length - tube.radius), 0)
    swell = 1 + 0.18 * np.sin(along / (1.7 * tube.radius) + tube.brightness)
    signed: Floats = np.hypot(beyond, off) - tube.radius * swell
    return signed


def _ellipsoid(along: Floats, off: Floats, body: Organelle) -> Floats:
    """Signed distance to an ellipsoid of revolution, to first order."""
    a, r = body.half_length, body.radius
    norm = np.hypot(along / a, off / r)
    signed: Floats = norm * (norm - 1) / np.maximum(np.hypot(along / a**2, off / r**2), 1e-6)
    return signed


@dataclass(frozen=True)
class Synapse:
    """A contact: a dark density on the membrane around `centre`, and vesicles (n, 3) in the sending cell."""

    centre: Floats
    sender: int
    vesicles: Floats


@dataclass(frozen=True)
class Tissue:
    """All that is in the volume."""

    warp: Warp
    cells: Cells
    organelles: tuple[Organelle, ...]
    synapses: tuple[Synapse, ...]
    scale: float


@dataclass(frozen=True)
class Probes:
    """Points all over the image, flat: where organelles may start and by which their share is measured."""

    position: Position
    owner: NDArray[np.intp]
    gap: Floats

    def point(self, index: int) -> Floats:
        """Return the tissue position (3,) of one probe."""
        return np.array([p[index] for p in self.position], np.float32)

    def points(self, indices: NDArray[np.intp]) -> Position:
        """Return the tissue positions of some probes."""
        z, y, x = (p[indices] for p in self.position)
        return z, y, x

    def within(self, centre: Floats, reach: Floats) -> NDArray[np.intp]:
        """Return the probes in a box of half-size `reach` (z, y, x) around `centre`."""
        z, y, x = (np.abs(p - c) <= r for p, c, r in zip(self.position, centre, reach, strict=True))
        return np.flatnonzero(z & y & x)


def grow_tissue(rng: np.random.Generator, extent: Sequence[float], scale: float) -> Tissue:
    """Return random tissue over image coordinates 0..extent (z, y, x); `scale` shrinks everything in it."""
    for_warp, for_cells, for_organelles, for_synapses = rng.spawn(4)
    warp = Warp.random(for_warp, extent, scale)
    cells = grow_cells(for_cells, extent, scale)
    probes = _probe(warp, cells, extent, scale)
    organelles = _place_organelles(for_organelles, probes, cells, scale)
    synapses = _place_synapses(for_synapses, probes, cells, organelles, scale)
    return Tissue(warp, cells, organelles, synapses, scale)


def _probe(warp: Warp, cells: Cells, extent: Sequence[float], scale: float) -> Probes:
    step = max(5 * scale, (float(np.prod(extent)) / 60_000) ** (1 / 3))
    counts = [max(1, round(length / step)) for length in extent]
    grid = tuple(((np.arange(n) + 0.5) * e / n).astype(np.float32) for n, e in zip(counts, extent, strict=True))
    z, y, x = (p.ravel() for p in warp.positions(grid))
    owner, gap = cells.owners((z, y, x))
    return Probes((z, y, x), owner, gap)


def _place_organelles(rng: np.random.Generator, probes: Probes, cells: Cells, scale: float) -> tuple[Organelle, ...]:
    """Put in mitochondria until they take their share, then the look-alikes, each where nothing else is."""
    taken = np.zeros(probes.gap.shape, bool)
    placed: list[Organelle] = []
    for make, wanted in ((mitochondrion, MITOCHONDRIA_SHARE), (dense_body, 0.008), (reticulum, 0.012)):
        filled = 0
        for _ in range(300 + probes.gap.size // 20):
            if filled >= wanted * probes.gap.size:
                break
            organelle = make(rng, probes, int(rng.integers(probes.gap.size)), cells, scale)
            near = probes.within(organelle.centre, organelle.reach + 4 * scale)
            position = probes.points(near)
            depth = organelle.depth(position, probes.owner[near], probes.gap[near])
            inside = depth > 0
            n_inside = int(np.count_nonzero(inside))
            squeezed = np.count_nonzero(organelle.signed_distance(position) < 0) - n_inside
            if squeezed > 0.1 * n_inside or (taken[near] & (depth > -4 * scale)).any():
                continue
            placed.append(organelle)
            filled += n_inside
            taken[near[inside]] = True
    return tuple(placed)


def mitochondrion(rng: np.random.Generator, probes: Probes, index: int, cells: Cells, scale: float) -> Organelle:
    """Return a mitochondrion around one probe: a tube along its cell, or an ellipsoid in any direction."""
    cell = int(probes.owner[index])
    tube = rng.random() < 0.55
    axis = cells.axis[cell] + rng.normal(0, 0.15, 3) if tube else rng.normal(size=3)
    radius = scale * (rng.uniform(9, 14) if tube else rng.uniform(12, 20))
    return Organelle(
        kind="mitochondrion",
        form="tube" if tube else "ellipsoid",
        centre=probes.point(index),
        axis=unit(axis),
        grain=unit(axis + rng.normal(0, 0.8, 3)),
        half_length=scale * rng.uniform(30, 75) if tube else radius * rng.uniform(1.0, 1.7),
        radius=radius,
        cell=cell,
        brightness=min(float(rng.normal(106, 9)), float(cells.brightness[cell]) - 22),
        clearance=max(1.2, 2.5 * scale),
    )


def dense_body(rng: np.random.Generator, probes: Probes, index: int, _cells: Cells, scale: float) -> Organelle:
    """Return a lysosome: dark, round, without membranes inside."""
    radius = scale * rng.uniform(5, 11)
    axis = rng.normal(size=3)
    return Organelle(
        kind="dense body",
        form="ellipsoid",
        centre=probes.point(index),
        axis=unit(axis),
        grain=unit(axis),
        half_length=radius * rng.uniform(0.9, 1.4),
        radius=radius,
        cell=int(probes.owner[index]),
        brightness=float(rng.uniform(80, 118)),
        clearance=max(1.2, 2.5 * scale),
    )


def reticulum(rng: np.random.Generator, probes: Probes, index: int, cells: Cells, scale: float) -> Organelle:
    """Return a cistern of the endoplasmic reticulum: a thin tube with a bright lumen."""
    cell = int(probes.owner[index])
    axis = cells.axis[cell] + rng.normal(0, 0.3, 3)
    return Organelle(
        kind="reticulum",
        form="tube",
        centre=probes.point(index),
        axis=unit(axis),
        grain=unit(axis),
        half_length=scale * rng.uniform(15, 45),
        radius=scale * rng.uniform(2.6, 4.2),
        cell=cell,
        brightness=float(rng.normal(185, 8)),
        clearance=max(1.2, 2.5 * scale),
    )


def _place_synapses(
    rng: np.random.Generator, probes: Probes, cells: Cells, organelles: Sequence[Organelle], scale: float
) -> tuple[Synapse, ...]:
    """Pick contacts on membranes; vesicles gather around them in the cytoplasm of the sending cell."""
    at_membrane = np.flatnonzero(probes.gap < 2.5 * scale)
    n = min(len(at_membrane), max(2, round(probes.gap.size / 1500)))
    synapses = []
    for index in rng.choice(at_membrane, size=n, replace=False):
        centre = probes.point(int(index))
        sender = int(probes.owner[index])
        cloud = centre + rng.normal(0, 17 * scale, (int(rng.integers(60, 260)), 3))
        z, y, x = cloud.astype(np.float32).T
        owner, gap = cells.owners((z, y, x))
        free = (owner == sender) & (gap > 5 * scale)
        for organelle in organelles:
            free &= organelle.depth((z, y, x), owner, gap) < -4 * scale
        synapses.append(Synapse(centre, sender, _spread_out(np.stack((z, y, x), axis=1)[free], 5.5 * scale)))
    return tuple(synapses)


def _spread_out(points: Floats, distance: float) -> Floats:
    """Drop the points (n, 3) that come closer than `distance` to one kept before them."""
    kept: list[Floats] = []
    for point in points:
        if all(float(np.sum((point - other) ** 2)) >= distance**2 for other in kept):
            kept.append(point)
    return np.array(kept, np.float32).reshape(-1, 3)


def scatter(
    rng: np.random.Generator, low: NDArray[np.float64], high: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Return `n` points (n, 3) in a box, spread evenly: of six candidates the one farthest from all before it."""
    points = np.empty((n, 3))
    for i in range(n):
        candidates = rng.uniform(low, high, (6, 3))
        if i == 0:
            points[i] = candidates[0]
            continue
        squares = np.sum((candidates[:, None] - points[None, :i]) ** 2, axis=2)
        points[i] = candidates[np.argmax(squares.min(axis=1))]
    return points


def directions(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Return `n` unit vectors (n, 3), uniform on the sphere."""
    vectors = rng.normal(size=(n, 3))
    unit_vectors: NDArray[np.float64] = vectors / np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
    return unit_vectors


def unit(vector: NDArray[np.floating]) -> Floats:
    """Return a vector (3,) scaled to length 1."""
    scaled: Floats = (vector / np.sqrt(np.sum(vector**2))).astype(np.float32)
    return scaled


def dot(parts: Sequence[Floats], vector: Floats) -> Floats:
    """Return the scalar products of many vectors, given as one array per axis, with one vector (3,)."""
    z, y, x = (part * component for part, component in zip(parts, vector, strict=True))
    product: Floats = z + y + x
    return product
