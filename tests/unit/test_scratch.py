"""Folders of intermediate results, and processes that are killed while they make or remove one."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from voxloop.errors import StorageError
from voxloop.io.atomic import partial_path
from voxloop.io.scratch import NOTE, Folder, Memory, scratch_folder


def test_what_was_put_is_found_under_the_same_key_only(tmp_path: Path) -> None:
    path = tmp_path / "scratch"
    for key, found in (("a", False), ("a", True), ("b", False)):
        with suppress(KeyboardInterrupt), scratch_folder(path, key) as folder:
            assert folder.has("x") is found
            folder.put("x", {"x": np.arange(3)})
            raise KeyboardInterrupt
    with scratch_folder(path, "b") as folder:
        assert folder.get("x")["x"].tolist() == [0, 1, 2]
    assert not path.exists()


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_arrays_to_write_to(kind: str, tmp_path: Path) -> None:
    scratch = Memory() if kind == "memory" else Folder(tmp_path)
    one, other = scratch.zeros((3, 5), np.int64), scratch.zeros((3, 5), np.int64)
    assert not one.any()
    one[1] = 7
    assert one.sum() == 35
    assert not other.any()
    assert scratch.zeros((0, 4), np.int32).shape == (0, 4)
    assert list(tmp_path.iterdir()) == []  # nothing is left when the process is killed


def test_no_space_for_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(StorageError, match="No space left"):
        Folder(tmp_path).zeros((3,), np.int64)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_some_of_the_arrays_under_a_name(kind: str, tmp_path: Path) -> None:
    scratch = Memory() if kind == "memory" else Folder(tmp_path)
    scratch.put("x", {"a": np.arange(3), "b": np.arange(4)})
    assert set(scratch.get("x")) == {"a", "b"}
    assert set(scratch.get("x", "b")) == {"b"}


def test_a_power_cut_left_holes(tmp_path: Path) -> None:
    path = tmp_path / "scratch"
    with suppress(KeyboardInterrupt), scratch_folder(path, "key") as folder:
        for name in ("whole", "holes"):
            folder.put(name, {"x": np.arange(1, 1001)})
        raise KeyboardInterrupt
    with (path / "holes.npz").open("r+b") as file:
        file.seek(4096)
        file.write(bytes(2048))
    with scratch_folder(path, "key") as folder:
        assert folder.has("whole")
        assert not folder.has("holes")


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((4, 5), ">f4")), np.zeros((0, 3)), np.array(5)]
)
def test_arrays_come_back_as_they_were(array: np.ndarray, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.put("x", {"before": np.arange(3, dtype=np.uint8), "x": array})
    found = folder.get("x")["x"]
    np.testing.assert_array_equal(found, array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_killed_before_the_note_was_written(tmp_path: Path) -> None:
    path = tmp_path / "scratch"
    path.mkdir()
    partial_path(path / NOTE).write_bytes(b"half")
    with scratch_folder(path, "key") as folder:
        assert [file.name for file in folder.path.iterdir()] == [NOTE]


@pytest.mark.parametrize("n_removed", range(4))
def test_killed_while_it_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_removed: int) -> None:
    path = tmp_path / "scratch"
    unlink, left = Path.unlink, [n_removed]

    def unlink_some(file: Path, missing_ok: bool = False) -> None:
        if file.exists() and file.parent == path:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
        unlink(file, missing_ok=missing_ok)

    with suppress(KeyboardInterrupt), scratch_folder(path, "key") as folder:
        for name in "abc":
            folder.put(name, {"x": np.arange(3)})
        monkeypatch.setattr(Path, "unlink", unlink_some)
    monkeypatch.undo()
    assert len(list(path.iterdir())) == 4 - n_removed
    with scratch_folder(path, "another key") as folder:
        assert [file.name for file in folder.path.iterdir()] == [NOTE]
    assert not path.exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match="no scratch folder of voxloop"), scratch_folder(tmp_path, "key"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
