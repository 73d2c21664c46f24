"""What has been labelled so far, and how far that got: strokes, conflicts, merges, imports, rounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voxloop.active import StopSignal
from voxloop.app import napari_adapter as adapter
from voxloop.app.session import NO_PROJECT
from voxloop.classify import Assessment
from voxloop.project.annotations import ClassMerged, StrokeRow
from voxloop.project.guidance import middle_voxel
from voxloop.project.history import Round
from voxloop.project.images import ImageRecord
from voxloop.project.imports import label_step, read_label_volume, read_points
from voxloop.project.live import LiveResult
from voxloop.project.runs import Runs

if TYPE_CHECKING:
    from voxloop.app.controller import Controller


class Overview:
    """Looks back on the labels of the open project.

    Parameters
    ----------
    controller
        The project and its views.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._conflict = -1

    # Strokes

    @property
    def strokes(self) -> tuple[StrokeRow, ...]:
        """The strokes that count, newest first."""
        project = self._controller.project
        return project.annotations.strokes[::-1] if project else ()

    def go_to_stroke(self, stroke: StrokeRow) -> None:
        """Show the place of a stroke; one in another image opens that image."""
        controller = self._controller
        if stroke.image != controller.image:
            controller.notified.emit("info", f"that stroke is in image {stroke.image + 1}: opening it")
            controller.show_image(stroke.image)
        else:
            controller.go_to(stroke.centre)

    @property
    def conflicts(self) -> NDArray[np.uint32]:
        """The supervoxels of the image on screen that have strokes of several classes."""
        labels = self._controller.labels
        return labels.images[self._controller.image].conflicts if labels else np.zeros(0, np.uint32)

    def next_conflict(self) -> None:
        """Show the next supervoxel with strokes of several classes, in a white ring."""
        controller, found = self._controller, self.conflicts
        if len(found) == 0 or not controller.tables:
            controller.notified.emit("info", "no supervoxel of this image has strokes of several classes")
            return
        self._conflict = (self._conflict + 1) % len(found)
        supervoxel = int(found[self._conflict])
        table = controller.tables[controller.image]
        controller.layers.point_out(supervoxel)
        controller.go_to(middle_voxel(table, supervoxel))

    def merge_class(self, class_id: int, into: int) -> None:
        """Let the labels of a class count for another one; undo brings the class back."""
        names = self._controller.need_project().class_names
        if self._controller.edit(ClassMerged, class_id=class_id, into=into):
            self._controller.notified.emit(
                "info", f"{names[class_id]!r} is part of {names[into]!r} now; Ctrl+Z takes it back"
            )

    # Import

    def import_labels(self, path: str) -> None:
        """Label voxels of the image on screen from a file: a CSV table of points, or a label volume.

        A value n of a volume is class n; where there is no such class, one is made.
        """
        record = self._controller.layers.image.record

        def read() -> dict[Any, Runs]:
            if Path(path).suffix.lower() == ".csv":
                return read_points(path, record.shape)
            return read_label_volume(path, record.shape, record.crop_slices, None)

        self._import(f"Import {Path(path).name}", read)

    def import_layer(self, layer: Any = None) -> None:
        """Label voxels of the image on screen from a layer of somebody else, by default the one that is selected.

        Values mean what they mean in a file. The layer is hidden once its labels are in the project.
        """
        controller = self._controller
        layer = layer or controller.viewer.layers.selection.active
        if controller.layers is None:
            controller.notified.emit("info", NO_PROJECT)
            return
        if not adapter.has_voxels(layer) or layer in controller.layers.all:
            controller.notified.emit("info", "select the labels layer to import in the list on the left first")
            return
        record = controller.layers.image.record

        def read() -> dict[Any, Runs]:
            labels = np.asarray(layer.data)
            if record.shape[0] == 1 and labels.ndim == 2:
                labels = labels[np.newaxis]
            return read_label_volume(labels, record.shape, record.crop_slices, None)

        def imported() -> None:
            layer.visible = False
            controller.notified.emit("info", f"{layer.name!r} is imported, and hidden; Ctrl+Z takes its labels back")

        self._import(f"Import {layer.name}", read, then=imported)

    def offer(self, layer: Any) -> None:
        """Offer to import a labels layer that somebody has opened or dragged in; say why not if it does not fit."""
        layers = self._controller.layers
        if layers is None or layer in layers.all or not layer.editable or not adapter.is_labels(layer):
            return
        shape, own = tuple(layer.data.shape), layers.image.record.shape
        if _may_fit(shape, layers.image.record):
            self._controller.offered.emit(
                f"{layer.name!r} fits the image",
                "Import as labels",
                lambda: self.import_layer(layer),
            )
        else:
            line = f"{layer.name!r} is shown but cannot be imported as labels: it has shape {shape}, the image {own}"
            self._controller.notified.emit("info", line)

    def _import(
        self, name: str, read: Callable[[], dict[Any, Runs]], *, then: Callable[[], None] = lambda: None
    ) -> None:
        """Read runs of voxels by class, or by number of a class, in the background, and label them in one step."""
        controller, image = self._controller, self._controller.image
        project = controller.need_project()

        def put(found: dict[Any, Runs]) -> None:
            if controller.project is not project:
                return
            names = project.class_names
            named = [
                (label if isinstance(label, str) else names.get(label, f"imported {label}"), runs)
                for label, runs in found.items()
            ]
            if controller.labelling.append(label_step(named, project.annotations, image)):
                then()

        controller.run(name, read, put)

    # How far

    @property
    def rounds(self) -> list[Round]:
        """The updates of the image on screen so far."""
        project = self._controller.project
        return project.history.rounds(self._controller.image) if project else []

    @property
    def stop_signal(self) -> StopSignal:
        """What the updates so far say about going on."""
        return self._controller.need_project().stop_signal(self._controller.image)

    def advice(self) -> str:
        """Return whether more labels are likely to change much, in one line; empty before that is known."""
        if not self.rounds:
            return ""
        signal = self.stop_signal
        if signal.expected_change is None:
            return ""
        if signal.reached:
            return f"<b>You may stop:</b> {signal.patience} updates in a row changed next to nothing."
        return f"The next update is likely to change {signal.expected_change:.1%} of the supervoxels."

    def accuracy_line(self) -> str:
        """Return how often the classifier is right about strokes that it did not see; empty while that is unknown."""
        result = self._controller.result
        found = assessment_of(result) if result else None
        if found is None:
            return ""
        return (
            f"Strokes held out: {found.accuracy:.0%} right (95 % interval {found.low:.0%} to {found.high:.0%}), "
            f"{found.balanced_accuracy:.0%} as the mean over classes."
        )

    def note(self, result: LiveResult, before: LiveResult | None) -> None:
        """Remember an update of the whole image, unless nothing was labelled since the last one."""
        project, image = self._controller.need_project(), result.request.shown
        n_strokes, rounds = len(project.annotations.strokes), self.rounds
        if rounds and rounds[-1].n_strokes == n_strokes and rounds[-1].n_labelled == result.labels.n_labelled:
            return
        project.history.add_round(
            image,
            n_labelled=result.labels.n_labelled,
            n_strokes=n_strokes,
            before=None if before is None else before.prediction.segmentation,
            after=result.prediction.segmentation,
            sizes=result.request.images[image].supervoxels.sizes,
            accuracy=None if (found := assessment_of(result)) is None else found.accuracy,
        )

    def forget(self) -> None:
        """Begin with the first conflict again: another image is on screen."""
        self._conflict = -1


def _may_fit(shape: tuple[int, ...], record: ImageRecord) -> bool:
    """Return whether labels of a shape are of the image, or of the file that the image is a part of."""
    is_flat = record.shape[0] == 1 and shape == record.shape[1:]
    crop = record.crop_slices
    is_larger = crop is not None and len(shape) == 3 and all(s.stop <= n for s, n in zip(crop, shape, strict=True))
    return shape == record.shape or is_flat or is_larger


def assessment_of(result: LiveResult) -> Assessment | None:
    """Return what the labels say of the classifier; None before two classes are labelled in two places each."""
    held_out = result.classifier.held_out
    if held_out is None or np.unique(held_out.columns).size < 2:
        return None
    return Assessment.of(held_out, result.classifier.classes)
