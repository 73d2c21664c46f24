"""The panels around the canvas, made when they are first needed: each has a drawing context of its own."""

from __future__ import annotations

from typing import Any

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.plane_panel import PlanePanel
from voxloop.app.side_views import ORDERS

_MAIN = "main"


class Panels:
    """Shows and hides what the controller says is to be seen beside the canvas.

    Parameters
    ----------
    controller
        Says it.
    dock
        The widget with the steps.
    """

    def __init__(self, controller: Controller, dock: Any) -> None:
        self._controller = controller
        self._dock = dock
        self.canvases: dict[str, Any] = {}
        self._plane: PlanePanel | None = None
        self._panels: dict[str, Any] = {}
        self._crosshairs: dict[str, adapter.Crosshair] = {}

    def refresh(self, what: str) -> None:
        """Show what has changed."""
        if what in ("plane", "views", "project", "stages"):
            self._show()
        if what in ("plane", "labels") and self._plane is not None:
            self._plane.refresh()
        if what in ("views", "crosshair", "shown"):
            self._move_crosshairs()

    def close(self) -> None:
        """Let go of the drawing contexts: the window closes."""
        for canvas in self.canvases.values():
            adapter.close_canvas(canvas)
        self.canvases, self._panels, self._crosshairs = {}, {}, {}

    def _show(self) -> None:
        """Make and show the panels that are wanted, hide the others."""
        controller = self._controller
        has_sides = controller.sides.is_on and controller.project is not None
        wanted = {
            "yz": has_sides,
            "xz": has_sides,
            "suggested plane": controller.plane.patch is not None,
            "3D": controller.solid.is_on and controller.result is not None,
        }
        if not self._panels and any(wanted.values()):
            self._panels = adapter.add_panels(controller.viewer, self._dock)
        before = {name: not panel.isHidden() for name, panel in self._panels.items()}
        if not self._panels or before == wanted:
            return
        for name, panel in self._panels.items():
            if wanted[name] and name not in self.canvases:
                panel.setWidget(self._make(name))
            panel.setVisible(wanted[name])
            if wanted[name] and not before[name]:
                panel.raise_()
        for crosshair in self._crosshairs.values():
            crosshair.show(has_sides)
        adapter.share_room(controller.viewer, self._panels)

    def _make(self, name: str) -> Any:
        controller = self._controller
        if name == "suggested plane":
            self._plane = PlanePanel(controller)
            self.canvases[name] = self._plane.canvas
            return self._plane
        model = controller.solid.model if name == "3D" else controller.sides.models[name]
        self.canvases[name] = adapter.canvas_of(model)
        if name in ORDERS:
            self._crosshairs[name] = adapter.Crosshair(self.canvases[name].canvas)
            if _MAIN not in self._crosshairs:
                self._crosshairs[_MAIN] = adapter.Crosshair(adapter.main_canvas(controller.viewer))
        return self.canvases[name]

    def _move_crosshairs(self) -> None:
        viewer = self._controller.viewer
        if viewer.dims.ndim < 3:
            return
        point, along = adapter.point_of(viewer), adapter.looked_along(viewer)
        main = (along, *(axis for axis in range(3) if axis != along))
        for name, crosshair in self._crosshairs.items():
            _, down, right = main if name == _MAIN else ORDERS[name]
            crosshair.move_to(point[down], point[right])
