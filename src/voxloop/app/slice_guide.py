"""Suggested slices, one after another: found in the background, gone to when they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloop.active import SliceSuggestion
from voxloop.app.latest import Latest
from voxloop.errors import VoxloopError
from voxloop.project.guidance import Trail
from voxloop.project.suggestions import Suggester

if TYPE_CHECKING:
    from voxloop.app.controller import Controller


class SliceGuide:
    """Goes to the slices where labels help most.

    Parameters
    ----------
    controller
        The open project with its prediction.

    Attributes
    ----------
    trail
        The slices suggested so far.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._latest = Latest(controller.dispatch, name="voxloop-slices")
        self.trail: Trail[SliceSuggestion] = Trail()

    @property
    def current(self) -> SliceSuggestion | None:
        """The slice that was suggested last, or gone back to."""
        return self.trail.current

    @property
    def is_busy(self) -> bool:
        """Whether a slice is looked for."""
        return self._latest.is_busy

    def suggest(self) -> None:
        """Go to the slice where labels help most; once more goes to the next one."""
        controller = self._controller
        result = controller.need_result()
        if result is None:
            return
        if not self.trail.is_at_end:
            self._found([])
            return
        painted = controller.need_project().annotations.labelled_slices(controller.image)
        suggester, earlier = Suggester.of_result(result, avoid=painted), list(self.trail.suggestions)
        self._latest.submit(lambda: suggester.slices(skip=earlier), self._found, self._say)
        controller.changed.emit("guide")

    def back(self) -> None:
        """Go back to the suggestion before."""
        self._latest.forget()
        try:
            self._go_to(self.trail.back())
        except VoxloopError as error:
            self._say(str(error))

    def forget(self) -> None:
        """Drop everything: another image is on screen."""
        self._latest.forget()
        self.trail = Trail()

    def close(self, timeout: float) -> None:
        """Compute nothing more."""
        self._latest.close(timeout)

    # Behind the scenes

    def _found(self, found: list[SliceSuggestion]) -> None:
        controller = self._controller
        controller.need_project().history.add_suggestions(controller.image, found[:1])
        try:
            self._go_to(self.trail.next(lambda _earlier: found))
        except VoxloopError as error:
            self._say(str(error))

    def _go_to(self, suggestion: SliceSuggestion) -> None:
        self._controller.look_at(suggestion.axis, suggestion.center)
        self._controller.changed.emit("guide")

    def _say(self, line: str) -> None:
        self._controller.notified.emit("info", line)
        self._controller.changed.emit("guide")
