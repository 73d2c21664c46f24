"""The panels around the canvas, made when they are first needed: each has a drawing context of its own."""

from __future__ import annotations

from typing import Any

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.plane_panel import PlanePanel
from voxloop.app.side_views import ORDERS

_MAIN = "main"


class Panels:
    """Shows and hides what the controller says is to be seen beside the canvas."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.canvases: dict[str, Any] = {}
        self._plane: PlanePanel | None = None
        self._docks: dict[str, Any] = {}
        self._crosshairs: dict[str, adapter.Crosshair] = {}

    def refresh(self, what: str) -> None:
        """Show what has changed."""
        if what in ("plane", "project", "stages", "labels"):
            self._show_plane()
        if what in ("views", "project", "stages"):
            self._show_sides()
            self._show_solid()
        if what in ("views", "crosshair", "shown"):
            self._move_crosshairs()

    def close(self) -> None:
        """Let go of the drawing contexts: the window closes."""
        for canvas in self.canvases.values():
            adapter.close_canvas(canvas)
        self.canvases, self._docks, self._crosshairs = {}, {}, {}

    def _show_plane(self) -> None:
        wanted = self._controller.plane.patch is not None
        if wanted and self._plane is None:
            self._plane = PlanePanel(self._controller)
            self.canvases["plane"] = self._plane.canvas
            self._add("suggested plane", self._plane, area="bottom")
        if self._plane is not None:
            self._plane.refresh()
            self._docks["suggested plane"].setVisible(wanted)

    def _show_sides(self) -> None:
        sides = self._controller.sides
        wanted = sides.is_on and self._controller.project is not None
        for name, model in sides.models.items():
            if wanted and name not in self.canvases:
                self.canvases[name] = adapter.canvas_of(model)
                self._crosshairs[name] = adapter.Crosshair(self.canvases[name].canvas)
                self._add(name, self.canvases[name], area="right" if name == "yz" else "bottom")
            if name in self._docks:
                self._docks[name].setVisible(wanted)
        if wanted and _MAIN not in self._crosshairs:
            self._crosshairs[_MAIN] = adapter.Crosshair(adapter.main_canvas(self._controller.viewer))
        for crosshair in self._crosshairs.values():
            crosshair.show(wanted)

    def _show_solid(self) -> None:
        solid = self._controller.solid
        wanted = solid.is_on and self._controller.result is not None
        if wanted and "3D" not in self.canvases:
            self.canvases["3D"] = adapter.canvas_of(solid.model)
            self._add("3D", self.canvases["3D"], area="bottom")
        if "3D" in self._docks:
            self._docks["3D"].setVisible(wanted)

    def _add(self, name: str, widget: Any, *, area: str) -> None:
        self._docks[name] = adapter.add_panel(self._controller.viewer, widget, name, area=area)

    def _move_crosshairs(self) -> None:
        dims = self._controller.viewer.dims
        if dims.ndim != 3:
            return
        for name, crosshair in self._crosshairs.items():
            _, down, right = dims.order if name == _MAIN else ORDERS[name]
            crosshair.move_to(dims.point[down], dims.point[right])
