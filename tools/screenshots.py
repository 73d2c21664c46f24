"""Drive the real window through the tutorial and write its pictures; run it by `make screenshots`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

warnings.simplefilter("ignore")  # napari's and vispy's own
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")

SIZE = (1600, 1000)
SHAPE = (32, 160, 160)
STROKES_OF_EACH_CLASS = 8


def main(out: Path) -> None:
    """Write the pictures to the folder `out`."""
    import napari

    from tests.app.conftest import Window
    from voxloop import save_volume
    from voxloop.samples import phantom

    out.mkdir(parents=True, exist_ok=True)
    sample = phantom(SHAPE, seed=3)
    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*SIZE)
    desk = Window(viewer)
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "cells.tif"
        volume = sample.image
        save_volume(image, volume.read()[0], spacing=volume.spacing, unit=volume.unit)
        tour(desk, image, sample.truth, lambda name: _save(desk, out / f"{name}.png"))
        viewer.close()


def tour(desk: Any, image: Path, truth: Any, picture: Callable[[str], None]) -> None:
    """Do what the tutorial tells, and take a picture at each step."""
    controller = desk.controller
    controller.propose(image)
    _until(desk, lambda: controller.pending is not None)
    picture("data")
    controller.accept()
    _until(desk, lambda: controller.project is not None and not controller.is_busy)
    controller.rename_class(2, "mitochondria")
    desk.dock.show_step(1)
    desk.viewer.dims.set_point(0, controller.layers.labels.scale[0] * (SHAPE[0] // 2))
    controller.previews.supervoxels()
    _until(desk, lambda: not controller.previews.is_busy)
    picture("supervoxels")
    controller.previews.clear()

    desk.dock.show_step(3)
    controller.update_now()
    _until(desk, lambda: controller.tables)
    controller.brush_size = 3
    _paint(desk, truth, SHAPE[0] // 2)
    picture("label")
    desk.key("N")
    _until(desk, lambda: not controller.slices.is_busy)
    picture("slice")
    desk.key("P")
    _until(desk, lambda: not controller.plane.is_busy)
    middle = (np.array(controller.plane.patch.inside.shape) - 1) / 2
    desk.key("L")
    controller.plane.click((middle[0] - 14, middle[1] - 6))
    controller.plane.click((middle[0] + 14, middle[1] + 8))
    _until(desk, lambda: not controller.is_updating)
    picture("plane")
    controller.plane.close_patch()
    desk.key("R")
    picture("review")
    desk.key("R")
    desk.key("B")
    desk.key("D")
    picture("views")
    desk.key("B")
    desk.key("D")
    desk.key("M")
    _until(desk, lambda: controller.refined.is_on)
    picture("refined")
    desk.key("M")
    desk.dock.show_step(2)
    controller.features.suggest()
    _until(desk, lambda: controller.features.found)
    picture("features")
    desk.key("T")
    picture("strokes")
    desk.dock.show_step(4)
    picture("export")
    desk.dock.show_step(5)
    picture("keys")


def _paint(desk: Any, truth: Any, z: int) -> None:
    """Draw a few short strokes of each class where it is true all along, away from borders."""
    rng = np.random.default_rng(0)
    for class_id in (1, 2):
        desk.key(str(class_id))
        inside = np.all([np.roll(truth[z] == class_id, (dy, dx), (0, 1)) for dy in (-2, 2) for dx in (-2, 8)], axis=0)
        places = np.argwhere(inside[10:-10, 10:-18]) + 10
        for y, x in places[rng.choice(len(places), STROKES_OF_EACH_CLASS, replace=False)]:
            desk.stroke((z, y, x), (z, y, x + 3), (z, y, x + 6))
        _until(desk, lambda: not desk.controller.is_updating)


def _until(desk: Any, condition: Callable[[], Any]) -> None:
    desk.until(condition, timeout=600)


def _save(desk: Any, path: Path) -> None:
    """Save a picture of the window, with 256 colours: a fifth of the bytes."""
    from PIL import Image

    for _ in range(15):  # let everything be drawn
        desk.application.processEvents()
        time.sleep(0.03)
    grabbed = desk.viewer.window._qt_window.grab()
    grabbed.save(str(path))
    with Image.open(path) as full:
        full.convert("RGB").quantize(256).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
