"""The views from the side: the same strokes, looks and places as the main view; and the view in 3D."""

from __future__ import annotations

from pathlib import Path
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
    solid = desk.controller.solid.model.layers["segmentation"]
    assert np.array_equal(solid.data, desk.controller.layers.prediction.data[:, :, :])
    shares = np.bincount(solid.data.ravel(), minlength=3)
    assert solid.get_color(int(shares.argmax()))[3] == 0
    assert solid.get_color(int(shares[1:].argmin()) + 1)[3] == 1
