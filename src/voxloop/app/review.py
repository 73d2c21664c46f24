"""A review: uncertain supervoxels one by one, each to be confirmed, corrected or skipped with one key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxloop.app import napari_adapter as adapter
from voxloop.project.guidance import ReviewQueue, middle_voxel

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

# What is shown around a supervoxel, in voxels of the finest axis: enough to recognise what it belongs to.
_RADIUS = 60


class Review:
    """Asks about supervoxels, each brought into view.

    Parameters
    ----------
    controller
        The open project with its prediction; answers become strokes of it.

    Attributes
    ----------
    queue
        What is asked about; None while there is no review.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.queue: ReviewQueue | None = None
        self._view_before: Any = None

    @property
    def is_asking(self) -> bool:
        """Whether an answer is awaited."""
        return self.queue is not None and not self.queue.is_over

    def toggle(self) -> None:
        """Start to ask for uncertain supervoxels one by one, or end it."""
        controller = self._controller
        if self.queue is not None:
            self.queue = None
            self._show()
        elif result := controller.need_result():
            self.queue = ReviewQueue.of(result, controller.tables[controller.image])
            self._show()

    def confirm(self) -> None:
        """Label the supervoxel under review as predicted."""
        if self.queue is not None and self.is_asking:
            self.assign(self.queue.predicted_class)

    def assign(self, class_id: int) -> None:
        """Label the supervoxel under review."""
        controller, queue = self._controller, self.queue
        if queue is not None and self.is_asking and controller.labelling is not None:
            controller.labelling.label_supervoxel(controller.tables[controller.image], queue.supervoxel, class_id)
            self._advance(queue)

    def skip(self) -> None:
        """Leave the supervoxel under review as it is."""
        if self.queue is not None and self.is_asking:
            self._advance(self.queue)

    def forget(self) -> None:
        """End it without a word: another image is on screen."""
        self.queue, self._view_before = None, None

    # Behind the scenes

    def _advance(self, queue: ReviewQueue) -> None:
        self.queue = queue.advanced()
        self._show()

    def _show(self) -> None:
        """Bring the supervoxel under review into view; the slice stays in the direction that is looked along."""
        controller, queue = self._controller, self.queue
        if queue is None or queue.is_over:
            controller.layers.point_out()
            if self._view_before is not None:
                adapter.restore_view(controller.viewer, self._view_before)
            self._view_before = None
        else:
            table = controller.tables[controller.image]
            controller.layers.point_out(queue.supervoxel)
            middle = middle_voxel(table, queue.supervoxel)
            if self._view_before is None:
                self._view_before = adapter.view_of(controller.viewer)
            controller.go_to(middle)
            world = controller.layers.labels.data_to_world(middle)
            adapter.look_closely(controller.viewer, world, _RADIUS * min(table.spacing))
        controller.changed.emit("review")
