"""Compile every kernel before somebody waits for it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from voxloop.active.planes import best_planes
from voxloop.blocks import Executor
from voxloop.classify import fit_forest
from voxloop.features import compute_features, with_context
from voxloop.specs import SlicSpec
from voxloop.supervoxels import from_labels, slic
from voxloop.supervoxels.extent import extent
from voxloop.volume import Volume


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for cycles of garbage less often: numba makes objects by the million, and a sixth of the time went there.

    What it leaves for later takes 100 MB.
    """
    before = gc.get_threshold()
    gc.set_threshold(1_000_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@_rare_collections()
def warm_up(*, executor: Executor | None = None) -> None:
    """Run all that is done by default on tiny volumes, so that its kernels are compiled and in numba's cache."""
    rng = np.random.default_rng(0)
    for shape in ((16, 16, 16), (1, 16, 16)):
        volume = Volume.from_array(rng.integers(0, 255, shape, np.uint8))
        supervoxels = slic(volume, SlicSpec(n_segments=8), executor=executor)
        table = compute_features(volume, supervoxels.labels, supervoxels.n, executor=executor)
        table = with_context(table, supervoxels.graph, 1, (1,), executor=executor)
        forest = fit_forest(table.values, np.arange(supervoxels.n) % 2 + 1, executor=executor)
        forest.predict(table.values, executor=executor)
        extent(supervoxels.labels, supervoxels.n, executor=executor)
        if not volume.is_2d:
            from_labels(supervoxels.labels, executor=executor)
            best_planes(np.ones(supervoxels.n), supervoxels.centers, supervoxels.sizes, shape=shape)
