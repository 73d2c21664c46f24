"""The guide to a cluster, command by command: a scheduler, two workers, and the whole job."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from voxloop.cli.main import main
from voxloop.io import open_volume

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "cluster.md"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default::ResourceWarning")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def commands() -> list[list[str]]:
    """Return the guide's shell commands, with a port that is free."""
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    text = "".join(blocks).replace("8786", str(free_port()))
    return [shlex.split(line) for line in text.splitlines()]


@contextmanager
def running(command: list[str]) -> Iterator[None]:
    """Run a command of Dask in the background until the end."""
    arguments = [str(Path(sys.executable).with_name("dask")), *command[1:]]
    if command[1] == "scheduler":
        arguments += ["--dashboard-address", ":0"]  # 8787 may be taken on this machine
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_the_guide(cells: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(cells)
    Path("points.csv").write_text("z,y,x,class\n0,0,0,background\n")
    shutil.copytree("cells.voxloop", "here.voxloop")
    assert main(["label", "here.voxloop", "--points", "points.csv"]) == 0
    assert main(["run", "here.voxloop", "--export", "segmentation=here.zarr"]) == 0
    shutil.rmtree("cells.voxloop/cache")
    done = []
    with ExitStack() as background:
        for command in commands():
            if command[0] == "dask":
                background.enter_context(running(command))
            else:
                assert main(command[1:]) == 0, capsys.readouterr().err
            done.append(command[:2])
    assert done.count(["dask", "worker"]) == 2
    assert [name for program, name in done if program == "voxloop"] == ["supervoxels", "features", "label", "run"]
    ours, expected = (np.asarray(open_volume(name).data) for name in ("cells-segmented.zarr", "here.zarr"))
    np.testing.assert_array_equal(ours, expected)
