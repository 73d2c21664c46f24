"""The panels around the canvas, made when they are first needed: each has a drawing context of its own."""

from __future__ import annotations

from typing import Any

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.plane_panel import PlanePanel


class Panels:
    """Shows and hides what the controller says is to be seen beside the canvas."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.plane: PlanePanel | None = None
        self._docks: dict[str, Any] = {}

    def refresh(self, what: str) -> None:
        """Show what has changed."""
        if what in ("plane", "project", "stages", "labels"):
            self._show_plane()

    def close(self) -> None:
        """Let go of the drawing contexts: the window closes."""
        if self.plane is not None:
            adapter.close_canvas(self.plane.canvas)
            self.plane = None

    def _show_plane(self) -> None:
        wanted = self._controller.plane.patch is not None
        if wanted and self.plane is None:
            self.plane = PlanePanel(self._controller)
            self._docks["plane"] = adapter.add_panel(
                self._controller.viewer, self.plane, "suggested plane", area="bottom"
            )
        if self.plane is not None:
            self.plane.refresh()
            self._docks["plane"].setVisible(wanted)
