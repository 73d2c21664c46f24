"""A suggested plane: its picture, answers by line, key and brush, and its trace in the slices."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from voxloop.active import PlaneSuggestion
from voxloop.app.look_up import TraceView

Desk = Any


@pytest.fixture
def planar(desk: Desk, project_folder: Path) -> Desk:
    """A desk with a stroke of each class and a suggested plane."""
    desk.open(project_folder)
    desk.drag([(2, 5, 5), (2, 5, 20), (2, 5, 40)])
    desk.controller.press_digit(2)
    desk.drag([(2, 40, 5), (2, 45, 20), (2, 50, 40)])
    desk.updated()
    desk.controller.plane.suggest()
    desk.until(lambda: not desk.controller.plane.is_busy)
    assert desk.controller.plane.patch is not None, desk.said
    return desk


def voxels_inside(desk: Desk) -> tuple[np.ndarray, ...]:
    patch = desk.controller.plane.patch
    return tuple(patch.voxels[patch.inside].T)


def test_the_picture_shows_what_the_slices_show(planar: Desk) -> None:
    plane = planar.controller.plane
    labels = np.asarray(planar.controller.tables[0].supervoxels.labels)
    assert np.array_equal(plane.patch.supervoxels[plane.patch.inside], labels[voxels_inside(planar)])
    shown = {layer.name: layer for layer in plane.viewer.layers}
    table = planar.controller.layers.prediction.data.table
    assert np.array_equal(shown["prediction"].data, table[plane.patch.supervoxels])


def test_two_clicks_label_both_sides_in_one_step(planar: Desk) -> None:
    plane, layer = planar.controller.plane, planar.controller.layers.labels
    before = layer.data.copy()
    middle = (np.array(plane.patch.inside.shape) - 1) / 2
    plane.draw_line()
    plane.click((middle[0] - 20, middle[1]))
    assert plane.start is not None
    assert np.array_equal(layer.data, before)
    plane.click((middle[0] + 20, middle[1]))
    painted = layer.data[voxels_inside(planar)]
    assert set(np.unique(painted)) >= {1, 2}
    changed = np.flatnonzero(layer.data != before)
    assert set(changed) <= set(np.ravel_multi_index(voxels_inside(planar), layer.data.shape))

    # The sides can change places; undo takes all of it back.
    first = layer.data.reshape(-1)[changed].copy()
    plane.swap()
    assert np.array_equal(layer.data.reshape(-1)[changed], 3 - first)
    planar.controller.undo()
    assert np.array_equal(layer.data, before)


def test_one_key_makes_all_of_it_one_class(planar: Desk) -> None:
    plane = planar.controller.plane
    planar.controller.press_digit(1)
    already = planar.controller.layers.labels.data[voxels_inside(planar)] > 0
    plane.answer_all()
    assert (planar.controller.layers.labels.data[voxels_inside(planar)][~already] == 1).any()
    planar.updated()
    plane.answer_all()
    assert planar.said[-1] == ("info", "all that the patch shows is labelled already")


def test_painting_in_the_plane_labels_the_nearest_voxels(planar: Desk, drag: Any) -> None:
    plane, main = planar.controller.plane, planar.controller.layers.labels
    own = plane.viewer.layers["labels"]
    planar.controller.press_digit(2)
    planar.controller.brush_size = 1
    middle = np.array(plane.patch.inside.shape) // 2
    before = main.data.copy()
    own.mode = "paint"
    own.paint(tuple(middle), 2)
    voxel = tuple(plane.patch.voxels[tuple(middle)])
    assert main.data[voxel] == 2
    assert np.count_nonzero(main.data != before) <= 1
    planar.controller.undo()
    assert np.array_equal(main.data, before)
    assert own.data[tuple(middle)] == before[voxel]


def test_the_wheel_steps_along_the_normal_up_to_the_border(planar: Desk) -> None:
    plane = planar.controller.plane
    start = np.array(plane.patch.plane.center)
    event = SimpleNamespace(modifiers=(), delta=(0.0, 1.0), handled=False)
    for callback in plane.viewer.mouse_wheel_callbacks:
        callback(plane.viewer, event)
    moved = (np.array(plane.patch.plane.center) - start) * planar.controller.layers.image.volume.relative_spacing
    assert np.allclose(moved, plane.patch.plane.normal)
    for _ in range(200):
        plane.step(1)
    assert plane.offset < 200
    assert planar.said == []


def test_next_and_back(planar: Desk) -> None:
    plane = planar.controller.plane
    first = plane.patch.plane
    plane.suggest()
    planar.until(lambda: not plane.is_busy)
    assert plane.patch.plane.center != first.center
    plane.back()
    assert plane.patch.plane == first
    plane.back()
    assert planar.said[-1][0] == "info"


def test_without_prediction_or_plane_the_keys_say_so(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    for action in ("suggest", "draw_line", "answer_all", "swap"):
        getattr(desk.controller.plane, action)()
    assert len(desk.said) == 4
    assert desk.controller.plane.patch is None


@pytest.mark.parametrize(("normal", "spacing"), [((0.6, 0.8, 0.0), (1, 1, 1)), ((1.0, 0.0, 0.0), (3, 1, 1))])
def test_the_trace_lies_in_the_plane_and_is_seen_from_every_side(normal: Any, spacing: Any) -> None:
    plane = PlaneSuggestion((20, 30, 30), normal, 12.0, 1.0, np.zeros(0, np.uint32), 1, 1.0, None, "")
    view = TraceView((40, 60, 60), spacing)
    assert not view[:, :, :].any()
    view.plane = plane
    full = view[:, :, :]
    assert np.array_equal(full[20], view[20] | full[20])
    steps = np.array(spacing) / min(spacing)
    offsets = (np.argwhere(full) - plane.center) * steps
    assert (np.abs(offsets @ normal) <= 1.5).all()
    assert (np.linalg.norm(offsets, axis=1) <= 12.5).all()
    for axis, index in enumerate((20, 30, 30)):
        key = [slice(None)] * 3
        key[axis] = index
        assert view[tuple(key)].any()
    assert not view[:, :, 0].any()
