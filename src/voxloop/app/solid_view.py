"""The segmentation as a solid, with the suggested plane in it; made when it is asked for."""

from __future__ import annotations

from math import cbrt, ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray

from voxloop.active import PlaneSuggestion
from voxloop.app import napari_adapter as adapter
from voxloop.app.layers import TRACE_COLOR
from voxloop.volume import relative_spacing

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

# More voxels take seconds to draw without a graphics card; every second, third, ... is shown then.
_MAX_VOXELS = 4_000_000


class SolidView:
    """The predicted classes in 3D; the one that takes most of the volume is left out, since it would hide the others.

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
        self._ids: NDArray[np.uint32] | None = None
        controller.changed.connect(self._on_changed)

    def toggle(self) -> None:
        """Show the segmentation in 3D, or hide it."""
        if self.is_on or self._controller.need_result() is not None:
            self.is_on = not self.is_on
            self.show()
            self._controller.changed.emit("views")

    def forget(self) -> None:
        """Drop what is shown: another image comes, or other supervoxels."""
        self._ids = None
        self.model.layers.clear()

    def show(self) -> None:
        """Show the last prediction and the plane that is looked at."""
        controller = self._controller
        if not self.is_on or controller.result is None:
            return
        record = controller.layers.image.record
        if self._ids is None:
            labels = controller.tables[controller.image].supervoxels.labels
            step = ceil(cbrt(np.prod(record.shape) / _MAX_VOXELS))
            self._ids = np.ascontiguousarray(labels[::step, ::step, ::step])
            scale = [step * s for s in record.spacing]
            self._solid = self.model.add_labels(np.zeros_like(self._ids, np.uint16), name="segmentation", scale=scale)
            self._plane = self.model.add_surface(_disc(None, record.spacing), name="suggested plane", opacity=0.7,
                                                 shading="none", colormap=["black", TRACE_COLOR])  # fmt: skip
            adapter.bind_keys([*self.model.layers, self.model], controller.keys)
            self.model.reset_view()
            adapter.look_from_above(self.model)
        self._solid.data = controller.layers.prediction.data.table[self._ids]
        sizes = controller.tables[controller.image].supervoxels.sizes
        shares = np.bincount(controller.result.prediction.segmentation, weights=sizes)
        classes = controller.need_project().annotations.classes
        self._solid.colormap = adapter.class_colormap(
            {c.class_id: c.color for c in classes if c.class_id != int(shares.argmax())}
        )
        patch = controller.plane.patch
        self._plane.data = _disc(patch.plane if patch else None, record.spacing)

    def _on_changed(self, what: str) -> None:
        if what in ("live", "plane"):
            self.show()


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
