"""What a setting would do to what is on screen, before the volume is computed with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxloop.app import napari_adapter as adapter
from voxloop.app.latest import Latest
from voxloop.app.layers import LoadedImage
from voxloop.app.look_up import IdSlices, OutlineView
from voxloop.blocks import Box, Shape3
from voxloop.features import preview_feature
from voxloop.specs import FeatureFamily
from voxloop.supervoxels import Intensities, measure_intensities, preview_supervoxels

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

# Voxels along the direction that is looked along, and across it: enough to judge by, little enough to follow a slider.
SLAB_DEPTH, SLAB_WIDTH = 32, 256
_NAME, _COLOR = "preview", "#ff7ad9"
_OPACITY = 0.4  # outlines of small supervoxels take half of the pixels: the image must be seen through them


class Previews:
    """Supervoxels of a slab around the visible slice, or one feature of the visible slice, in a layer of its own.

    Parameters
    ----------
    controller
        Whose image and view count.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._latest = Latest(controller.dispatch, name="voxloop-preview")
        self._layer: Any = None
        self._intensities: tuple[LoadedImage, Intensities] | None = None
        self._hidden: list[Any] = []
        self._cell: tuple[FeatureFamily, float] | None = None
        controller.viewer.dims.events.point.connect(self._follow)
        controller.viewer.dims.events.order.connect(self._follow)

    @property
    def cell(self) -> tuple[FeatureFamily, float] | None:
        """The feature that is shown, as family and sigma."""
        return self._cell

    @property
    def is_busy(self) -> bool:
        """Whether a preview is being computed."""
        return self._latest.is_busy

    def supervoxels(self) -> None:
        """Show what the chosen settings make of a slab around the visible slice."""
        controller = self._controller
        box = self._box((SLAB_DEPTH, SLAB_WIDTH))
        if box is None or controller.layers is None:
            return
        self._cell = None
        image, spec = controller.layers.image, controller.need_project().specs.slic

        def work() -> NDArray[np.uint32]:
            known, progress = self._intensities_of(image), self._latest.progress
            return preview_supervoxels(image.volume, box, spec, mask=image.mask, intensities=known, progress=progress)

        self._submit(work, lambda labels: self._show_outlines(labels, box.start))

    def feature(self, family: FeatureFamily, sigma: float) -> None:
        """Show what a filter responds on the visible slice; it follows the slice until `clear`."""
        self._cell = (family, sigma)
        controller = self._controller
        box = self._box((1, 2**31))
        if box is None or controller.layers is None:
            return
        volume, spec = controller.layers.image.volume, controller.need_project().specs.features
        self._submit(
            lambda: preview_feature(volume, family, sigma, box, spec=spec)[0],
            lambda response: self._show_image(response, box.start),
        )

    def clear(self) -> None:
        """Take the preview away."""
        self._latest.forget()
        self._cell = None
        self._remove()
        for layer in self._hidden:
            layer.visible = True
        self._hidden = []

    def close(self, timeout: float) -> None:
        """Compute nothing more."""
        self._latest.close(timeout)

    # Behind the scenes

    def _intensities_of(self, image: LoadedImage) -> Intensities:
        """Return what supervoxels have to know of an image's intensities, measured once; for the worker's thread."""
        if self._intensities is None or self._intensities[0] is not image:
            self._intensities = (image, measure_intensities(image.volume, mask=image.mask))
        return self._intensities[1]

    def _submit(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._latest.submit(work, then, lambda line: self._controller.notified.emit("warning", line))

    def _follow(self, _event: Any) -> None:
        controller = self._controller
        if self._cell is None or controller.layers is None:
            return
        if adapter.shown_slice(controller.viewer, controller.layers.labels) is not None:
            self.feature(*self._cell)

    def _box(self, size: tuple[int, int]) -> Box | None:
        """Return the box of `size` (along, across the view) around the middle of the view, in the visible slice."""
        controller = self._controller
        if controller.layers is None:
            return None
        shown = adapter.shown_slice(controller.viewer, controller.layers.labels)
        if shown is None:
            controller.notified.emit("info", "previews are for slices: leave the 3D view first")
            return None
        axis, _ = shown
        middle = controller.layers.labels.world_to_data(adapter.view_center(controller.viewer))
        start, stop = [], []
        for a, (at, n) in enumerate(zip(middle, controller.layers.image.record.shape, strict=True)):
            length = min(n, size[0] if a == axis else size[1])
            first = min(max(round(float(at)) - length // 2, 0), n - length)
            start.append(first)
            stop.append(first + length)
        return Box(tuple(start), tuple(stop))

    def _show_outlines(self, labels: Any, start: Shape3) -> None:
        layers, layer, ids = self._controller.layers, self._layer, IdSlices(labels)
        if layers is None:
            return
        translate = [a * s for a, s in zip(start, layers.image.record.spacing, strict=True)]
        is_there = layer in self._controller.viewer.layers and isinstance(layer.data, OutlineView)
        if is_there and layer.data.shape == labels.shape:  # a new layer costs ten times as much
            layer.data.ids = ids
            if np.allclose(layer.translate, translate):
                adapter.refresh(layer)
            else:
                layer.translate = translate
            return

        def add(**place: Any) -> Any:
            layer = self._controller.viewer.add_labels(OutlineView(ids), opacity=_OPACITY, **place)
            layer.colormap = adapter.class_colormap({1: _COLOR})
            return layer

        self._replace(add, start)

    def _show_image(self, response: Any, start: Shape3) -> None:
        low, high = (float(v) for v in np.percentile(response, (0.5, 99.5)))
        limits = (low, high if high > low else low + 1)
        self._replace(
            lambda **place: self._controller.viewer.add_image(response, contrast_limits=limits, rgb=False, **place),
            start,
        )

    def _replace(self, add: Callable[..., Any], start: Shape3) -> None:
        """Show a new layer in the place of the old one, below the labels, and leave the active layer active."""
        layers = self._controller.layers
        if layers is None:
            return
        hidden = self._hidden or [layer for layer in layers.results if layer.visible]
        self._remove()
        self._hidden = hidden
        for layer in hidden:  # what is previewed replaces what was computed, and is not to be seen under it
            layer.visible = False
        viewer = self._controller.viewer
        record = layers.image.record
        offset = [a * s for a, s in zip(start, record.spacing, strict=True)]
        active = viewer.layers.selection.active
        self._layer = add(name=_NAME, scale=record.spacing, translate=offset, units=(record.unit,) * 3)
        self._layer.editable = False
        if layers.labels in viewer.layers:
            viewer.layers.move(viewer.layers.index(self._layer), viewer.layers.index(layers.labels))
        viewer.layers.selection.active = active

    def _remove(self) -> None:
        if self._layer is not None and self._layer in self._controller.viewer.layers:
            self._controller.viewer.layers.remove(self._layer)
        self._layer = None
