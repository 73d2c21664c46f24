"""Every call to napari that is private or that changed between its versions (written for 0.9.2).

Each function has a test in `tests/app/test_napari_adapter.py` that fails when napari changes under it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.layers.labels._labels_constants import Mode
from napari.layers.labels._labels_utils import mouse_event_to_labels_coordinate
from napari.layers.utils._link_layers import link_layers
from napari.settings import get_plugin_settings
from napari.utils import notifications
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

Layer = Any
Viewer = Any
Seen = Callable[[NDArray[np.int64]], NDArray[np.bool_]]

_CROSSHAIR = (1.0, 1.0, 1.0, 0.45)
_WELL_INSIDE = 0.7  # of the way from the middle of the view to its edge
_palettes = itertools.count()
_NOTIFIERS = {
    "info": notifications.show_info,
    "warning": notifications.show_warning,
    "error": notifications.show_error,
}


# Painting


def paint_to_release(layer: Labels, is_seen: Seen | None = None) -> None:
    """Let the brush and the eraser of `layer` paint up to the point where the mouse button is let go.

    napari throttles moves and leaves the release point out, so that a fast stroke would lose its tail.

    Parameters
    ----------
    layer
        A labels layer in two or three dimensions.
    is_seen
        Takes voxels (v, 3) and returns which of them are to be seen in 3D, (v,): there the brush paints on the first
        one under the mouse and on those around it, and a drag beside them turns the view. Without it, on all that the
        layer itself shows.
    """

    def stroke(layer: Labels, event: Any) -> Iterator[None]:
        if layer.cursor == "circle_frozen" or event.button != 1:  # resizing the brush, or napari's encircle-and-fill
            return
        if layer._slice_input.ndisplay == 3:
            yield from _stroke_on_surface(layer, event, is_seen or (lambda voxels: layer.data[tuple(voxels.T)] != 0))
        else:
            yield from _stroke(layer, event)

    layer._drag_modes = {**type(layer)._drag_modes, Mode.PAINT: stroke, Mode.ERASE: stroke}


def _value_of_brush(layer: Labels) -> int:
    return layer.colormap.background_value if layer._mode == Mode.ERASE else layer.selected_label


def _stroke(layer: Labels, event: Any) -> Iterator[None]:
    """Paint from press to release as one item of the history."""
    value = _value_of_brush(layer)
    with layer.block_history():
        last = mouse_event_to_labels_coordinate(layer, event)
        layer._draw(value, last, last)
        while True:
            yield
            here = mouse_event_to_labels_coordinate(layer, event)
            if here is not None:
                layer._draw(value, here if last is None else last, here)
            last = here
            if event.type == "mouse_release":
                return


def _stroke_on_surface(layer: Labels, event: Any, is_seen: Seen) -> Iterator[None]:
    """Paint what is seen in 3D near the mouse from press to release, as one item of the history."""
    last = _first_seen(layer, event, is_seen)
    layer.mouse_pan = last is None  # until the next press: the view has to hear of the release, too
    if last is None:
        return
    value = _value_of_brush(layer)
    with layer.block_history():
        _paint_seen(layer, last, last, value, is_seen)
        while True:
            yield
            here = _first_seen(layer, event, is_seen)
            if here is not None:
                _paint_seen(layer, here if last is None else last, here, value, is_seen)
            last = here
            if event.type == "mouse_release":
                return


def _first_seen(layer: Labels, event: Any, is_seen: Seen) -> NDArray[np.int64] | None:
    """Return the voxel that is seen under the mouse, if any: the first one along the line of sight."""
    start, end = layer.get_ray_intersections(
        event.position, event.view_direction, layer._slice_input.displayed, world=True
    )
    if start is None or end is None:
        return None
    n = 2 * int(np.ceil(np.abs(end - start).max())) + 1  # two a voxel: corners are not missed
    voxels = np.clip(np.round(np.linspace(start, end, n)), 0, np.array(layer.data.shape) - 1).astype(np.int64)
    found = np.flatnonzero(is_seen(voxels))
    return voxels[found[0]] if found.size else None


def _paint_seen(layer: Labels, first: NDArray[Any], last: NDArray[Any], value: int, is_seen: Seen) -> None:
    """Paint the voxels that are seen no further than the brush's radius from the line between two of them."""
    steps = np.array(layer.scale) / min(layer.scale)
    radius = layer.brush_size / 2
    reach = np.ceil(radius / steps)
    low = np.maximum(np.minimum(first, last) - reach, 0).astype(np.int64)
    high = np.minimum(np.maximum(first, last) + reach + 1, layer.data.shape).astype(np.int64)
    voxels = np.stack([axis.ravel() for axis in np.mgrid[tuple(map(slice, low, high))]], axis=1)
    along, offsets = (last - first) * steps, (voxels - first) * steps
    share = np.clip(offsets @ along / max(float(along @ along), 1.0), 0, 1)
    near = voxels[np.linalg.norm(offsets - share[:, np.newaxis] * along, axis=1) <= radius]
    layer.data_setitem(tuple(near[is_seen(near)].T), value)


