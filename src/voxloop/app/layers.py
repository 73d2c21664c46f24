"""The layers of one image: the input, what is painted, and what follows from it, looked up slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.app import napari_adapter as adapter
from voxloop.app.look_up import HatchView, IdSlices, OutlineView, OutsideView, TableView
from voxloop.project import Project
from voxloop.project.annotations import LabelClass
from voxloop.project.images import ImageRecord
from voxloop.project.live import LiveResult
from voxloop.specs import UncertaintyKind
from voxloop.volume import ArrayLike

# An image up to this size is read into memory, where a slice along any axis comes at once.
_IN_MEMORY_BYTES = 2_000_000_000
_OUTLINE, _HATCH, _POINTED_OUT = "#ffd60a", "#00e5ff", "#ffffff"
_CHANNEL_COLORS = ("green", "magenta", "cyan", "yellow", "red", "blue")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image of a project as the viewer needs it.

    Attributes
    ----------
    index
        Which image of the project.
    record
        What the project remembers of it.
    channels
        One array (z, y, x) a channel; a single one (z, y, x, 3) if they are red, green and blue.
    limits
        The grey values shown as black and white, one pair an array.
    mask
        (z, y, x), not 0 inside; None if all of it counts.
    """

    index: int
    record: ImageRecord
    channels: tuple[ArrayLike, ...]
    limits: tuple[tuple[float, float], ...]
    mask: ArrayLike | None

    @classmethod
    def of(cls, project: Project, index: int) -> LoadedImage:
        """Read an image of `project`; one that is too large for memory stays on the disk."""
        volume = project.volume(index)
        channels: tuple[ArrayLike, ...]
        if volume.n_voxels * volume.n_channels * volume.dtype.itemsize > _IN_MEMORY_BYTES:
            channels = tuple(volume.with_channels([c]).data for c in range(volume.n_channels))
        elif volume.n_channels == 3 and volume.dtype == np.uint8:
            channels = (np.ascontiguousarray(np.moveaxis(volume.read(), 0, -1)),)
        else:
            channels = tuple(volume.read())
        return cls(index, project.images[index], channels, tuple(map(_limits, channels)), project.mask(index))


def _limits(channel: ArrayLike) -> tuple[float, float]:
    """Return percentiles over every few slices: one hot pixel must not make the image black."""
    step = max(1, channel.shape[0] // 8)
    sample = np.stack([np.asarray(channel[z])[::4, ::4] for z in range(0, channel.shape[0], step)])
    sample = sample[np.isfinite(sample)]
    low, high = (float(v) for v in np.percentile(sample, (0.2, 99.8))) if sample.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1)


