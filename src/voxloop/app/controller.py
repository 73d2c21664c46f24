"""What the dock and the keys do: labelling, live updates, guidance and review on top of an open project."""

from __future__ import annotations

import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.active import SliceSuggestion
from voxloop.app import napari_adapter as adapter
from voxloop.app.keys import HELP_LINE, KEYS
from voxloop.app.labelling import Labelling, Tool
from voxloop.app.layers import LoadedImage
from voxloop.app.overview import Overview
from voxloop.app.plane_view import PlaneView
from voxloop.app.preview import Previews
from voxloop.app.session import CLOSING_SECONDS, Dispatch, Session
from voxloop.app.side_views import SideViews
from voxloop.app.solid_view import SolidView
from voxloop.errors import VoxloopError
from voxloop.project import PALETTE
from voxloop.project.annotations import ERASER, ClassAdded, ClassRecolored, ClassRemoved, ClassRenamed
from voxloop.project.guidance import ReviewQueue, Trail, middle_voxel
from voxloop.project.live import LiveImage, LiveLabels, LiveProblem, LiveRequest, LiveResponse, LiveResult, LiveUpdates
from voxloop.project.suggestions import Suggester
from voxloop.supervoxels import Supervoxels

# What a review shows around a supervoxel, in voxels of the finest axis: enough to recognise what it belongs to.
_REVIEW_RADIUS = 60


