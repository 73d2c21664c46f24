"""What people do to a window by mistake: one line says what is wrong, and the session goes on. Real mouse and keys."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxloop.project import Project

pytestmark = pytest.mark.slow

Open = Callable[..., Any]


def complaints(desk: Any) -> list[str]:
    """Return what was said, but for what is no complaint, and forget it."""
    said = [line for level, line in desk.said if level != "info"]
    desk.said.clear()
    assert not any("\n" in line or "internal" in line for line in said)
    return said


def shown_name(controller: Any) -> str:
    """Return the name of the image on screen; empty if there is none."""
    return controller.layers.image.record.name if controller.layers else ""


def draws(desk: Any, voxel: tuple[int, int, int], *, length: int = 8) -> bool:
    """Draw a stroke to the right of a voxel; return whether it is on screen, under the press and the release."""
    labels = desk.controller.layers.labels
    desk.viewer.dims.set_point(-3 % desk.viewer.dims.ndim, voxel[0] * labels.scale[0])
    z, y, x = voxel
    desk.stroke((z, y, x), (z, y, x + length))
    return bool(labels.data[z, y, x] and labels.data[z, y, x + length])


def test_images_that_are_none_thin_coloured_or_have_time(window: Open, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "thin": (40, 1, 50),
        "flat": (40, 50),
        "colour": (1, 40, 50, 3),
        "narrow": (40, 50, 3),
        "long": (2, 3, 4, 40, 50),
        "row": (50,),
    }
    for name, shape in shapes.items():
        np.save(tmp_path / f"{name}.npy", rng.integers(0, 255, shape, np.uint8))
    (tmp_path / "notes.tif").write_text("no image")
    np.save(tmp_path / "waves.npy", np.zeros((4, 5, 6), complex))
    desk = window()
    controller = desk.controller
    for name in ("notes.tif", "waves.npy", "row.npy", "long.npy", "nowhere.tif"):
        desk.dock.open_path(str(tmp_path / name))
        desk.until(lambda: not controller.is_busy and desk.said)
        assert len(complaints(desk)) == 1, name
        assert controller.project is None

    for name, voxel in (("thin", (5, 0, 5)), ("flat", (0, 5, 5)), ("colour", (0, 5, 5)), ("narrow", (5, 5, 0))):
        desk.dock.open_path(str(tmp_path / f"{name}.npy"))
        desk.until(lambda name=name: not controller.is_busy and shown_name(controller) == name)
        if name == "thin":
            controller.view_along(1)
            desk.viewer.dims.set_point(1, 0)
            desk.stroke((5, 0, 5), (5, 0, 13))
            assert controller.layers.labels.data[5, 0, 5] == controller.layers.labels.data[5, 0, 13] == 1
        else:
            assert draws(desk, voxel, length=2)
        desk.key("N")
        assert len(complaints(desk)) == 1  # there is no prediction to go by yet
        desk.key("V")
        desk.key("B")
        assert complaints(desk) == []


def test_the_axes_of_a_file_that_does_not_say_them(window: Open, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    desk = window()
    controller = desk.controller
    page = desk.dock.pages[0]
    np.save(tmp_path / "movie.npy", rng.integers(0, 255, (3, 4, 40, 50), np.uint8))
    controller.propose(tmp_path / "movie.npy")
    desk.until(lambda: controller.pending is not None)
    assert not page.frame.isVisible()
    page.axes.setText("tzyx")
    page.axes.editingFinished.emit()
    desk.until(lambda: not controller.is_busy and controller.pending.n_frames == 3)
    assert page.frame.isVisible()
    page.frame.setValue(2)
    page._accept()
    desk.until(lambda: controller.project is not None and not controller.is_busy)
    stored = np.load(tmp_path / "movie.npy")[2]
    assert np.array_equal(controller.project.volume().read()[0], stored)
    layer = desk.viewer.add_image(np.zeros((3, 4, 5, 6)), name="movie")
    desk.viewer.layers.selection.active = layer
    page._use_layer()
    desk.viewer.layers.selection.active = controller.layers.labels
    assert draws(desk, (1, 10, 10))
    assert complaints(desk) == []


def test_layers_are_deleted_renamed_shuffled_and_others_join(window: Open, project_folder: Path) -> None:
    desk = window()
    desk.open(project_folder)
    controller, layers = desk.controller, desk.viewer.layers
    controller.layers.prediction.name = "mine"
    layers.move(0, len(layers))
    desk.viewer.add_labels(np.ones((5, 7, 9), int), name="labels")  # another shape, the same name
    desk.viewer.add_points(np.zeros((2, 3)))
    desk.viewer.add_image(np.zeros((3, 16, 64, 64), np.float32), name="movie")
    layers.selection.active = controller.layers.labels
    assert draws(desk, (2, 10, 10))
    desk.key("2")
    assert draws(desk, (2, 40, 10))
    desk.updated()
    assert controller.result is not None
    desk.key("N")
    desk.until(lambda: not controller.slices.is_busy)
    assert controller.slices.current is not None
    assert complaints(desk) == []

    for name in ("mine", "most uncertain", "labels"):
        gone = controller.layers.labels if name == "labels" else layers[name]
        layers.remove(gone)
        desk.until(lambda: desk.said)
        assert "choose the image under Data" in complaints(desk)[0]
    desk.dock.pages[0].images.activated.emit(0)
    desk.until(lambda: not controller.is_busy and controller.layers.labels in layers)
    assert np.count_nonzero(controller.layers.labels.data) > 0
    assert draws(desk, (3, 10, 10))
    desk.updated()
    assert complaints(desk) == []


def test_no_classes_one_class_and_an_image_that_moves_away(window: Open, project_folder: Path, tmp_path: Path) -> None:
    folder, image = tmp_path / "bare.voxloop", tmp_path / "image.npy"
    np.save(image, np.random.default_rng(0).integers(0, 255, (6, 40, 50), np.uint8))
    with Project.create(folder, image) as project:
        project.configure(slic={"n_segments": 50}, features={"sigmas": (1.0,), "families": ("gaussian",)})
        project.features()
        project.extent()
    desk = window()
    desk.open(folder)
    controller, page = desk.controller, desk.dock.pages[3]
    desk.key("1")
    assert complaints(desk) == ["there is no class on key 1"]
    assert not draws(desk, (2, 10, 10))
    assert complaints(desk) == []  # nothing is chosen to paint with
    page.new_class.setText("cell")
    page.new_class.returnPressed.emit()
    assert draws(desk, (2, 10, 10))
    desk.updated()
    assert "two classes" in page.state.text()
    desk.key("N")
    assert len(complaints(desk)) == 1
    page.new_class.setText("rest")
    page.new_class.returnPressed.emit()
    assert draws(desk, (2, 30, 10))
    desk.updated()
    assert "updated" in page.state.text()

    image.rename(tmp_path / "gone.npy")
    assert draws(desk, (3, 10, 10))
    desk.updated()
    controller.export("segmentation", tmp_path / "out.tif")
    desk.until(lambda: not controller.is_busy)
    desk.application.processEvents()
    assert controller.problem == ""
    shown = controller.layers.labels.data.copy()
    complaints(desk)
    controller.open_path(folder)  # again, from the start
    desk.until(lambda: controller.moved is not None)
    assert desk.dock.pages[0].moved.isVisible()
    assert "missing" in complaints(desk)[0]
    controller.relink(tmp_path / "gone.npy")
    desk.until(lambda: controller.tables)
    assert np.array_equal(controller.layers.labels.data, shown)
    assert complaints(desk) == []


def test_the_disk_fills_while_somebody_paints(
    window: Open, project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    desk = window()
    desk.open(project_folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for y in (10, 20, 30):
            assert draws(desk, (2, y, 10))
        desk.updated()
        desk.until(lambda: "NOT SAVED: 3 edits" in desk.dock.saved.text())
        assert not desk.viewer.window._qt_window.close()
        assert desk.viewer.window._qt_window.isVisible()
        assert len(complaints(desk)) == 2  # that the disk is full, once; and what closing would cost
    desk.until(lambda: desk.dock.saved.text().startswith("all strokes saved"))
    shown = desk.controller.layers.labels.data.copy()
    desk.viewer.close()
    with Project.open(project_folder) as project:
        indices, _ = project.annotations.labelled_voxels(0)
        assert np.array_equal(indices, np.flatnonzero(shown))
