"""How much memory work may take, and what follows from it."""

from __future__ import annotations

import threading
import time
from math import prod
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxloop.blocks import SerialExecutor, ThreadExecutor, free_memory, memory_budget, within_memory
from voxloop.cli.main import main
from voxloop.errors import InputError
from voxloop.features import compute_scale
from voxloop.io.writers import Header, _slab_shape
from voxloop.project import Project
from voxloop.volume import Volume


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("2GB", 2_000_000_000),
        ("2 GB", 2_000_000_000),
        (" 500mb ", 500_000_000),
        ("1.5GiB", 3 * 2**29),
        ("1t", 10**12),
        ("3000000", 3_000_000),
        ("1024kib", 2**20),
        (10**9, 10**9),
        (np.int64(10**9).item(), 10**9),
    ],
)
def test_sizes(text: int | str, n_bytes: int) -> None:
    assert memory_budget(text) == n_bytes


@pytest.mark.parametrize(
    "nonsense", ["", "GB", "lots", "-2GB", "2XB", "1e9", "nan", "9" * 400 + "GB", True, 2.5, b"2GB"]
)
def test_no_size(nonsense: object) -> None:
    with pytest.raises(InputError, match="memory must be a size such as '2GB' or '500MB', not"):
        memory_budget(nonsense)  # type: ignore[arg-type]


@pytest.mark.parametrize("too_little", ["2", 0, "999KB", -5])
def test_somebody_forgot_the_unit(too_little: int | str) -> None:
    with pytest.raises(InputError, match="memory must be"):
        memory_budget(too_little)


@given(st.one_of(st.integers(), st.text(max_size=12)))
def test_a_budget_or_one_clear_line(memory: int | str) -> None:
    message = ""
    try:
        assert memory_budget(memory) >= 1_000_000
    except InputError as error:
        message = str(error)
    assert "\n" not in message


def test_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxloop.blocks.free_memory", lambda: 8_000_000_000)
    assert memory_budget(None) == 4_000_000_000
    monkeypatch.setattr("voxloop.blocks.free_memory", lambda: 0)
    assert memory_budget(None) > 0


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"cgroup": "1:name=old:/\n0::/job\n", "memory.max": "3000000", "memory.current": "1000000"}
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: texts.get(path.name) or read(path, *a, **k))
    assert free_memory() == 2_000_000
    texts["memory.max"] = "max"
    assert 2_000_000 < free_memory() <= psutil.virtual_memory().total


def test_as_many_at_a_time_as_fit() -> None:
    threads = ThreadExecutor(8)
    assert within_memory(threads, memory=10, item_bytes=4).n_workers == 2
    assert within_memory(threads, memory=10, item_bytes=11).n_workers == 1
    assert within_memory(threads, memory=1000, item_bytes=1).n_workers == 8
    assert within_memory(SerialExecutor(), memory=1000, item_bytes=1).n_workers == 1


def test_a_small_budget_runs_fewer_blocks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def watched(*arguments: object) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return pool(*arguments)  # type: ignore[arg-type]

    from voxloop.features import pool as module

    pool = module.pool_block
    monkeypatch.setattr(module, "pool_block", watched)
    volume = Volume.from_array(np.random.default_rng(0).integers(0, 255, (32, 64, 64), np.uint8))
    labels = np.arange(volume.n_voxels).reshape(volume.shape) // 4096 + 1
    settings = {"block_shape": (16, 32, 32), "executor": ThreadExecutor(4)}
    wide = compute_scale(volume, labels, 32, 0.7, memory="1GB", **settings)  # type: ignore[arg-type]
    assert most > 1
    most = 0
    narrow = compute_scale(volume, labels, 32, 0.7, memory="1MB", **settings)  # type: ignore[arg-type]
    assert most == 1
    np.testing.assert_array_equal(wide.values, narrow.values)


@pytest.mark.parametrize("axes", ["zyx", "xyz"])
def test_blocks_of_a_wide_file_are_small(axes: str) -> None:
    header = Header(Path("wide.npy"), (5, 40_000, 60_000), np.dtype(np.uint32), axes=axes)
    shape = _slab_shape(header)
    assert 2**22 < prod(shape) * 4 <= 2**23


def test_a_project_knows_its_budget(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Project.open(cells / "cells.voxloop", memory="300MB") as project:
        assert project.memory == 300_000_000
    assert main(["features", str(cells / "cells.voxloop"), "--memory", "2GB"]) == 0
    capsys.readouterr()
    assert main(["run", str(cells / "cells.voxloop"), "--memory", "much"]) == 2
    assert capsys.readouterr().err == "voxloop: memory must be a size such as '2GB' or '500MB', not 'much'\n"