def announce_when_written(layer: Labels) -> None:
    """Let `layer` say that it was filled once that is done, where napari says it just before: it may be refused."""
    for name in ("fill", "paint_polygon"):
        setattr(layer, name, _announced(layer, getattr(layer, name)))


def _announced(layer: Labels, paint: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any, **options: Any) -> None:
        with layer.block_history():
            paint(*arguments, **options)

    return call


def changed_voxels(item: list[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what an item of a labels layer's history (the value of its `paint` event) changed.

    The layer itself cannot be asked: napari sends some of these events before it writes.

    Returns
    -------
    voxels
        (v, 3), sorted, each once.
    values
        (v,) what they were changed to.
    """
    voxels, values = [], []
    for atom in item:
        if hasattr(atom, "slice_key"):
            start = [part.start or 0 for part in atom.slice_key]
            lengths = [part.stop - first for part, first in zip(atom.slice_key, start, strict=True)]
            mask = np.ones(lengths, bool) if atom.mask is None else atom.mask
            voxels.append(np.argwhere(mask) + start)
            values.append(np.full(len(voxels[-1]), atom.new_value, np.int64))
        else:
            indices, _, new = atom
            voxels.append(np.stack([np.atleast_1d(axis) for axis in indices], axis=1))
            values.append(np.broadcast_to(np.asarray(new, np.int64), len(voxels[-1])))
    # The last change of a voxel counts: the first one in reversed order.
    found, where = np.unique(np.concatenate(voxels)[::-1], axis=0, return_index=True)
    return found.astype(np.int64), np.concatenate(values)[::-1][where]


def take_over_undo(layer: Labels, undo: Callable[[], None], redo: Callable[[], None]) -> None:
    """Let napari's undo and redo of `layer`, by key or menu, call `undo` and `redo` instead."""
    layer.undo, layer.redo = undo, redo


def forget_history(layer: Labels) -> None:
    """Drop the layer's own history: what can be undone is in the project."""
    layer._reset_history()


# Display


def refresh(layer: Layer) -> None:
    """Draw the visible slice of `layer` anew, and nothing else: no thumbnail, no extent."""
    layer.refresh(thumbnail=False, extent=False, highlight=False)


# What a layer and its copy in another viewer have in common; the data are one array anyway.
_LINKED = ("visible", "opacity", "contrast_limits", "colormap", "gamma", "brush_size", "selected_label")


def link(layer: Layer, other: Layer) -> None:
    """Let `other`, a layer like `layer` in another viewer, look the same from now on, and the other way round."""
    shared = [name for name in _LINKED if name in layer.events and name in other.events]
    for name in shared:
        setattr(other, name, getattr(layer, name))
    if isinstance(layer, Labels):  # napari cannot compare their colour maps
        shared.remove("colormap")
    link_layers([layer, other], shared)
    if layer.editable and isinstance(layer, Labels):  # napari does not link modes
        other.mode = layer.mode
        for one, copy in ((layer, other), (other, layer)):
            one.events.mode.connect(lambda _event, one=one, copy=copy: setattr(copy, "mode", one.mode))


def class_colormap(colors: Mapping[int, str]) -> DirectLabelColormap:
    """Return a colour map for a labels layer: `colors` by value, everything else is transparent."""
    return DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **colors})


