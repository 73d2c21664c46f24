"""`voxloop napari` as a process of its own, on a display with a window manager and a mouse moved from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from voxloop.project import Project

MISSING = [program for program in ("Xvfb", "openbox", "xdotool") if shutil.which(program) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (tools/setup dev installs them)"),
]

SCREEN = (1400, 900)
BLUE = (0x56, 0xB4, 0xE9)  # the first class of a new project


class Screen:
    """A display of its own, with a window manager and a mouse."""

    def __init__(self, folder: Path) -> None:
        read, write = os.pipe()
        size = "x".join(map(str, (*SCREEN, 24)))
        options = ["-screen", "0", size, "+extension", "GLX", "+render", "-noreset", "-displayfd", str(write)]
        self._processes = [self._start(["Xvfb", *options], pass_fds=(write,))]
        os.close(write)
        with os.fdopen(read) as pipe:
            self.name = f":{pipe.readline().strip()}"
        self.environment = {
            **os.environ,
            "DISPLAY": self.name,
            "HOME": str(folder),
            "NAPARI_CONFIG": str(folder / "napari.yaml"),
            "QT_QPA_PLATFORM": "xcb",
        }
        self._processes.append(self._start(["openbox"], env=self.environment))

    def run(self, project: Path) -> subprocess.Popen[bytes]:
        """Start the program on a project."""
        command = [sys.executable, "-m", "voxloop", "napari", str(project)]
        self._processes.append(self._start(command, env=self.environment))
        return self._processes[-1]

    def mouse(self, *arguments: object) -> None:
        """Do what `xdotool` is told."""
        subprocess.run(["xdotool", *map(str, arguments)], env=self.environment, check=True, timeout=30)

    def fill(self, title: str) -> None:
        """Wait for a window and make it as large as the screen."""
        find = ["xdotool", "search", "--sync", "--onlyvisible", "--name", title]
        found = subprocess.run(find, env=self.environment, check=True, timeout=120, capture_output=True, text=True)
        window = found.stdout.split()[0]
        self.mouse("windowmove", window, 0, 0)
        self.mouse("windowsize", window, *SCREEN)

    def count(self, color: tuple[int, int, int]) -> int:
        """Return how many pixels have a colour, or nearly."""
        from PIL import ImageGrab

        pixels = np.asarray(ImageGrab.grab(xdisplay=self.name).convert("RGB")).astype(int)
        return int((np.abs(pixels - color).max(axis=-1) <= 30).sum())

    def close(self) -> None:
        """End what runs on it, the display last."""
        for process in reversed(self._processes):
            process.kill()
            process.wait(30)

    def _start(self, command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    home = tmp_path / "home"
    home.mkdir()
    made = Screen(home)
    yield made
    made.close()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something holds that happens in another process."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"still not so after {seconds} s"
        time.sleep(0.2)


def strokes(project: Path) -> int:
    """Return how many strokes are on the disk."""
    with Project.open(project, read_only=True) as opened:
        return len(opened.annotations.strokes)


def draw(screen: Screen, y: int, *, let_go: bool = True) -> None:
    """Draw from left to right in the middle of the canvas, `y` pixels from the top."""
    screen.mouse("mousemove", 600, y, "mousedown", 1)
    for x in range(610, 710, 10):
        screen.mouse("mousemove", x, y)
    if let_go:
        screen.mouse("mouseup", 1)


def test_killed_in_mid_stroke_and_started_again(screen: Screen, project_folder: Path) -> None:
    victim = screen.run(project_folder)
    screen.fill("voxloop")

    def first_stroke() -> bool:
        draw(screen, 380)
        return strokes(project_folder) > 0

    until(first_stroke)  # the window is there before the project is open
    n = strokes(project_folder)
    draw(screen, 430)
    until(lambda: strokes(project_folder) == n + 1)
    finished = screen.count(BLUE)
    draw(screen, 480, let_go=False)
    until(lambda: screen.count(BLUE) > finished)  # its ink is on the screen
    victim.kill()
    assert victim.wait(30) == -signal.SIGKILL
    screen.mouse("mouseup", 1)
    assert strokes(project_folder) == n + 1
    with Project.open(project_folder, read_only=True) as project:
        labelled, _ = project.annotations.labelled_voxels(0)

    screen.run(project_folder)
    screen.fill("voxloop")

    def shown_again() -> bool:
        screen.mouse("key", "ctrl+r")  # the image fills the canvas, however large the window was when it was opened
        return screen.count(BLUE) > finished / 2

    until(shown_again)
    draw(screen, 530)
    until(lambda: strokes(project_folder) > n + 1)  # and it goes on
    with Project.open(project_folder, read_only=True) as project:
        assert np.isin(labelled, project.annotations.labelled_voxels(0)[0]).all()
