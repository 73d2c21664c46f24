"""What the dock and the keys do: labelling, guidance, review and views on top of a project that learns."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

from psygnal import Signal

from voxloop.app import napari_adapter as adapter
from voxloop.app.feature_guide import FeatureGuide
from voxloop.app.keys import HELP_LINE, KEYS, STEPS, Key
from voxloop.app.labelling import Labelling, Tool
from voxloop.app.layers import LoadedImage
from voxloop.app.live_session import LiveSession, ago
from voxloop.app.overview import Overview
from voxloop.app.plane_view import PlaneView
from voxloop.app.preview import Previews
from voxloop.app.refined_view import RefinedView
from voxloop.app.review import Review
from voxloop.app.session import CLOSING_SECONDS, Dispatch
from voxloop.app.side_views import SideViews
from voxloop.app.slice_guide import SliceGuide
from voxloop.app.solid_view import SolidView
from voxloop.errors import VoxloopError
from voxloop.project import PALETTE
from voxloop.project.annotations import ERASER, ClassAdded, ClassRecolored, ClassRemoved, ClassRenamed
from voxloop.supervoxels import Supervoxels

_IN_3D = "in 3D the brush paints on the prediction and the labels that are seen; a drag beside them turns the view"


class Controller(LiveSession):
    """All that the app can do, each a method that works without a window; what they show is kept in attributes.

    Attributes
    ----------
    labelling
        Painting on the image on screen.
    slices, plane, review
        Where to label next: suggested slices and planes, and the queue of supervoxels to confirm.
    features
        Which features are worth it.
    previews, refined, sides, solid
        What is shown in the slices for a while, and beside them.
    overview
        What has been labelled so far.
    saved_at
        When the last stroke was saved (`time.monotonic`), or None.
    keys, palette
        What can be done, by key and by what it does.
    """

    step_wanted = Signal(int)
    offered = Signal(str, str, object)  # one line, what can be done about it, and the call that does it

    def __init__(self, viewer: Any, *, dispatch: Dispatch, debounce: float = 0.05, live: bool = True) -> None:
        super().__init__(viewer, dispatch=dispatch, debounce=debounce, live=live)
        self.labelling: Labelling | None = None
        self.saved_at: float | None = None
        self._is_refused = self._is_loss_known = False
        self._brush_size = 5
        self.previews = Previews(self)
        self.slices = SliceGuide(self)
        self.plane = PlaneView(self)
        self.review = Review(self)
        self.features = FeatureGuide(self)
        self.refined = RefinedView(self)
        self.sides = SideViews(self)
        self.overview = Overview(self)
        self.solid = SolidView(self)
        self.learned = self.overview.note
        actions = {key: attrgetter(key.action)(self) for key in KEYS if key.action}
        self.keys: dict[str, Callable[[], None]] = {key.key: call for key, call in actions.items() if key.key}
        self.keys |= {str(digit): partial(self.press_digit, digit) for digit in range(1, 10)}
        self.palette: dict[str, Callable[[], None]] = {_in_palette(key): call for key, call in actions.items()}
        self.palette |= {f"step {name}": partial(self.step_wanted.emit, n) for n, name in enumerate(STEPS)}
        viewer.layers.events.removed.connect(self._layer_removed)
        viewer.layers.events.inserted.connect(self._layer_inserted)
        viewer.dims.events.ndisplay.connect(self._dimensions_changed)

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
        elif self.review.is_asking and class_id != ERASER:
            self.review.assign(class_id)
        else:
            self.select(class_id)

    def erase(self) -> None:
        """Take the eraser."""
        self.press_digit(ERASER)

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

    def saved_line(self) -> str:
        """Return whether everything is on the disk, in one line."""
        if self.project is None:
            return ""
        if n := self.project.n_unsaved:
            what = f"<b style='color: #ff8a80'>NOT SAVED: {n} edits</b>"
            return f"{what}. The disk takes nothing; they are in memory, and tried again."
        return "all strokes saved" if self.saved_at is None else f"all strokes saved, last {ago(self.saved_at)}"

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

    def toggle_pieces(self) -> None:
        """Show or hide the supervoxels in many colours."""
        self._toggle("pieces")

    def toggle_probability(self) -> None:
        """Show or hide how probable the class is that the brush paints."""
        self._toggle("probability")

    def toggle_whole(self) -> None:
        """Paint whole supervoxels, or a trail again."""
        self._toggle_tool("supervoxels")

    def toggle_fill(self) -> None:
        """Fill outlines, or paint a trail again."""
        self._toggle_tool("fill")

    def toggle_polygon(self) -> None:
        """Draw polygons, or paint a trail again."""
        self._toggle_tool("polygon")

    def compute_supervoxels(self) -> None:
        """Compute the supervoxels if they are missing or stale."""
        self.compute("supervoxels")

    def compute_features(self) -> None:
        """Compute the features, and what they need, if they are missing or stale."""
        self.compute("features")

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
        self.labelling, self.saved_at = None, None
        self.forget_results()
        self._forget_views()
        super().close_project()

    def close(self) -> None:
        """Stop everything: the window closes."""
        for worker in (self._updates, self.previews, self.slices, self.plane):
            worker.close(CLOSING_SECONDS)
        super().close()

    def save(self) -> None:
        """Write what the disk refused before, if anything; say it when it begins to refuse, and when it is over."""
        project, was_refused = self.need_project(), self._is_refused
        try:
            project.save()
        except VoxloopError as error:
            self._is_refused = True
            if not was_refused:
                self.notified.emit("error", f"{error}. Go on: edits are in memory, and saved as soon as it can be")
            return
        self.saved_at, self._is_refused = time.monotonic(), False
        if was_refused:
            self.notified.emit("info", "everything is saved again")

    def try_again(self) -> None:
        """Save what could not be saved before; to be called now and then."""
        if self.project is not None and self.project.n_unsaved:
            self.save()

    def may_close(self) -> bool:
        """Return whether nothing would be lost now; the second time that this is asked, the answer is yes."""
        n = self.project.n_unsaved if self.project else 0
        if n == 0 or self._is_loss_known:
            return True
        self._is_loss_known = True
        self.notified.emit("error", f"{n} edits are not saved: make room on the disk, or close again to lose them")
        return False

    # Behind the scenes

    def _forget_views(self) -> None:
        """Take away what is shown beside the slices: another image comes, or none."""
        self.previews.clear()
        for view in (self.slices, self.plane, self.review, self.features, self.refined, self.sides, self.solid):
            view.forget()
        self.overview.forget()

    def _show(self, image: LoadedImage) -> None:
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
        self.layers.labels.events.selected_label.connect(self._selected_changed)
        self.layers.show_probability(self.labelling.selected)
        # After napari, which lists keys here that it no longer has.
        self.layers.labels.events.mode.connect(self._mode_changed, position="last")
        adapter.show_help(self.viewer, self.layers.labels, HELP_LINE)
        self.sides.rebuild()
        if self.tables:
            self.labelling.tables = self.tables[self.image]
            self.request_update()

    def _show_supervoxels(self, supervoxels: Supervoxels) -> None:
        self.previews.clear()
        for view in (self.slices, self.plane, self.review, self.features, self.refined, self.solid):
            view.forget()
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

    def _layer_inserted(self, event: Any) -> None:
        """Offer to import labels that somebody drags in."""
        layer = event.value
        # Later: a layer of our own has all its properties then.
        self.dispatch(lambda: self.overview.offer(layer) if layer in self.viewer.layers else None)

    def _dimensions_changed(self, _event: Any) -> None:
        if self.layers is not None and self.viewer.dims.ndisplay == 3:
            self.notified.emit("info", _IN_3D)

    def _mode_changed(self, _event: Any) -> None:
        adapter.show_help(self.viewer, self.layers.labels, HELP_LINE)
        self.changed.emit("labels")

    def _selected_changed(self, _event: Any) -> None:
        self.layers.show_probability(int(self.layers.labels.selected_label))
        self.changed.emit("labels")

    def _layer_toggled(self, _event: Any) -> None:
        self.changed.emit("shown")

    def edit(self, kind: Any, **fields: Any) -> bool:
        """Append an edit of the classes; return whether that worked."""
        try:
            return self.labelling.append(kind(**fields))
        except VoxloopError as error:
            self.notified.emit("warning", str(error))
            return False

    def labels_changed(self) -> None:
        """Take note that labels have changed: show it, and learn from it if that is wanted."""
        self.save()
        self.changed.emit("labels")
        if self.live:
            self.request_update()

    def go_to(self, voxel: tuple[int, int, int]) -> None:
        """Show the slice through a voxel, in the direction that is looked along."""
        self.look_at(adapter.looked_along(self.viewer), voxel)

    def look_at(self, axis: int, voxel: tuple[int, int, int]) -> None:
        """Show the slice across an axis (0, 1, 2 for z, y, x) through a voxel."""
        world = self.layers.labels.data_to_world(voxel)
        adapter.look_at(self.viewer, axis, tuple(float(w) for w in world))

    def _toggle_tool(self, tool: Tool) -> None:
        self.tool = "brush" if self.tool == tool else tool

    def _toggle(self, name: str) -> None:
        if self.layers is not None:
            self.layers.toggle(getattr(self.layers, name))


def _in_palette(key: Key) -> str:
    return f"{key.does} ({key.shown})" if key.shown else key.does
