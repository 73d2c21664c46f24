"""Fixtures of the app's tests: a small project, a controller without a window, a window with a display."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from voxloop.project import Project
from voxloop.samples import phantom
from voxloop.specs import FeatureSpec, SlicSpec

SHAPE = (16, 64, 64)


@pytest.fixture(scope="session", autouse=True)
def _napari_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep napari from reading or writing the settings of whoever runs the tests."""
    os.environ["NAPARI_CONFIG"] = str(tmp_path_factory.mktemp("napari") / "settings.yaml")


def _why_not() -> str:
    """Import napari and return an empty string, or why that is not possible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # napari 0.9.2 uses what pydantic 2.14 deprecates
        try:
            import napari.components
            import napari.layers
            import napari.utils.notifications  # noqa: F401
            import npe2  # noqa: F401
        except ImportError as error:
            return f"the app needs napari: {error}"
    return ""


WHY_NOT = _why_not()


class SkippedModule(pytest.Module):
    """A module of tests that is not even imported."""

    def collect(self) -> list[pytest.Item]:
        """Skip all of it."""
        pytest.skip(WHY_NOT, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Skip the tests of the app where napari is missing."""
    return SkippedModule.from_parent(parent, path=module_path) if WHY_NOT else None


@pytest.fixture(scope="session")
def computed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two classes whose supervoxels and features are computed; tests get copies."""
    folder = tmp_path_factory.mktemp("computed") / "cells.voxloop"
    sample = phantom(SHAPE, seed=3)
    with Project.create(folder, sample.image, classes=["background", "mitochondria"]) as project:
        project.configure(
            slic=SlicSpec(n_segments=300), features=FeatureSpec(sigmas=(1.0, 1.6), families=("gaussian", "laplacian"))
        )
        project.features()
        project.extent()
    return folder


@pytest.fixture
def project_folder(computed_project: Path, tmp_path: Path) -> Path:
    """A copy of the computed project."""
    folder = tmp_path / "cells.voxloop"
    shutil.copytree(computed_project, folder)
    return folder


class Desk:
    """A controller on a viewer without a window; what workers report waits until `until` runs it."""

    def __init__(self) -> None:
        from napari.components import ViewerModel

        from voxloop.app.controller import Controller

        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.viewer = ViewerModel()
        self.controller = Controller(self.viewer, dispatch=self.calls.put, debounce=0.01)
        self.said: list[tuple[str, str]] = []
        self.controller.notified.connect(lambda level, line: self.said.append((level, line)))

    def until(self, condition: Callable[[], Any], timeout: float = 60) -> None:
        """Run what workers report until `condition` holds."""
        end = time.monotonic() + timeout
        while not condition():
            try:
                self.calls.get(timeout=max(0.0, min(0.05, end - time.monotonic())))()
            except queue.Empty:
                assert time.monotonic() < end, f"still not so after {timeout} s; said: {self.said}"

    def idle(self) -> None:
        """Wait for the job that runs and what follows from it."""
        self.until(lambda: not self.controller.is_busy and self.calls.empty())

    def updated(self) -> None:
        """Wait until the classifier has seen all labels."""
        self.until(lambda: not self.controller.is_updating)

    def open(self, path: Path) -> None:
        """Open a project whose features are computed."""
        self.controller.open_path(path)
        self.until(lambda: self.controller.tables)
        self.updated()

    def drag(self, points: list[tuple[float, float, float]], *, button: int = 1) -> None:
        """Draw a stroke on the labels layer, as the canvas would report it: press, moves, release."""
        _drag(self.controller.layers.labels, points, button=button)


def _drag(layer: Any, points: list[tuple[float, float, float]], *, button: int = 1) -> None:
    """Send press, moves and release at points in voxels (z, y, x) to the layer in its mode."""

    def event(kind: str, point: tuple[float, float, float]) -> Any:
        world = layer.data_to_world(point)
        return SimpleNamespace(
            type=kind, button=button, position=world, view_direction=None, dims_displayed=[1, 2], modifiers=()
        )

    for callback in layer.mouse_drag_callbacks:
        first = event("mouse_press", points[0])
        generator = callback(layer, first)
        if generator is None:
            continue
        try:
            next(generator)
            for kind, point in [*(("mouse_move", p) for p in points[1:-1]), ("mouse_release", points[-1])]:
                following = event(kind, point)
                first.type, first.position = following.type, following.position
                next(generator)
        except StopIteration:
            pass


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A controller without a window."""
    made = Desk()
    yield made
    made.controller.close()


@pytest.fixture
def drag() -> Callable[..., None]:
    """Send press, moves and release at points in voxels (z, y, x) to a layer."""
    return _drag