class Controller(Session):
    """All that the app can do, each a method that works without a window; what they show is kept in attributes.

    Attributes
    ----------
    labelling
        Painting on the image on screen.
    labels
        Which supervoxels are labelled, as of the last update.
    result
        The last prediction of the whole image; it stays while a newer one is computed, or cannot be.
    problem
        Why there is no newer one, in one line; empty if there is.
    guide, review
        Suggested slices, and the queue of supervoxels to confirm.
    updated_at, saved_at
        When the prediction was last updated and the last stroke was saved (`time.monotonic`), or None.
    """

    def __init__(self, viewer: Any, *, dispatch: Dispatch, debounce: float = 0.05, live: bool = True) -> None:
        super().__init__(viewer, dispatch=dispatch)
        self.labelling: Labelling | None = None
        self._asked = 0
        self._forget()
        self._live = live
        self._brush_size = 5
        self._updates = LiveUpdates(lambda response: dispatch(lambda: self._on_response(response)), debounce=debounce)
        self.previews = Previews(self)
        self.plane = PlaneView(self)
        self.sides = SideViews(self)
        self.overview = Overview(self)
        self.solid = SolidView(self)
        self.keys: dict[str, Callable[[], None]] = {k.key: attrgetter(k.action)(self) for k in KEYS if k.action}
        viewer.layers.events.removed.connect(self._layer_removed)
        self.keys |= {str(digit): self._digit_key(digit) for digit in range(10)}

    # Classes and strokes

    def select(self, class_id: int) -> None:
        """Take the brush for a class, or the eraser for 0."""
        if self.labelling is None:
            return
        if class_id != ERASER and class_id not in self.need_project().class_names:
            self.notified.emit("warning", f"there is no class {class_id}; add one in the dock")
            return
        self.labelling.select(class_id)
        self.changed.emit("labels")

    def class_of_key(self, digit: int) -> int | None:
        """Return the class that a digit key stands for: the first class is 1, whatever its id."""
        classes = self.need_project().annotations.classes if self.project else ()
        return classes[digit - 1].class_id if 1 <= digit <= len(classes) else None

    def press_digit(self, digit: int) -> None:
        """Take a brush or the eraser; in a review, say what the supervoxel is."""
        if self.project is None:
            return
        class_id = ERASER if digit == 0 else self.class_of_key(digit)
        if class_id is None:
            self.notified.emit("warning", f"there is no class on key {digit}")
        elif self.review is not None and not self.review.is_over and class_id != ERASER:
            self._assign(class_id)
        else:
            self.select(class_id)

    def add_class(self, name: str) -> None:
        """Add a class and take the brush for it."""
        class_id = self.need_project().annotations.next_class_id
        color = PALETTE[(class_id - 1) % len(PALETTE)]
        if self.edit(ClassAdded, class_id=class_id, name=name.strip(), color=color):
            self.select(class_id)

    def rename_class(self, class_id: int, name: str) -> None:
        """Give a class another name."""
        self.edit(ClassRenamed, class_id=class_id, name=name.strip())

    def recolor_class(self, class_id: int, color: str) -> None:
        """Give a class another colour, ``#rrggbb``."""
        self.edit(ClassRecolored, class_id=class_id, color=color.lower())

    def remove_class(self, class_id: int) -> None:
        """Remove a class and its labels; undo brings both back."""
        name = self.need_project().class_names[class_id]
        if self.edit(ClassRemoved, class_id=class_id):
            self.notified.emit("info", f"class {name!r} and its labels were removed; Ctrl+Z brings them back")

    def configure(self, **choices: Any) -> None:
        """Choose specs; what they make stale says so, and is computed when it is asked for."""
        super().configure(**choices)
        if "query" in choices:
            self._request()  # suggestions follow the specs of the last update

    def undo(self) -> None:
        """Take the last step back."""
        if self.labelling is not None:
            self.labelling.undo()

    def redo(self) -> None:
        """Do the step again that was undone last."""
        if self.labelling is not None:
            self.labelling.redo()

    @property
    def tool(self) -> Tool:
        """What the mouse paints."""
        return self.labelling.tool if self.labelling else "brush"

    @tool.setter
    def tool(self, tool: Tool) -> None:
        if self.labelling is None:
            return
        if tool == "supervoxels" and not self.tables:
            self.notified.emit("info", "there are no supervoxels yet: press Update first")
            return
        self.labelling.tool = tool
        self.changed.emit("labels")

    @property
    def brush_size(self) -> int:
        """Diameter of the brush in voxels of the finest axis on screen."""
        return self._brush_size

    @brush_size.setter
    def brush_size(self, size: int) -> None:
        self._brush_size = size
        if self.layers is not None and self.layers.labels.brush_size != size:
            self.layers.labels.brush_size = size
        self.changed.emit("labels")

    # Live updates

    @property
    def live(self) -> bool:
        """Whether each stroke updates the prediction."""
        return self._live

    @live.setter
    def live(self, on: bool) -> None:
        self._live = on
        self.changed.emit("live")
        if on:
            self._request()

    def toggle_live(self) -> None:
        """Switch live updates on or off."""
        self.live = not self.live

    def update_now(self) -> None:
        """Update the prediction once; compute supervoxels and features first if they are missing or stale."""
        if self.project is None:
            return
        if not self.tables or self.state_of("features") != "ready":
            self.compute()
        else:
            self._request()

    @property
    def is_updating(self) -> bool:
        """Whether an update was asked for and is not there yet."""
        return self._answered < self._asked

    def live_line(self) -> str:
        """Return how labels and prediction stand, in one line."""
        if self.project is None:
            return "no project is open"
        if not self.tables and self.is_busy:
            return "computing ..."
        if not self.tables:
            return "press Update: it computes supervoxels and features, once for this image"
        n = self.labels.n_labelled if self.labels else 0
        if self.problem:
            return f"{n} labelled; {self.problem}"
        if self.updated_at is None:
            return f"{n} labelled, updating ..." if self.is_updating else f"{n} labelled"
        state = "updating ..." if self.is_updating else f"updated {_ago(self.updated_at)}"
        return f"{n} labelled, {state}"

    def saved_line(self) -> str:
        """Return whether everything is on the disk, in one line."""
        if self.project is None:
            return ""
        return "all strokes saved" if self.saved_at is None else f"all strokes saved, last {_ago(self.saved_at)}"

    # Guidance and review

    def suggest(self) -> None:
        """Go to the slice where labels help most; once more goes to the next one."""
        if result := self.need_result():
            painted = self.need_project().annotations.labelled_slices(self.image)
            suggester = Suggester.of_result(result, avoid=painted)
            self._go(lambda: self.guide.next(lambda earlier: suggester.slices(skip=earlier)))

    def suggest_back(self) -> None:
        """Go back to the suggestion before."""
        self._go(self.guide.back)

    def toggle_review(self) -> None:
        """Start to ask for uncertain supervoxels one by one, or end it."""
        if self.review is not None:
            self.review = None
            self._show_review()
        elif result := self.need_result():
            self.review = ReviewQueue.of(result, self.tables[self.image])
            self._show_review()

    def need_result(self) -> LiveResult | None:
        """Return the last prediction, or say why there is none."""
        if self.result is None:
            self.notified.emit("warning", f"there is no prediction to go by yet: {self.live_line()}")
        return self.result

    def confirm(self) -> None:
        """Label the supervoxel under review as predicted."""
        if self.review is not None and not self.review.is_over:
            self._assign(self.review.predicted_class)

    def skip(self) -> None:
        """Leave the supervoxel under review as it is."""
        if self.review is not None and not self.review.is_over:
            self.review = self.review.advanced()
            self._show_review()

    # What is shown

    def view_along(self, axis: int) -> None:
        """Show the slices across an axis (0, 1, 2 for z, y, x), through the same point."""
        if self.layers is None:
            return
        if self.layers.image.record.shape[0] == 1 and axis != 0:
            self.notified.emit("info", "the image is flat: there is nothing to see from the side")
            return
        adapter.look_at(self.viewer, axis, adapter.point_of(self.viewer))
        self.changed.emit("shown")

    def turn(self) -> None:
        """Look along the next axis."""
        self.view_along((adapter.looked_along(self.viewer) + 1) % 3)

    def place_at_pointer(self) -> None:
        """Bring the side views to the point that the mouse points at."""
        self.sides.place_at_pointer(self.viewer)

    def toggle_prediction(self) -> None:
        """Show or hide the prediction."""
        self._toggle("prediction")

    def toggle_uncertainty(self) -> None:
        """Show or hide the uncertainty."""
        self._toggle("uncertainty")

    def toggle_outlines(self) -> None:
        """Show or hide the outlines of the supervoxels."""
        self._toggle("outlines")

    def toggle_hatch(self) -> None:
        """Show or hide the hatch over the most uncertain supervoxels."""
        self._toggle("top")

    def toggle_whole(self) -> None:
        """Paint whole supervoxels, or a trail again."""
        self.tool = "brush" if self.tool == "supervoxels" else "supervoxels"

    def toggle_strokes(self) -> None:
        """Show or hide the list of strokes."""
        self.changed.emit("strokes")

    def toggle_help(self) -> None:
        """Show or hide the list of keys."""
        self.changed.emit("help")

    # Opening and closing

    def close_project(self) -> None:
        """Let go of the project; all of it is on the disk already."""
        if self.labelling is not None:
            adapter.unbind_keys(self.viewer, self.keys)
        self.labelling = None
        self._forget()
        self._forget_views()
        super().close_project()

    def close(self) -> None:
        """Stop everything: the window closes."""
        for worker in (self._updates, self.previews, self.plane):
            worker.close(CLOSING_SECONDS)
        super().close()

    # Behind the scenes

    def _forget(self) -> None:
        """Drop what was found out about the image that was on screen."""
        self.labels: LiveLabels | None = None
        self.result: LiveResult | None = None
        self.problem = ""
        self.guide: Trail[SliceSuggestion] = Trail()
        self.review: ReviewQueue | None = None
        self._view_before_review: Any = None
        self.updated_at: float | None = None
        self.saved_at: float | None = None
        self._answered = self._asked  # what is under way will be dropped

    def _forget_views(self) -> None:
        """Take away what is shown beside the slices: another image comes, or none."""
        self.previews.clear()
        for view in (self.plane, self.sides, self.solid, self.overview):
            view.forget()

    def _show(self, image: LoadedImage) -> None:
        self._forget()
        self._forget_views()
        super()._show(image)
        self.labelling = Labelling(
            self.need_project(),
            self.layers,
            edited=self.labels_changed,
            refused=lambda line: self.notified.emit("warning", line),
        )
        self.layers.labels.brush_size = self._brush_size
        self._bind_keys()
        self.layers.labels.events.selected_label.connect(lambda _event: self.changed.emit("labels"))
        # After napari, which lists keys here that it no longer has.
        self.layers.labels.events.mode.connect(self._mode_changed, position="last")
        adapter.show_help(self.viewer, self.layers.labels, HELP_LINE)
        self.sides.rebuild()
        if self.tables:
            self.labelling.tables = self.tables[self.image]
            self._request()

    def _show_supervoxels(self, supervoxels: Supervoxels) -> None:
        self.previews.clear()
        self.plane.forget()
        self.solid.forget()
        super()._show_supervoxels(supervoxels)
        self._bind_keys()
        if self.labelling is not None and self.tables:
            self.labelling.tables = self.tables[self.image]
        for layer in self.layers.all:
            layer.events.visible.connect(self._layer_toggled)

    def _bind_keys(self) -> None:
        """Let the keys work whichever of our layers is active: a layer's own keys come before the viewer's."""
        adapter.bind_keys([*self.layers.all, self.viewer], self.keys)

    def _layer_removed(self, event: Any) -> None:
        """Say how to get a layer back if somebody else took it out."""
        layers, name = self.layers, event.value.name
        if layers is None or not any(layer is event.value for layer in layers.all):
            return

        def say() -> None:
            if self.layers is layers and not layers.is_removed:
                is_labels = event.value is layers.labels
                what = "the labels layer is gone, the strokes are safe" if is_labels else f"{name} is gone"
                self.notified.emit("warning", f"{what}: choose the image under Data to see it again")

        self.dispatch(say)  # later: a window that closes takes all layers out first

    def _mode_changed(self, _event: Any) -> None:
        adapter.show_help(self.viewer, self.layers.labels, HELP_LINE)
        self.changed.emit("labels")

    def _layer_toggled(self, _event: Any) -> None:
        self.changed.emit("shown")

    def _computed(self, tables: tuple[LiveImage, ...]) -> None:
        saved_at = self.saved_at
        self._forget()
        self.saved_at = saved_at
        super()._computed(tables)
        self.layers.show_classes(self.need_project().annotations.classes)
        self._request()

    def edit(self, kind: Any, **fields: Any) -> bool:
        """Append an edit of the classes; return whether that worked."""
        n_before = self.need_project().annotations.n_events
        try:
            self.labelling.append(kind(**fields))
        except VoxloopError as error:
            self.notified.emit("warning", str(error))
        return self.need_project().annotations.n_events > n_before

    def labels_changed(self) -> None:
        """Take note that labels have changed: show it, and learn from it if that is wanted."""
        self.saved_at = time.monotonic()
        self.changed.emit("labels")
        if self._live:
            self._request()

    def _request(self) -> None:
        """Ask for an update with the labels of this moment."""
        if not self.tables or self.project is None:
            return
        self._asked += 1
        visible = self._visible()
        self._updates.submit(
            LiveRequest.of(self.project, self.tables, number=self._asked, shown=self.image, visible=visible)
        )
        self.changed.emit("live")

    def _visible(self) -> NDArray[np.uint32]:
        """Return the supervoxels in the slice on screen: those that begin before it and end after it."""
        shown = adapter.shown_slice(self.viewer, self.layers.labels)
        if shown is None:
            return np.empty(0, np.uint32)
        axis, index = shown
        extent = self.tables[self.image].extent
        met = (extent.first[:, axis] <= index) & (index <= extent.last[:, axis])
        return (np.flatnonzero(met) + 1).astype(np.uint32)

    def _on_response(self, response: LiveResponse) -> None:
        request = response.request
        if request.images is not self.tables or request.shown != self.image or request.number < self._answered:
            return  # of another image, or of tables that were computed anew since
        if response.labels is not None:
            self.labels = response.labels
        if isinstance(response, LiveProblem):
            self.problem = response.message
            self._answered = request.number
        else:
            self._show_result(response)
        self.changed.emit("live")

    def _show_result(self, result: LiveResult) -> None:
        self.problem = ""
        self.layers.show_result(result)
        self.updated_at = time.monotonic()
        if result.whole:
            self.overview.note(result, self.result)
            self.result = result
            self._answered = result.request.number

    def _go(self, find: Callable[[], SliceSuggestion]) -> None:
        try:
            suggestion = find()
        except VoxloopError as error:
            self.notified.emit("info", str(error))
            return
        self._look_at(suggestion.axis, suggestion.center)
        self.changed.emit("guide")

    def go_to(self, voxel: tuple[int, int, int]) -> None:
        """Show the slice through a voxel, in the direction that is looked along."""
        self._look_at(adapter.looked_along(self.viewer), voxel)

    def _look_at(self, axis: int, voxel: tuple[int, int, int]) -> None:
        world = self.layers.labels.data_to_world(voxel)
        adapter.look_at(self.viewer, axis, tuple(float(w) for w in world))

    def _assign(self, class_id: int) -> None:
        self.labelling.label_supervoxel(self.tables[self.image], self.review.supervoxel, class_id)
        self.review = self.review.advanced()
        self._show_review()

    def _show_review(self) -> None:
        """Bring the supervoxel under review into view; the slice stays in the direction that is looked along."""
        if self.review is None or self.review.is_over:
            self.layers.point_out(None)
            if self._view_before_review is not None:
                adapter.restore_view(self.viewer, self._view_before_review)
            self._view_before_review = None
        else:
            self.layers.point_out(self.review.supervoxel)
            middle = middle_voxel(self.tables[self.image], self.review.supervoxel)
            self._look_at(adapter.looked_along(self.viewer), middle)
            if self._view_before_review is None:
                self._view_before_review = adapter.view_of(self.viewer)
            world = self.layers.labels.data_to_world(middle)
            adapter.look_closely(self.viewer, world, _REVIEW_RADIUS * min(self.tables[self.image].spacing))
        self.changed.emit("review")

    def _toggle(self, name: str) -> None:
        if self.layers is not None:
            self.layers.toggle(getattr(self.layers, name))

    def _digit_key(self, digit: int) -> Callable[[], None]:
        return lambda: self.press_digit(digit)


def _ago(then: float) -> str:
    seconds = time.monotonic() - then
    if seconds < 10:
        return f"{seconds:.1f} s ago"
    return f"{seconds:.0f} s ago" if seconds < 90 else f"{seconds / 60:.0f} min ago"
