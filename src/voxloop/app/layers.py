"""The layers of one image: the input, what is painted, and what follows from it, looked up slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.active import PlaneSuggestion
from voxloop.app import napari_adapter as adapter
from voxloop.app.look_up import HatchView, IdSlices, OutlineView, OutsideView, TableView, TraceView
from voxloop.project import Project
from voxloop.project.annotations import LabelClass
from voxloop.project.images import ImageRecord
from voxloop.project.live import LiveResult
from voxloop.specs import UncertaintyKind
from voxloop.volume import ArrayLike, Volume

# An image up to this size is read into memory, where a slice along any axis comes at once.
_IN_MEMORY_BYTES = 2_000_000_000
OUTLINE_COLOR, TRACE_COLOR = "#ffd60a", "#ff7ad9"
LABELS_OPACITY = 0.9
_HATCH_COLOR, _POINTED_OUT_COLOR = "#00e5ff", "#ffffff"
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
    volume
        Its voxels, in memory unless they are too many.
    channels
        One array (z, y, x) a channel; a single one (z, y, x, 3) if they are red, green and blue.
    limits
        The grey values shown as black and white, one pair an array.
    mask
        (z, y, x), not 0 inside; None if all of it counts.
    """

    index: int
    record: ImageRecord
    volume: Volume
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
        else:
            voxels = volume.read()
            is_rgb = volume.n_channels == 3 and volume.dtype == np.uint8
            channels = (np.ascontiguousarray(np.moveaxis(voxels, 0, -1)),) if is_rgb else tuple(voxels)
            volume = replace(volume, data=voxels[0] if volume.n_channels == 1 else np.moveaxis(voxels, 0, -1))
        limits = tuple(map(_limits, channels))
        return cls(index, project.images[index], volume, channels, limits, project.mask(index))


