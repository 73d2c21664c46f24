"""The segmentation in 3D, and the suggested plane in it; shown when asked for: without a graphics card it is slow."""

from __future__ import annotations

from math import cbrt, ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray

from voxloop.active import PlaneSuggestion
from voxloop.app import napari_adapter as adapter
from voxloop.app.layers import TRACE_COLOR
from voxloop.project.annotations import ERASER
from voxloop.volume import relative_spacing

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

# More voxels take seconds to draw without a graphics card; every second, third, ... is shown then.
_MAX_VOXELS = 4_000_000
_NOTHING = (None, None, -1)
# Added to predicted classes, so that they look another way than labels, and a label of the same class is a change.
_PREDICTED = 1 << 15
_DIMMED = 0.7


class SolidView:
    """The predicted classes in 3D; the one that takes most of the volume is left out, since it would hide the others.

    Brush and eraser work on what is seen.

    Parameters
    ----------
    controller
        Whose prediction and plane are shown.

    Attributes
    ----------
    model
        A viewer without a window.
    is_on
        Whether it is to be seen.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.model = ViewerModel(ndisplay=3)
        self.is_on = False
        self.forget()
        controller.changed.connect(self._on_changed)

    def toggle(self) -> None:
        """Show the segmentation in 3D, or hide it."""
        if self.is_on or self._controller.need_result() is not None:
            self.is_on = not self.is_on
            self.show()
            self._controller.changed.emit("views")

    def forget(self) -> None:
        """Drop what is shown: another image comes, or other supervoxels."""
        self._ids: NDArray[np.uint32] | None = None
        self._shown = _NOTHING
        self.model.layers.clear()

    def show(self) -> None:
        """Show the last prediction, the labels on what it shows, and the plane that is looked at."""
        controller = self._controller
        if not self.is_on or controller.result is None:
            return
        if self._ids is None:
            self._make_layers()
        self._set_mode()
        patch, n_events = controller.plane.patch, controller.need_project().annotations.n_events
        result, plane, events = self._shown
        if controller.result is result and patch is plane and n_events == events:
            return  # drawing takes a second or two without a graphics card
        self._shown = (controller.result, patch, n_events)
        self._seen = self._surface()
        self._solid.data = self._seen.copy()
        classes = controller.need_project().annotations.classes
        colors = {c.class_id: c.color for c in classes}
        dimmed = {_PREDICTED + class_id: _dim(color) for class_id, color in colors.items()}
        self._solid.colormap = adapter.class_colormap(colors | dimmed)
        self._plane.data = _disc(patch.plane if patch else None, controller.layers.image.record.spacing)

    # Behind the scenes

    def _make_layers(self) -> None:
        controller, record = self._controller, self._controller.layers.image.record
        labels = controller.tables[controller.image].supervoxels.labels
        self._step = ceil(cbrt(np.prod(record.shape) / _MAX_VOXELS))
        self._ids = np.ascontiguousarray(labels[:: self._step, :: self._step, :: self._step])
        scale = [self._step * s for s in record.spacing]
        self._solid = self.model.add_labels(np.zeros_like(self._ids, np.uint16), name="segmentation", scale=scale)
        self._plane = self.model.add_surface(_disc(None, record.spacing), name="suggested plane", opacity=0.7,
                                             shading="none", colormap=["black", TRACE_COLOR])  # fmt: skip
        # What is erased in the picture stays what can be painted on, else the brush would dig a hole.
        adapter.paint_to_release(self._solid, lambda voxels: self._seen[tuple(voxels.T)] != 0)
        adapter.take_over_undo(self._solid, controller.undo, controller.redo)
        self._solid.events.paint.connect(self._on_paint)
        self.model.layers.selection.active = self._solid
        adapter.bind_keys([*self.model.layers, self.model], controller.keys)
        self.model.reset_view()
        adapter.look_from_above(self.model)

    def _surface(self) -> NDArray[np.uint16]:
        """Return what is to be seen: predicted classes but for the largest, and labels where these are."""
        controller, step = self._controller, self._step
        sizes = controller.tables[controller.image].supervoxels.sizes
        shares = np.bincount(controller.result.prediction.segmentation, weights=sizes)
        table = controller.layers.prediction.data.table.copy()
        table[table == shares.argmax()] = 0
        table[table > 0] += _PREDICTED
        surface = table[self._ids]
        painted = controller.layers.labels.data[::step, ::step, ::step]
        return np.where((surface > 0) & (painted > 0), painted, surface)

    def _set_mode(self) -> None:
        """Let the mouse do here what it does in the slices: paint or erase."""
        labelling = self._controller.labelling
        self._solid.brush_size = max(1, round(self._controller.brush_size / self._step))
        if labelling.selected == ERASER:
            self._solid.mode = "erase"
        else:
            self._solid.selected_label = labelling.selected
            self._solid.mode = "paint"

    def _on_paint(self, event: Any) -> None:
        """Write what was painted to the log; a voxel of the picture stands for all those between it and the next."""
        places, values = adapter.changed_voxels(event.value)
        adapter.forget_history(self._solid)
        self._shown = _NOTHING  # a stroke that is refused has to go
        controller, step = self._controller, self._step
        within = np.stack([axis.ravel() for axis in np.mgrid[:step, :step, :step]], axis=1)
        voxels = (step * places[:, np.newaxis] + within).reshape(-1, 3)
        inside = np.all(voxels < controller.layers.image.record.shape, axis=1)
        controller.labelling.paint(voxels[inside], np.repeat(values, len(within))[inside], source="3D brush")
        self.show()

    def _on_changed(self, what: str) -> None:
        if what in ("live", "plane", "labels"):
            self.show()


def _dim(color: str) -> str:
    """Return a darker ``#rrggbb``."""
    return "#" + "".join(f"{round(_DIMMED * int(color[i : i + 2], 16)):02x}" for i in (1, 3, 5))


def _disc(plane: PlaneSuggestion | None, spacing: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return vertices (world units), triangles and values of a round patch; one flat triangle if there is none."""
    if plane is None:
        return np.zeros((3, 3)), np.array([[0, 1, 2]]), np.ones(3)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    down, right = plane.directions
    rim = plane.radius * (np.sin(angles)[:, None] * down + np.cos(angles)[:, None] * right)
    steps = np.array(relative_spacing(spacing))
    vertices = (np.array(plane.center) + np.concatenate([np.zeros((1, 3)), rim]) / steps) * np.array(spacing)
    around = np.arange(1, 49)
    triangles = np.stack([np.zeros(48, int), around, np.roll(around, -1)], axis=1)
    return vertices, triangles, np.ones(len(vertices))
