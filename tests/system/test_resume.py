"""Computations that are killed in the middle go on: no block that was done is computed again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxloop.blocks import Block, SerialExecutor
from voxloop.errors import StorageError
from voxloop.features import pool
from voxloop.io import n5, open_volume, zarr
from voxloop.io.done_log import DoneLog
from voxloop.io.scratch import Folder, scratch_folder
from voxloop.project import Project, export
from voxloop.samples import Sample

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")

# A small volume would be one block.
SMALL_BLOCKS = {"MIN_BLOCK_VOXELS": 1, "MIN_BLOCKS": 16, "SHORTEST_SIDE": 4, "MAX_READ_SHARE": 1000.0}
KILLED = f"""
import os, signal, sys
from voxloop.features import pool
from voxloop.project import Project

folder, stage, done = sys.argv[1], sys.argv[2], int(sys.argv[3])
vars(pool).update({SMALL_BLOCKS})

def progress(name, finished, total):
    if name == stage and finished == done:
        os.kill(os.getpid(), signal.SIGKILL)

with Project.open(folder, progress=progress) as project:
    project.features()
"""


@pytest.fixture
def cells(tmp_path: Path, small_sample: Sample) -> Path:
    """A project with supervoxels, whose image is a file."""
    path = tmp_path / "image.npy"
    np.save(path, np.asarray(small_sample.image.data))
    with Project.create(tmp_path / "cells.voxloop", path) as project:
        project.configure(features={"sigmas": (1.0, 1.6)})
        project.supervoxels()
    return tmp_path / "cells.voxloop"


def test_features_go_on_at_the_block(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", KILLED, str(cells), "features sigma=1", "3"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    kept = {int(path.stem[6:]) for path in (cells / "cache" / "scratch" / "features-0-1").glob("block-*.npz")}
    assert 3 <= len(kept) < 16

    computed: list[int] = []

    def counted(source: Any, labels: Any, n: int, statistics: Any, bins: Any, block: Block) -> Any:
        computed.append(block.index)
        return pool_block(source, labels, n, statistics, bins, block)

    pool_block = pool.pool_block
    for name, value in SMALL_BLOCKS.items():
        monkeypatch.setattr(pool, name, value)
    monkeypatch.setattr(pool, "pool_block", counted)
    with Project.open(cells, executor=SerialExecutor()) as project:
        resumed = np.asarray(project.features().values).copy()
        assert not any((cells / "cache" / "scratch").iterdir())
        n_blocks = 1 + max(computed)
        # The rest of the first sigma, then all of the second.
        assert computed == [*sorted(set(range(n_blocks)) - kept), *range(n_blocks)]

        computed.clear()
        for entry in (cells / "cache").glob("features-*"):
            entry.rename(cells / f"old-{entry.name}")
    with Project.open(cells, executor=SerialExecutor()) as project:
        np.testing.assert_array_equal(resumed, project.features().values)
    assert len(computed) == 2 * n_blocks


def stopped(path: Path, key: str, values: list[int]) -> None:
    with scratch_folder(path, key) as scratch:
        if values:
            scratch.put("block-0", {"values": np.array(values)})
        assert scratch.get("block-0")["values"].tolist() == [1, 2]
        raise InterruptedError


def test_what_was_kept_under_other_settings_is_no_use(tmp_path: Path) -> None:
    for values in ([1, 2], []):  # the second time it is there
        with pytest.raises(InterruptedError):
            stopped(tmp_path / "scratch", "one", values)
    with scratch_folder(tmp_path / "scratch", "two") as scratch:
        assert not scratch.has("block-0")
    assert not any(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    scratch = Folder(tmp_path)
    scratch.put("block-0", {"values": np.arange(1000)})
    content = bytearray((tmp_path / "block-0.npz").read_bytes())
    content[:200] = bytes(200)  # as after a power cut
    (tmp_path / "block-0.npz").write_bytes(content)
    with pytest.raises(StorageError, match=r"block-0\.npz is damaged; delete it to compute it again"):
        scratch.get("block-0")


def test_the_context_of_a_large_table_is_computed_once(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with Project.open(cells, executor=SerialExecutor()) as project:
        project.configure(features={"context": 2, "regions": (1, 4)})
        whole = np.asarray(project.features().values).copy()
    computed = ["features of neighbours, step 1", "features of neighbours, step 2"]
    computed += ["features of the region, within 1 steps", "features of the region, within 4 steps"]
    for stages in (computed, []):
        told.clear()
        with Project.open(cells, progress=lambda name, done, _: told.append(name) if not done else None) as project:
            project.memory = 4 * whole.size  # of which the table may take a quarter
            values = project.features().values
            assert not isinstance(values, np.ndarray)
            np.testing.assert_array_equal(np.asarray(values), whole)
        assert told == stages


KILLED_EXPORT = """
import os, signal, sys
from voxloop.io import n5, zarr
from voxloop.project import Project

