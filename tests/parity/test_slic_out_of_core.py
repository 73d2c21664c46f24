"""Supervoxels with less memory, in other processes, or after being killed: the same bytes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from voxloop.blocks import SerialExecutor
from voxloop.errors import Cancelled, InputError, StorageError
from voxloop.io import open_volume
from voxloop.specs import SlicSpec
from voxloop.supervoxels import Supervoxels, assignment, from_labels, slic
from voxloop.volume import Volume

SHAPE = (40, 64, 96)
BLOCK = (16, 32, 48)
N_BLOCKS = 12
SPEC = SlicSpec(size=100, max_num_iter=4)
MEMORY = "1MB"  # far less than the tables and tiles of the volume below


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("volume") / "image.npy"
    smooth = np.add.outer(np.add.outer(np.sin(np.arange(40) / 3), np.cos(np.arange(64) / 4)), np.sin(np.arange(96) / 5))
    np.save(path, (60 * smooth + np.random.default_rng(0).normal(128, 12, SHAPE)).clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture(scope="module")
def expected(image: Path) -> Supervoxels:
    return slic(open_volume(image), SPEC, executor=SerialExecutor(), memory="1GB")


def assert_same(found: Supervoxels, expected: Supervoxels) -> None:
    assert found.report == expected.report
    np.testing.assert_array_equal(np.asarray(found.labels[:]), expected.labels)
    for name, table in found.to_arrays()[0].items():
        np.testing.assert_array_equal(table, expected.to_arrays()[0][name])


class ByPickle:
    """Does what an executor of other processes does: whatever goes there and comes back is pickled."""

    in_process = False
    n_workers = 1

    def __init__(self) -> None:
        self.largest = 0

    def limited(self, n_per_process: int) -> ByPickle:
        assert n_per_process >= 1
        return self

    def check_folder(self, folder: Path) -> None:
        assert folder.is_dir()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            sent = pickle.dumps((function, item))
            self.largest = max(self.largest, len(sent))
            there, received = pickle.loads(sent)  # noqa: S301 - written a moment ago
            yield pickle.loads(pickle.dumps(there(received)))  # noqa: S301


@pytest.mark.parametrize("masked", [False, True])
def test_files_instead_of_memory(image: Path, tmp_path: Path, masked: bool) -> None:
    mask = np.ones(SHAPE, np.uint8)
    mask[:20, :40] = 0  # some blocks lie wholly outside
    arguments = {"mask": mask if masked else None, "executor": SerialExecutor()}
    whole = slic(open_volume(image), SPEC, memory="1GB", **arguments)
    found = slic(open_volume(image), SPEC, memory=MEMORY, block_shape=BLOCK, scratch=tmp_path / "scratch", **arguments)
    assert_same(found, whole)
    assert not (tmp_path / "scratch").exists()


def test_more_supervoxels_than_memory(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    slic(open_volume(image), SPEC.changed(size=20, max_num_iter=1), memory=MEMORY, block_shape=BLOCK)
    assert caplog.messages == [
        "12,288 supervoxels take about 0.0027 GB of memory, not 0.001 GB: give more, or ask for larger ones"
    ]


def test_other_processes_are_sent_little(image: Path, expected: Supervoxels, tmp_path: Path) -> None:
    executor = ByPickle()
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.uint32, SHAPE)
    volume = Volume(np.load(image, mmap_mode="r"))  # which numpy pickles as all of its values
    assert_same(slic(volume, SPEC, executor=executor, block_shape=BLOCK, out=out), expected)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected.labels)
    assert executor.largest < 60_000  # clusters and numbers of a block; the volume has 245,760 bytes
    again = from_labels(out, executor=executor, block_shape=BLOCK)  # to an array of this process
    np.testing.assert_array_equal(again.labels, expected.labels)


def test_into_zarr(image: Path, expected: Supervoxels, tmp_path: Path) -> None:
    out = zarr.create_array(tmp_path / "out.zarr", shape=SHAPE, chunks=BLOCK, dtype=np.uint32)
    found = slic(open_volume(image), SPEC, executor=ByPickle(), block_shape=BLOCK, out=out)
    assert_same(found, expected)


def test_labels_of_ones_own_within_little_memory(expected: Supervoxels) -> None:
    again = from_labels(np.asarray(expected.labels), memory=MEMORY, block_shape=BLOCK)
    np.testing.assert_array_equal(again.labels, expected.labels)
    np.testing.assert_array_equal(again.graph.edges, expected.graph.edges)


def stop_at(stage: str, done: int) -> Callable[[str, int, int], None]:
    def progress(at: str, finished: int, total: int) -> None:
        if (at, finished) == (stage, done):
            raise Cancelled("stopped")

    return progress


def test_a_cancelled_run_leaves_nothing_behind(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    out = np.full(SHAPE, 7, np.uint32)
    for stage, done in (("scaling", 3), ("iteration 2", 3), ("cutting", 3), ("joining", 2), ("absorbing", 0)):
        with pytest.raises(Cancelled):
            slic(open_volume(image), SPEC, out=out, memory=MEMORY, block_shape=BLOCK, progress=stop_at(stage, done))
    assert list(tmp_path.iterdir()) == []
    assert (out == 7).all()


KILLED = """
import os, signal, sys
from voxloop.blocks import SerialExecutor
from voxloop.io import open_volume
from voxloop.specs import SlicSpec
from voxloop.supervoxels import slic

