"""The list of strokes, what is in conflict, and labels from files."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QFileDialog, QHBoxLayout, QHeaderView, QTableWidget, QTableWidgetItem

from voxloop.app.controller import Controller
from voxloop.app.pages import Page, ask_path, button, hint
from voxloop.project.annotations import ERASER

_COLUMNS = ("When", "Class", "Where (z, y, x)", "Voxels", "How")
_MOST_ROWS = 500  # a longer list is not read, but costs time at each stroke


class StrokesPage(Page):
    """Where somebody drew, what and when; a click goes there."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.box.addWidget(hint("All strokes, newest first; a click goes there. Label or F1 goes back."))
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels(_COLUMNS)
        self.table.verticalHeader().hide()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.cellClicked.connect(lambda row, _column: controller.overview.go_to_stroke(self._strokes[row]))
        self._strokes: tuple[Any, ...] = ()
        self.box.addWidget(self.table, 1)
        row = QHBoxLayout()
        row.addWidget(button("Next conflict", controller.overview.next_conflict,
                             tip="go to the next supervoxel with strokes of several classes"))  # fmt: skip
        row.addWidget(button("Import labels ...", self._import, name="import-labels",
                             tip="a label volume of the same shape, or a CSV table: z, y, x, class"))  # fmt: skip
        row.addWidget(button("Import layer", controller.overview.import_layer, name="import-layer",
                             tip="the layer that is selected on the left; its value n is class n"))  # fmt: skip
        self.box.addLayout(row)
        self.box.addWidget(button("Back to labelling", lambda: controller.changed.emit("strokes")))

    def refresh(self, what: str) -> None:
        """Show the strokes, if somebody looks at them."""
        if what not in ("project", "labels", "strokes") or not (self.isVisible() or what == "strokes"):
            return
        project = self.controller.project
        if project is None:
            self.table.setRowCount(0)
            return
        classes = {c.class_id: c for c in project.annotations.classes}
        several = len(project.images) > 1
        self._strokes = self.controller.overview.strokes[:_MOST_ROWS]
        self.table.setRowCount(len(self._strokes))
        for row, stroke in enumerate(self._strokes):
            of = classes.get(stroke.class_id)
            where = ", ".join(str(c) for c in stroke.centre) + (f" in image {stroke.image + 1}" if several else "")
            cells = (
                stroke.time.astimezone().strftime("%H:%M:%S"),
                "eraser" if stroke.class_id == ERASER or of is None else of.name,
                where,
                f"{stroke.n_voxels:,}",
                stroke.source,
            )
            for column, text in enumerate(cells):
                item = QTableWidgetItem(text)
                if column == 0:
                    item.setToolTip(stroke.time.astimezone().strftime("%Y-%m-%d %H:%M:%S"))
                if column == 1 and of is not None:
                    item.setForeground(QColor(of.color))
                self.table.setItem(row, column, item)

    def _import(self) -> None:
        ask_path(self, "Import labels", self.controller.overview.import_labels, mode=QFileDialog.FileMode.ExistingFile)
