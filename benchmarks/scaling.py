"""How the forest's time grows, and what a second thread or process brings, stage by stage."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from benchmarks.measure import Comparison, Size
from benchmarks.scenes import side_by_side, table, tissue
from voxloop.blocks import Executor, SerialExecutor, ThreadExecutor
from voxloop.classify import fit_forest
from voxloop.distributed import DaskExecutor, local_cluster
from voxloop.features import compute_features
from voxloop.io import open_volume
from voxloop.specs import SlicSpec
from voxloop.supervoxels import Supervoxels, from_labels, slic
from voxloop.volume import Volume

# SLIC's blocks have 64 x 128 x 128 voxels: eight of them, so that threads have as much to do.
SHAPES: dict[Size, tuple[int, int, int]] = {"test": (16, 16, 32), "quick": (64, 128, 256), "full": (128, 256, 256)}
# Each block costs client and scheduler some milliseconds: what workers are for is more than their start.
PROCESS_SHAPES: dict[Size, tuple[int, int, int]] = SHAPES | {"full": (256, 512, 512)}
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
        repeats=2,
    )


@njit(cache=True, nogil=True)
def _spin(n: int) -> float:
    x = 1.0
    for _ in range(n):
        x = x * 1.0000001 + 1e-9
    return x


@njit(cache=True, nogil=True)
def _sweep(times: int) -> np.float32:
    """Multiply and add vectors that stay in the first-level cache: as much as a processor's vector units can do."""
    values, sums = np.full(2048, np.float32(0.5)), np.zeros(2048, np.float32)
    for _ in range(times):
        for i in range(values.size):
            sums[i] = values[i] * np.float32(0.25) + sums[i] * np.float32(0.5)
    return sums[0]


def machine_threads(size: Size) -> Comparison:
    """Return what a second thread brings to additions that wait for one another: the most that this machine allows."""
    return _machine("a chain of additions alone", _spin, {"test": 1_000, "quick": 20_000_000, "full": 50_000_000}[size])


def machine_vector_threads(size: Size) -> Comparison:
    """Return what a second thread brings to vectors: less, where two processors share a core or its power."""
    return _machine("vectors in the cache alone", _sweep, {"test": 10, "quick": 100_000, "full": 1_000_000}[size])


def _machine(name: str, work: Callable[[int], float], steps: int) -> Comparison:
    work(1)

    def check(ours: list[float], theirs: list[float]) -> dict[str, float]:
        assert ours == theirs
        return {}

    return Comparison(
        name=f"{name}, 2 threads",
        work=f"4 x {steps:,} steps",
        peer="1 thread",
        ours=lambda: list(ThreadExecutor(2).map(work, [steps] * 4)),
        theirs=lambda: list(SerialExecutor().map(work, [steps] * 4)),
        check=check,
        kind="threads",
    )


def slic_threads(size: Size) -> Comparison:
    return _threads(size, "SLIC", lambda cut: cut.labels)


def graph_threads(size: Size) -> Comparison:
    return _threads(size, "graph", lambda cut: cut.graph.edges)


def features_threads(size: Size) -> Comparison:
    return _threads(size, "features", lambda made: made.values)


def prediction_threads(size: Size) -> Comparison:
    rows = table(CUBES[size])
    forest = fit_forest(rows.values[:500], rows.classes[:500])

    def check(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> dict[str, float]:
        np.testing.assert_array_equal(ours, theirs)
        return {}

    return Comparison(
        name="forest prediction, 2 threads",
        work=f"{rows.n:,} supervoxels",
        peer="1 thread, the same bits",
        ours=lambda: forest.predict(rows.values, executor=ThreadExecutor(2)),
        theirs=lambda: forest.predict(rows.values, executor=SerialExecutor()),
        check=check,
        kind="threads",
    )


@cache
def _cluster(n_workers: int) -> DaskExecutor:
    """Return worker processes that end with this one."""
    cluster = local_cluster(n_workers)
    atexit.register(cluster.__exit__, None, None, None)
    return cluster.__enter__()


def _processes(size: Size, name: str, run: Callable[[Volume, Supervoxels, DaskExecutor], NDArray[Any]]) -> Comparison:
    """Compare two workers with one on an image in a file, as a cluster reads it."""
    volume, cut = _scene(PROCESS_SHAPES[size])
    folder = tempfile.TemporaryDirectory(prefix="voxloop-benchmark-")
    atexit.register(folder.cleanup)
    for part, array in {"image": volume.data, "labels": cut.labels}.items():
        np.save(Path(folder.name, f"{part}.npy"), np.asarray(array))
    image, labels = (open_volume(Path(folder.name, f"{part}.npy")) for part in ("image", "labels"))
    stored = replace(cut, labels=labels.data)

    def check(ours: NDArray[Any], theirs: NDArray[Any]) -> dict[str, float]:
        np.testing.assert_array_equal(ours, theirs)
        return {}

    return Comparison(
        name=f"{name}, 2 worker processes",
        work=side_by_side(PROCESS_SHAPES[size]),
        peer="1 worker process, the same bits",
        ours=lambda: run(image, stored, _cluster(2)),
        theirs=lambda: run(image, stored, _cluster(1)),
        check=check,
        kind="processes",
        repeats=1,
    )


def slic_processes(size: Size) -> Comparison:
    spec = SlicSpec(size=343.0)
    return _processes(
        size, "SLIC", lambda volume, _, executor: np.asarray(slic(volume, spec, executor=executor).labels)
    )


def features_processes(size: Size) -> Comparison:
    def run(volume: Volume, cut: Supervoxels, executor: DaskExecutor) -> NDArray[np.float32]:
        return compute_features(volume, cut.labels, cut.n, sizes=cut.sizes, executor=executor).values

    return _processes(size, "features", run)
