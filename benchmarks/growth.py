"""How the time of a stage grows with the volume: from 8 to 128 million voxels, each twice the one before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.measure import Size, timed
from benchmarks.scenes import tissue
from voxloop.features import compute_features
from voxloop.specs import SlicSpec
from voxloop.supervoxels import from_labels, slic
from voxloop.volume import Volume

SMALLEST: dict[Size, tuple[int, int, int]] = {"test": (8, 16, 16), "quick": (32, 128, 128), "full": (128, 256, 256)}
DOUBLINGS: dict[Size, int] = {"test": 1, "quick": 2, "full": 4}
HEADER = "| growth | M voxels | CPU s | CPU ns a voxel | t(2n) / t(n), CPU |\n|---|--:|--:|--:|--:|"


@dataclass(frozen=True)
class Growth:
    """CPU seconds of a stage on a volume of `voxels`, and of half as many (None for the smallest)."""

    stage: str
    voxels: int
    cpu: float
    half: float | None

    @property
    def ratio(self) -> float | None:
        """How many times as long twice the voxels take."""
        return None if self.half is None else self.cpu / self.half


def growth(size: Size) -> Iterator[Growth]:
    """Yield the time of each stage on each volume, all of them parts of the largest; once each, by all processors."""
    shapes = [SMALLEST[size]]
    for doubling in range(DOUBLINGS[size]):
        z, y, x = shapes[-1]
        shapes.append((z, y, 2 * x) if doubling % 2 == 0 else (z, 2 * y, x))
    largest = tissue(shapes[-1]).read()[0]
    before: dict[str, float] = {}
    for z, y, x in shapes:
        volume = Volume.from_array(np.ascontiguousarray(largest[:z, :y, :x]))
        cpu, cut = timed(partial(slic, volume, SlicSpec(size=343.0)))
        found = {"SLIC": cpu, "graph": timed(partial(from_labels, cut.labels))[0]}
        gc.collect()
        found["features"], _ = timed(partial(compute_features, volume, cut.labels, cut.n, sizes=cut.sizes))
        for stage, cpu in found.items():
            yield Growth(stage, z * y * x, cpu, before.get(stage))
        before = found


def row(found: Growth) -> str:
    """Return one row of the table (Markdown)."""
    ratio = "" if found.ratio is None else f"**{found.ratio:.2f}**"
    per_voxel = found.cpu / found.voxels * 1e9
    return f"| {found.stage} | {found.voxels / 1e6:.1f} | {found.cpu:.3g} | {per_voxel:.0f} | {ratio} |"