def look_at(viewer: Viewer, axis: int, point: tuple[float, float, float]) -> None:
    """Show the slice across `axis` through `point` (z, y, x in world units).

    The view moves only if the point is not well inside it: who knows the place should not have to find it again.
    """
    before = extra_axes(viewer)
    order = (*range(before), before + axis, *(before + a for a in range(3) if a != axis))
    turned = viewer.dims.ndisplay != 2 or tuple(viewer.dims.order) != order
    viewer.dims.ndisplay = 2
    viewer.dims.order = order
    viewer.dims.set_point(range(before, before + 3), point)
    if turned:
        viewer.reset_view()
    camera = viewer.scene.camera
    # The camera's last two coordinates are those on screen, down and to the right.
    here = np.array([point[a - before] for a in order[-2:]])
    half = np.array(viewer.canvas.size) / camera.zoom / 2
    if np.any(np.abs(here - camera.center[1:]) > _WELL_INSIDE * half):
        camera.center = (0.0, *(float(c) for c in here))


def extra_axes(viewer: Viewer) -> int:
    """Return how many axes come before z, y, x: none, unless somebody adds a layer with time."""
    return max(0, viewer.dims.ndim - 3)


def looked_along(viewer: Viewer) -> int:
    """Return the axis (0, 1, 2 for z, y, x) across which the slice on screen lies."""
    return int(viewer.dims.order[-3]) - extra_axes(viewer) if viewer.dims.ndim >= 3 else 0


def point_of(viewer: Viewer) -> tuple[float, float, float]:
    """Return the point (z, y, x in world units) that the sliders stand for."""
    z, y, x = (float(p) for p in tuple(viewer.dims.point)[-3:])
    return z, y, x


def look_closely(viewer: Viewer, point: tuple[float, float, float], radius: float) -> None:
    """Bring `point` (z, y, x in world units) to the middle of the view, with at most `radius` around it."""
    camera = viewer.scene.camera
    before = extra_axes(viewer)
    camera.center = (0.0, *(float(point[a - before]) for a in viewer.dims.order[-2:]))
    camera.zoom = max(camera.zoom, min(viewer.canvas.size) / (2 * radius))


def view_center(viewer: Viewer) -> tuple[float, float, float]:
    """Return the point (z, y, x in world units) in the visible slice that is in the middle of the view."""
    point = list(point_of(viewer))
    for axis, at in zip(viewer.dims.order[-2:], viewer.scene.camera.center[1:], strict=True):
        point[axis - extra_axes(viewer)] = float(at)
    z, y, x = point
    return z, y, x


def view_of(viewer: Viewer) -> tuple[Any, float]:
    """Return where the view is, for `restore_view`."""
    return viewer.scene.camera.center, viewer.scene.camera.zoom


def restore_view(viewer: Viewer, view: tuple[Any, float]) -> None:
    """Go back to an earlier view; the slice stays."""
    viewer.scene.camera.center, viewer.scene.camera.zoom = view


def shown_slice(viewer: Viewer, layer: Layer) -> tuple[int, int] | None:
    """Return the slice of `layer` on screen as axis and index; None in 3D."""
    if viewer.dims.ndisplay != 2 or viewer.dims.ndim < 3:
        return None
    axis = looked_along(viewer)
    index = round(float(layer.world_to_data(point_of(viewer))[axis]))
    return axis, min(max(index, 0), layer.data.shape[axis] - 1)


