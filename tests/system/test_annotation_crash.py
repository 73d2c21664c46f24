"""Whatever kills the process, and when: what was acknowledged is there, and nothing is half there."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.annotations import StrokeRow
from voxloop.project.cache import ArrayCache
from voxloop.project.storage import ProjectLock, read_document

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL are POSIX")

SHAPE = (1, 600, 50)

# Forks a worker per line of input, which writes and acknowledges until it is killed; so the imports are done once. All
# write to one pipe, so "dead" comes after the last acknowledgement.
CHILD = """
import os, sys
from pathlib import Path
import numpy as np
from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.annotations import ClassAdded, Stroke
from voxloop.project.cache import ArrayCache
from voxloop.project.storage import ProjectLock, write_document

def acknowledge(what, number):
    os.write(1, f"{what} {number}\\n".encode())

def work(folder, first):
    ProjectLock(folder).acquire()
    log = AnnotationLog.open(folder / "annotations.jsonl", [(1, 600, 50)])
    cache = ArrayCache(folder / "cache")
    if log.annotations.n_events == 0:
        log.append(ClassAdded(class_id=1, name="cell", color="#ff0000"))
        acknowledge("event", 1)
    for number in range(first, 10**9):
        seq = log.annotations.n_events + 1
        rows = np.arange(1 + seq * 37 % 600)[:, np.newaxis]
        runs = np.concatenate([0 * rows, rows, 0 * rows, 0 * rows + 1 + seq % 50], axis=1)
        log.append(Stroke(image=0, class_id=1, runs=runs))
        acknowledge("event", seq)
        arrays = {"a": np.full(50_000, number), "b": np.full((3, 7), number)}
        cache.put("table", f"{number:08x}", arrays, meta={"n": number})
        acknowledge("cache", number)
        write_document(folder / "project.json", {"schema_version": 1, "number": number, "padding": "x" * 20_000})
        acknowledge("document", number)

for line in sys.stdin:
    folder, first = line.rsplit(" ", 1)
    pid = os.fork()
    if pid == 0:
        try:
            work(Path(folder), int(first))
        except BaseException as error:
            os.write(1, f"failed {error!r}\\n".encode())
        os._exit(1)
    acknowledge("pid", pid)
    os.waitpid(pid, 0)
    os.write(1, b"dead\\n")
"""


@contextmanager
def child_process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def run_and_kill(child: subprocess.Popen[str], folder: Path, *, first: int, after: int, delay: float) -> dict[str, int]:
    """Kill a worker `delay` seconds after so many lines; return the last number acknowledged of each kind."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{folder} {first}\n")
    acknowledged: dict[str, int] = {}
    for n_lines, line in enumerate(child.stdout):
        if line == "dead\n":
            del acknowledged["pid"]
            return acknowledged
        kind, number = line.split(maxsplit=1)
        assert kind != "failed", number
        acknowledged[kind] = int(number)
        if n_lines >= after and after >= 0 and "pid" in acknowledged:
            time.sleep(delay)
            os.kill(acknowledged["pid"], signal.SIGKILL)
            after = -1
    raise AssertionError("the child process ended")


def check_events(folder: Path, acknowledged: int) -> int:
    """Check that each acknowledged event is there, with at most one more; return how many there are."""
    with AnnotationLog.open(folder / "annotations.jsonl", [SHAPE]) as log:
        n_events = log.annotations.n_events
        assert acknowledged <= n_events <= acknowledged + 1
        rows: tuple[StrokeRow, ...] = log.annotations.strokes
        assert [row.seq for row in rows] == list(range(2, n_events + 1))
        assert [row.n_voxels for row in rows] == [(1 + s * 37 % 600) * (1 + s % 50) for s in range(2, n_events + 1)]
    return n_events


def check_cache(folder: Path, acknowledged: int, next_number: int) -> int:
    """Check that the entry acknowledged last is whole, or the one in the making; return its number."""
    cache = ArrayCache(folder / "cache")
    assert not list((folder / "cache").rglob(".*"))
    found = [n for n in (acknowledged, next_number) if cache.get("table", f"{n:08x}") is not None]
    assert found or acknowledged == 0
    for number in found:
        entry = cache.get("table", f"{number:08x}")
        assert entry is not None
        assert entry.meta == {"n": number}
        assert np.array_equal(entry.arrays["a"], np.full(50_000, number))
        assert np.array_equal(entry.arrays["b"], np.full((3, 7), number))
    return max(found, default=0)


def check_document(folder: Path, acknowledged: int, next_number: int) -> int:
    """Check that the document is the one acknowledged last, or the one in the making; return its number."""
    path = folder / "project.json"
    if acknowledged == 0 and not path.exists():
        return 0
    document = read_document(path)
    assert document["number"] in (acknowledged, next_number)
    return int(document["number"])


def kill_again_and_again(tmp_path: Path, *, times: int, seed: int) -> None:
    choice = random.Random(seed)
    last = {"event": 0, "cache": 0, "document": 0}
    with child_process() as child:
        for round_number in range(times):
            if round_number % 20 == 0:
                folder = tmp_path / f"cells {round_number}.voxloop"
                folder.mkdir()
                last = dict.fromkeys(last, 0)
            first = max(last["cache"], last["document"]) + 1
            # Right away hits the opening; some lines later, the writing.
            after, delay = choice.choice([0, 2, 8]), choice.random() * 0.01
            acknowledged = run_and_kill(child, folder, first=first, after=after, delay=delay)
            last |= acknowledged
            with ProjectLock(folder):
                if (folder / "annotations.jsonl").exists():
                    last["event"] = check_events(folder, last["event"])
                last["cache"] = check_cache(folder, last["cache"], acknowledged.get("cache", first - 1) + 1)
                last["document"] = check_document(folder, last["document"], acknowledged.get("document", first - 1) + 1)
    assert last["event"] > 1
    assert last["cache"] > 0


def test_killed_forty_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kill_again_and_again(tmp_path, times=40, seed=0)
    assert caplog.records == []  # no entry was there and damaged


@pytest.mark.slow
def test_killed_three_hundred_times(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kill_again_and_again(tmp_path, times=300, seed=1)
    assert caplog.records == []