def progress(stage, done, total):
    if [stage, str(done)] == sys.argv[3:]:
        os.kill(os.getpid(), signal.SIGKILL)

slic(open_volume(sys.argv[1]), SlicSpec(size=100, max_num_iter=4), memory="1MB", block_shape=(16, 32, 48),
     scratch=__import__("pathlib").Path(sys.argv[2]), executor=SerialExecutor(), progress=progress)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "done", "skipped"),
    [
        ("scaling", 5, set()),
        ("iteration 3", 6, {"seeding", "iteration 1", "iteration 2"}),
        ("cutting", 7, {"seeding", "iteration 1", "iteration 2", "iteration 3"}),
        ("numbering", 7, {"seeding", "iteration 1", "iteration 2", "iteration 3"}),
    ],
)
def test_a_killed_run_goes_on(
    image: Path,
    expected: Supervoxels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    done: int,
    skipped: set[str],
) -> None:
    scratch = tmp_path / "scratch"
    command = [sys.executable, "-c", KILLED, image, scratch, stage, str(done)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    scaled, cut = (len(list(scratch.glob(f"{name}-*.npz"))) for name in ("tile", "table"))
    assert (scaled + cut, cut) == {"scaling": (5, 0), "cutting": (12, 7), "numbering": (12, 12)}.get(stage, (12, 0))

    calls: dict[str, int] = {"scale_block": 0, "cut_block": 0}
    for name in calls:
        monkeypatch.setattr(assignment, name, counted(name, getattr(assignment, name), calls))
    stages: list[str] = []
    found = slic(
        open_volume(image), SPEC, memory=MEMORY, block_shape=BLOCK, scratch=scratch, executor=SerialExecutor(),
        progress=lambda at, *_: stages.append(at),
    )  # fmt: skip
    assert_same(found, expected)
    assert calls == {"scale_block": N_BLOCKS - scaled - cut, "cut_block": N_BLOCKS - cut}
    everything = {
        "scaling",
        "seeding",
        "iteration 1",
        "iteration 2",
        "iteration 3",
        "cutting",
        "joining",
        "absorbing",
        "numbering",
    }
    assert set(stages) == everything - skipped
    assert not scratch.exists()


def counted(name: str, function: Callable[..., Any], calls: dict[str, int]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        calls[name] += 1
        return function(*arguments, **options)

    return call


def test_what_other_arguments_left_is_not_used(image: Path, tmp_path: Path) -> None:
    scratch, other = tmp_path / "scratch", SPEC.changed(compactness=3.0)
    with pytest.raises(Cancelled):
        slic(open_volume(image), SPEC, memory=MEMORY, scratch=scratch, progress=stop_at("iteration 3", 0))
    assert (scratch / "state.npz").is_file()
    found = slic(open_volume(image), other, memory=MEMORY, scratch=scratch)
    assert_same(found, slic(open_volume(image), other))


def test_a_file_without_its_end_is_written_again(image: Path, expected: Supervoxels, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with pytest.raises(Cancelled):
        slic(open_volume(image), SPEC, memory=MEMORY, scratch=scratch, progress=stop_at("iteration 3", 0))
    for file in scratch.glob("*.npz"):
        os.truncate(file, file.stat().st_size - 30)
    assert_same(slic(open_volume(image), SPEC, memory=MEMORY, scratch=scratch), expected)


def test_a_folder_of_somebody_else_is_left_alone(image: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(StorageError, match="is not empty and no scratch folder"):
        slic(open_volume(image), SPEC, memory=MEMORY, scratch=tmp_path)
    with pytest.raises(StorageError, match="cannot write"):
        slic(open_volume(image), SPEC, memory=MEMORY, scratch=tmp_path / "thesis.txt" / "below")
    with pytest.raises(InputError, match="memory must be"):
        slic(open_volume(image), SPEC, memory="much")