class Window:
    """A napari window with the dock, and hands: real mouse and key events on its canvas."""

    def __init__(self, viewer: Any) -> None:
        from qtpy.QtWidgets import QApplication

        self.viewer = viewer
        self.dock = viewer.window.add_plugin_dock_widget("voxloop")[1]
        self.controller = self.dock.controller
        self.said: list[tuple[str, str]] = []
        self.controller.notified.connect(lambda level, line: self.said.append((level, line)))
        self.canvas = viewer.window._qt_viewer.canvas.native
        self.application = QApplication.instance()

    def until(self, condition: Callable[[], Any], timeout: float = 60) -> None:
        """Let the application run until `condition` holds."""
        end = time.monotonic() + timeout
        while not condition():
            self.application.processEvents()
            time.sleep(0.002)
            assert time.monotonic() < end, f"still not so after {timeout} s; said: {self.said}"

    def open(self, path: Path) -> None:
        """Open a project whose features are computed."""
        self.dock.open_path(str(path))
        self.until(lambda: self.controller.tables)
        self.updated()
        self.application.processEvents()

    def updated(self) -> None:
        """Wait until the classifier has seen all labels."""
        self.until(lambda: not self.controller.is_updating)

    def point(self, voxel: tuple[float, float, float]) -> Any:
        """Return where a voxel (z, y, x) of the slice on screen is on the canvas."""
        from qtpy.QtCore import QPointF

        world = self.controller.layers.labels.data_to_world(voxel)
        camera, (height, width) = self.viewer.scene.camera, self.viewer.canvas.size
        before = self.viewer.dims.ndim - 3  # axes that somebody else's layers have, such as time
        down, right = (world[axis - before] for axis in self.viewer.dims.order[-2:])
        _, middle_down, middle_right = camera.center
        return QPointF(
            width / 2 + (right - middle_right) * camera.zoom, height / 2 + (down - middle_down) * camera.zoom
        )

    def mouse(self, kind: str, voxel: tuple[float, float, float], *, pressed: bool = True) -> None:
        """Send one mouse event: ``Press``, ``Move`` or ``Release`` of the left button."""
        from qtpy.QtCore import QEvent, Qt
        from qtpy.QtGui import QMouseEvent

        at, left, none = self.point(voxel), Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        event_type = QEvent.Type.MouseMove if kind == "Move" else getattr(QEvent.Type, f"MouseButton{kind}")
        held = left if pressed and kind != "Release" else none
        event = QMouseEvent(
            event_type,
            at,
            self.canvas.mapToGlobal(at),
            none if kind == "Move" else left,
            held,
            Qt.KeyboardModifier.NoModifier,
        )
        self.application.sendEvent(self.canvas, event)
        self.application.processEvents()

    def stroke(self, *voxels: tuple[float, float, float]) -> None:
        """Draw with the left button from the first voxel over the others to the last, without a pause."""
        self.mouse("Move", voxels[0], pressed=False)
        self.mouse("Press", voxels[0])
        for voxel in voxels[1:]:
            self.mouse("Move", voxel)
        self.mouse("Release", voxels[-1])

    def click_plane(self, pixel: tuple[float, float]) -> None:
        """Click with the left button on a pixel (row, column) of the suggested plane's picture."""
        model = self.controller.plane.viewer
        canvas = self.dock.panels.canvases["suggested plane"].canvas.native
        down, right = model.layers["labels"].data_to_world(pixel)
        camera, (height, width) = model.scene.camera, model.canvas.size
        at = width / 2 + (right - camera.center[2]) * camera.zoom, height / 2 + (down - camera.center[1]) * camera.zoom
        self.drag_on(canvas, [at])

    def drag_on(self, canvas: Any, places: list[tuple[float, float]]) -> None:
        """Press the left button at the first place (x, y) on a canvas, move over the others, let go at the last."""
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent

        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        move, press, release = QEvent.Type.MouseMove, QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonRelease
        steps = [(move, places[0], none, none), (press, places[0], left, left)]
        steps += [(move, place, none, left) for place in places[1:]]
        for kind, place, button, held in [*steps, (release, places[-1], left, none)]:
            at = QPointF(*place)
            event = QMouseEvent(kind, at, canvas.mapToGlobal(at), button, held, Qt.KeyboardModifier.NoModifier)
            self.application.sendEvent(canvas, event)
            self.application.processEvents()

    def key(self, name: str, *, modifiers: str = "") -> None:
        """Press and release a key over the canvas; `name` as Qt calls it."""
        from qtpy.QtCore import QEvent, Qt
        from qtpy.QtGui import QKeyEvent

        held = Qt.KeyboardModifier.NoModifier
        for modifier in modifiers.split():
            held |= getattr(Qt.KeyboardModifier, f"{modifier}Modifier")
        key = getattr(Qt.Key, f"Key_{name}")
        text = name.lower() if len(name) == 1 and not modifiers else ""
        for kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
            self.application.sendEvent(self.canvas, QKeyEvent(kind, key, held, text))
        self.application.processEvents()


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Callable[..., Window]]:
    """Return a function that opens a window with the dock; all are closed in the end."""
    if not os.environ.get("DISPLAY") and sys.platform.startswith("linux"):
        pytest.skip("there is no display, and Xvfb, which could make one, is not installed")
    pytest.importorskip("pytestqt", reason="pytest-qt is not installed")
    request.getfixturevalue("qtbot")  # fails the test for exceptions in Qt's own calls
    import napari

    from voxloop.app import dock

    monkeypatch.setattr(dock, "warm_up_once", lambda: None)
    opened: list[Any] = []

    def make(size: tuple[int, int] = (900, 600)) -> Window:
        viewer = napari.Viewer(show=True)
        opened.append(viewer)
        viewer.window._qt_window.resize(*size)
        return Window(viewer)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # napari's and vispy's own
        yield make
        for viewer in opened:
            with contextlib.suppress(RuntimeError):  # closed by the test
                viewer.close()
