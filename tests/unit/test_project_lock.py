"""One writer at a time, and a second one is told who that is."""

import getpass
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from voxloop.errors import ProjectError, ProjectInUseError, StorageError
from voxloop.project.storage import ProjectLock

HOLD = """
import sys, time
from voxloop.project.storage import ProjectLock
lock = ProjectLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_opener_is_told_who_holds_it(tmp_path: Path) -> None:
    with ProjectLock(tmp_path) as lock:
        assert lock.is_held
        with pytest.raises(ProjectInUseError, match="is in use by") as caught:
            ProjectLock(tmp_path).acquire()
        message = str(caught.value)
        for part in (repr(getpass.getuser()), repr(socket.gethostname()), f"process {os.getpid()}", " UTC"):
            assert part in message
        assert "\n" not in message
    assert not lock.is_held
    with ProjectLock(tmp_path):
        pass


def test_acquiring_twice_and_releasing_twice(tmp_path: Path) -> None:
    lock = ProjectLock(tmp_path)
    with lock, pytest.raises(ProjectError, match="already"):
        lock.acquire()
    lock.release()
    assert not lock.is_held


@pytest.mark.parametrize("note", [None, b"", b"{}", b'{"user": 3}', b"\xff"])
def test_without_a_readable_note_it_is_another_process(tmp_path: Path, note: bytes | None) -> None:
    with ProjectLock(tmp_path):
        (tmp_path / "project.lock.json").unlink()
        if note is not None:
            (tmp_path / "project.lock.json").write_bytes(note)
        with pytest.raises(ProjectInUseError, match="in use by another process"):
            ProjectLock(tmp_path).acquire()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot lock .*file: (Not a directory|File exists)"):
        ProjectLock(tmp_path / "file").acquire()


def test_without_the_note_there_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise StorageError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("voxloop.project.storage.write_atomically", fail)
        with pytest.raises(StorageError, match="No space left"):
            ProjectLock(tmp_path).acquire()
    with ProjectLock(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_a_killed_holder_does_not_block(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(ProjectInUseError, match=f"process {child.pid}"):
            ProjectLock(tmp_path).acquire()
        child.send_signal(signal.SIGKILL)
        child.wait()
        with ProjectLock(tmp_path):
            pass
