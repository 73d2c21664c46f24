"""Strokes on the labels layer become events of the project's log, and the layer shows what the log says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxloop.app import napari_adapter as adapter
from voxloop.app.layers import ProjectLayers
from voxloop.errors import InputError, VoxloopError
from voxloop.project import Project
from voxloop.project.annotations import ERASER, Event, Group, Redo, Stroke, Undo
from voxloop.project.guidance import supervoxel_mask
from voxloop.project.live import LiveImage
from voxloop.project.runs import Runs, runs_from_mask, runs_from_points

Tool = Literal["brush", "supervoxels", "fill", "polygon"]
_MODES = {"brush": "paint", "supervoxels": "paint", "fill": "fill", "polygon": "polygon"}


class Labelling:
    """Painting, undo and redo on one image of a project.

    Parameters
    ----------
    project
        Its log is the truth; the layer follows it.
    layers
        The layers of the image.
    edited
        Called after each edit, when it is on the disk.
    refused
        Called with one line when an edit could not be made; nothing has changed then.

    Attributes
    ----------
    tables
        The supervoxels of the image, for the tool that paints whole ones; None while there are none.
    """

    def __init__(
        self, project: Project, layers: ProjectLayers, *, edited: Callable[[], None], refused: Callable[[str], None]
    ) -> None:
        self._project = project
        self._layers = layers
        self._image = layers.image.index
        self._edited = edited
        self._refused = refused
        self._shown: NDArray[np.int64] = np.zeros(0, np.int64)
        self._tool: Tool = "brush"
        self.tables: LiveImage | None = None
        self.listen_to(layers.labels)
        self.show()
        classes = project.annotations.classes
        if classes:
            self.select(classes[0].class_id)

    def listen_to(self, layer: Any) -> None:
        """Take what is painted in a labels layer for strokes; its undo and redo are those of the project."""
        layer.events.paint.connect(self._on_paint)
        adapter.take_over_undo(layer, self.undo, self.redo)

    @property
    def selected(self) -> int:
        """The class that the brush paints; 0 for the eraser."""
        layer = self._layers.labels
        return ERASER if layer.mode == "erase" else int(layer.selected_label)

    def select(self, class_id: int) -> None:
        """Take the brush for a class, or the eraser for 0."""
        layer = self._layers.labels
        if not layer.visible:  # making a visible layer visible draws it anew
            layer.visible = True
        if class_id == ERASER:
            layer.mode = "erase"
        else:
            layer.selected_label = class_id
            layer.mode = _MODES[self._tool]

    @property
    def tool(self) -> Tool:
        """What the mouse paints: a trail, the whole supervoxels under it, a connected region, or a polygon."""
        return self._tool

    @tool.setter
    def tool(self, tool: Tool) -> None:
        self._tool = tool
        classes = self._project.class_names
        self.select(self.selected if self.selected in classes else min(classes, default=ERASER))

    def append(self, event: Event) -> bool:
        """Write an event to the log and show what follows from it; return whether it was not refused."""
        try:
            self._project.keep(event)
        except VoxloopError as error:
            self._refused(str(error))
            return False
        self.show()
        self._edited()
        return True

    def paint(self, voxels: NDArray[np.int64], values: NDArray[np.int64], *, source: str) -> None:
        """Take what was painted in a picture of the image, voxels (v, 3) and their classes (v,), for one stroke."""
        if len(voxels):
            try:
                stroke = self._stroke(voxels, values, source)
            except VoxloopError as error:
                self._refused(self._reason(error))
            else:
                self.append(stroke)

    def undo(self, _layer: Any = None) -> None:
        """Take the last step back."""
        self._step(Undo(), possible=self._project.annotations.can_undo, nothing="there is nothing to undo")

    def redo(self, _layer: Any = None) -> None:
        """Do the step again that was undone last."""
        self._step(Redo(), possible=self._project.annotations.can_redo, nothing="there is nothing to redo")

    def label_supervoxel(self, image: LiveImage, supervoxel: int, class_id: int) -> None:
        """Label all voxels of a supervoxel."""
        mask, start = supervoxel_mask(image, supervoxel)
        runs = runs_from_mask(mask, offset=start)
        self.append(Stroke(image=self._image, class_id=class_id, runs=runs, source="review"))

    def show(self) -> None:
        """Make the layer show the labels and colours that the log holds."""
        self._layers.show_classes(self._project.annotations.classes)
        indices, classes = self._project.annotations.labelled_voxels(self._image)
        self._layers.write_labels(self._shown, indices, classes)
        self._shown = indices
        known = self._project.class_names
        if self.selected not in known and self.selected != ERASER and known:
            self.select(min(known))

    # Behind the scenes

    def _on_paint(self, event: Any) -> None:
        """Write what was just painted, by brush, fill or polygon, to the log as one step."""
        voxels, values = adapter.changed_voxels(event.value)
        layer = event.source
        adapter.forget_history(layer)
        if self._tool == "fill" and _is_unbounded(voxels, layer.data.shape):
            self._take_off(layer, voxels)
            self._refused(
                "nothing bounds this place: draw a closed outline, or a line from edge to edge, and fill in it"
            )
            return
        try:
            self._project.keep(self._stroke(voxels, values, self._tool))
        except VoxloopError as error:
            self._take_off(layer, voxels)
            self._refused(self._reason(error))
            return
        if self._is_whole:
            self._take_off(layer, voxels)
        else:
            self._shown = self._project.annotations.labelled_voxels(self._image)[0]
            self._layers.painted(layer)
        self._edited()

    def _take_off(self, layer: Any, voxels: NDArray[np.int64]) -> None:
        """Show what the log says where something else was just painted."""
        layer.data[tuple(voxels.T)] = 0
        self.show()

    @property
    def _is_whole(self) -> bool:
        """Whether whole supervoxels are painted."""
        return self._tool == "supervoxels" and self.tables is not None

    def _stroke(self, voxels: NDArray[np.int64], values: NDArray[np.int64], source: str) -> Stroke | Group:
        """Return one step that gives voxels (v, 3), or the supervoxels that they lie in, their classes (v,)."""
        strokes = tuple(
            Stroke(image=self._image, class_id=int(value), runs=self._runs(voxels[values == value]), source=source)
            for value in np.unique(values)
        )
        return strokes[0] if len(strokes) == 1 else Group(edits=strokes)

    def _runs(self, voxels: NDArray[np.int64]) -> Runs:
        """Return the runs of voxels, or of the whole supervoxels that they lie in if those are painted."""
        ids = np.asarray(self.tables.supervoxels.labels) if self._is_whole else None
        touched = np.zeros(0) if ids is None else np.unique(ids[tuple(voxels.T)])
        if not touched.any():
            return runs_from_points(voxels)
        pieces = [supervoxel_mask(self.tables, int(i)) for i in touched if i]
        runs = np.concatenate([runs_from_mask(mask, offset=start) for mask, start in pieces])
        return runs[np.lexsort((runs[:, 2], runs[:, 1], runs[:, 0]))]

    def _reason(self, error: VoxloopError) -> str:
        if isinstance(error, InputError) and not self._project.class_names:
            return "add a class first: there is none to paint with"
        return str(error)

    def _step(self, step: Undo | Redo, *, possible: bool, nothing: str) -> None:
        if not possible:
            self._refused(nothing)
            return
        before = self._project.annotations.classes
        try:
            self._project.keep(step)
        except VoxloopError as error:
            self._refused(str(error))
            return
        self.show()
        self._edited()
        if before != self._project.annotations.classes:
            self._refused("that step was a change of the classes; Ctrl+Shift+Z or Ctrl+Z takes it back")


def _is_unbounded(voxels: NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    """Return whether voxels (v, 3) of one slice reach all four edges of it: no outline holds them together."""
    first, last = voxels.min(axis=0), voxels.max(axis=0)
    across = [axis for axis in range(3) if first[axis] < last[axis]]
    return len(across) > 1 and all(first[axis] == 0 and last[axis] == shape[axis] - 1 for axis in across)