class ProjectLayers:
    """Makes the layers of one image in a viewer, shows results in them, and takes them away again.

    Parameters
    ----------
    viewer
        A napari viewer, with or without a window.
    image
        What to show.
    """

    def __init__(self, viewer: Any, image: LoadedImage) -> None:
        self._viewer = viewer
        self.image = image
        record = image.record
        self._place = {"scale": record.spacing, "units": (record.unit,) * 3}
        self.input = self._add_input()
        self.mask = self._add_mask()
        self.prediction: Any = None
        self.uncertainty: Any = None
        self.outlines: Any = None
        self.top: Any = None
        self._pointed_out: int | None = None
        self.is_without_result = True
        self.is_removed = False
        # Zeros take no memory before somebody paints there.
        self.labels = viewer.add_labels(np.zeros(record.shape, np.uint16), name="labels", opacity=0.9, **self._place)
        adapter.paint_to_release(self.labels)
        viewer.layers.selection.active = self.labels

    @property
    def all(self) -> list[Any]:
        """The layers that there are, the input first."""
        derived = (self.mask, self.prediction, self.uncertainty, self.outlines, self.top, self.labels)
        return [*self.input, *(layer for layer in derived if layer is not None)]

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        self.is_removed = True
        for layer in self.all:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def show_supervoxels(self, labels: ArrayLike, n: int) -> None:
        """Show the outlines of supervoxels; what was shown of earlier ones goes."""
        if self.outlines is not None:
            self._replace_supervoxels(labels, n)
            return
        ids = IdSlices(labels)
        table = np.zeros(n + 1)
        self.prediction = self._add_derived(
            self._viewer.add_labels, TableView(ids, table.astype(np.uint16)), "prediction", opacity=0.3
        )
        self.uncertainty = self._add_derived(
            self._viewer.add_image,
            TableView(ids, table.astype(np.float32)),
            "uncertainty",
            opacity=0.6,
            visible=False,
            colormap="inferno",
            contrast_limits=(0, 1),
        )
        self.outlines = self._add_derived(self._viewer.add_labels, OutlineView(ids), "supervoxels", opacity=0.45)
        self.outlines.colormap = adapter.class_colormap({1: _OUTLINE})
        self.top = self._add_derived(
            self._viewer.add_labels, HatchView(ids, table.astype(np.uint8)), "most uncertain", opacity=0.8
        )
        self.top.colormap = adapter.class_colormap({1: _HATCH, 2: _POINTED_OUT})
        if self.labels in self._viewer.layers:
            self._viewer.layers.move(self._viewer.layers.index(self.labels), len(self._viewer.layers))
            self._viewer.layers.selection.active = self.labels

    def show_result(self, result: LiveResult) -> None:
        """Show what the classifier says: the supervoxels on screen at first, then all; no voxel is written."""
        self.prediction.data.table[result.ids] = result.prediction.segmentation
        self.uncertainty.data.table[result.ids] = result.uncertainty
        self._set_uncertainty_range(len(result.prediction.classes), result.request.query.uncertainty)
        if self.is_without_result:
            # What the supervoxels are like was seen; now their outlines would hide the prediction.
            self.outlines.visible = False
            self.is_without_result = False
        if result.whole:
            self.top.data.table[:] = 0
            self.top.data.table[result.top] = 1
            if self._pointed_out is not None:
                self.top.data.table[self._pointed_out] = 2
        for layer in (self.prediction, self.uncertainty, self.top):
            adapter.refresh(layer)

    def point_out(self, supervoxel: int | None) -> None:
        """Draw a denser hatch in white over one supervoxel, or over none."""
        table = self.top.data.table
        table[table == 2] = 0
        self._pointed_out = supervoxel
        if supervoxel is not None:
            table[supervoxel] = 2
            self.top.visible = True
        adapter.refresh(self.top)

    def show_classes(self, classes: Sequence[LabelClass]) -> None:
        """Give labels and prediction the colours of the classes."""
        colors = {c.class_id: c.color for c in classes}
        for layer in (self.labels, self.prediction):
            # A new colour map costs some 70 ms.
            if layer is not None and layer.metadata.get("colors") != colors:
                layer.colormap = adapter.class_colormap(colors)
                layer.metadata["colors"] = colors

    def write_labels(self, old: NDArray[np.int64], new: NDArray[np.int64], classes: NDArray[np.uint16]) -> None:
        """Take the labels of the voxels `old` away and give those at `new` their classes; linear indices."""
        flat = self.labels.data.reshape(-1)
        flat[old] = 0
        flat[new] = classes
        adapter.refresh(self.labels)

    def toggle(self, layer: Any) -> None:
        """Show a layer or hide it."""
        if layer is not None:
            layer.visible = not layer.visible

    # Behind the scenes

    def _add_input(self) -> list[Any]:
        channels, name = self.image.channels, self.image.record.name
        if channels[0].ndim == 4:
            return [self._viewer.add_image(channels[0], name=name, rgb=True, **self._place)]
        several = len(channels) > 1
        return [
            self._viewer.add_image(
                channel,
                name=f"{name}, channel {c}" if several else name,
                contrast_limits=limits,
                colormap=_CHANNEL_COLORS[c % len(_CHANNEL_COLORS)] if several else "gray",
                blending="additive" if several else "translucent",
                **self._place,
            )
            for c, (channel, limits) in enumerate(zip(channels, self.image.limits, strict=True))
        ]

    def _add_mask(self) -> Any:
        """Show what lies outside the mask under a dark veil."""
        if self.image.mask is None:
            return None
        view = OutsideView(IdSlices(self.image.mask))
        layer = self._add_derived(self._viewer.add_labels, view, "outside the mask", opacity=0.5)
        layer.colormap = adapter.class_colormap({1: "#202020"})
        return layer

    def _add_derived(self, add: Any, data: TableView, name: str, **options: Any) -> Any:
        layer = add(data, name=name, **self._place, **options)
        layer.editable = False
        return layer

    def _replace_supervoxels(self, labels: ArrayLike, n: int) -> None:
        self._pointed_out = None
        ids = IdSlices(labels)
        for layer in (self.prediction, self.uncertainty, self.outlines, self.top):
            layer.data.ids = ids
            layer.data.table = np.zeros(n + 1, layer.data.table.dtype)
            adapter.refresh(layer)

    def _set_uncertainty_range(self, n_classes: int, kind: UncertaintyKind) -> None:
        """Let white be the most uncertain that there can be, so that the picture does not change its scale."""
        most = max(1.0, float(np.log2(n_classes))) if kind == "total_entropy" else 1.0
        if self.uncertainty.contrast_limits[1] != most:
            self.uncertainty.contrast_limits_range = (0, most)
            self.uncertainty.contrast_limits = (0, most)
