"""Commands that are killed at any moment, or stopped by Ctrl-C: nothing is lost, nothing is half there."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from voxloop.cli.main import main
from voxloop.project import Project

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork, SIGINT and SIGKILL are POSIX")

# Imports and compiles once, then forks a process per command.
SERVER = """
import json, os, signal, sys, time
from voxloop.blocks import SerialExecutor
from voxloop.cli.main import main
from voxloop.project import warm_up

warm_up(executor=SerialExecutor())
os.write(1, b"ready\\n")
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        out = os.open(job["out"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        try:
            code = main(job["command"])
        except SystemExit as exit_:
            code = exit_.code
        sys.stdout.flush()
        os._exit(code)
    if job["kill_after"] is not None:
        time.sleep(job["kill_after"])
        os.kill(pid, signal.SIGKILL)  # nobody else's: until it is waited for, its number is taken
    _, status = os.waitpid(pid, 0)
    os.write(1, f"{os.waitstatus_to_exitcode(status)}\\n".encode())
"""


class Server:
    """Runs commands as processes of their own."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self._process, self._out = process, out
        assert self._read() == "ready"

    def run(self, *command: object, kill_after: float | None = None) -> tuple[int, str]:
        """Return the exit code, -9 for killed, and what the command printed."""
        job = {"command": [str(part) for part in command], "out": str(self._out), "kill_after": kill_after}
        self._out.unlink(missing_ok=True)
        print(json.dumps(job), file=self._process.stdin, flush=True)
        return int(self._read()), self._out.read_text() if self._out.exists() else ""

    def _read(self) -> str:
        line = self._process.stdout.readline()
        assert line, "the server died"
        return line.strip()


@contextmanager
def server(out: Path) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield Server(process, out)
        finally:
            process.stdin.close()
            process.wait(60)


def undisturbed(folder: Path, fresh: Path) -> bytes:
    """Return the bytes of the segmentation that a project without cache and models leads to."""
    shutil.copytree(folder, fresh, ignore=lambda *_: ("cache", "models", "project.lock", "project.lock.json"))
    assert main(["run", str(fresh), "--export", f"uncertainty={fresh}.npy"]) == 0
    return Path(f"{fresh}.npy").read_bytes()


def kill_many(cells: Path, n_kills: int) -> None:
    rng = random.Random(n_kills)
    project, table = cells / "cells.voxloop", cells / "p.csv"
    acknowledged, killed = 0, 0
    with Project.open(project, read_only=True) as opened:
        n_events = opened.annotations.n_events
    with server(cells / "out.txt") as commands:
        longest = {"label": 0.05, "run": 0.5, "export": 0.5}  # seconds; follows what this machine needs
        for number in range(n_kills):
            z, y, x = rng.randrange(16), rng.randrange(48), rng.randrange(44)
            name = rng.choice(("background", "mitochondria"))
            table.write_text("z,y,x,class\n" + "".join(f"{z},{y},{x + i},{name}\n" for i in range(4)))
            export = cells / f"u{number}.npy"
            kind = ("label", "run", "export")[number % 3]
            command = {
                "label": ("label", project, "--points", table, "--json"),
                "run": ("run", project, "--threads", 1 + number % 2, "--export", f"uncertainty={export}"),
                "export": ("export", project, "uncertainty", export),
            }[kind]
            if number % 6 == 1:
                shutil.rmtree(project / "cache", ignore_errors=True)
            delay = rng.uniform(0, longest[kind])
            code, out = commands.run(*command, kill_after=delay)
            assert code in (0, -9), out
            killed += code == -9
            if code == 0:
                longest[kind] = delay  # it was done by then: nothing later would hit it
            acknowledged += kind == "label" and out.endswith("}\n")
            with Project.open(project, read_only=True) as opened:
                found = opened.annotations.n_events - n_events
                assert found >= acknowledged, "an acknowledged stroke is gone"
                assert found <= number // 3 + 1
                acknowledged = found  # what is on the disk now stays there
            if export.exists():
                whole = np.load(export)
                assert whole.shape == (16, 48, 48)
                assert np.isfinite(whole).all()
        assert killed >= 3, "too few commands were hit: the delays are too long"
        code, out = commands.run("run", project, "--export", f"uncertainty={cells / 'last.npy'}")
        assert code == 0, out
    with Project.open(project) as opened:
        assert opened.is_current("prediction")
    assert not list(project.rglob("*.partial"))
    assert (cells / "last.npy").read_bytes() == undisturbed(project, cells / "fresh.voxloop")


def test_killed_commands(cells: Path) -> None:
    kill_many(cells, 15)


@pytest.mark.slow
def test_killed_commands_often(cells: Path) -> None:
    kill_many(cells, 100)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages take long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("large")
    np.save(folder / "noise.npy", np.random.default_rng(0).integers(0, 255, (64, 192, 192), np.uint8))
    assert main(["new", str(folder / "large.voxloop"), str(folder / "noise.npy")]) == 0
    return folder / "large.voxloop"


@pytest.mark.parametrize(
    ("command", "begun"),
    [("supervoxels", "supervoxels-0/.*"), pytest.param("features", "features-0-0_3/*", marks=pytest.mark.slow)],
)
def test_interrupt(large: Path, command: str, begun: str) -> None:
    if command == "supervoxels":
        shutil.rmtree(large / "cache", ignore_errors=True)
    # A shell that starts tests in the background has them, and all their children, ignore Ctrl-C.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from voxloop.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, command, large], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not list((large / "cache").glob(begun)):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (out, err) == ("", "voxloop: stopped; what was finished is kept\n")
    assert not list(large.rglob("*.partial"))
    with Project.open(large) as project:
        assert project.state_of("features") != "ready"
        kept = project.state_of("supervoxels") == "ready"
    assert kept == (command == "features")
