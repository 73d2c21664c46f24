"""What guides that suggest one place after another have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from voxloop.active import PlaneSuggestion, SliceSuggestion
from voxloop.app.latest import Latest
from voxloop.errors import VoxloopError
from voxloop.project.guidance import Trail

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

Suggestion = TypeVar("Suggestion", SliceSuggestion, PlaneSuggestion)


class Guide(ABC, Generic[Suggestion]):
    """Looks for places in the background, goes to them when they are found, and back to earlier ones.

    Parameters
    ----------
    controller
        The open project with its prediction.
    topic
        What it says has changed when something has: see `Session.changed`.

    Attributes
    ----------
    trail
        The places suggested so far.
    """

    def __init__(self, controller: Controller, *, topic: str) -> None:
        self._controller = controller
        self._topic = topic
        self._latest = Latest(controller.dispatch, name=f"voxloop-{topic}")
        self.trail: Trail[Suggestion] = Trail()

    @property
    def is_busy(self) -> bool:
        """Whether a place is looked for."""
        return self._latest.is_busy

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

    def _look_for(self, find: Callable[[], list[Suggestion]]) -> None:
        """Go forward again to where somebody went back from; at the end of the trail look for the next place."""
        if not self.trail.is_at_end:
            self._found([])
            return
        self._latest.submit(find, self._found, self._say)
        self._controller.changed.emit(self._topic)

    @abstractmethod
    def _go_to(self, suggestion: Suggestion) -> None:
        """Show a place."""

    def _found(self, found: list[Suggestion]) -> None:
        controller = self._controller
        controller.need_project().history.add_suggestions(controller.image, found[:1])
        try:
            self._go_to(self.trail.next(lambda _earlier: found))
        except VoxloopError as error:
            self._say(str(error))

    def _say(self, line: str) -> None:
        self._controller.notified.emit("info", line)
        self._controller.changed.emit(self._topic)
