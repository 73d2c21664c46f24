"""How time grows with the volume, and what a second thread brings, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numba import njit

from benchmarks.measure import Comparison, Size
from benchmarks.scenes import side_by_side, table, tissue
from voxloop.blocks import Executor, SerialExecutor, ThreadExecutor
from voxloop.classify import fit_forest
from voxloop.features import compute_features
from voxloop.specs import SlicSpec
from voxloop.supervoxels import Supervoxels, from_labels, slic
from voxloop.volume import Volume

SHAPES: dict[Size, tuple[int, int, int]] = {"test": (16, 16, 32), "quick": (64, 80, 160), "full": (96, 128, 256)}
CUBES: dict[Size, int] = {"test": 10, "quick": 28, "full": 46}


@cache
def _scene(shape: tuple[int, int, int]) -> tuple[Volume, Supervoxels]:
    volume = tissue(shape)
    return volume, slic(volume, SlicSpec(size=343.0))


def run_stage(name: str, shape: tuple[int, int, int], executor: Executor | None = None) -> Any:
    """Run a stage (``SLIC``, ``graph`` or ``features``) on a volume of `shape`."""
    volume, cut = _scene(shape)
    if name == "SLIC":
        return slic(volume, SlicSpec(size=343.0), executor=executor)
    if name == "graph":
        return from_labels(cut.labels, executor=executor)
    return compute_features(volume, cut.labels, cut.n, executor=executor)


def _not_alike(_ours: Any, _theirs: Any) -> dict[str, float]:
    """Twice the work is not the same work: there is nothing to compare."""
    return {}


def _grows(size: Size, name: str) -> Comparison:
    shape = SHAPES[size]
    half = (*shape[:2], shape[2] // 2)
    for prepared in (shape, half):
        _scene(prepared)
    return Comparison(
        name=f"{name}, growth",
        work=side_by_side(shape),
        peer="half the volume",
        ours=partial(run_stage, name, shape, SerialExecutor()),
        theirs=partial(run_stage, name, half, SerialExecutor()),
        check=_not_alike,
        kind="growth",
    )


def slic_grows(size: Size) -> Comparison:
    return _grows(size, "SLIC")


def graph_grows(size: Size) -> Comparison:
    return _grows(size, "graph")


def features_grow(size: Size) -> Comparison:
    return _grows(size, "features")


def training_grows(size: Size) -> Comparison:
    rows = table(CUBES[size])
    n = min(rows.n, 4000)

    def fit(n_labels: int) -> Any:
        return fit_forest(rows.values[:n_labels], rows.classes[:n_labels], executor=SerialExecutor())

    return Comparison(
        name="forest training, growth",
        work=f"{n:,} labels",
        peer="half the labels",
        ours=partial(fit, n),
        theirs=partial(fit, n // 2),
        check=_not_alike,
        kind="growth",
    )


def prediction_grows(size: Size) -> Comparison:
    rows = table(CUBES[size])
    forest = fit_forest(rows.values[:500], rows.classes[:500])
    return Comparison(
        name="forest prediction, growth",
        work=f"{rows.n:,} supervoxels",
        peer="half the supervoxels",
        ours=lambda: forest.predict(rows.values, executor=SerialExecutor()),
        theirs=lambda: forest.predict(rows.values[: rows.n // 2], executor=SerialExecutor()),
        check=_not_alike,
        kind="growth",
    )


def _threads(size: Size, name: str, bits: Callable[[Any], Any]) -> Comparison:
    shape = SHAPES[size]
    _scene(shape)

    def check(ours: Any, theirs: Any) -> dict[str, float]:
        np.testing.assert_array_equal(bits(ours), bits(theirs))
        return {}

    return Comparison(
        name=f"{name}, 2 threads",
        work=side_by_side(shape),
        peer="1 thread, the same bits",
        ours=partial(run_stage, name, shape, ThreadExecutor(2)),
        theirs=partial(run_stage, name, shape, SerialExecutor()),
        check=check,
        kind="threads",
    )


@njit(cache=True, nogil=True)
def _spin(n: int) -> float:
    x = 1.0
    for _ in range(n):
        x = x * 1.0000001 + 1e-9
    return x


def machine_threads(size: Size) -> Comparison:
    """Return what a second thread brings to arithmetic alone: the most that this machine allows at the moment."""
    steps = {"test": 1_000, "quick": 20_000_000, "full": 50_000_000}[size]
    _spin(1)

    def check(ours: list[float], theirs: list[float]) -> dict[str, float]:
        assert ours == theirs
        return {}

    return Comparison(
        name="arithmetic alone, 2 threads",
        work=f"4 x {steps:,} steps",
        peer="1 thread",
        ours=lambda: list(ThreadExecutor(2).map(_spin, [steps] * 4)),
        theirs=lambda: list(SerialExecutor().map(_spin, [steps] * 4)),
        check=check,
        kind="threads",
    )


def slic_threads(size: Size) -> Comparison:
    return _threads(size, "SLIC", lambda cut: cut.labels)


def features_threads(size: Size) -> Comparison:
    return _threads(size, "features", lambda made: made.values)
