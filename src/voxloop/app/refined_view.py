"""One slice decided voxel by voxel near boundaries, when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxloop.app import napari_adapter as adapter
from voxloop.project.live import LiveResult

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

_NAME, _OPACITY = "voxel by voxel", 0.4


class RefinedView:
    """Shows a refined slice in a layer of its own, in the place of the prediction.

    Parameters
    ----------
    controller
        Whose slice on screen is refined.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._layer: Any = None
        self._result: LiveResult | None = None
        self._hides_prediction = False
        controller.changed.connect(self._on_changed)

    @property
    def is_on(self) -> bool:
        """Whether a refined slice is on screen."""
        return self._layer is not None

    def toggle(self) -> None:
        """Refine the slice on screen, or go back to the prediction of supervoxels."""
        if self.is_on:
            self.forget()
            self._controller.changed.emit("shown")
            return
        controller = self._controller
        result = controller.need_result()
        if result is None:
            return
        layers, shown = controller.layers, adapter.shown_slice(controller.viewer, controller.layers.labels)
        if shown is None:
            controller.notified.emit("info", "slices are refined: leave the 3D view first")
            return
        axis, index = shown
        image = controller.image

        def work() -> NDArray[np.integer]:
            with controller.snapshot() as snapshot:
                return snapshot.refine_slice(index, axis=axis, image=image)

        def done(classes: NDArray[np.integer]) -> None:
            if controller.layers is layers:
                self._show(np.expand_dims(classes, axis).astype(np.uint16), axis, index)
                self._result = controller.result
                controller.changed.emit("shown")

        controller.run("Voxel by voxel", work, done)

    def forget(self) -> None:
        """Take the layer away: what it shows is out of date, or not wanted any more."""
        controller, layer = self._controller, self._layer
        self._layer, self._result = None, None
        if layer is not None and layer in controller.viewer.layers:
            controller.viewer.layers.remove(layer)
        if self._hides_prediction and controller.layers is not None:
            controller.layers.prediction.visible = True
        self._hides_prediction = False

    # Behind the scenes

    def _on_changed(self, what: str) -> None:
        if what == "live" and self.is_on and self._controller.result is not self._result:
            self.forget()
            self._controller.changed.emit("shown")

    def _show(self, classes: NDArray[np.uint16], axis: int, index: int) -> None:
        controller, layers = self._controller, self._controller.layers
        viewer, record = controller.viewer, layers.image.record
        offset = [0.0, 0.0, 0.0]
        offset[axis] = index * record.spacing[axis]
        active = viewer.layers.selection.active
        self._layer = viewer.add_labels(
            classes, name=_NAME, opacity=_OPACITY, scale=record.spacing, translate=offset, units=(record.unit,) * 3
        )
        self._layer.colormap = layers.prediction.colormap
        self._layer.editable = False
        adapter.bind_keys([self._layer], controller.keys)
        self._hides_prediction = layers.prediction.visible
        layers.prediction.visible = False
        if layers.prediction in viewer.layers:  # below the hatch
            viewer.layers.move(viewer.layers.index(self._layer), viewer.layers.index(layers.prediction) + 1)
        viewer.layers.selection.active = active
