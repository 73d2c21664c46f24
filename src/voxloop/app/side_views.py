"""The image seen from the side, beside the main view: the same layers, the same strokes, one crosshair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel

from voxloop.app import napari_adapter as adapter
from voxloop.app.layers import ProjectLayers

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

# The axis looked along, then those down and to the right: beside an xy view y goes down, below it x goes right.
ORDERS = {"yz": (2, 1, 0), "xz": (1, 0, 2)}


class SideViews:
    """Views along y and x that follow the main one.

    Parameters
    ----------
    controller
        Whose image is shown.

    Attributes
    ----------
    models
        The viewers by name; they have no windows of their own.
    is_on
        Whether they are to be seen.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.models = {name: ViewerModel() for name in ORDERS}
        self.is_on = False
        self._is_following = False
        self._layers: dict[str, ProjectLayers] = {}
        controller.viewer.dims.events.point.connect(self._follow_main)
        for name, model in self.models.items():
            model.dims.events.point.connect(lambda _event, name=name: self._follow_side(name))

    def toggle(self) -> None:
        """Show the views, or hide them."""
        controller = self._controller
        if controller.layers is None:
            return
        if controller.layers.image.record.shape[0] == 1:
            controller.notified.emit("info", "the image is flat: there is nothing to see from the side")
            return
        self.is_on = not self.is_on
        self.rebuild()
        controller.changed.emit("views")

    def rebuild(self) -> None:
        """Make the layers for the image on screen, and let them follow its layers, if the views are on."""
        main = self._controller.layers
        if main is None:
            return
        main.followers = []
        if not self.is_on:
            return
        for name, model in self.models.items():
            if name not in self._layers:
                self._layers[name] = self._make(name, model)
            main.followers.append(self._layers[name])
        main.refresh_followers()
        self._follow_main()

    def forget(self) -> None:
        """Drop the layers: another image comes, or none."""
        for model in self.models.values():
            model.layers.clear()
        self._layers = {}
        if self._controller.layers is not None:
            self._controller.layers.followers = []

    def place_at_pointer(self, viewer: Any) -> None:
        """Bring all views to the point that the mouse points at in one of them."""
        if self._controller.layers is not None:
            main = self._controller.viewer
            before = adapter.extra_axes(main)
            main.dims.set_point(range(before, before + 3), tuple(viewer.cursor.position)[-3:])

    # Behind the scenes

    def _make(self, name: str, model: Any) -> ProjectLayers:
        controller = self._controller
        layers = ProjectLayers(model, controller.layers.image, leader=controller.layers)
        model.dims.order = ORDERS[name]
        controller.labelling.listen_to(layers.labels)
        layers.show_classes(controller.need_project().annotations.classes)
        keys = {**controller.keys, "C": lambda: self.place_at_pointer(model)}
        adapter.bind_keys([*layers.all, model], keys)
        adapter.show_scale_bar(model)
        model.reset_view()
        return layers

    def _follow_main(self, _event: Any = None) -> None:
        """Show the slices through the main view's point; only what changes is drawn anew."""
        if not self.is_on or self._is_following or self._controller.viewer.dims.ndim < 3:
            return
        self._is_following = True
        try:
            point = adapter.point_of(self._controller.viewer)
            for name, model in self.models.items():
                axis = ORDERS[name][0]
                if model.dims.ndim == 3 and model.dims.point[axis] != point[axis]:
                    model.dims.set_point(axis, point[axis])
        finally:
            self._is_following = False
        self._controller.changed.emit("crosshair")

    def _follow_side(self, name: str) -> None:
        """Take over where somebody scrolled to in a side view."""
        main, model, axis = self._controller.viewer.dims, self.models[name], ORDERS[name][0]
        if self.is_on and not self._is_following and model.dims.ndim == 3:
            main.set_point(adapter.extra_axes(self._controller.viewer) + axis, model.dims.point[axis])