def show_scale_bar(viewer: Viewer) -> None:
    """Show a scale bar, and call the axes what microscopists call them."""
    viewer.canvas.overlays.scale_bar.visible = True
    viewer.dims.axis_labels = ("z", "y", "x")


def is_labels(layer: Layer) -> bool:
    """Whether a layer shows labels."""
    return isinstance(layer, Labels)


def has_voxels(layer: Layer | None) -> bool:
    """Whether a layer shows labels or an image, which may hold numbers of classes as well."""
    return isinstance(layer, Labels | Image) and not layer.multiscale


# Keys, messages, settings


def bind_keys(parents: list[Any], keys: Mapping[str, Callable[[], None]]) -> None:
    """Let keys call functions, whichever of `parents` (the viewer and layers) is asked first.

    Keys of a layer object come before those that napari gives to all layers of a type.
    """
    for parent in parents:
        for key, function in keys.items():
            parent.bind_key(key, lambda _parent, call=function: call(), overwrite=True)


def unbind_keys(parent: Any, keys: Mapping[str, Any]) -> None:
    """Take the keys away again."""
    for key in keys:
        parent.bind_key(key, None)


def add_to_palette(actions: Mapping[str, Callable[[], None]]) -> Callable[[], None]:
    """Add actions, by what they do, to the command palette; return a function that takes them out again."""
    from app_model.types import Action
    from napari._app_model import get_app_model

    number = next(_palettes)  # each window has entries of its own
    return get_app_model().register_actions(
        [
            Action(id=f"voxloop.dock-{number}.action-{index}", title=f"voxloop: {does}", callback=call)
            for index, (does, call) in enumerate(actions.items())
        ]
    )


def show_help(viewer: Viewer, layer: Layer, line: str) -> None:
    """Show `line` in the status bar while `layer` is active, where napari would list keys that it no longer has."""
    layer.help = line
    viewer.help = line


def notify(level: str, message: str) -> None:
    """Show a message that goes away by itself; `level` is ``info``, ``warning`` or ``error``."""
    _NOTIFIERS[level](message)


def offer(message: str, action: str, call: Callable[[], None]) -> None:
    """Show a message with a button `action` that does `call`."""
    button = (action, lambda _notification: call())
    notifications.notification_manager.dispatch(notifications.Notification(message, "info", (button,)))


def settings() -> Any:
    """Return what the user chose under Preferences > voxloop."""
    return get_plugin_settings("voxloop").labelling


# The window


def real_viewer(viewer: Viewer) -> Viewer:
    """Return the viewer behind the proxy that napari gives to plugins: the proxy warns at every private name."""
    return getattr(viewer, "__wrapped__", viewer)


def current_viewer() -> Viewer | None:
    """Return the viewer on screen, if there is one."""
    import napari

    return napari.current_viewer()


def add_dock(viewer: Viewer) -> Any:
    """Return the dock of voxloop in a viewer's window; add it if it is not there."""
    return viewer.window.add_plugin_dock_widget("voxloop")[1]


def canvas_of(model: Viewer) -> Any:
    """Return a widget that shows a viewer model which has no window; `close_canvas` ends it."""
    from napari.qt import QtViewer

    widget = QtViewer(model)
    widget.dims.hide()
    skip_picking(widget.canvas)
    return widget


def close_canvas(widget: Any) -> None:
    """End a widget of `canvas_of`, with its drawing context."""
    widget.close()
    widget.deleteLater()


