"""A full disk costs the edit that did not fit, and nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# In a process of its own: what goes wrong here is a signal (SIGXFSZ, or SIGBUS from a memory map) that kills.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from voxloop.errors import StorageError
from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.annotations import ClassAdded, Stroke
from voxloop.project.cache import ArrayCache
from voxloop.io.atomic import write_atomically
from voxloop.project.storage import ProjectLock

kind, folder = sys.argv[1], Path(sys.argv[2])
filler = folder / "filler"

def fill():
    if kind == "limit":
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    else:
        with filler.open("wb", buffering=0) as file, __import__("contextlib").suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass

def free():
    if kind == "limit":
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        filler.unlink()

def refused(call, *args):
    try:
        call(*args)
    except StorageError as error:
        assert "\\n" not in str(error) and "cannot write" in str(error), error
        print(error)
    else:
        raise AssertionError("there was space")

def state(log):
    return log.annotations.n_events, log.annotations.strokes, log.annotations.labelled_voxels(0)[0].tolist()

runs = [[0, y, 0, 1 + y % 7] for y in range(300)]  # some 4 kB of JSON
log = AnnotationLog.open(folder / "annotations.jsonl", [(1, 300, 10)])
log.append(ClassAdded(class_id=1, name="cell", color="#ff0000"))
log.append(Stroke(image=0, class_id=1, runs=runs))
write_atomically(folder / "project.json", b"old")
cache = ArrayCache(folder / "cache")
cache.put("table", "0" * 16, {"a": np.arange(10)})
if kind == "disk":
    refused(cache.put, "table", "2" * 16, {"a": np.ones(100_000)})  # there is room for its header, not for all of it

fill()
for _ in range(60):
    before = state(log), log.path.read_bytes()
    try:
        log.append(Stroke(image=0, class_id=1, runs=runs))
    except StorageError:
        break
else:
    raise AssertionError("there was space")
for _ in range(3):
    refused(log.append, Stroke(image=0, class_id=1, runs=runs))
    assert (state(log), log.path.read_bytes()) == before
refused(write_atomically, folder / "project.json", bytes(200_000))
refused(cache.put, "table", "1" * 16, {"a": np.ones(100_000)})
assert (folder / "project.json").read_bytes() == b"old"
assert cache.get("table", "0" * 16).arrays["a"].tolist() == list(range(10))
assert not list(folder.rglob("*.partial"))

free()
log.append(Stroke(image=0, class_id=1, runs=[[0, 0, 8, 10]]))
write_atomically(folder / "project.json", b"new")
cache.put("table", "1" * 16, {"a": np.ones(10)})
expected = state(log)
log.close()
log = AnnotationLog.open(folder / "annotations.jsonl", [(1, 300, 10)])
assert state(log) == expected and log.recovered is None
log.close()
print("all is well")
"""


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs takes root on Linux")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def run(kind: str, folder: Path) -> str:
    result = subprocess.run([sys.executable, "-c", SCRIPT, kind, folder], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("all is well\n")
    return result.stdout


def test_full_disk(tiny_disk: Path) -> None:
    assert "No space left on device" in run("disk", tiny_disk)


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_file_size_limit(tmp_path: Path) -> None:
    assert "File too large" in run("limit", tmp_path)
