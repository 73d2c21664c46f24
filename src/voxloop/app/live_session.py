"""A project that learns while somebody paints: what was asked of the classifier, and its last answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.app import napari_adapter as adapter
from voxloop.app.layers import LoadedImage
from voxloop.app.session import Dispatch, Session
from voxloop.project.live import LiveImage, LiveLabels, LiveProblem, LiveRequest, LiveResponse, LiveResult, LiveUpdates


class LiveSession(Session):
    """A session whose prediction follows the labels.

    Attributes
    ----------
    labels
        Which supervoxels are labelled, as of the last update.
    result
        The last prediction of the whole image; it stays while a newer one is computed, or cannot be.
    problem
        Why there is no newer one, in one line; empty if there is.
    updated_at
        When the prediction was last updated (`time.monotonic`), or None.
    learned
        Called with each prediction of the whole image and the one before it, or None.
    """

    def __init__(self, viewer: Any, *, dispatch: Dispatch, debounce: float = 0.05, live: bool = True) -> None:
        super().__init__(viewer, dispatch=dispatch)
        self.learned: Callable[[LiveResult, LiveResult | None], None] = lambda _result, _before: None
        self._asked = 0
        self._live = live
        self.forget_results()
        self._updates = LiveUpdates(lambda response: dispatch(lambda: self._on_response(response)), debounce=debounce)

    @property
    def live(self) -> bool:
        """Whether each stroke updates the prediction."""
        return self._live

    @live.setter
    def live(self, on: bool) -> None:
        self._live = on
        self.changed.emit("live")
        if on:
            self.request_update()

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
            self.request_update()

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
        state = "updating ..." if self.is_updating else f"updated {ago(self.updated_at)}"
        return f"{n} labelled, {state}"

    def need_result(self) -> LiveResult | None:
        """Return the last prediction, or say why there is none."""
        if self.result is None:
            self.notified.emit("warning", f"there is no prediction to go by yet: {self.live_line()}")
        return self.result

    def configure(self, **choices: Any) -> None:
        """Choose specs; what they make stale says so, and is computed when it is asked for."""
        super().configure(**choices)
        if "query" in choices:
            self.request_update()  # suggestions follow the specs of the last update

    def request_update(self) -> None:
        """Ask for an update with the labels of this moment."""
        if not self.tables or self.project is None:
            return
        self._asked += 1
        visible = self._visible()
        self._updates.submit(
            LiveRequest.of(self.project, self.tables, number=self._asked, shown=self.image, visible=visible)
        )
        self.changed.emit("live")

    def forget_results(self) -> None:
        """Drop what was learned about the image that was on screen."""
        self.labels: LiveLabels | None = None
        self.result: LiveResult | None = None
        self.problem = ""
        self.updated_at: float | None = None
        self._answered = self._asked  # what is under way will be dropped

    # Behind the scenes

    def _computed(self, tables: tuple[LiveImage, ...]) -> None:
        self.forget_results()
        super()._computed(tables)
        self.layers.show_classes(self.need_project().annotations.classes)
        self.request_update()

    def _show(self, image: LoadedImage) -> None:
        self.forget_results()
        super()._show(image)

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
            self.learned(result, self.result)
            self.result = result
            self._answered = result.request.number


def ago(then: float) -> str:
    """Return how long ago a moment of `time.monotonic` was."""
    seconds = time.monotonic() - then
    if seconds < 10:
        return f"{seconds:.1f} s ago"
    return f"{seconds:.0f} s ago" if seconds < 90 else f"{seconds / 60:.0f} min ago"
