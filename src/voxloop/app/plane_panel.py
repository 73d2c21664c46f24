"""The panel of a suggested plane: its picture, and buttons for the answers."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.pages import button, choice, hint


class PlanePanel(QWidget):
    """Shows `Controller.plane` and calls its methods."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        plane = controller.plane
        self.canvas = adapter.canvas_of(plane.viewer)
        self.reason = hint()
        self.line = choice("Line (L)")
        self.line.setToolTip("two clicks: where two classes meet, and again; each side becomes a class")
        self.line.clicked.connect(plane.draw_line)
        self.sides = [QComboBox(), QComboBox()]
        for side in self.sides:
            side.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            side.setMinimumWidth(60)
            side.setToolTip("the classes that the line lies between")
            side.activated.connect(lambda _index: self._choose())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(4)
        layout.addWidget(self.canvas, 1)
        layout.addWidget(self.reason)
        layout.addLayout(
            _row(
                self.line,
                *self.sides,
                button("Swap (X)", plane.swap, tip="change the sides over"),
            )
        )
        layout.addLayout(
            _row(
                button("All one class (A)", plane.answer_all, tip="all of it is the class that the brush paints"),
                button("◀", lambda: plane.step(-1), tip="a voxel back along the normal; the mouse wheel does it too"),
                button("▶", lambda: plane.step(1), tip="a voxel on along the normal; the mouse wheel does it too"),
                button("Next (P)", plane.suggest),
                button("Back", plane.back, tip="Shift+P"),
                button("Close", plane.close_patch, tip="P shows it again"),
            )
        )

    def refresh(self) -> None:
        """Show what has changed."""
        plane, project = self._controller.plane, self._controller.project
        if plane.patch is None or project is None:
            return
        offset = f", {plane.offset:+d} voxels along its normal" if plane.offset else ""
        what = "Label what lies in the circle: paint, or draw a line, or say that all is one class."
        if plane.is_drawing:
            what = "Click the second end of the line." if plane.start else "Click where two classes meet."
        self.reason.setText(f"{plane.patch.plane.reason.capitalize()}{offset}. <b>{what}</b>")
        self.line.setChecked(plane.is_drawing)
        names = project.class_names
        for side, box in enumerate(self.sides):
            box.blockSignals(True)
            box.clear()
            for class_id, name in names.items():
                box.addItem(name, class_id)
            box.setCurrentIndex(box.findData(plane.classes[side]) if plane.classes else -1)
            box.blockSignals(False)

    def _choose(self) -> None:
        first, second = (side.currentData() for side in self.sides)
        if first is not None and second is not None and first != second:
            self._controller.plane.choose_classes(first, second)


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1 if isinstance(widget, QLabel | QComboBox) else 0)
    row.addStretch()
    return row
