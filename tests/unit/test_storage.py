"""Writing that a crash cannot leave half done, and the versions of a project's document."""

import json
import os
import sys
import threading
from pathlib import Path

import pytest

from voxloop.errors import MissingFileError, ProjectError, ProjectVersionError, StorageError
from voxloop.io.atomic import folder_written_atomically, remove_leftovers, write_atomically
from voxloop.project.storage import read_document, write_document


def fail(*args: object, **kwargs: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open"])
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "project.json"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(StorageError, match=r"^cannot write .*project.json: No space left on device$"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which file a descriptor belongs to")
def test_the_file_is_synced_before_it_is_renamed_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "project.json"
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((Path(f"/proc/self/fd/{fd}").readlink(), path.exists())))
    write_atomically(path, b"new")
    (file, before), (folder, after) = synced
    assert file.name.endswith(".partial")
    assert (folder, before, after) == (tmp_path, False, True)


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a" / "entry"
    for content in ("one", "two"):
        with folder_written_atomically(path) as partial:
            (partial / "file").write_text(content)
            assert content == "two" or not path.exists()
        assert (path / "file").read_text() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_whose_writer_fails_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "entry"
    with pytest.raises(KeyboardInterrupt), folder_written_atomically(path) as partial:  # noqa: PT012
        (partial / "file").write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_block_are_not_mistaken_for_errors_of_writing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"input\.tif"), folder_written_atomically(tmp_path / "entry"):
        raise FileNotFoundError("input.tif")


def test_threads_that_finish_the_same_folder(tmp_path: Path) -> None:
    errors = []

    def write() -> None:
        try:
            for _ in range(20):
                with folder_written_atomically(tmp_path / "entry") as partial:
                    (partial / "file").write_text("whole")
        except Exception as error:  # handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (tmp_path / "entry" / "file").read_text() == "whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["entry"]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    folder = tmp_path / "folder"
    (folder / ".entry.01234567.partial").mkdir(parents=True)
    (folder / ".entry.01234567.partial" / "file").touch()
    (folder / ".project.json.89abcdef.partial").touch()
    (folder / ".link.89abcdef.partial").symlink_to(outside)
    for kept in ("project.json", "my.partial", ".hidden"):
        (folder / kept).touch()
    remove_leftovers(folder)
    assert {entry.name for entry in folder.iterdir()} == {"project.json", "my.partial", ".hidden"}
    assert (outside / "file").exists()


def test_a_document_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    document = {"schema_version": 1, "images": ["Größe µ"], "spacing": [0.1, 1.0]}
    write_document(path, document)
    before = path.read_bytes()
    assert read_document(path, version=1, migrations={}) == document
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_newer_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    write_document(path, {"schema_version": 3})
    with pytest.raises(
        ProjectVersionError, match=r"has schema version 3, but voxloop \S+ knows up to 2: update voxloop"
    ):
        read_document(path, version=2, migrations={})


MIGRATIONS = {
    1: lambda old: {"images": [old["image"]]},
    2: lambda old: {**old, "classes": []},
}


@pytest.mark.parametrize("read_only", [True, False])
def test_an_older_document_is_migrated_and_the_original_kept(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "project.json"
    original = b'{"schema_version": 1,\n "image": "cells.tif"}'
    path.write_bytes(original)
    expected = {"schema_version": 3, "images": ["cells.tif"], "classes": []}
    assert read_document(path, version=3, migrations=MIGRATIONS, read_only=read_only) == expected
    if read_only:
        assert path.read_bytes() == original
        assert list(tmp_path.iterdir()) == [path]
    else:
        assert json.loads(path.read_bytes()) == expected
        assert (tmp_path / "project.v1.json").read_bytes() == original
        assert read_document(path, version=3, migrations={}) == expected


def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "project.json"
    write_document(path, {"schema_version": 1, "image": "cells.tif"})
    before = path.read_bytes()
    with pytest.raises(ProjectError, match="cannot bring up to 4"):
        read_document(path, version=4, migrations=MIGRATIONS)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged"),
        (b'{"schema_version": 1', "is damaged"),
        (b"\xff", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"[1]", "must hold a JSON object, not a list"),
        (b"{}", "not None"),
        (b'{"schema_version": "1"}', "not '1'"),
        (b'{"schema_version": true}', "not True"),
        (b'{"schema_version": 0}', "not 0"),
    ],
)
def test_damaged_documents_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "project.json"
    path.write_bytes(content)
    with pytest.raises(ProjectError, match=message) as caught:
        read_document(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_missing_document(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"cannot read .*project.json: No such file"):
        read_document(tmp_path / "project.json")
