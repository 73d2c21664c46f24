"""The whole program in a window, with real mouse and key events."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from voxloop.app.features_page import REGIONS
from voxloop.project import Project

Open = Callable[..., Any]


@pytest.mark.slow
def test_from_strokes_to_the_file_and_back(
    window: Open, project_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = window((1600, 1000))
    desk.open(project_folder)
    controller, layer = desk.controller, desk.controller.layers.labels
    controller.brush_size = 3
    desk.viewer.dims.set_point(0, layer.scale[0] * 2)

    # Two classes, painted by hand: what is under the release point is painted too.
    desk.stroke((2, 10, 10), (2, 12, 40))
    assert layer.data[2, 10, 10] == 1
    assert layer.data[2, 12, 40] == 1
    desk.key("2")
    desk.stroke((2, 40, 10), (2, 44, 25), (2, 50, 40))
    assert layer.data[2, 50, 40] == 2
    desk.updated()
    assert set(np.unique(controller.layers.prediction.data[2, :, :])) == {1, 2}
    assert "labelled, updated" in desk.dock.pages[3].state.text()

    # A suggested slice, labelled where the hatch is.
    said: list[str] = []
    label = desk.dock.pages[3].suggestion
    with monkeypatch.context() as patch:  # it may be found before the key's events are all processed
        patch.setattr(label, "setText", lambda text, write=label.setText: (said.append(text), write(text)))
        desk.key("N")
        desk.until(lambda: not controller.slices.is_busy)
    assert "Looking for" in said[0]
    suggestion = controller.slices.current
    assert suggestion.reason in desk.dock.pages[3].suggestion.text()
    n_before = controller.labels.n_labelled
    place = suggestion.center
    beside = tuple(c + (3 if axis == desk.viewer.dims.order[2] else 0) for axis, c in enumerate(place))
    desk.stroke(place, beside)
    assert layer.data[place] == 2
    desk.updated()
    assert controller.labels.n_labelled > n_before

    # A suggested plane, answered with two clicks: a line across the middle of its circle.
    desk.key("P")
    desk.until(lambda: not controller.plane.is_busy)
    patch = controller.plane.patch
    assert desk.dock.panels.canvases["suggested plane"].isVisible()
    middle = (np.array(patch.inside.shape) - 1) / 2
    before = layer.data.copy()
    desk.key("L")
    desk.click_plane((middle[0] - 13, middle[1] - 2))
    desk.click_plane((middle[0] + 13, middle[1] + 2))
    answered = np.flatnonzero(layer.data != before)
    assert set(layer.data.reshape(-1)[answered]) == {1, 2}
    assert set(answered) <= set(np.ravel_multi_index(tuple(patch.voxels[patch.inside].T), layer.data.shape))
    desk.updated()

    # A review by keys, one answer taken back.
    desk.key("R")
    first, second = controller.review.queue.ids[:2]
    predicted = controller.review.queue.predicted_class
    desk.key("Return")
    desk.key("1")
    desk.key("Backspace")
    assert controller.review.queue.position == 3
    desk.key("Z", modifiers="Control")
    desk.updated()
    labelled = dict(zip(controller.labels.images[0].ids.tolist(), controller.labels.images[0].classes, strict=True))
    assert labelled[int(first)] == predicted
    assert int(second) not in labelled
    desk.key("R")

    # The file, and everything again after the window was closed.
    page = desk.dock.pages[4]
    page.path.setText(str(tmp_path / "segmentation.tif"))
    page.export()
    desk.until(lambda: not controller.is_busy)
    probabilities, shown = controller.result.prediction.probabilities, layer.data.copy()
    ids = np.asarray(controller.tables[0].supervoxels.labels)
    segmentation = np.concatenate([[0], controller.result.prediction.segmentation])[ids]
    assert np.array_equal(tifffile.imread(tmp_path / "segmentation.tif"), segmentation)
    assert not [line for level, line in desk.said if level != "info"]
    desk.viewer.close()

    again = window()
    again.open(project_folder)
    assert np.array_equal(again.controller.layers.labels.data, shown)
    assert np.array_equal(again.controller.result.prediction.probabilities, probabilities)


def test_the_dock_shows_and_does_what_the_controller_can(window: Open, project_folder: Path) -> None:
    desk = window()
    dock, controller = desk.dock, desk.controller
    assert [button.text() for button in dock._steps] == ["Data", "Supervoxels ○", "Features ○", "Label", "Export"]
    desk.open(project_folder)
    assert [button.text() for button in dock._steps][1:3] == ["Supervoxels ✓", "Features ✓"]
    label_page = dock.pages[3]

    # Settings make stages stale, and the page offers to compute them.
    supervoxels = dock.pages[1]
    assert not supervoxels.compute.isEnabled()
    supervoxels.size.setValue(500)
    assert [button.text() for button in dock._steps][1:3] == ["Supervoxels ●", "Features ●"]
    assert supervoxels.compute.isEnabled()
    assert "131 supervoxels" in supervoxels.number.text()

    # Classes.
    label_page.new_class.setText("synapse")
    label_page.new_class.returnPressed.emit()
    assert [row.name.text() for row in label_page.rows] == ["background", "mitochondria", "synapse"]
    assert [row.pick.isChecked() for row in label_page.rows] == [False, False, True]
    assert desk.viewer.window._qt_window.focusWidget() is desk.canvas
    label_page.rows[2].name.setText("background")
    label_page.rows[2].name.editingFinished.emit()
    assert label_page.rows[2].name.text() == "synapse"
    assert ("warning", "name is 'background', but another class is called so") in desk.said

    # Layers, live, help.
    desk.key("O")
    assert label_page.shown["outlines"].isChecked() == controller.layers.outlines.visible
    label_page.shown["uncertainty"].click()
    assert controller.layers.uncertainty.visible
    desk.key("L", modifiers="Shift")
    assert not label_page.live.isChecked()
    desk.key("F1")
    assert dock._stack.currentIndex() == 5
    desk.key("F1")
    assert dock._stack.currentIndex() == 3
    assert [line for level, line in desk.said if level == "error"] == []


def test_pages_say_what_is_there_and_what_was_left_out(window: Open, project_folder: Path) -> None:
    desk = window()
    desk.open(project_folder)
    controller, (_, supervoxels, features, _, export, *_) = desk.controller, desk.dock.pages
    assert "% smaller than a quarter" in supervoxels.got.text()
    assert "Structures thinner than about" in supervoxels.advice.text()
    assert "% of the variance of brightness" in supervoxels.advice.text()

    assert features.left_out.isHidden()
    controller.configure(features={"left_out": (("laplacian", 1.6),)})
    assert features.left_out.text() == "Left out of the filters and scales above: edges (Laplacian) at 1.6."
    assert not features.all_again.isHidden()
    features.all_again.click()
    assert controller.project.specs.features.left_out == ()
    assert features.left_out.isHidden()

    assert features.regions.isChecked()
    features.regions.click()
    assert controller.project.specs.features.regions == ()
    features.regions.click()
    assert controller.project.specs.features.regions == REGIONS
    controller.configure(features={"regions": (2, 4)})
    assert features.regions.isChecked()
    features.statistics["min"].click()  # another choice keeps what is there
    assert controller.project.specs.features.regions == (2, 4)

    export.format.setCurrentText("OME-TIFF, tiles and pyramid")
    assert export.path.text().endswith(".ome.tif")
    assert export._options(with_part=True)["ome_tiff"] == "pyramid"
    export.format.setCurrentText("OME-TIFF")
    assert "ome_tiff" not in export._options(with_part=True)
    supervoxels.size.setValue(500)
    assert supervoxels.got.text() == "none with these settings yet"
    assert supervoxels.advice.isHidden()


def test_labels_that_are_dragged_in_are_imported_by_a_button(window: Open, project_folder: Path) -> None:
    from napari._qt.dialogs.qt_notification import NapariQtNotification
    from qtpy.QtWidgets import QPushButton

    desk = window()
    desk.open(project_folder)
    labels = np.zeros(desk.controller.layers.image.record.shape, np.int64)
    labels[3, 10:14, 10:20] = 2
    layer = desk.viewer.add_labels(labels, name="truth")

    def buttons() -> list[QPushButton]:
        shown = desk.viewer.window._qt_window.findChildren(NapariQtNotification)
        found = [button for one in shown for button in one.findChildren(QPushButton)]
        return [button for button in found if button.text() == "Import as labels"]

    desk.until(buttons)
    buttons()[0].click()
    desk.until(lambda: not layer.visible)
    assert np.array_equal(desk.controller.layers.labels.data, labels)
    assert desk.controller.overview.strokes[0].source == "import"


def test_the_window_closes_while_something_is_computed(window: Open, project_folder: Path) -> None:
    desk = window()
    desk.open(project_folder)
    desk.controller.configure(slic={"n_segments": 100})
    desk.controller.compute()
    desk.until(desk.dock.job.isVisible)
    assert not desk.dock.pages[1].compute.isEnabled()
    desk.viewer.close()
    with Project.open(project_folder) as project:  # nobody holds it any more
        assert len(project.images) == 1


def test_a_press_draws_the_layers_once(window: Open, project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = window()
    desk.open(project_folder)
    scene = desk.viewer.window._qt_viewer.canvas._scene_canvas

    def pick(*_arguments: Any) -> None:
        raise AssertionError("all layers were drawn a second time to find the one under the mouse")

    monkeypatch.setattr(scene, "_render_picking", pick)
    desk.viewer.dims.set_point(0, 0)
    desk.stroke((0, 10, 10), (0, 12, 40))
    assert desk.controller.layers.labels.data[0, 12, 40] == 1


def test_what_is_opened_is_looked_into_on_the_data_page(window: Open, tmp_path: Path) -> None:
    desk = window()
    page = desk.dock.pages[0]
    np.save(tmp_path / "cells.npy", np.random.default_rng(0).integers(0, 255, (6, 20, 30), np.uint8))
    desk.controller.propose(tmp_path / "cells.npy")
    desk.until(lambda: desk.controller.pending is not None)
    assert [size.text() for size in page.spacing] == ["1", "1", "1"]
    page.spacing[0].setText("three")
    page._accept()
    assert desk.controller.project is None
    page.spacing[0].setText("3.5")
    page.part.fields[2].setText("5:25")
    page._accept()
    desk.until(lambda: desk.controller.project is not None)
    record = desk.controller.project.images[0]
    assert (record.spacing, record.shape) == ((3.5, 1.0, 1.0), (6, 20, 20))
    assert page.pending.isHidden()


def test_a_project_dropped_on_the_window_opens_in_the_dock(window: Open, project_folder: Path) -> None:
    desk = window()
    desk.viewer.open(str(project_folder), plugin="voxloop")
    desk.until(lambda: desk.controller.tables)
    assert desk.controller.project.folder == project_folder


def test_a_layer_of_another_plugin_becomes_a_project(window: Open, tmp_path: Path) -> None:
    from voxloop.app.data_page import layer_volume

    desk = window()
    rng = np.random.default_rng(0)
    layer = desk.viewer.add_image(rng.random((6, 20, 30), np.float32), name="dots", scale=(2, 1, 1))
    desk.controller.create(tmp_path / "dots.voxloop", layer_volume(layer))
    desk.until(lambda: desk.controller.project is not None)
    record = desk.controller.project.images[0]
    assert (record.name, record.shape, record.spacing) == ("dots", (6, 20, 30), (2.0, 1.0, 1.0))


@pytest.mark.slow
def test_what_is_drawn_and_predicted_is_seen_in_its_colours(window: Open, project_folder: Path) -> None:
    desk = window((1400, 900))
    desk.open(project_folder)
    desk.application.processEvents()
    desk.viewer.reset_view()  # all of the slice
    controller, layers = desk.controller, desk.controller.layers

    def share(color: str, layer: Any) -> float:
        """Return the share of the canvas that has a colour while nothing but a layer is shown."""
        shown = [one for one in desk.viewer.layers if one.visible]
        for one in desk.viewer.layers:
            one.visible = one is layer
        layer.opacity = 1.0
        desk.application.processEvents()
        pixels = desk.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
        for one in desk.viewer.layers:
            one.visible = one in shown
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        return float((np.abs(pixels - wanted).max(axis=-1) < 12).mean())

    blue, orange = (c.color for c in controller.project.annotations.classes)
    assert share(blue, layers.labels) == 0
    desk.viewer.dims.set_point(0, layers.labels.scale[0] * 2)
    desk.stroke((2, 10, 10), (2, 10, 40))
    desk.key("2")
    desk.stroke((2, 40, 10), (2, 40, 40))
    desk.updated()
    painted = share(blue, layers.labels)
    assert painted > 0.002
    classes = layers.prediction.data[2, :, :]
    part = share(blue, layers.prediction) / (share(blue, layers.prediction) + share(orange, layers.prediction))
    assert part == pytest.approx((classes == 1).mean(), abs=0.05)
    hatch = share("#00e5ff", layers.top)
    drawn = (layers.top.data[2, :, :] == 1).mean()
    assert hatch > 0
    assert hatch / share(blue, layers.prediction) == pytest.approx(drawn / (classes == 1).mean(), rel=0.3)
    desk.key("Z", modifiers="Control")
    desk.key("Z", modifiers="Control")
    assert share(blue, layers.labels) == 0


def test_a_file_dropped_on_the_dock_is_looked_into(window: Open, tmp_path: Path) -> None:
    from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
    from qtpy.QtGui import QDropEvent

    np.save(tmp_path / "cells.npy", np.zeros((4, 20, 30), np.uint8))
    desk = window()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "cells.npy"))])
    nowhere, none = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    desk.dock.dropEvent(QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, nowhere, none))
    desk.until(lambda: desk.controller.pending is not None)
    assert desk.controller.pending.path == tmp_path / "cells.npy"
    assert desk.dock.pages[0].pending.isVisible()


@pytest.mark.parametrize("size", [9, 16])
def test_pages_have_room_for_their_words_whatever_the_size_of_the_font(window: Open, size: int) -> None:
    from napari.settings import get_settings

    get_settings().appearance.font_size = size
    desk = window((1600, 1000))
    for index, page in enumerate(desk.dock.pages):
        desk.dock.show_step(index)
        for _ in range(3):
            desk.application.processEvents()
        needed, found = page.minimumSizeHint().width(), desk.dock._stack.widget(index).viewport().width()
        assert needed <= found + 4, type(page).__name__  # the frame of the scroll bar
        assert desk.dock._stack.height() > 0.8 * desk.canvas.height(), type(page).__name__
    get_settings().appearance.reset()


def test_qt_keeps_its_references_to_none(window: Open) -> None:
    # PySide6 6.12.0 loses one at each call that returns nothing. Before Python 3.12 that ends in "deallocating None".
    desk = window()
    line, before = desk.dock.saved, sys.getrefcount(None)
    for _ in range(2000):
        line.setText("all strokes saved")
    assert sys.getrefcount(None) > before - 1000


@pytest.mark.parametrize("shape", [(20, 30), (4, 20, 30), (20, 30, 3)], ids=["flat", "volume", "rgb"])
def test_the_volume_of_a_layer(shape: tuple[int, ...]) -> None:
    from napari.layers import Image

    from voxloop.app.data_page import layer_volume

    data = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    is_rgb = shape[-1] == 3
    scale = (5, 3, 3) if shape[0] == 4 else (3, 3)
    volume = layer_volume(Image(data, name="layer", scale=scale, rgb=is_rgb))
    assert volume.shape == (shape if shape[0] == 4 else (1, 20, 30))
    assert volume.spacing[1:] == (3.0, 3.0)
    assert np.array_equal(np.squeeze(np.moveaxis(volume.read(), 0, -1)), data)


@pytest.mark.slow
def test_a_mouse_paints_in_3d(window: Open, project_folder: Path) -> None:
    desk = window((1400, 900))
    desk.open(project_folder)
    controller = desk.controller
    desk.viewer.dims.set_point(0, 0)
    desk.stroke((0, 10, 10), (0, 12, 40))
    desk.key("2")
    desk.stroke((0, 40, 10), (0, 50, 40))
    desk.updated()
    controller.live = False
    desk.key("D")
    canvas = desk.dock.panels.canvases["3D"].canvas.native
    model = controller.solid.model
    n, angles = len(controller.overview.strokes), model.scene.camera.angles
    for x in np.linspace(0.3, 0.7, 5) * canvas.width():
        desk.drag_on(canvas, [(x + step, canvas.height() / 2 + step) for step in (0, 4, 8)])
        if len(controller.overview.strokes) > n:
            break
        angles = model.scene.camera.angles  # nothing was there: the view turned
    assert controller.overview.strokes[0].source == "3D brush"
    assert model.scene.camera.angles == angles
    desk.drag_on(canvas, [(3, 3), (9, 9), (15, 9)])
    assert model.scene.camera.angles != angles
    assert len(controller.overview.strokes) == n + 1