def _limits(channel: ArrayLike) -> tuple[float, float]:
    """Return percentiles over every few slices: one hot pixel must not make the image black."""
    step = max(1, channel.shape[0] // 8)
    sample = np.stack([np.asarray(channel[z])[::4, ::4] for z in range(0, channel.shape[0], step)])
    sample = sample[np.isfinite(sample)]
    low, high = (float(v) for v in np.percentile(sample, (0.2, 99.8))) if sample.size else (0.0, 1.0)
    return (low, high) if high > low else (low, low + 1)


def add_input(viewer: Any, image: LoadedImage, pictures: Sequence[ArrayLike], place: dict[str, Any]) -> list[Any]:
    """Add the channels of an image to a viewer, a layer each; `pictures` are its arrays, or slices of them."""
    name, several = image.record.name, len(pictures) > 1
    if np.dtype(pictures[0].dtype) == np.uint8 and len(pictures[0].shape) > len(place["scale"]):
        return [viewer.add_image(pictures[0], name=name, rgb=True, **place)]
    return [
        viewer.add_image(
            picture,
            name=f"{name}, channel {c}" if several else name,
            contrast_limits=limits,
            colormap=_CHANNEL_COLORS[c % len(_CHANNEL_COLORS)] if several else "gray",
            blending="additive" if several else "translucent",
            rgb=False,  # napari takes a volume of three or four columns for a picture in colours
            **place,
        )
        for c, (picture, limits) in enumerate(zip(pictures, image.limits, strict=True))
    ]


class ProjectLayers:
    """Makes the layers of one image in a viewer, shows results in them, and takes them away again.

    Parameters
    ----------
    viewer
        A napari viewer, with or without a window.
    image
        What to show.
    leader
        Layers of the same image in another viewer: the arrays are shared, and what is seen of them agrees.
    """

    def __init__(self, viewer: Any, image: LoadedImage, *, leader: ProjectLayers | None = None) -> None:
        self._viewer = viewer
        self.image = image
        record = image.record
        self._place = {"scale": record.spacing, "units": (record.unit,) * 3}
        self.followers: list[ProjectLayers] = []
        self.input = add_input(viewer, image, image.channels, self._place)
        self.mask = self._add_mask()
        self.prediction: Any = None
        self.uncertainty: Any = None
        self.outlines: Any = None
        self.pieces: Any = None
        self.probability: Any = None
        self.top: Any = None
        self.trace: Any = None
        self._pointed_out = np.zeros(0, np.uint32)
        self._until_labelled = False
        self._probabilities: dict[int, NDArray[np.float32]] = {}
        self._chosen = 0
        self.is_without_result = True
        self.is_removed = False
        # Zeros take no memory before somebody paints there.
        voxels = np.zeros(record.shape, np.uint16) if leader is None else leader.labels.data
        self.labels = viewer.add_labels(voxels, name="labels", opacity=LABELS_OPACITY, **self._place)
        adapter.paint_to_release(self.labels, self._is_seen)
        adapter.announce_when_written(self.labels)
        viewer.layers.selection.active = self.labels
        if leader is not None:
            self._follow(leader)

    @property
    def all(self) -> list[Any]:
        """The layers that there are, the input first."""
        derived = (self.mask, *self.results, self.trace, self.labels)
        return [*self.input, *(layer for layer in derived if layer is not None)]

    @property
    def results(self) -> list[Any]:
        """The layers of what was computed, from the lowest to the top."""
        found = (self.prediction, self.probability, self.uncertainty, self.pieces, self.outlines, self.top)
        return [layer for layer in found if layer is not None]

    def remove(self) -> None:
        """Take the layers out of the viewer."""
        self.is_removed = True
        for follower in self.followers:
            follower.remove()
        for layer in self.all:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def show_supervoxels(self, labels: ArrayLike, n: int) -> None:
        """Show the outlines of supervoxels; what was shown of earlier ones goes."""
        if self.outlines is not None:
            self._replace_supervoxels(labels, n)
            return
        ids, table = IdSlices(labels), np.zeros(n + 1)
        self._add_results(
            TableView(ids, table.astype(np.uint16)),
            TableView(ids, table.astype(np.float32)),
            TableView(ids, table.astype(np.float32)),
            TableView(ids, _motley(n)),
            OutlineView(ids),
            HatchView(ids, table.astype(np.uint8)),
            TraceView(labels.shape, self.image.record.spacing),
        )
        for follower in self.followers:
            follower._follow(self)

    def show_result(self, result: LiveResult) -> None:
        """Show what the classifier says: the supervoxels on screen at first, then all; no voxel is written."""
        self.prediction.data.table[result.ids] = result.prediction.segmentation
        self.uncertainty.data.table[result.ids] = result.uncertainty
        for class_id, shares in zip(result.prediction.classes, result.prediction.probabilities.T, strict=True):
            table = self._probabilities.setdefault(int(class_id), np.zeros_like(self.uncertainty.data.table))
            table[result.ids] = shares
        self.show_probability(self._chosen)
        self._set_uncertainty_range(len(result.prediction.classes), result.request.query.uncertainty)
        if self.is_without_result:
            # What the supervoxels are like was seen; now their outlines would hide the prediction.
            self.outlines.visible = False
            self.is_without_result = False
        if result.whole:
            self.top.data.table[:] = 0
            self.top.data.table[result.top] = 1
            if self._until_labelled:
                labelled = result.labels.images[result.request.shown].ids
                self._pointed_out = np.setdiff1d(self._pointed_out, labelled)
            self.top.data.table[self._pointed_out] = 2
        self._refresh("prediction", "uncertainty", "top")

    def show_probability(self, class_id: int) -> None:
        """Show how probable a class is; 0 everywhere if nothing is known of it."""
        self._chosen = class_id
        if self.probability is not None:
            view = self.probability.data
            view.table = self._probabilities.get(class_id, np.zeros_like(view.table))
            self._refresh("probability")

    def show_trace(self, plane: PlaneSuggestion | None) -> None:
        """Draw where a plane cuts the slices, or draw nothing."""
        if self.trace is not None and not self.is_removed:
            self.trace.data.plane = plane
            self._refresh("trace")

    def refresh_followers(self) -> None:
        """Show in the other viewers what has changed while they did not follow."""
        for follower in self.followers:
            for layer in follower.all:
                adapter.refresh(layer)

    def point_out(self, *supervoxels: int, until_labelled: bool = False) -> None:
        """Draw a white ring around some supervoxels only, or around none; if wanted, until they have a label."""
        table = self.top.data.table
        table[table == 2] = 0
        self._pointed_out, self._until_labelled = np.array(supervoxels, np.uint32), until_labelled
        if supervoxels:
            table[self._pointed_out] = 2
            self.top.visible = True
        self._refresh("top")

    def show_classes(self, classes: Sequence[LabelClass]) -> None:
        """Give labels and prediction the colours of the classes."""
        colors = {c.class_id: c.color for c in classes}
        views = (self, *self.followers)
        for layer in (layer for view in views for layer in (view.labels, view.prediction)):
            # A new colour map costs some 70 ms.
            if layer is not None and layer.metadata.get("colors") != colors:
                layer.colormap = adapter.class_colormap(colors)
                layer.metadata["colors"] = colors

    def write_labels(self, old: NDArray[np.int64], new: NDArray[np.int64], classes: NDArray[np.uint16]) -> None:
        """Take the labels of the voxels `old` away and give those at `new` their classes; linear indices."""
        flat = self.labels.data.reshape(-1)
        flat[old] = 0
        flat[new] = classes
        self._refresh("labels")

    def painted(self, source: Any) -> None:
        """Show in the other viewers what was painted in the layer `source`."""
        for layers in (self, *self.followers):
            if layers.labels is not source:
                adapter.refresh(layers.labels)

    def toggle(self, layer: Any) -> None:
        """Show a layer or hide it."""
        if layer is not None:
            layer.visible = not layer.visible

    # Behind the scenes

    def _is_seen(self, voxels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which voxels (v, 3) show a label or a predicted class."""
        where, seen = tuple(voxels.T), np.zeros(len(voxels), np.bool_)
        for layer in (self.labels, self.prediction):
            if layer is not None and layer.visible:
                seen |= layer.data[where] != 0
        return seen

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

    def _add_results(
        self, prediction: Any, probability: Any, uncertainty: Any, pieces: Any, outlines: Any, top: Any, trace: Any
    ) -> None:
        add_labels = self._viewer.add_labels
        self.prediction = self._add_derived(add_labels, prediction, "prediction", opacity=0.3)
        self.probability = self._add_shares(probability, "probability", "viridis")
        self.uncertainty = self._add_shares(uncertainty, "uncertainty", "inferno")
        self.pieces = self._add_derived(add_labels, pieces, "over-segmentation", opacity=0.5, visible=False)
        self.outlines = self._add_derived(add_labels, outlines, "supervoxels", opacity=0.45)
        self.outlines.colormap = adapter.class_colormap({1: OUTLINE_COLOR})
        self.top = self._add_derived(add_labels, top, "most uncertain", opacity=0.8)
        self.top.colormap = adapter.class_colormap({1: _HATCH_COLOR, 2: _POINTED_OUT_COLOR})
        self.trace = self._add_derived(add_labels, trace, "suggested plane", opacity=1.0)
        self.trace.colormap = adapter.class_colormap({1: TRACE_COLOR})
        if self.labels in self._viewer.layers:
            self._viewer.layers.move(self._viewer.layers.index(self.labels), len(self._viewer.layers))
            self._viewer.layers.selection.active = self.labels

    def _add_shares(self, data: TableView, name: str, colormap: str) -> Any:
        """Add a hidden layer of values from 0 to 1."""
        return self._add_derived(
            self._viewer.add_image,
            data,
            name,
            opacity=0.6,
            visible=False,
            rgb=False,
            colormap=colormap,
            contrast_limits=(0, 1),
        )

    def _follow(self, leader: ProjectLayers) -> None:
        """Show what the layers of the leader show, the way they show it."""
        if leader.outlines is not None and self.outlines is None:
            self._add_results(*(layer.data for layer in (*leader.results, leader.trace)))
        for theirs, ours in zip(leader.all, self.all, strict=True):
            adapter.link(theirs, ours)

    def _refresh(self, *names: str) -> None:
        for layers in (self, *self.followers):
            for name in names:
                adapter.refresh(getattr(layers, name))

    def _replace_supervoxels(self, labels: ArrayLike, n: int) -> None:
        self._pointed_out = np.zeros(0, np.uint32)
        ids = IdSlices(labels)
        self._probabilities = {}
        for layer in self.results:
            layer.data.ids = ids
            layer.data.table = np.zeros(n + 1, layer.data.table.dtype)
        self.pieces.data.table = _motley(n)
        self._refresh("prediction", "probability", "uncertainty", "pieces", "outlines", "top")

    def _set_uncertainty_range(self, n_classes: int, kind: UncertaintyKind) -> None:
        """Let white be the most uncertain that there can be, so that the picture does not change its scale."""
        most = max(1.0, float(np.log2(n_classes))) if kind == "total_entropy" else 1.0
        if self.uncertainty.contrast_limits[1] != most:
            self.uncertainty.contrast_limits_range = (0, most)
            self.uncertainty.contrast_limits = (0, most)


def _motley(n: int) -> NDArray[np.uint8]:
    """Return a value 1..49 for each of n supervoxels, 0 for none, so that neighbours rarely have the same one.

    That many colours napari cycles through; neighbours have numbers near each other, hence the multiplicative hash.
    """
    hashed = np.arange(n + 1, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32) >> np.uint64(16)
    values = (hashed % np.uint64(49) + np.uint64(1)).astype(np.uint8)
    values[0] = 0
    return values
