"""Tools to label with, and the look back: strokes, conflicts, merges, imports, rounds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxloop.app.feature_guide import estimate
from voxloop.classify import Assessment
from voxloop.project.annotations import ERASER
from voxloop.specs import FeatureSpec

Desk = Any


@pytest.fixture
def opened(desk: Desk, project_folder: Path) -> Desk:
    desk.open(project_folder)
    return desk


@pytest.fixture
def labelled(opened: Desk) -> Desk:
    """A desk with a stroke of each class and the prediction that follows."""
    opened.drag([(2, 5, 5), (2, 5, 20), (2, 5, 40)])
    opened.controller.press_digit(2)
    opened.drag([(2, 40, 5), (2, 45, 20), (2, 50, 40)])
    opened.updated()
    return opened


def test_the_supervoxel_tool_labels_whole_supervoxels(opened: Desk) -> None:
    controller = opened.controller
    controller.toggle_whole()
    controller.brush_size = 1
    ids = np.asarray(controller.tables[0].supervoxels.labels)
    opened.drag([(2, 20, 10), (2, 20, 30)])
    touched = np.unique(ids[2, 20, 10:31])
    assert np.array_equal(controller.layers.labels.data == 1, np.isin(ids, touched))
    opened.updated()
    assert controller.labels.n_labelled == len(touched)

    controller.press_digit(0)
    opened.drag([(2, 20, 10), (2, 20, 10)])
    assert np.array_equal(controller.layers.labels.data == 1, np.isin(ids, touched) & (ids != ids[2, 20, 10]))
    controller.undo()
    controller.undo()
    assert not controller.layers.labels.data.any()
    controller.toggle_whole()
    assert controller.tool == "brush"


def test_a_polygon_is_one_stroke(opened: Desk) -> None:
    controller, layer = opened.controller, opened.controller.layers.labels
    controller.tool = "polygon"
    assert layer.mode == "polygon"
    opened.viewer.dims.set_point(0, layer.scale[0] * 3)
    layer.paint_polygon([(3, 10, 10), (3, 10, 20), (3, 20, 20), (3, 20, 10)], 1)
    assert np.count_nonzero(layer.data[3]) == np.count_nonzero(layer.data) == 121
    (row,) = controller.overview.strokes
    assert (row.source, row.n_voxels) == ("polygon", 121)
    controller.undo()
    assert not layer.data.any()
    controller.press_digit(2)
    assert layer.mode == "polygon"  # another class keeps the tool


def test_fill_stays_inside_of_what_is_drawn(opened: Desk) -> None:
    controller, layer = opened.controller, opened.controller.layers.labels
    opened.viewer.dims.set_point(0, layer.scale[0] * 3)
    controller.brush_size = 1
    corners = [(3, 10, 10), (3, 10, 20), (3, 20, 20), (3, 20, 10), (3, 10, 10)]
    for start, end in pairwise(corners):
        opened.drag([start, end])
    outline = np.count_nonzero(layer.data)
    assert outline == 40
    controller.tool = "fill"
    layer.fill((3, 15, 15), 1)
    assert np.count_nonzero(layer.data[3]) == np.count_nonzero(layer.data) == 121
    assert controller.overview.strokes[0].source == "fill"
    controller.undo()
    assert np.count_nonzero(layer.data) == outline

    # Outside of it nothing bounds the fill; beside a line from edge to edge something does.
    shown = layer.data.copy()
    layer.fill((3, 40, 40), 1)
    assert np.array_equal(layer.data, shown)
    assert len(controller.overview.strokes) == 4
    assert "nothing bounds this place" in opened.said[-1][1]
    controller.tool = "brush"
    opened.drag([(3, 30, 0), (3, 30, 63)])
    controller.tool = "fill"
    layer.fill((3, 40, 40), 1)
    assert (layer.data[3, 30:] == 1).all()
    assert not layer.data[3, 21:30].any()


def test_the_eraser_and_back_to_the_tool(opened: Desk) -> None:
    controller = opened.controller
    controller.tool = "polygon"
    controller.press_digit(0)
    assert controller.layers.labels.mode == "erase"
    assert controller.labelling.selected == ERASER
    controller.tool = "brush"
    assert controller.layers.labels.mode == "paint"


def test_a_stroke_in_the_list_leads_to_its_place(labelled: Desk) -> None:
    controller = labelled.controller
    newest, oldest = controller.overview.strokes
    assert (newest.class_id, oldest.class_id) == (2, 1)
    controller.view_along(1)
    controller.overview.go_to_stroke(oldest)
    place = controller.layers.labels.world_to_data(labelled.viewer.dims.point)
    assert np.allclose(place, oldest.centre, atol=0.51)


def test_conflicts_are_shown_one_after_another(labelled: Desk) -> None:
    controller = labelled.controller
    controller.overview.next_conflict()
    assert "no supervoxel" in labelled.said[-1][1]
    ids = np.asarray(controller.tables[0].supervoxels.labels)
    before = controller.layers.labels.data
    z, y, x = np.argwhere(before == 1)[0]
    inside = np.argwhere((ids == ids[z, y, x]) & (before == 0))[0]
    controller.need_project().paint(2, [inside])
    controller.labels_changed()
    labelled.updated()
    assert controller.overview.conflicts.tolist() == [ids[z, y, x]]
    controller.overview.next_conflict()
    assert controller.layers.top.data.table[ids[z, y, x]] == 2
    place = np.rint(controller.layers.labels.world_to_data(labelled.viewer.dims.point)).astype(int)
    assert ids[tuple(place)] == ids[z, y, x]


def test_a_merge_changes_the_labels_and_undo_brings_the_class_back(labelled: Desk) -> None:
    controller = labelled.controller
    controller.overview.merge_class(2, 1)
    assert list(controller.need_project().class_names) == [1]
    assert set(np.unique(controller.layers.labels.data)) == {0, 1}
    controller.undo()
    assert set(np.unique(controller.layers.labels.data)) == {0, 1, 2}


def test_labels_come_from_a_volume_or_a_table_and_other_shapes_are_refused(opened: Desk, tmp_path: Path) -> None:
    controller = opened.controller
    volume = np.zeros((16, 64, 64), np.uint8)
    volume[3, 10:14, 10:20] = 1
    volume[5, 30, 30] = 7
    np.save(tmp_path / "labels.npy", volume)
    controller.overview.import_labels(str(tmp_path / "labels.npy"))
    opened.idle()
    assert controller.need_project().class_names[3] == "imported 7"
    assert np.array_equal(controller.layers.labels.data > 0, volume > 0)
    (tmp_path / "points.csv").write_text("z,y,x,class\n1,2,3,mitochondria\n")
    controller.overview.import_labels(str(tmp_path / "points.csv"))
    opened.idle()
    assert controller.layers.labels.data[1, 2, 3] == 2
    assert opened.said == []
    np.save(tmp_path / "small.npy", volume[:8])
    for name in ("small.npy", "missing.csv"):
        controller.overview.import_labels(str(tmp_path / name))
        opened.idle()
    assert [level for level, _ in opened.said] == ["error", "error"]
    assert "shape" in opened.said[0][1]


def test_a_labels_layer_that_fits_is_offered_and_becomes_labels(opened: Desk) -> None:
    controller, viewer = opened.controller, opened.viewer
    offers: list[Any] = []
    controller.offered.connect(lambda *offer: offers.append(offer))
    volume = np.zeros(controller.layers.image.record.shape, np.int32)
    volume[3, 10:14, 10:20] = 2
    layer = viewer.add_labels(volume, name="from elsewhere")
    opened.idle()
    ((line, _, take),) = offers
    assert "'from elsewhere' fits" in line
    take()
    opened.idle()
    assert np.array_equal(controller.layers.labels.data, volume)
    assert not layer.visible
    assert [level for level, _ in opened.said] == ["info"]
    controller.undo()
    assert not controller.layers.labels.data.any()

    # An image of whole numbers by the button, the voxels that are labelled already stay one step.
    viewer.layers.selection.active = viewer.add_image(volume.astype(np.uint8), name="as image")
    controller.overview.import_layer()
    opened.idle()
    assert np.array_equal(controller.layers.labels.data, volume)
    assert len(offers) == 1


def test_layers_that_cannot_be_labels_are_refused_in_one_line(opened: Desk) -> None:
    controller, viewer = opened.controller, opened.viewer
    offers: list[Any] = []
    controller.offered.connect(lambda *offer: offers.append(offer))
    small = viewer.add_labels(np.ones((5, 7, 9), int), name="small")
    opened.idle()
    assert opened.said == [
        ("info", "'small' is shown but cannot be imported as labels: it has shape (5, 7, 9), the image (16, 64, 64)")
    ]
    own = controller.layers.labels
    for layer in (small, own, viewer.add_points(np.zeros((2, 3))), viewer.add_image(np.zeros((16, 64, 64)))):
        opened.said.clear()
        controller.overview.import_layer(layer)
        opened.idle()
        assert len(opened.said) == 1
    controller.previews.supervoxels()  # shows a labels layer of ours
    opened.until(lambda: not controller.previews.is_busy)
    opened.idle()
    assert offers == []
    assert not own.data.any()
    controller.close_project()
    controller.overview.import_layer(small)
    assert opened.said[-1] == ("info", "open an image first: the step Data does")


def test_each_update_is_a_round_and_the_advice_follows(labelled: Desk) -> None:
    controller = labelled.controller
    assert len(controller.overview.rounds) == 1
    assert controller.overview.advice() == ""
    opened_again = controller.need_project().history.rounds(0)
    assert opened_again[-1].n_labelled == controller.labels.n_labelled
    labelled.drag([(9, 5, 5), (9, 5, 20)])
    labelled.updated()
    assert len(controller.overview.rounds) == 2
    assert "likely to change" in controller.overview.advice()
    controller.update_now()  # nothing was labelled since
    labelled.updated()
    assert len(controller.overview.rounds) == 2


def test_accuracy_is_that_of_held_out_strokes(labelled: Desk) -> None:
    controller = labelled.controller
    for z in (5, 8, 11):
        controller.press_digit(1)
        labelled.drag([(z, 5, 5), (z, 5, 20)])
        controller.press_digit(2)
        labelled.drag([(z, 40, 5), (z, 45, 20)])
    labelled.updated()
    found = Assessment.of(controller.result.classifier.held_out, controller.result.classifier.classes)
    assert controller.overview.rounds[-1].accuracy == found.accuracy
    assert f"{found.accuracy:.0%} right" in controller.overview.accuracy_line()


def test_another_strategy_is_followed_at_once(labelled: Desk) -> None:
    controller = labelled.controller
    controller.configure(query={"strategy": "random"})
    labelled.updated()
    assert controller.result.request.query.strategy == "random"
    controller.slices.suggest()
    labelled.until(lambda: not controller.slices.is_busy)
    assert controller.slices.current is not None


def test_one_slice_is_decided_voxel_by_voxel_until_the_labels_change(labelled: Desk) -> None:
    controller, viewer = labelled.controller, labelled.viewer
    viewer.dims.set_point(0, controller.layers.labels.scale[0] * 2)
    controller.refined.toggle()
    labelled.until(lambda: controller.refined.is_on)
    layer = viewer.layers["voxel by voxel"]
    assert layer.data.shape == (1, 64, 64)
    assert np.array_equal(layer.data[0], controller.need_project().refine_slice(2))
    assert layer.translate[0] == controller.layers.labels.scale[0] * 2
    assert not controller.layers.prediction.visible
    assert viewer.layers.selection.active is controller.layers.labels
    assert viewer.layers.index(layer) == viewer.layers.index("prediction") + 1
    controller.refined.toggle()
    assert "voxel by voxel" not in viewer.layers
    assert controller.layers.prediction.visible

    controller.refined.toggle()
    labelled.until(lambda: controller.refined.is_on)
    labelled.drag([(9, 5, 5), (9, 5, 20)])
    labelled.updated()
    assert not controller.refined.is_on
    assert controller.layers.prediction.visible
    controller.toggle_prediction()
    controller.refined.toggle()
    labelled.until(lambda: controller.refined.is_on)
    controller.refined.toggle()
    assert not controller.layers.prediction.visible  # it was hidden before
    assert [line for level, line in labelled.said if level != "info"] == []


def test_features_are_suggested_and_chosen(labelled: Desk) -> None:
    controller = labelled.controller
    for z in (5, 8, 11):
        for digit, y in ((1, 5), (2, 45)):
            controller.press_digit(digit)
            labelled.drag([(z, y, 5), (z, y, 20)])
    labelled.updated()
    controller.features.suggest()
    labelled.until(lambda: controller.features.found)
    spec = controller.features.found.spec
    assert spec == controller.need_project().suggest_features().spec
    controller.features.take()
    assert controller.need_project().specs.features == spec
    assert controller.features.found is None
    assert labelled.said == []


def test_what_features_cost_grows_with_voxels_and_channels() -> None:
    spec = FeatureSpec()
    assert estimate(spec, (128, 160, 160), 1) == "61 responses a voxel: about 2 s of processor time."
    assert estimate(spec, (1280, 160, 1600), 2).startswith("122 responses a voxel: about 8 min")


def test_the_probability_is_that_of_the_class_in_hand(labelled: Desk) -> None:
    controller, layers = labelled.controller, labelled.controller.layers
    prediction = controller.result.prediction
    for digit in (1, 2):
        controller.press_digit(digit)
        column = list(prediction.classes).index(digit)
        assert np.array_equal(layers.probability.data.table[1:], prediction.probabilities[:, column])
    controller.add_class("synapse")  # nothing is known of it yet
    assert not layers.probability.data.table.any()
    controller.toggle_probability()
    assert layers.probability.visible
    labelled.updated()


def test_neighbours_in_the_over_segmentation_rarely_share_a_colour(labelled: Desk) -> None:
    controller = labelled.controller
    controller.toggle_pieces()
    layer, edges = controller.layers.pieces, controller.tables[0].supervoxels.graph.edges
    assert layer.visible
    table = layer.data.table
    assert (table[edges[:, 0]] == table[edges[:, 1]]).mean() < 0.05
    assert table[0] == 0
    assert table[1:].min() >= 1