class Crosshair:
    """Two thin lines over a canvas of `canvas_of`, or over that of the viewer's window."""

    def __init__(self, canvas: Any) -> None:
        from vispy.scene import Line

        self._lines = Line(np.zeros((4, 2)), color=_CROSSHAIR, connect="segments", width=1, parent=canvas.view.scene)
        self._lines.order = 1_000_000  # over all layers

    def move_to(self, down: float, right: float) -> None:
        """Let the lines cross at a point in world units."""
        far = 1e7
        self._lines.set_data(np.array([[-far, down], [far, down], [right, -far], [right, far]]))

    def show(self, on: bool) -> None:
        """Show the lines or hide them."""
        self._lines.visible = on


def main_canvas(viewer: Viewer) -> Any:
    """Return the canvas of the viewer's window."""
    return viewer.window._qt_viewer.canvas


def skip_picking(canvas: Any) -> None:
    """Let a press and a turn of the wheel go to the view at once.

    vispy draws all layers a second time to find the one under the mouse, some 100 ms without a graphics card and four
    times that at the first press, and then hands the event to the view that holds them.
    """
    scene = canvas._scene_canvas
    pick = scene.visual_at
    scene.visual_at = lambda pos: pick(pos) if canvas.viewer.canvas.grid.enabled else canvas.view


def look_from_above(viewer: Viewer) -> None:
    """Turn a 3D view so that z, y and x are all seen."""
    viewer.scene.camera.angles = (-35.0, 30.0, -60.0)


def add_panels(viewer: Viewer, dock: Any) -> dict[str, Any]:
    """Return four hidden panels: yz to the right of the canvas, xz below it, plane and 3D in the corner between them.

    Parameters
    ----------
    viewer
        The viewer whose window gets them.
    dock
        A widget in a dock at the right: it stays at the outside.
    """
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QDockWidget

    window = viewer.window._qt_window
    panels = {name: QDockWidget(name, window) for name in ("yz", "xz", "suggested plane", "3D")}
    for panel in panels.values():
        panel.setObjectName(panel.windowTitle())
        panel.setFeatures(QDockWidget.DockWidgetFeature.DockWidgetMovable)
    # The bottom belongs to the canvas; the lists at its sides keep their height.
    window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea)
    window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, panels["xz"])
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, panels["yz"])
    outside = dock.parentWidget()
    while outside is not None and not isinstance(outside, QDockWidget):
        outside = outside.parentWidget()
    if outside is not None:
        window.splitDockWidget(panels["yz"], outside, Qt.Orientation.Horizontal)
    window.splitDockWidget(panels["yz"], panels["suggested plane"], Qt.Orientation.Vertical)
    window.tabifyDockWidget(panels["suggested plane"], panels["3D"])
    for panel in panels.values():
        panel.hide()
    return panels


def share_room(viewer: Viewer, panels: Mapping[str, Any]) -> None:
    """Give the panels beside the canvas half of its room, and those below a third."""
    from qtpy.QtCore import Qt

    window, canvas = viewer.window._qt_window, viewer.window._qt_viewer
    beside = [panel for name, panel in panels.items() if name != "xz" and not panel.isHidden()]
    if beside:
        width = (canvas.width() + beside[0].width()) // 2
        window.resizeDocks(beside, [width] * len(beside), Qt.Orientation.Horizontal)
    window.resizeDocks([panels["xz"]], [window.height() // 3], Qt.Orientation.Vertical)
    if len(beside) > 1:
        window.resizeDocks(beside[:2], [window.height() // 2] * 2, Qt.Orientation.Vertical)


def before_closing(viewer: Viewer, close: Callable[[], bool]) -> None:
    """Call `close` when the viewer's window is about to be closed; unless it returns True the window stays."""
    from qtpy.QtCore import QEvent, QObject

    class Watcher(QObject):
        def eventFilter(self, _watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
            if event.type() != QEvent.Type.Close or close():
                return False
            event.ignore()
            return True

    window = viewer.window._qt_window
    window.installEventFilter(Watcher(window))


def focus_canvas(viewer: Viewer) -> None:
    """Give the keyboard back to the canvas."""
    viewer.window._qt_viewer.canvas.native.setFocus()
