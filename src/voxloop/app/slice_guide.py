"""Suggested slices, one after another: found in the background, gone to when they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloop.active import SliceSuggestion
from voxloop.app.guide import Guide
from voxloop.project.suggestions import Suggester

if TYPE_CHECKING:
    from voxloop.app.controller import Controller


class SliceGuide(Guide[SliceSuggestion]):
    """Goes to the slices where labels help most.

    Parameters
    ----------
    controller
        The open project with its prediction.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller, topic="guide")

    @property
    def current(self) -> SliceSuggestion | None:
        """The slice that was suggested last, or gone back to."""
        return self.trail.current

    def suggest(self) -> None:
        """Go to the slice where labels help most; once more goes to the next one."""
        controller = self._controller
        result = controller.need_result()
        if result is not None:
            painted = controller.need_project().annotations.labelled_slices(controller.image)
            suggester, earlier = Suggester.of_result(result, avoid=painted), list(self.trail.suggestions)
            self._look_for(lambda: suggester.slices(skip=earlier))

    # Behind the scenes

    def _go_to(self, suggestion: SliceSuggestion) -> None:
        controller = self._controller
        controller.look_at(suggestion.axis, suggestion.center)
        labelled = controller.labels.images[controller.image].ids if controller.labels else ()
        controller.layers.point_out(*np.setdiff1d(suggestion.supervoxels, labelled).tolist(), until_labelled=True)
        self._controller.changed.emit("guide")
