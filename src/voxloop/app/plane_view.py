"""A suggested plane in a viewer of its own: look at it, step along its normal, paint there, or answer in two clicks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray

from voxloop.active import Patch, PlaneSuggestion, label_patch, resample_plane
from voxloop.app import napari_adapter as adapter
from voxloop.app.guide import Guide
from voxloop.app.layers import OUTLINE_COLOR, TRACE_COLOR, add_input
from voxloop.errors import InputError, VoxloopError
from voxloop.project.annotations import ERASER, Group
from voxloop.project.live import LiveImage
from voxloop.project.planes import patch_strokes
from voxloop.project.suggestions import Suggester
from voxloop.supervoxels.outlines import boundaries
from voxloop.volume import relative_spacing

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

# What is shown around a patch, in its radii: enough to see what the patch is a part of.
_AROUND = 4.0
_CLICK_PIXELS = 3.0  # a press that moves no further is a click
Pixel = tuple[float, float]


class PlaneView(Guide[PlaneSuggestion]):
    """The plane that is looked at, and the answers that are given there.

    Parameters
    ----------
    controller
        The open project with its prediction; answers become strokes of it.

    Attributes
    ----------
    viewer
        A viewer without a window, for the picture of the plane.
    patch
        The picture; None before a plane was suggested.
    classes
        What the two sides of a line will be.
    start
        The first of two clicks, while the second is awaited.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller, topic="plane")
        self.viewer = ViewerModel()
        self.viewer.mouse_wheel_callbacks[:] = [self._on_wheel]
        self.viewer.mouse_drag_callbacks.append(self._on_press)
        self._layers: dict[str, Any] = {}
        self.forget()
        controller.changed.connect(self._on_changed)

    def forget(self) -> None:
        """Drop everything: another image is on screen."""
        super().forget()
        self.patch: Patch | None = None
        self.offset = 0
        self.classes: tuple[int, int] | None = None
        self.start: Pixel | None = None
        self._line: NDArray[np.float64] | None = None
        self._drawing = False
        self.viewer.layers.clear()
        self._layers = {}
        if self._controller.layers is not None:
            self._controller.layers.show_trace(None)

    def close_patch(self) -> None:
        """Put the plane away; the ones seen so far are remembered."""
        self.patch, self._line, self.start, self._drawing = None, None, None, False
        if self._controller.layers is not None:
            self._controller.layers.show_trace(None)
        if self.trail.position >= 0:
            self.trail.position -= 1
        self._controller.changed.emit("plane")

    # Where

    def suggest(self) -> None:
        """Look for the plane where labels help most, and show it; once more goes to the next one."""
        controller = self._controller
        result = controller.need_result()
        if result is None:
            return
        if min(controller.layers.image.record.shape) < 2:
            controller.notified.emit("info", "the image is flat: N suggests where to label in it")
            return
        skip = list(self.trail.suggestions)
        suggester = Suggester.of_result(result)
        self._look_for(lambda: suggester.planes(1, skip=skip))

    def step(self, steps: int) -> None:
        """Move the plane along its normal by `steps` voxels of the finest axis."""
        if self.patch is None:
            return
        plane, spacing = self.patch.plane, np.array(relative_spacing(self._image.spacing))
        z, y, x = (float(c) for c in np.array(plane.center) + steps * np.array(plane.normal) / spacing)
        try:
            self._show(replace(plane, center=(z, y, x)))
        except InputError:
            return  # the border of the volume
        self.offset += steps
        self._controller.changed.emit("plane")

    # What

    @property
    def is_drawing(self) -> bool:
        """Whether the next two clicks draw a line."""
        return self._drawing

    def draw_line(self) -> None:
        """Let the next two clicks draw the line between two classes; once more takes that back."""
        if self._need_patch():
            if self.classes is None:
                self._controller.notified.emit("info", "a line lies between two classes: add another class first")
                return
            self._drawing, self.start = not self._drawing, None
            self._set_mode()
            self._controller.changed.emit("plane")

    def click(self, pixel: Pixel) -> None:
        """Take one end of the line; the second one labels what lies on either side."""
        if self.patch is None or not self._drawing:
            return
        if self.start is None:
            self.start = pixel
        elif np.hypot(*np.subtract(pixel, self.start)) < 1:
            return  # a double click draws nothing
        else:
            self._line = np.array([self.start, pixel])
            self._drawing, self.start = False, None
            self._set_mode()
            self._answer_line()
        self._draw_marks()
        self._controller.changed.emit("plane")

    def _answer_line(self) -> None:
        line = self.patch.offsets(self._line)
        try:
            self._answer(self._oriented(line), line)
        except VoxloopError as error:
            self._controller.notified.emit("info", str(error))

    def swap(self) -> None:
        """Give the sides of the line each other's class."""
        if self._line is None or self.classes is None or self.patch is None:
            self._controller.notified.emit("info", "draw a line first: L, then two clicks in the plane")
            return
        self._controller.undo()
        left, right = self.classes
        self._answer((right, left), self.patch.offsets(self._line))
        self._controller.changed.emit("plane")

    def answer_all(self) -> None:
        """Label all that the patch shows as the chosen class."""
        chosen = self._controller.labelling.selected if self._controller.labelling else ERASER
        if chosen == ERASER:
            self._controller.notified.emit("info", "choose a class first: the keys 1 to 9")
        elif self._need_patch():
            self._answer(chosen, None)

    def choose_classes(self, first: int, second: int) -> None:
        """Say which classes the next line lies between."""
        self.classes = (first, second)
        self._controller.changed.emit("plane")

    # Behind the scenes: planes

    @property
    def _image(self) -> LiveImage:
        return self._controller.tables[self._controller.image]

    def _need_patch(self) -> bool:
        if self.patch is None:
            self._controller.notified.emit("info", "there is no plane yet: P suggests one")
        return self.patch is not None

    def _go_to(self, suggestion: PlaneSuggestion) -> None:
        self.offset = 0
        self._drawing, self.start = False, None
        self._show(suggestion)
        self.classes = self._likely_classes()
        self.viewer.reset_view()
        self._controller.go_to(tuple(round(c) for c in suggestion.center))
        self._controller.changed.emit("plane")

    def _show(self, plane: PlaneSuggestion) -> None:
        """Draw the picture of a plane; raises `InputError` if its centre lies outside the volume."""
        volume, labels = self._controller.layers.image.volume, self._image.supervoxels.labels
        self.patch = resample_plane(volume, labels, plane, half_width=_AROUND * plane.radius)
        self._line = None
        self._fill_layers()
        self._controller.layers.show_trace(plane)

    def _likely_classes(self) -> tuple[int, int] | None:
        """Return the two classes that are predicted most in the patch, in the order of the classes."""
        shown = np.unique(self.patch.supervoxels[self.patch.inside])
        rows = shown[shown > 0].astype(np.int64) - 1
        ranked = sorted(self._controller.need_project().class_names, key=lambda c: -self._probability(c)[rows].sum())
        return (min(ranked[:2]), max(ranked[:2])) if len(ranked) > 1 else None

    def _probability(self, class_id: int) -> NDArray[np.float32]:
        """Return how probable a class is in each supervoxel (n,); 0 for one that was added since the last update."""
        prediction = self._controller.result.prediction
        column = np.flatnonzero(prediction.classes == class_id)
        return prediction.probabilities[:, column].sum(axis=1)

    def _oriented(self, line: NDArray[np.float64]) -> tuple[int, int]:
        """Return the classes left and right of a line, in the order that agrees better with the prediction."""
        first, second = self.classes
        sides = self._sides((1, 2), line)
        rows = np.array(list(sides), np.int64) - 1
        is_left = np.array(list(sides.values())) == 1
        lean = (self._probability(first) - self._probability(second))[rows]
        return (first, second) if lean[is_left].sum() >= lean[~is_left].sum() else (second, first)

    def _sides(self, classes: int | tuple[int, int], line: NDArray[np.float64] | None) -> dict[int, int]:
        """Return the class of each supervoxel in the patch that has no label yet."""
        project, image = self._controller.need_project(), self._image
        indices, _ = project.annotations.labelled_voxels(self._controller.image)
        labelled = np.unique(np.asarray(image.supervoxels.labels).reshape(-1)[indices])
        shown = np.setdiff1d(self.patch.supervoxels[self.patch.inside], [0, *labelled])
        if shown.size == 0:
            raise InputError("all that the patch shows is labelled already")
        centers, spacing = image.supervoxels.centers, image.spacing
        return label_patch(self.patch.plane, centers, classes=classes, line=line, supervoxels=shown, spacing=spacing)

    def _answer(self, classes: int | tuple[int, int], line: NDArray[np.float64] | None) -> None:
        if self.patch is None or self._controller.labelling is None:
            return
        if isinstance(classes, tuple):
            self.classes = classes
        try:
            strokes = patch_strokes(self.patch, self._sides(classes, line), image=self._controller.image)
        except VoxloopError as error:
            self._controller.notified.emit("info", str(error))
            return
        self._controller.labelling.append(Group(edits=strokes))

    # Behind the scenes: the picture

    def _on_changed(self, what: str) -> None:
        if self.patch is not None and what in ("labels", "live", "shown"):
            self._fill_results()

    def _fill_layers(self) -> None:
        """Show the patch; its layers are made once and then filled anew."""
        patch = self.patch
        controller = self._controller
        if not self._layers:
            finest = min(controller.layers.image.record.spacing)
            place = {"scale": (finest,) * 2, "units": (controller.layers.image.record.unit,) * 2}
            empty = np.zeros(patch.inside.shape, np.uint16)
            self._layers["input"] = add_input(self.viewer, controller.layers.image, self._pictures(), place)
            for name, opacity in (("prediction", 0.3), ("supervoxels", 0.45), ("labels", 0.5)):
                self._layers[name] = self.viewer.add_labels(empty.copy(), name=name, opacity=opacity, **place)
            self._layers["marks"] = self.viewer.add_shapes(name="marks", **place)
            self._layers["supervoxels"].colormap = adapter.class_colormap({1: OUTLINE_COLOR})
            for name in ("prediction", "supervoxels", "marks"):
                self._layers[name].editable = False
            adapter.paint_to_release(self._layers["labels"])
            adapter.take_over_undo(self._layers["labels"], controller.undo, controller.redo)
            self._layers["labels"].events.paint.connect(self._on_paint)
            self.viewer.layers.selection.active = self._layers["labels"]
            adapter.bind_keys([*self.viewer.layers, self.viewer], controller.keys)
            adapter.show_scale_bar(self.viewer)
        for layer, picture, main in zip(self._layers["input"], self._pictures(), controller.layers.input, strict=True):
            layer.data = picture
            if not layer.rgb:
                layer.contrast_limits = main.contrast_limits
        self._layers["supervoxels"].data = (boundaries(patch.supervoxels) & patch.inside).astype(np.uint16)
        self._set_mode()
        self._fill_results()
        self._draw_marks()

    def _pictures(self) -> list[NDArray[Any]]:
        """Return the patch as the layers of the input want it: an array a channel, or one of colours."""
        image = self.patch.image
        if len(self._controller.layers.input) == 1:
            return [image.astype(np.uint8) if image.ndim == 3 else image]
        return list(np.moveaxis(image, -1, 0))

    def _fill_results(self) -> None:
        """Show labels and prediction as they are now."""
        patch, layers = self.patch, self._controller.layers
        if patch is None or layers is None or layers.prediction is None:
            return
        voxels = patch.voxels
        inside = np.all((voxels >= 0) & (voxels < layers.labels.data.shape), axis=-1)
        labels = np.zeros(inside.shape, np.uint16)
        labels[inside] = layers.labels.data[tuple(voxels[inside].T)]
        self._layers["labels"].data = labels
        self._layers["prediction"].data = layers.prediction.data.table[patch.supervoxels]
        self._layers["prediction"].visible = layers.prediction.visible
        self._layers["supervoxels"].visible = layers.outlines.visible
        for name in ("labels", "prediction"):
            self._layers[name].colormap = layers.labels.colormap
        self._set_mode()

    def _set_mode(self) -> None:
        """Let the mouse do here what it does in the other views: paint or erase, unless it draws a line."""
        if not self._layers or self._controller.labelling is None:
            return
        own, chosen = self._layers["labels"], self._controller.labelling.selected
        own.brush_size = self._controller.brush_size
        if self._drawing:
            own.mode = "pan_zoom"
        elif chosen == ERASER:
            own.mode = "erase"
        else:
            own.selected_label = chosen
            own.mode = "paint"

    def _draw_marks(self) -> None:
        """Draw the circle, and the line or its first end."""
        if self.patch is None or not self._layers:
            return
        marks = self._layers["marks"]
        middle = (np.array(self.patch.inside.shape) - 1) / 2
        radius = self.patch.plane.radius / self.patch.step
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        circle = middle + radius * np.stack([np.sin(angles), np.cos(angles)], axis=1)
        shapes, kinds = [circle], ["polygon"]
        if self._line is not None:
            shapes.append(self._line)
            kinds.append("line")
        if self.start is not None:
            shapes.append(np.array(self.start) + 0.5 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]))
            kinds.append("polygon")
        marks.data = []
        marks.add(shapes, shape_type=kinds, edge_color=TRACE_COLOR, face_color="transparent", edge_width=0.6)

    # Behind the scenes: mouse

    def _on_wheel(self, _viewer: Any, event: Any) -> None:
        if "Control" not in event.modifiers:
            self.step(1 if event.delta[1] > 0 else -1)
            event.handled = True

    def _on_press(self, _viewer: Any, event: Any) -> Iterator[None]:
        """Take a press and release at the same place for a click."""
        if not self._drawing or event.button != 1:
            return
        pressed = np.array(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        if np.hypot(*(np.array(event.pos, float) - pressed)) <= _CLICK_PIXELS:
            row, column = self._layers["labels"].world_to_data(event.position)
            self.click((float(row), float(column)))

    def _on_paint(self, event: Any) -> None:
        """Write what was painted to the log, as voxels: the nearest one to each pixel."""
        pixels, values = adapter.changed_voxels(event.value)
        adapter.forget_history(self._layers["labels"])
        controller = self._controller
        voxels = self.patch.voxels[tuple(pixels.T)]
        inside = np.all((voxels >= 0) & (voxels < controller.layers.labels.data.shape), axis=-1)
        controller.labelling.paint(voxels[inside], values[inside], source="plane brush")
        self._fill_results()
