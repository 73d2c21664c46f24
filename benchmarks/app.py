"""How long somebody at the app waits: a real window, real mouse events, 128 x 512 x 512 voxels in 20,000 supervoxels.

`python -m benchmarks.app` prints a table; without a display, in `xvfb-run -a -s "-screen 0 1600x1000x24" python ...`.
`--folder` keeps the project, which takes minutes to compute, for the next run; `--only` runs a part.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.gigavoxel import mirrored, source
from voxloop.project import Project

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' hands
os.environ.setdefault("NAPARI_CONFIG", str(Path(tempfile.gettempdir()) / "voxloop-benchmark-settings.yaml"))

SHAPE, N_SUPERVOXELS = (128, 512, 512), 20_000
MAPPED_SHAPE = (256, 2048, 2048)
N_STROKES = 200
HEADER = "| | goal | wall, median | worst | CPU, median |\n|---|--:|--:|--:|--:|"


@dataclass
class Times:
    """How often something was done, and the seconds of each: by the clock, and of all threads of the process."""

    wall: list[float]
    cpu: list[float]

    def row(self, name: str, goal: str) -> str:
        """Return a row of the table, in milliseconds."""
        wall, cpu = (1000 * statistics.median(values) for values in (self.wall, self.cpu))
        return f"| {name} | {goal} | {wall:.0f} ms | {1000 * max(self.wall):.0f} ms | {cpu:.0f} ms |"


@contextmanager
def timed(times: Times) -> Iterator[None]:
    """Add what happens inside to `times`."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    times.wall.append(time.perf_counter() - wall)
    times.cpu.append(time.process_time() - cpu)


def prepare(folder: Path, shape: Sequence[int], n_supervoxels: int) -> Path:
    """Return a project whose features are computed, with a mirrored real image and a few labels; made if missing."""
    path = folder / "cells.voxloop"
    if not path.is_dir():
        name, image, truth = source()
        planes = np.ix_(*(mirrored(n, length) for n, length in zip(shape, image.shape, strict=True)))
        image, truth = image[planes], truth[planes]
        print(f"preparing {name}, {' x '.join(map(str, shape))} ...", file=sys.stderr, flush=True)
        np.save(folder / "cells.npy", image)
        with Project.create(path, folder / "cells.npy", classes=["background", "mitochondria"]) as project:
            rng = np.random.default_rng(0)
            for class_id in (1, 2):
                inside = np.argwhere(truth == class_id)
                project.paint(class_id, inside[rng.choice(len(inside), 60, replace=False)])
    with Project.open(path) as project:
        project.configure(slic={"n_segments": n_supervoxels})
        project.features()
        project.extent()
    return path


