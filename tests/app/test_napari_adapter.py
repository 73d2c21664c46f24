"""What `napari_adapter` relies on in napari; these fail when napari changes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from voxloop.app import napari_adapter as adapter

Drag = Callable[..., None]


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def layer(viewer: ViewerModel) -> Labels:
    made = viewer.add_labels(np.zeros((4, 40, 50), np.uint16), scale=(3, 2, 2))
    made.brush_size = 1
    adapter.paint_to_release(made)
    made.mode = "paint"
    return made


def painted(layer: Labels) -> list[list[int]]:
    return np.argwhere(layer.data).tolist()


def test_a_stroke_reaches_the_release_point(layer: Labels, drag: Drag) -> None:
    drag(layer, [(1, 5, 5), (1, 5, 9), (1, 5, 20)])
    assert painted(layer) == [[1, 5, x] for x in range(5, 21)]


def test_a_click_is_a_stroke_and_the_eraser_erases(layer: Labels, drag: Drag) -> None:
    drag(layer, [(1, 5, 5), (1, 5, 5)])
    assert painted(layer) == [[1, 5, 5]]
    layer.mode = "erase"
    drag(layer, [(1, 5, 3), (1, 5, 8)])
    assert painted(layer) == []


def test_a_stroke_may_leave_the_image_and_come_back(layer: Labels, drag: Drag) -> None:
    drag(layer, [(1, 5, 47), (1, 5, 70), (1, 9, 48)])
    assert [1, 5, 49] in painted(layer)
    assert [1, 9, 48] in painted(layer)


def test_other_buttons_do_not_paint(layer: Labels, drag: Drag) -> None:
    drag(layer, [(1, 5, 5), (1, 5, 9), (1, 5, 20)], button=2)
    assert painted(layer) == []


def test_one_stroke_is_one_paint_event_with_its_voxels(layer: Labels, drag: Drag) -> None:
    items: list[Any] = []
    layer.events.paint.connect(lambda event: items.append(event.value))
    layer.data[1, 5, 7] = 1  # was painted before: not changed by the stroke
    drag(layer, [(1, 5, 5), (1, 5, 9), (1, 5, 20)])
    assert len(items) == 1
    voxels, values = adapter.changed_voxels(items[0])
    assert voxels.tolist() == [[1, 5, x] for x in range(5, 21) if x != 7]
    assert set(values.tolist()) == {1}


def test_changed_voxels_of_fill_and_of_single_voxels(layer: Labels) -> None:
    items: list[Any] = []
    layer.events.paint.connect(lambda event: items.append(event.value))
    layer.data_setitem((np.array([2, 2]), np.array([3, 4]), np.array([5, 6])), [1, 7])
    voxels, values = adapter.changed_voxels(items[-1])
    assert (voxels.tolist(), values.tolist()) == ([[2, 3, 5], [2, 4, 6]], [1, 7])
    layer.fill((0, 0, 0), 3)
    voxels, values = adapter.changed_voxels(items[-1])
    assert voxels.shape == (40 * 50, 3)
    assert (values == 3).all()


def test_of_several_changes_the_last_counts(layer: Labels) -> None:
    items: list[Any] = []
    layer.events.paint.connect(lambda event: items.append(event.value))
    with layer.block_history():
        layer.paint((0, 9, 9), 2)
        layer.paint((0, 9, 9), 5)
    voxels, values = adapter.changed_voxels(items[-1])
    assert (voxels.tolist(), values.tolist()) == ([[0, 9, 9]], [5])


def test_undo_and_redo_are_taken_over_where_napari_calls_them(layer: Labels) -> None:
    from napari.layers.labels import _labels_key_bindings as napari_keys

    called: list[str] = []
    adapter.take_over_undo(layer, lambda: called.append("undo"), lambda: called.append("redo"))
    napari_keys.undo(layer)
    napari_keys.redo(layer)
    assert called == ["undo", "redo"]


def test_forgotten_history_cannot_be_undone(layer: Labels, drag: Drag) -> None:
    drag(layer, [(1, 5, 5), (1, 5, 20)])
    adapter.forget_history(layer)
    layer.undo()
    assert len(painted(layer)) == 16


def test_refresh_draws_the_slice_anew_and_makes_no_thumbnail(viewer: ViewerModel, layer: Labels) -> None:
    adapter.look_at(viewer, 0, (0, 0, 0))
    before = layer.thumbnail.copy()
    layer.data[0, 3, 4] = 1
    adapter.refresh(layer)
    assert layer._slice.image.view[3, 4] != 0
    assert np.array_equal(layer.thumbnail, before)


def test_a_class_colormap_leaves_the_rest_transparent(layer: Labels) -> None:
    layer.colormap = adapter.class_colormap({1: "#ff0000", 300: "#00ff00"})
    assert layer.get_color(1).tolist() == [1, 0, 0, 1]
    assert layer.get_color(300).tolist() == [0, 1, 0, 1]
    assert layer.colormap.map(7)[3] == 0
    assert layer.colormap.map(0)[3] == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_look_at_shows_the_slice(viewer: ViewerModel, layer: Labels, axis: int) -> None:
    voxel = (2, 30, 41)
    adapter.look_at(viewer, axis, tuple(layer.data_to_world(voxel)))
    assert adapter.shown_slice(viewer, layer) == (axis, voxel[axis])
    assert viewer.dims.order[0] == axis


def test_look_at_moves_the_view_only_if_it_must(viewer: ViewerModel, layer: Labels) -> None:
    viewer.reset_view()
    center, zoom = adapter.view_of(viewer)
    adapter.look_at(viewer, 0, tuple(layer.data_to_world((3, 22, 27))))
    assert adapter.view_of(viewer) == (center, zoom)
    viewer.scene.camera.zoom = 50 * zoom
    adapter.look_at(viewer, 0, tuple(layer.data_to_world((3, 2, 40))))
    assert np.allclose(viewer.scene.camera.center[1:], (4, 80))
    adapter.restore_view(viewer, (center, zoom))
    assert adapter.view_of(viewer) == (center, zoom)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_middle_of_the_view_is_a_point_of_the_slice(viewer: ViewerModel, layer: Labels, axis: int) -> None:
    voxel = (2, 30, 41)
    point = tuple(layer.data_to_world(voxel))
    adapter.look_at(viewer, axis, point)
    adapter.look_closely(viewer, point, 10)
    assert np.allclose(adapter.view_center(viewer), point)


def test_linked_layers_of_two_viewers_look_the_same(viewer: ViewerModel, layer: Labels) -> None:
    other = ViewerModel().add_labels(layer.data)
    layer.colormap = adapter.class_colormap({1: "#ff0000"})
    layer.selected_label = 1
    adapter.link(layer, other)
    assert (other.mode, other.brush_size, other.selected_label) == ("paint", 1, 1)
    other.visible = False
    other.brush_size = 7
    assert (layer.visible, layer.brush_size) == (False, 7)
    other.visible = True
    layer.mode = "erase"
    assert other.mode == "erase"
    assert other.get_color(1).tolist() == [1, 0, 0, 1]


def test_look_closely_zooms_in_and_never_out(viewer: ViewerModel, layer: Labels) -> None:
    viewer.reset_view()
    adapter.look_closely(viewer, tuple(layer.data_to_world((3, 10, 12))), 10)
    assert np.allclose(viewer.scene.camera.center[1:], (20, 24))
    assert viewer.scene.camera.zoom == min(viewer.canvas.size) / 20
    viewer.scene.camera.zoom = 1000
    adapter.look_closely(viewer, (0, 0, 0), 10)
    assert viewer.scene.camera.zoom == 1000


def test_there_is_no_slice_in_3d(viewer: ViewerModel, layer: Labels) -> None:
    viewer.dims.ndisplay = 3
    assert adapter.shown_slice(viewer, layer) is None


def test_scale_bar_and_axis_names(viewer: ViewerModel, layer: Labels) -> None:
    adapter.show_scale_bar(viewer)
    assert viewer.canvas.overlays.scale_bar.visible
    assert viewer.dims.axis_labels == ("z", "y", "x")


def test_keys_of_the_layer_come_before_those_of_napari(viewer: ViewerModel, layer: Labels) -> None:
    from napari.utils.key_bindings import KeymapHandler

    pressed: list[str] = []
    names = ["1", "Shift-N", "Control-Shift-Z", "Enter", "Backspace", "F1", "S"]
    adapter.bind_keys([viewer, layer], {name: lambda name=name: pressed.append(name) for name in names})
    handler = KeymapHandler()
    handler.keymap_providers = [layer, viewer]
    for name in names:
        handler.press_key(name)
    assert pressed == names
    adapter.unbind_keys(layer, dict.fromkeys(names))
    adapter.unbind_keys(viewer, dict.fromkeys(names))
    handler.press_key("Shift-N")
    assert pressed == names


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_notifications_arrive(level: str) -> None:
    from napari.utils.notifications import notification_manager

    adapter.notify(level, "a line")
    last = notification_manager.records[-1]
    assert (last.message, last.severity.name.lower()) == ("a line", level)


def test_an_offer_is_a_notification_with_a_button() -> None:
    from napari.utils.notifications import notification_manager

    taken: list[str] = []
    adapter.offer("a line", "Take it", lambda: taken.append("taken"))
    last = notification_manager.records[-1]
    ((text, call),) = last.actions
    call(None)
    assert (last.message, text, taken) == ("a line", "Take it", ["taken"])


def test_layers_with_voxels_are_told_from_others(viewer: ViewerModel, layer: Labels) -> None:
    image, points = viewer.add_image(np.zeros((4, 5, 6))), viewer.add_points(np.zeros((2, 3)))
    assert [adapter.has_voxels(one) for one in (layer, image, points, None)] == [True, True, False, False]
    assert [adapter.is_labels(one) for one in (layer, image, points)] == [True, False, False]


def test_in_3d_the_brush_paints_the_first_voxels_that_are_seen(viewer: ViewerModel) -> None:
    layer = viewer.add_labels(np.zeros((6, 20, 20), np.uint16), scale=(3, 1, 1))
    block = np.zeros(layer.data.shape, bool)
    block[2:5, 5:15, 5:15] = True
    adapter.paint_to_release(layer, lambda voxels: block[tuple(voxels.T)])
    viewer.dims.ndisplay = 3
    layer.mode, layer.brush_size, layer.selected_label = "paint", 3, 7
    items: list[Any] = []
    layer.events.paint.connect(lambda event: items.append(event.value))

    def drag(*rows: float) -> None:
        along = np.array([1.0, 0.0, 0.0])
        event = SimpleNamespace(type="mouse_press", button=1, position=(-9, rows[0], 10), view_direction=along)
        (generator,) = [found for call in layer.mouse_drag_callbacks if (found := call(layer, event)) is not None]
        for row in rows[1:]:
            if next(generator, 1):
                return
            event.type, event.position = "mouse_move", (-9, row, 10)
        event.type = "mouse_release"
        list(generator)

    drag(5, 5, 9)
    voxels, values = adapter.changed_voxels(items[-1])
    assert len(items) == 1
    assert set(values.tolist()) == {7}
    assert set(voxels[:, 0].tolist()) == {2}  # a voxel is three as deep as wide: the brush reaches one
    assert voxels[:, 1].min() == 5  # not where nothing is seen
    assert {(5, 10), (9, 10), (7, 11), (10, 10)} <= {(y, x) for _, y, x in voxels.tolist()}
    assert not layer.mouse_pan
    drag(2, 2, 9)
    assert layer.mouse_pan
    assert len(items) == 1


def test_the_real_viewer_is_behind_the_proxy(viewer: ViewerModel) -> None:
    from napari.utils._proxies import PublicOnlyProxy

    assert adapter.real_viewer(PublicOnlyProxy(viewer)) is viewer
    assert adapter.real_viewer(viewer) is viewer


def test_settings_have_the_defaults_of_the_manifest() -> None:
    assert adapter.settings().live is True
    assert adapter.settings().brush_size == 5


def test_actions_are_in_the_palette_until_they_are_taken_out() -> None:
    from napari._app_model import get_app_model

    app, called = get_app_model(), []

    def ours() -> list[str]:
        items = app.menus.get_menu(app.menus.COMMAND_PALETTE_ID)
        return [item.command.id for item in items if getattr(item.command, "title", "") == "voxloop: jump"]

    take_out = [adapter.add_to_palette({"jump": lambda n=n: called.append(n)}) for n in ("one", "two")]
    for command in ours():
        app.commands.execute_command(command)
    assert sorted(called) == ["one", "two"]
    for call in take_out:
        call()
    assert ours() == []
