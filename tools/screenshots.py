"""Drive the real window through the tutorial and write its pictures; run it by `make screenshots`."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

warnings.simplefilter("ignore")  # napari's and vispy's own
sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["NAPARI_CONFIG"] = str(Path(tempfile.mkdtemp()) / "settings.yaml")

SIZE = (1600, 1000)
STROKES_OF_EACH_CLASS = 8
TEMPORARY = Path(tempfile.gettempdir()) / "voxloop"  # seen in the pictures: always the same


def main(out: Path) -> None:
    """Write the pictures to the folder `out`."""
    from voxloop import save_volume
    from voxloop.samples import phantom

    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(TEMPORARY, ignore_errors=True)
    TEMPORARY.mkdir()
    sample = phantom((32, 160, 160), seed=3)
    cells, volume = TEMPORARY / "cells.tif", sample.image
    save_volume(cells, volume.read()[0], spacing=volume.spacing, unit=volume.unit)
    _with_window(lambda desk: tour(desk, cells, sample.truth, lambda name: _save(desk, out / f"{name}.png")))

    sample = phantom((48, 256, 256), seed=5, spacing=(5.0, 5.0, 5.0))
    training = TEMPORARY / "training.tif"
    save_volume(training, sample.image.read()[0])
    _with_window(
        lambda desk: electron(desk, training, sample.truth, lambda name: _save(desk, out / f"electron-{name}.png"))
    )
    shutil.rmtree(TEMPORARY)


def _with_window(go: Callable[[Any], None]) -> None:
    import napari

    from tests.app.conftest import Window

    viewer = napari.Viewer(show=True)
    viewer.window._qt_window.resize(*SIZE)
    go(Window(viewer))
    viewer.close()


def electron(desk: Any, image: Path, truth: Any, picture: Callable[[str], None]) -> None:
    """Do what the tutorial on electron micrographs tells, and take a picture at each step."""
    controller, z = desk.controller, truth.shape[0] // 2
    controller.propose(image)
    _until(desk, lambda: controller.pending is not None)
    page = desk.dock.pages[0]
    for size in page.spacing:
        size.setText("5")
    page.unit.setCurrentText("nanometer")
    picture("data")
    page._accept()
    _until(desk, lambda: controller.project is not None and not controller.is_busy)
    controller.rename_class(2, "mitochondria")
    controller.configure(slic={"size": 200.0})  # the default of a volume as large as those of EPFL
    controller.update_now()
    _until(desk, lambda: controller.tables)
    desk.viewer.dims.set_point(0, controller.layers.labels.scale[0] * z)
    desk.dock.show_step(1)
    camera = desk.viewer.scene.camera
    camera.zoom *= 2
    picture("supervoxels")
    camera.zoom /= 2
    desk.dock.show_step(3)
    controller.brush_size = 4
    _paint(desk, truth, z)
    _correct(desk, truth, z)
    picture("label")

    desk.key("D")
    controller.live = False  # the ink stays to be seen
    desk.key("1")
    _paint_in_3d(desk)
    picture("3d")
    controller.undo()
    desk.key("D")
    controller.live = True
    masks = np.zeros(truth.shape, np.uint8)
    masks[z - 4 : z + 5 : 4] = 255 * (truth[z - 4 : z + 5 : 4] == 2)
    desk.viewer.add_labels(masks, name="training-masks", scale=controller.layers.labels.scale, units="nm")
    picture("import")


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
    middle = truth.shape[0] // 2
    desk.viewer.dims.set_point(0, controller.layers.labels.scale[0] * middle)
    camera = desk.viewer.scene.camera
    camera.zoom *= 2.5
    controller.previews.supervoxels()
    _until(desk, lambda: not controller.previews.is_busy)
    picture("supervoxels")
    controller.previews.clear()
    camera.zoom /= 2.5

    desk.dock.show_step(3)
    controller.update_now()
    _until(desk, lambda: controller.tables)
    controller.brush_size = 3
    _paint(desk, truth, middle)
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


def _correct(desk: Any, truth: Any, z: int) -> None:
    """Draw a few short strokes of background where mitochondria are predicted, away from the true ones."""
    rng = np.random.default_rng(1)
    desk.key("1")
    for _ in range(2):
        wrong = (desk.controller.layers.prediction.data[z, :, :] == 2) & ~ndimage.binary_dilation(
            truth[z] == 2, iterations=3
        )
        places = np.argwhere(wrong[10:-10, 10:-16] & wrong[10:-10, 14:-12]) + 10
        for y, x in places[rng.choice(len(places), STROKES_OF_EACH_CLASS // 2, replace=False)]:
            desk.stroke((z, y, x), (z, y, x + 4))
        _until(desk, lambda: not desk.controller.is_updating)


def _paint_in_3d(desk: Any) -> None:
    """Draw from the left over the 3D view, further down each time, until something was under the brush."""
    canvas = desk.dock.panels.canvases["3D"].canvas.native
    n = len(desk.controller.overview.strokes)
    for y in np.linspace(0.45, 0.8, 8) * canvas.height():
        for x in np.linspace(0.2, 0.7, 8) * canvas.width():
            desk.drag_on(canvas, [(x + step, y + step / 2) for step in range(0, 40, 4)])
            if len(desk.controller.overview.strokes) > n:
                return


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
        few = full.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)  # small things keep their colours
        few.save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