class Benchmark:
    """The window with the project open, and what is measured in it; each method prints its rows."""

    def __init__(self, desk: Any, shape: Sequence[int]) -> None:
        self.desk = desk
        self.controller = desk.controller
        self.shape = shape
        self.rng = np.random.default_rng(1)

    def labelling(self) -> None:
        """Ink under the brush; a stroke until the slice, then everything, is predicted anew."""
        press, ink, visible, everything = (Times([], []) for _ in range(4))
        for number in range(12):
            self._go_to_slice(number)
            start, *others = self._stroke()
            self.controller.press_digit(1 + number % 2)
            self.desk.mouse("Move", start, pressed=False)
            with timed(press):
                self.desk.mouse("Press", start)
            for voxel in others:
                with timed(ink):
                    self.desk.mouse("Move", voxel)
            before = self.controller.updated_at
            with timed(everything):
                with timed(visible):
                    self.desk.mouse("Release", others[-1])
                    self.desk.until(lambda before=before: self.controller.updated_at != before)
                    self.desk.application.processEvents()
                self.desk.updated()
        print(press.row("press of the brush", "100 ms"))
        print(ink.row("ink, a move of the brush", "100 ms"))
        print(visible.row("stroke to the prediction of the slice", "1 s"))
        print(everything.row("stroke to the prediction of everything", "2 s"))

    def slices(self) -> None:
        """A change of the slice, in the three directions."""
        for axis, name in enumerate(("xy", "xz", "yz")):
            self.controller.view_along(axis)
            self.desk.application.processEvents()
            times = Times([], [])
            for number in range(12):
                with timed(times):
                    self._go_to_slice(number, axis)
            print(times.row(f"change of the slice, {name}", "200 ms CPU"))
        self.controller.view_along(0)

    def refresh(self) -> None:
        """A prediction shown in the layers, before anything is drawn."""
        times = Times([], [])
        for _ in range(12):
            with timed(times):
                self.controller.layers.show_result(self.controller.result)
            self.desk.application.processEvents()
        print(times.row("prediction into the layers, undrawn", "10 ms"))

    def preview(self) -> None:
        """Supervoxels of a slab of 32 x 256 x 256 around the slice."""
        times = Times([], [])
        for number in range(6):
            self._go_to_slice(number)
            with timed(times):
                self.controller.previews.supervoxels()
                self._until_idle(self.controller.previews)
        self.controller.previews.clear()
        print(times.row("preview of supervoxels, 32 x 256 x 256", "500 ms"))

    def suggestions(self) -> None:
        """The next slice, the next plane, a review."""
        for name, guide in (("slice", self.controller.slices), ("plane", self.controller.plane)):
            times, held = Times([], []), Times([], [])
            for _ in range(5):
                with timed(times):
                    with timed(held):
                        guide.suggest()
                    self._until_idle(guide)
            print(times.row(f"suggestion of a {name}", "500 ms"))
            print(held.row(f"suggestion of a {name}: what the window waits for", "50 ms"))
        self.controller.plane.close_patch()
        times = Times([], [])
        for _ in range(3):
            with timed(times):
                self.controller.review.toggle()
                self.desk.application.processEvents()
            self.controller.review.toggle()
        print(times.row("first question of a review", "500 ms"))

    def cancel(self) -> None:
        """A job that is stopped in the middle."""
        stages: list[str] = []
        specs = self.controller.project.specs
        self.controller.job_changed.connect(lambda state: stages.append(state.stage))
        for name, choice in (
            ("supervoxels", {"slic": {"n_segments": 15_000}}),
            ("features", {"slic": {"n_segments": N_SUPERVOXELS}, "features": {"sigmas": (2.0, 4.0)}}),
        ):
            times = Times([], [])
            for _ in range(3):
                self.controller.configure(**choice)
                stages.clear()
                self.controller.compute("supervoxels" if name == "supervoxels" else "features")
                self.desk.until(lambda: any(stages) or not self.controller.is_busy, timeout=600)
                end = time.monotonic() + 1
                self.desk.until(lambda end=end: time.monotonic() > end)
                with timed(times):
                    self.controller.cancel()
                    self.desk.until(lambda: not self.controller.is_busy)
            print(times.row(f"cancel while {name} are computed", "500 ms"))
        self.controller.configure(slic=specs.slic, features=specs.features)

    def strokes(self) -> None:
        """Memory after many strokes with their updates."""
        process, sizes = psutil.Process(), []
        for number in range(N_STROKES):
            self._go_to_slice(number)
            self.controller.press_digit(1 + number % 2)
            self.desk.stroke(*self._stroke())
            self.desk.updated()
            if number in (N_STROKES // 5, N_STROKES - 1):
                gc.collect()
                sizes.append(process.memory_info().rss)
        growth = f"{sizes[1] / sizes[0] - 1:+.1%} of {sizes[0] / 1e6:.0f} MB"
        print(f"| memory, stroke {N_STROKES // 5} to {N_STROKES} | 5 % | {growth} | | |")

    # Behind the scenes

    def _go_to_slice(self, number: int, axis: int = 0) -> None:
        at = (7 + 11 * number) % self.shape[axis]
        self.desk.viewer.dims.set_point(axis, at * self.controller.layers.labels.scale[axis])
        self.desk.application.processEvents()

    def _stroke(self) -> list[tuple[float, float, float]]:
        z = int(self.desk.viewer.dims.current_step[0])
        y, x = self.rng.integers(60, [n - 100 for n in self.shape[1:]])
        return [(z, int(y), int(x) + 3 * step) for step in range(8)]

    def _until_idle(self, guide: Any) -> None:
        self.desk.until(lambda: not guide.is_busy)
        self.desk.application.processEvents()


def mapped(folder: Path, make: Callable[[], Any]) -> None:
    """A volume of 1 GiB that stays on the disk, read anew for each slice."""
    from voxloop.app import layers

    path = folder / "large.npy"
    if not path.exists():
        rng = np.random.default_rng(0)
        voxels = np.lib.format.open_memmap(path, "w+", np.uint8, MAPPED_SHAPE)
        for z in range(MAPPED_SHAPE[0]):
            voxels[z] = rng.integers(0, 255, MAPPED_SHAPE[1:], np.uint8)
        voxels.flush()
    layers._IN_MEMORY_BYTES = 0
    desk = make()
    desk.dock.open_path(str(path))
    desk.until(lambda: desk.controller.project is not None and not desk.controller.is_busy)
    for axis, name in ((0, "xy"), (1, "xz")):
        desk.controller.view_along(axis)
        desk.application.processEvents()
        times = Times([], [])
        for number in range(8):
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # what was read before does not count
            with timed(times):
                desk.viewer.dims.set_point(axis, 3 + 23 * number)
                desk.application.processEvents()
        print(times.row(f"change of the slice, 1 GiB on the disk, {name}", "400 ms"))
    desk.viewer.close()


PARTS = ("labelling", "slices", "refresh", "preview", "suggestions", "strokes", "cancel", "mapped")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.app", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--folder", type=Path, help="where the project is kept for the next run")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # napari's and vispy's own
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(HEADER, flush=True)
        run(folder, options.only, SHAPE, N_SUPERVOXELS)


def run(folder: Path, parts: Sequence[str], shape: Sequence[int], n_supervoxels: int) -> None:
    """Measure parts on the project in `folder`."""
    import napari

    from tests.app.conftest import Window

    def make() -> Any:
        viewer = napari.Viewer(show=True)
        viewer.window._qt_window.resize(1600, 1000)
        return Window(viewer)

    in_project = [part for part in parts if part != "mapped"]
    if in_project:
        path = prepare(folder, shape, n_supervoxels)
        desk = make()
        desk.dock.open_path(str(path))
        desk.until(lambda: desk.controller.tables, timeout=600)
        desk.until(lambda: desk.controller.result, timeout=600)
        benchmark = Benchmark(desk, shape)
        for part in in_project:
            getattr(benchmark, part)()
            sys.stdout.flush()
        desk.viewer.close()
    if "mapped" in parts:
        mapped(folder, make)


if __name__ == "__main__":
    main()
