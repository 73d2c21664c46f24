"""The views from the side: the same strokes, looks and places as the main view; and the view in 3D."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

Desk = Any


@pytest.fixture
def sided(desk: Desk, project_folder: Path) -> Desk:
    """A desk with both side views on."""
    desk.open(project_folder)
    desk.controller.sides.toggle()
    return desk


def names(model: Any) -> list[str]:
    return [layer.name for layer in model.layers]


def test_each_view_has_the_layers_of_the_main_one_and_looks_another_way(sided: Desk) -> None:
    main, models = sided.viewer, sided.controller.sides.models
    assert [names(model) for model in models.values()] == [names(main)] * 2
    assert {model.dims.order[0] for model in models.values()} == {1, 2}
    for layer, copy in zip(main.layers, models["yz"].layers, strict=True):
        assert copy is not layer
        assert copy.data is layer.data


def test_a_stroke_from_the_side_is_a_stroke(sided: Desk) -> None:
    controller = sided.controller
    model = controller.sides.models["xz"]
    model.dims.set_point(1, controller.layers.labels.scale[1] * 30)
    controller.press_digit(2)
    layer = model.layers["labels"]
    assert layer.mode == "paint"
    assert layer.selected_label == 2
    layer.paint((4, 30, 20), 2)
    assert controller.layers.labels.data[4, 30, 20] == 2
    (row,) = controller.project.annotations.strokes
    assert (row.class_id, row.centre) == (2, (4, 30, 20))
    layer.undo()
    assert not controller.layers.labels.data.any()
    sided.updated()


def test_what_is_hidden_or_predicted_in_one_view_is_so_in_all(sided: Desk) -> None:
    controller, models = sided.controller, sided.controller.sides.models
    controller.toggle_outlines()
    assert all(model.layers["supervoxels"].visible is controller.layers.outlines.visible for model in models.values())
    sided.drag([(2, 5, 5), (2, 5, 20)])
    controller.press_digit(2)
    sided.drag([(2, 40, 5), (2, 45, 20)])
    sided.updated()
    shown = models["yz"].layers["prediction"]
    assert set(np.unique(shown._slice.image.raw)) <= {1, 2}
    assert np.unique(shown._slice.image.raw).any()
    controller.recolor_class(1, "#123456")
    assert models["yz"].layers["labels"].get_color(1)[:3].tolist() == pytest.approx(
        [0x12 / 255, 0x34 / 255, 0x56 / 255]
    )


def test_all_views_meet_at_one_point(sided: Desk) -> None:
    controller = sided.controller
    scale = controller.layers.labels.scale
    sided.viewer.dims.set_point(range(3), tuple(scale * (5, 20, 40)))
    assert np.isclose(controller.sides.models["yz"].dims.point[2], scale[2] * 40)
    assert np.isclose(controller.sides.models["xz"].dims.point[1], scale[1] * 20)
    controller.sides.models["xz"].dims.set_point(1, scale[1] * 33)
    assert np.allclose(sided.viewer.dims.point, scale * (5, 33, 40))
    controller.sides.models["yz"].cursor.position = tuple(scale * (7, 11, 40))
    controller.sides.place_at_pointer(controller.sides.models["yz"])
    assert np.allclose(sided.viewer.dims.point, scale * (7, 11, 40))


def test_views_that_are_off_cost_nothing_and_catch_up(sided: Desk) -> None:
    controller = sided.controller
    controller.sides.toggle()
    assert controller.layers.followers == []
    sided.drag([(2, 5, 5), (2, 5, 20)])
    controller.sides.toggle()
    view = controller.sides.models["xz"]
    view.dims.set_point(1, controller.layers.labels.scale[1] * 5)
    assert (view.layers["labels"]._slice.image.raw == 1).any()
    controller.close_project()
    assert all(len(model.layers) == 0 for model in controller.sides.models.values())
    assert sided.said == []


def test_the_solid_leaves_out_the_class_that_hides_the_others(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    desk.controller.solid.toggle()
    assert not desk.controller.solid.is_on
    assert "no prediction" in desk.said[-1][1]
    desk.drag([(2, 5, 5), (2, 5, 20), (2, 5, 40)])
    desk.controller.press_digit(2)
    desk.drag([(2, 40, 5), (2, 45, 20), (2, 50, 40)])
    desk.updated()
    desk.controller.solid.toggle()
    predicted = desk.controller.layers.prediction.data[:, :, :]
    solid = desk.controller.solid.model.layers["segmentation"]
    largest = np.bincount(predicted.ravel()).argmax()
    assert set(np.unique(predicted)) == {1, 2}
    on_surface = np.where(predicted == largest, 0, predicted + (1 << 15))
    painted = desk.controller.layers.labels.data
    assert np.array_equal(solid.data, np.where((painted > 0) & (on_surface > 0), painted, on_surface))
    assert all(solid.get_color(int(value))[3] == 1 for value in np.unique(solid.data)[1:])


@pytest.fixture
def solid(desk: Desk, project_folder: Path) -> Desk:
    """A desk with a prediction shown in 3D."""
    desk.open(project_folder)
    desk.drag([(2, 5, 5), (2, 5, 20), (2, 5, 40)])
    desk.controller.press_digit(2)
    desk.drag([(2, 40, 5), (2, 45, 20), (2, 50, 40)])
    desk.updated()
    desk.controller.live = False
    desk.controller.solid.toggle()
    return desk


def drag_in_3d(layer: Any, *points: tuple[float, float]) -> None:
    """Press, move and release at points (y, x) in voxels of a layer that is looked at along z, from outside."""
    place = [np.array(layer.data_to_world((-5, *point))) for point in points]
    along = np.array([1.0, 0.0, 0.0])
    event = SimpleNamespace(type="mouse_press", button=1, position=place[0], view_direction=along)
    for callback in layer.mouse_drag_callbacks:
        generator = callback(layer, event)
        if generator is None:
            continue
        try:
            next(generator)
            for kind, position in [*(("mouse_move", p) for p in place[1:]), ("mouse_release", place[-1])]:
                event.type, event.position = kind, position
                next(generator)
        except StopIteration:
            pass


def seen_from_above(surface: Any) -> Any:
    """Return the slice (y, x) in which something is first seen along z, -1 where nothing is."""
    return np.where(surface.any(axis=0), (surface > 0).argmax(axis=0), -1)


def test_the_brush_paints_in_3d_on_what_is_seen_there(solid: Desk) -> None:
    controller, model = solid.controller, solid.controller.solid.model
    layer = model.layers["segmentation"]
    surface, before = layer.data.copy(), controller.layers.labels.data.copy()
    first = seen_from_above(surface)
    y, x = (int(c) for c in np.argwhere((first[8:-8, 8:-16] > 0) & (first[8:-8, 16:-8] > 0))[0] + 8)
    controller.brush_size = 3
    controller.press_digit(1)
    drag_in_3d(layer, (y, x), (y, x + 8))
    changed = np.argwhere(controller.layers.labels.data != before)
    assert (first[y, x], y, x) in {tuple(c) for c in changed.tolist()}
    assert (surface[tuple(changed.T)] > 0).all()  # nothing in the air, nothing in what is not shown
    assert np.ptp(changed[:, 2]) >= 8
    row = controller.overview.strokes[0]
    assert (row.class_id, row.source, row.n_voxels) == (1, "3D brush", len(changed))
    assert (layer.data[tuple(changed.T)] == 1).all()
    assert not layer.mouse_pan

    # The eraser takes them off and digs no hole; undo brings them back.
    controller.press_digit(0)
    drag_in_3d(layer, (y, x), (y, x + 8))
    assert np.array_equal(controller.layers.labels.data > 0, before > 0)
    assert np.array_equal(layer.data > 0, surface > 0)
    controller.undo()
    assert np.array_equal(np.argwhere(controller.layers.labels.data != before), changed)
    assert [line for level, line in solid.said if level != "info"] == []


def test_a_drag_beside_what_is_seen_turns_the_view(solid: Desk) -> None:
    controller, layer = solid.controller, solid.controller.solid.model.layers["segmentation"]
    before = controller.layers.labels.data.copy()
    y, x = (int(c) for c in np.argwhere(~layer.data.any(axis=0))[0])
    drag_in_3d(layer, (y, x), (y, x))
    assert layer.mouse_pan
    drag_in_3d(layer, (-20, x), (-20, x + 3))
    assert layer.mouse_pan
    assert np.array_equal(controller.layers.labels.data, before)


def test_every_voxel_that_a_coarser_picture_stands_for_is_painted(solid: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from voxloop.app import solid_view

    controller = solid.controller
    monkeypatch.setattr(solid_view, "_MAX_VOXELS", 3000)
    controller.solid.forget()
    controller.solid.show()
    layer = controller.solid.model.layers["segmentation"]
    shape = controller.layers.labels.data.shape
    step = controller.solid._step
    assert step == 3
    first = seen_from_above(layer.data)
    y, x = (int(c) for c in np.argwhere(first[1:] > 0)[0] + (1, 0))  # the very edge is no part of napari's box
    before = controller.layers.labels.data.copy()
    controller.brush_size = 1
    controller.press_digit(1)
    drag_in_3d(layer, (y, x), (y, x))
    changed = np.argwhere(controller.layers.labels.data != before)
    expected = np.zeros(shape, bool)
    expected[tuple(slice(step * c, step * c + step) for c in (first[y, x], y, x))] = True
    expected &= before != 1
    assert np.array_equal(changed, np.argwhere(expected))


def test_whole_supervoxels_are_painted_in_3d_too(solid: Desk) -> None:
    controller, layer = solid.controller, solid.controller.solid.model.layers["segmentation"]
    ids = np.asarray(controller.tables[0].supervoxels.labels)
    controller.toggle_whole()
    controller.brush_size = 1
    first = seen_from_above(layer.data)
    y, x = (int(c) for c in np.argwhere(first[1:] > 2)[0] + (1, 0))
    controller.press_digit(1)
    drag_in_3d(layer, (y, x), (y, x))
    piece = ids == ids[first[y, x], y, x]
    assert (controller.layers.labels.data[piece] == 1).all()


def test_the_brush_paints_in_the_main_view_turned_to_3d(solid: Desk) -> None:
    controller, viewer = solid.controller, solid.viewer
    viewer.dims.ndisplay = 3
    assert "in 3D the brush paints" in solid.said[-1][1]
    layer = controller.layers.labels
    layer.data[:] = 0
    controller.press_digit(2)
    controller.brush_size = 1
    drag_in_3d(layer, (10, 10), (10, 14))
    assert np.argwhere(layer.data).tolist() == [[0, 10, x] for x in range(10, 15)]
    controller.layers.prediction.visible = False
    drag_in_3d(layer, (30, 10), (30, 14))
    assert np.count_nonzero(layer.data) == 5
    assert layer.mouse_pan
    viewer.dims.ndisplay = 2
