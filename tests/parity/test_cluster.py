"""Processes give the same bytes as this one, also when one of them is killed."""

from __future__ import annotations

import gc
import os
import pickle
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxloop.blocks import SerialExecutor, within_memory
from voxloop.cli.main import main
from voxloop.distributed import DaskExecutor, connect, local_cluster
from voxloop.errors import ClusterError, InputError
from voxloop.features import compute_scale
from voxloop.io import open_volume, save_volume
from voxloop.io.mapped import map_array
from voxloop.project import Project
from voxloop.samples import phantom
from voxloop.supervoxels import slic
from voxloop.supervoxels.extent import extent

# Processes end, connections break: dask leaves sockets and event loops to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default::ResourceWarning")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[DaskExecutor]:
    with local_cluster(2) as executor:
        yield executor


def square_and_process(number: int) -> tuple[int, int]:
    time.sleep(0.02)
    return number**2, os.getpid()


def fail(number: int) -> int:
    raise InputError(f"{number} is not wanted")


def write_slowly(folder: Path, number: int) -> None:
    time.sleep(0.2)
    (folder / str(number)).write_text("")


def kill_yourself(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pages_for_arrays(n: int) -> int:
    """Return how many pages the system found for `n` arrays of 8 MB, one after the other."""
    import resource  # not on Windows

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        np.ones(1_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def sent(array: np.ndarray) -> np.ndarray:
    """Return what arrives in another process."""
    return pickle.loads(pickle.dumps(array))  # noqa: S301 - written a moment ago


def test_in_order_on_all_workers(cluster: DaskExecutor) -> None:
    assert cluster.n_workers == 2
    squares, processes = zip(*cluster.map(square_and_process, range(30)), strict=True)
    assert squares == tuple(n**2 for n in range(30))
    assert len(set(processes)) == 2
    assert os.getpid() not in processes


def square(number: int) -> int:
    return number**2


def test_quick_items_travel_together(cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    submit = cluster._client.submit

    def noted(function: Callable[..., Any], payload: Any, batch: list[int], **settings: Any) -> Any:
        sizes.append(len(batch))
        return submit(function, payload, batch, **settings)

    monkeypatch.setattr(cluster._client, "submit", noted)
    assert list(cluster.map(square, range(1000))) == [n**2 for n in range(1000)]
    assert sum(sizes) == 1000
    assert max(sizes) == 64
    assert sizes[:4] == [1, 1, 1, 1]
    assert sizes[-1] == 1  # nobody waits for a long last message
    assert len(sizes) < 100


def zeros(n: int) -> np.ndarray:
    return np.zeros(n)


def test_a_result_may_take_long_to_travel(cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxloop.distributed._LOOK_SECONDS", 0.001)
    assert [len(a) for a in cluster.map(zeros, [4_000_000] * 3)] == [4_000_000] * 3


def late(number: int) -> int:
    raise TimeoutError(f"{number} is late")


def test_a_timeout_of_its_own_is_an_error(cluster: DaskExecutor) -> None:
    with pytest.raises(TimeoutError, match="0 is late"):
        list(cluster.map(late, range(3)))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep or return memory as they like")
def test_workers_keep_the_memory_of_freed_arrays(cluster: DaskExecutor) -> None:
    list(cluster.map(pages_for_arrays, [2] * 8))
    assert max(cluster.map(pages_for_arrays, [20] * 4)) < 2_000  # an array has 2,000 pages, or 4 large ones


def test_errors_come_as_they_are(cluster: DaskExecutor) -> None:
    with pytest.raises(InputError, match="0 is not wanted"):
        list(cluster.map(fail, range(5)))


def test_a_handler_of_another_language_stays(cluster: DaskExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("a handler that nobody can put back was replaced")

    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", refused)
    assert list(cluster.map(square, range(5))) == [0, 1, 4, 9, 16]


def test_a_closure_is_refused(cluster: DaskExecutor) -> None:
    there: list[int] = []
    with pytest.raises(Exception, match="pickle"):  # it would fill a list of its own
        list(cluster.map(lambda n: there.append(n), range(5)))


def test_a_limit_holds(cluster: DaskExecutor) -> None:
    limited = within_memory(cluster, memory=10, item_bytes=100)
    assert limited.n_workers == 2
    assert [n for n, _ in limited.map(square_and_process, range(10))] == [n**2 for n in range(10)]


def test_who_stops_waits_for_what_runs(cluster: DaskExecutor, tmp_path: Path) -> None:
    results = cluster.map(partial(write_slowly, tmp_path), range(100))
    next(results)
    results.close()  # type: ignore[attr-defined]
    there = len(list(tmp_path.iterdir()))
    assert 1 <= there <= 5
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == there


def test_a_map_travels_as_its_path(cluster: DaskExecutor, tmp_path: Path) -> None:
    values = np.arange(10**6, dtype=np.uint32).reshape(100, 100, 100)
    values.tofile(tmp_path / "values")
    mapped = map_array(tmp_path / "values", np.uint32, values.shape)
    assert len(pickle.dumps(mapped)) < 1000
    again = sent(mapped)
    np.testing.assert_array_equal(again, values)
    assert not again.flags.writeable
    part = sent(mapped[3:5, ::2])
    np.testing.assert_array_equal(part, values[3:5, ::2])
    assert sent(map_array(tmp_path / "values", "<u4", (5,), 8, "r+")).flags.writeable


def test_features_and_extent(cluster: DaskExecutor, cells: Path) -> None:
    with Project.open(cells / "cells.voxloop", read_only=True) as project:
        cut, volume = project.supervoxels(), project.volume()
        for block_shape in (None, (8, 20, 48)):
            of = [
                compute_scale(volume, cut.labels, cut.n, 1.6, block_shape=block_shape, executor=executor).values
                for executor in (SerialExecutor(), cluster)
            ]
            assert of[0].tobytes() == of[1].tobytes()
        here, there = (extent(cut.labels, cut.n, executor=executor) for executor in (SerialExecutor(), cluster))
        np.testing.assert_array_equal(here.first, there.first)
        np.testing.assert_array_equal(here.last, there.last)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.zarr"
    save_volume(path, phantom((40, 150, 140), seed=2).image.data)
    return path


EXPORTS = {
    "segmentation": "zarr",
    "probabilities": "zarr",
    "labels": "zarr",
    "uncertainty": "npy",
    "supervoxels": "tif",
}


def run_job(project: Path, image: Path, points: Path, *options: str) -> dict[str, bytes]:
    """Run everything on the command line; return the bytes of all results."""
    files = {source: project.with_name(f"{project.stem}-{source}.{suffix}") for source, suffix in EXPORTS.items()}
    assert main(["new", str(project), str(image), "--class", "a", "--class", "b"]) == 0
    assert main(["label", str(project), "--points", str(points)]) == 0
    exports = [f"--export={source}={path}" for source, path in files.items()]
    assert main(["run", str(project), "--memory", "300MB", *exports, *options]) == 0
    results = {source: np.asarray(open_volume(path).data) for source, path in files.items()}
    with Project.open(project, read_only=True) as made:
        results["labels"] = np.asarray(made.supervoxels().labels)
        results["table"] = made.features().values
        results["prediction"] = made.predict().probabilities
        results["extent"] = made.extent().last
    return {name: array.tobytes() for name, array in results.items()}


def test_the_whole_job_on_the_command_line(image: Path, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 40, (30, 3))
    lines = [f"{z},{y},{x},{'ab'[(z + x) % 2]}" for z, y, x in voxels]
    points = tmp_path / "points.csv"
    points.write_text("\n".join(["z,y,x,class", *lines]))
    serial = run_job(tmp_path / "serial.voxloop", image, points, "--threads", "1")
    processes = run_job(tmp_path / "processes.voxloop", image, points, "--workers", "2")
    assert {name for name in serial if serial[name] != processes[name]} == set()


def test_features_and_ranges_of_values(cluster: DaskExecutor, cells: Path) -> None:
    options = {"features": ["hessian:1.6", "gaussian:0.7"], "dtype": "uint8", "rescale": "data"}
    written = []
    for name, executor in {"here": SerialExecutor(), "there": cluster}.items():
        with Project.open(cells / "cells.voxloop", executor=executor) as project:
            project.export("features", cells / f"{name}.zarr", **options)
        written.append(np.asarray(open_volume(cells / f"{name}.zarr").data))
    assert written[0].shape[3] == 4
    np.testing.assert_array_equal(*written)


def test_workers_must_see_the_same_files(cluster: DaskExecutor, cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.check_folder(cells)
    assert not list(cells.glob(".reach*"))
    run = cluster._client.run
    monkeypatch.setattr(cluster._client, "run", lambda function, path: run(function, path + "-elsewhere"))
    with pytest.raises(ClusterError, match=r"worker tcp://.* does not find what is written to .*cells\.voxloop"):
        Project.open(cells / "cells.voxloop", executor=cluster)
    with Project.open(cells / "cells.voxloop"):
        pass  # the lock was let go


def test_no_scheduler(cells: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxloop.distributed.CONNECT_SECONDS", 0.5)
    with pytest.raises(ClusterError, match="no scheduler answers at tcp"), connect("tcp://127.0.0.1:9"):
        pass
    project = str(cells / "cells.voxloop")
    for address in ("nonsense", "nonsense://x", "tcp://127.0.0.1:9"):
        assert main(["features", project, "--scheduler", address]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--workers", "0"], "n_workers must be at least 1, not 0"),
        (["--workers", "2", "--threads", "2"], "give one of --threads and --workers"),
    ],
)
def test_bad_choices(options: list[str], line: str, cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", str(cells / "cells.voxloop"), *options]) == 2
    assert capsys.readouterr().err == f"voxloop: {line}\n"


@pytest.fixture
def mortal() -> Iterator[DaskExecutor]:
    """A cluster of its own: what is killed takes a while to come back."""
    with local_cluster(2) as executor:
        yield executor
    # A fetch that was given up leaves a task that says so when it is collected, with a traceback, which Python 3.11
    # parses: in the middle of parsing something else (an import) that is an error (python/cpython#106905).
    gc.collect()


def test_a_killed_worker_costs_its_blocks_only(mortal: DaskExecutor) -> None:
    results = mortal.map(square_and_process, range(60))
    first, victim = next(results)
    os.kill(victim, signal.SIGKILL)
    assert [first, *(square for square, _ in results)] == [n**2 for n in range(60)]


def test_a_block_that_kills_each_worker_is_given_up(mortal: DaskExecutor) -> None:
    with pytest.raises(ClusterError, match="a block was lost 4 times with the worker"):
        list(mortal.map(kill_yourself, [0]))


def test_no_worker_is_left(mortal: DaskExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxloop.distributed.WORKER_SECONDS", 0)
    monkeypatch.setattr("voxloop.distributed._LOOK_SECONDS", 0.1)
    monkeypatch.setattr("voxloop.distributed._FETCH_SECONDS", 1)  # what is finished may go with its worker
    results = mortal.map(square_and_process, range(1000))
    next(results)
    mortal._client.cluster.scale(0)
    with pytest.raises(ClusterError, match="all workers are gone"):
        list(results)


COMMAND = [sys.executable, "-m", "voxloop"]


@pytest.fixture
def unfinished(image: Path, tmp_path: Path) -> Path:
    """A project of which nothing is computed yet."""
    with Project.create(tmp_path / "cells.voxloop", image) as project:
        project.configure(slic={"size": 100.0, "max_num_iter": 30}, features={"sigmas": (1.0,)})
    return tmp_path / "cells.voxloop"


def started(project: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start to compute supervoxels with two processes; return when the second iteration is noted."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, "supervoxels", str(project), "--workers", "2"], stderr=out, start_new_session=True
        )
    noted = project / "cache" / "scratch" / "supervoxels-0" / "state.npz"
    deadline = time.monotonic() + 120
    while not noted.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on(unfinished: Path, tmp_path: Path, how: signal.Signals) -> None:
    process = started(unfinished, tmp_path / "log.txt")
    assert process.poll() is None, (tmp_path / "log.txt").read_text()
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as Ctrl-C does: all processes of the terminal get it
    else:
        process.kill()
    code = process.wait(60)
    stages: list[str] = []
    if how == signal.SIGINT:
        assert code == 130
        assert (tmp_path / "log.txt").read_text().startswith("voxloop: stopped; what was finished is kept\n")
    scratch = unfinished / "cache" / "scratch" / "supervoxels-0"
    assert (scratch / "state.npz").exists()
    with local_cluster(2) as executor:

        def note(stage: str, done: int, total: int) -> None:
            if not stages or stages[-1] != stage:
                stages.append(stage)

        with Project.open(unfinished, executor=executor, progress=note) as project:
            resumed = np.asarray(project.supervoxels().labels).copy()
            volume, spec = project.volume(), project.specs.slic
    assert "seeding" not in stages
    assert "iteration 1" not in stages
    assert not scratch.exists()
    np.testing.assert_array_equal(resumed, slic(volume, spec, executor=SerialExecutor()).labels)