folder, target, how = sys.argv[1:]
zarr.CHUNK = n5._CHUNK = 8

def progress(name, finished, total):
    if name == "export supervoxels" and finished >= 20:
        if how == "stop":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGKILL)

with Project.open(folder, progress=progress) as project:
    project.export("supervoxels", target)
"""


@pytest.mark.parametrize(("suffix", "how"), [(".zarr", "kill"), (".zarr", "stop"), (".n5", "kill")])
def test_an_export_goes_on_at_the_block(cells: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, how: str) -> None:
    folder = cells.parent / "exports"
    folder.mkdir()
    target, other = folder / f"supervoxels{suffix}", folder / f"again{suffix}"
    command = [sys.executable, "-c", KILLED_EXPORT, str(cells), str(target), how]
    code = subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode
    assert code in (-signal.SIGKILL, -signal.SIGINT)
    assert not target.exists()
    (begun,) = folder.iterdir()
    kept = DoneLog(begun / ".done").done()
    assert 20 <= len(kept) < 72
    if suffix == ".zarr":  # as a process leaves it that is killed while it writes a chunk
        (begun / "0" / "c" / "0" / "3.0041c3e44367434eb3b7b942f566fdd6.partial").write_bytes(b"half")

    written: list[int] = []

    def counted(writer: Any, read: Any, box: Any, block: Block) -> None:
        written.append(block.index)
        write_block(writer, read, box, block)

    write_block = export._write_block
    monkeypatch.setattr(export, "_write_block", counted)
    monkeypatch.setattr(zarr, "CHUNK", 8)
    monkeypatch.setattr(n5, "_CHUNK", 8)
    with Project.open(cells, executor=SerialExecutor()) as project:
        project.export("supervoxels", target)
        assert written == sorted(set(range(72)) - kept)
        assert list(folder.iterdir()) == [target]
        assert not (target / ".done").exists()
        project.export("supervoxels", other)
    again, there = ({path.relative_to(top): path for path in top.rglob("*")} for top in (other, target))
    assert set(there) == set(again)
    for relative, path in there.items():
        if path.is_file():
            assert path.read_bytes().replace(b"supervoxels", b"again") == again[relative].read_bytes(), relative


def test_an_export_of_something_else_begins_anew(cells: Path) -> None:
    target = cells.parent / "labels.zarr"
    command = [sys.executable, "-c", KILLED_EXPORT, str(cells), str(target), "kill"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with Project.open(cells, executor=SerialExecutor()) as project:
        project.configure(slic={"compactness": 3.0})
        project.export("supervoxels", target)
        np.testing.assert_array_equal(open_volume(target).read()[0], project.supervoxels().labels)
    assert not [path for path in cells.parent.iterdir() if path.name.startswith(".labels")]


def test_a_log_counts_whole_lines_of_its_own_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DoneLog(tmp_path / "done")
    assert not log.is_of("one")
    log.start("one")
    log.note(3)
    log.note(15)
    (tmp_path / "done" / "blocks-other-1").write_bytes(b"7\n12")  # killed in the middle of 128
    assert log.done() == {3, 7, 15}
    assert log.is_of("one")
    assert not log.is_of("two")
    monkeypatch.setattr("psutil.boot_time", lambda: 0.0)
    assert not log.is_of("one")  # what was written may not have reached the disk
