"""The step Label: classes, live updates, what is shown, where to label next."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QComboBox,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSlider,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.curve_plot import CurvePlot
from voxloop.app.labelling import Tool
from voxloop.app.pages import Page, button, choice, hint
from voxloop.project.annotations import ERASER, LabelClass

_AXES = "zyx"
_TOOLS: tuple[tuple[Tool, str, str], ...] = (
    ("brush", "Brush", "paint a trail"),
    ("supervoxels", "Supervoxels", "label the whole supervoxels that the trail touches"),
    ("fill", "Fill", "click inside a closed outline, or on one side of a line from edge to edge"),
    ("polygon", "Polygon", "click corner by corner; a double click closes and fills it, Escape drops it"),
)
_STRATEGIES = {
    "mixed": ("what is unsure, and a bit of all", "half where vote and neighbourhood are unsure, half from each class"),
    "feature": ("what the classifier is unsure of", "entropy of its vote"),
    "geometric": ("where neighbours disagree", "uncertainty of position alone"),
    "combined": ("either of these two", "vote and neighbourhood together"),
    "bald": ("where its trees disagree", "rather than where all are undecided"),
    "power": ("unsure, with some chance", "spreads over the volume"),
    "clasp": ("unsure, rare classes more", "for small objects in a large background"),
    "diverse": ("unsure and apart", "no two look-alikes in a row"),
    "kinds": ("one of each kind", "needs no classifier: for the first labels"),
    "typiclust": ("typical pieces", "needs no classifier either: common ones first"),
    "random": ("random pieces", "the baseline"),
}


class ClassRow(QWidget):
    """A class: colour, name, key, number of labelled supervoxels; a click takes its brush."""

    def __init__(self, controller: Controller, label_class: LabelClass, key: int) -> None:
        super().__init__()
        self._controller = controller
        self.class_id = label_class.class_id
        self.pick = choice(str(key) if key <= 9 else "")
        self.pick.setToolTip(f"paint with this class (key {key})" if key <= 9 else "paint with this class")
        self.pick.clicked.connect(lambda: controller.select(self.class_id))
        self.color = QToolButton()
        self.color.setToolTip("another colour")
        self.color.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.color.setText("\u2003")  # as large as the font
        self.color.clicked.connect(self._ask_color)
        self.name = QLineEdit(label_class.name)
        self.name.editingFinished.connect(self._rename)
        self.name.returnPressed.connect(lambda: adapter.focus_canvas(controller.viewer))
        self.count = QLabel()
        self.count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.count.setToolTip("labelled supervoxels")
        more = QToolButton()
        more.setText("⋯")
        more.setToolTip("merge or remove the class; undo brings it back")
        more.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu = QMenu(more)
        self.menu.aboutToShow.connect(self.fill_menu)
        more.setMenu(self.menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for widget in (self.pick, self.color, self.name, self.count, more):
            row.addWidget(widget, 1 if widget is self.name else 0)
        self.show_class(label_class)

    def show_class(self, label_class: LabelClass) -> None:
        """Show name and colour."""
        self.color.setStyleSheet(f"background-color: {label_class.color}; border: 1px solid #888;")
        if not self.name.hasFocus():
            self.name.setText(label_class.name)

    def fill_menu(self) -> None:
        """Offer to merge the class into any other one, or to remove it."""
        controller = self._controller
        self.menu.clear()
        for other, name in controller.need_project().class_names.items():
            if other != self.class_id:
                self.menu.addAction(f"Merge into {name}").triggered.connect(
                    lambda _on, other=other: controller.overview.merge_class(self.class_id, other)
                )
        self.menu.addSeparator()
        self.menu.addAction("Remove with its labels").triggered.connect(
            lambda _on: controller.remove_class(self.class_id)
        )

    def _rename(self) -> None:
        names = self._controller.need_project().class_names
        if self.name.text() != names.get(self.class_id):
            self._controller.rename_class(self.class_id, self.name.text())
        self.name.setText(self._controller.need_project().class_names.get(self.class_id, ""))

    def _ask_color(self) -> None:
        dialog = QColorDialog(self)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.colorSelected.connect(lambda color: self._controller.recolor_class(self.class_id, QColor(color).name()))
        dialog.show()


class LabelPage(Page):
    """Paint, see what the classifier makes of it, and go where it helps most."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.rows: list[ClassRow] = []
        self._add_classes()
        self._add_live()
        self._add_shown()
        self._add_guidance()
        self._add_progress()
        self.box.addStretch()

    def refresh(self, what: str) -> None:
        """Show what has changed."""
        self.setEnabled(self.controller.project is not None)
        if self.controller.project is None:
            return
        if what in ("project", "labels", "live"):
            self._show_classes()
        if what in ("project", "stages", "live", "shown", "guide", "views"):
            self.live.setChecked(self.controller.live)
            self._show_layers()
        if what in ("project", "guide", "live"):
            self._show_suggestion()
        if what in ("project", "plane"):
            self.looking.setVisible(self.controller.plane.is_busy)
        if what in ("project", "review"):
            self._show_review()
        if what in ("project", "stages", "live"):
            self._show_progress()
        self.tick()

    def tick(self) -> None:
        """Show the lines that grow old."""
        self.state.setText(self.controller.live_line())

    # Building

    def _add_classes(self) -> None:
        group = QGroupBox("Classes")
        column = QVBoxLayout(group)
        column.setSpacing(3)
        self.class_box = QVBoxLayout()
        self.class_box.setSpacing(3)
        column.addLayout(self.class_box)
        row = QHBoxLayout()
        self.eraser = choice("0  Eraser")
        self.eraser.clicked.connect(lambda: self.controller.select(ERASER))
        self.new_class = QLineEdit()
        self.new_class.setObjectName("new-class")
        self.new_class.setPlaceholderText("new class: name, then Enter")
        self.new_class.returnPressed.connect(self._add_class)
        row.addWidget(self.eraser)
        row.addWidget(self.new_class, 1)
        column.addLayout(row)
        row = QHBoxLayout()
        row.setSpacing(2)
        self.tools: dict[Tool, QToolButton] = {}
        for tool, text, tip in _TOOLS:
            self.tools[tool] = choice(text)
            self.tools[tool].setToolTip(tip)
            self.tools[tool].clicked.connect(lambda _on, tool=tool: setattr(self.controller, "tool", tool))
            row.addWidget(self.tools[tool])
        row.addStretch()
        row.addWidget(button("Strokes ...", lambda: self.controller.changed.emit("strokes"), name="strokes",
                             tip="list of strokes; conflicts; import"))  # fmt: skip
        column.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(QLabel("Size"))
        self.brush = QSlider(Qt.Orientation.Horizontal)
        self.brush.setRange(1, 40)
        self.brush.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.brush.sliderMoved.connect(lambda size: setattr(self.controller, "brush_size", size))
        self.brush_size = QLabel()
        row.addWidget(self.brush, 1)
        row.addWidget(self.brush_size)
        row.addWidget(button("Undo", self.controller.undo, tip="Ctrl+Z"))
        row.addWidget(button("Redo", self.controller.redo, tip="Ctrl+Shift+Z"))
        column.addLayout(row)
        self.conflicts = hint()
        self.next_conflict = button("Show next", self.controller.overview.next_conflict)
        row = QHBoxLayout()
        row.addWidget(self.conflicts, 1)
        row.addWidget(self.next_conflict)
        column.addLayout(row)
        self.box.addWidget(group)

    def _add_live(self) -> None:
        group = QGroupBox("Prediction")
        column = QVBoxLayout(group)
        row = QHBoxLayout()
        self.live = QCheckBox("Live (Shift+L)")
        self.live.setToolTip("learn after every stroke")
        self.live.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.live.clicked.connect(lambda on: setattr(self.controller, "live", bool(on)))
        row.addWidget(self.live, 1)
        row.addWidget(button("Update", self.controller.update_now, name="update",
                             tip="update once; computes what is missing first"))  # fmt: skip
        column.addLayout(row)
        self.state = hint()
        self.state.setObjectName("live-state")
        column.addWidget(self.state)
        self.box.addWidget(group)

    def _add_shown(self) -> None:
        group = QGroupBox("Show")
        grid = QGridLayout(group)
        self.shown: dict[str, QCheckBox] = {}
        for index, (name, text, toggle) in enumerate((
            ("prediction", "prediction (S)", self.controller.toggle_prediction),
            ("uncertainty", "uncertainty (U)", self.controller.toggle_uncertainty),
            ("outlines", "outlines (O)", self.controller.toggle_outlines),
            ("top", "most uncertain (H)", self.controller.toggle_hatch),
            ("pieces", "over-segmentation (K)", self.controller.toggle_pieces),
            ("probability", "probability (Q)", self.controller.toggle_probability),
        )):  # fmt: skip
            box = QCheckBox(text)
            box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            box.clicked.connect(lambda _on, toggle=toggle: toggle())
            self.shown[name] = box
            grid.addWidget(box, index // 2, index % 2)
        self.shown["probability"].setToolTip("of the class that the brush paints")
        self.refined = QCheckBox("voxel by voxel (M)")
        self.refined.setToolTip("decide this slice voxel by voxel near boundaries; takes some seconds")
        self.refined.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.refined.clicked.connect(lambda _on: self.controller.refined.toggle())
        grid.addWidget(self.refined, 3, 0, 1, 2)
        row = QHBoxLayout()
        row.setSpacing(2)
        row.addWidget(QLabel("Plane (V)"))
        self.planes = [choice(name) for name in ("xy", "xz", "yz")]
        for axis, plane in enumerate(self.planes):
            plane.clicked.connect(lambda _on, axis=axis: self.controller.view_along(axis))
            row.addWidget(plane)
        row.addStretch()
        self.sides, self.solid = choice("side views (B)"), choice("3D (D)")
        self.sides.setToolTip("yz beside and xz below, with a crosshair; C brings all views to the mouse pointer")
        self.sides.clicked.connect(self.controller.sides.toggle)
        self.solid.setToolTip(
            "the segmentation and the suggested plane in 3D; the brush paints on it, a drag beside it turns it"
        )
        self.solid.clicked.connect(self.controller.solid.toggle)
        row.addWidget(self.sides)
        row.addWidget(self.solid)
        grid.addLayout(row, 4, 0, 1, 2)
        self.box.addWidget(group)

    def _add_guidance(self) -> None:
        group = QGroupBox("Where next")
        column = QVBoxLayout(group)
        row = QHBoxLayout()
        self.strategy = QComboBox()
        self.strategy.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for name, (text, tip) in _STRATEGIES.items():
            self.strategy.addItem(text, name)
            self.strategy.setItemData(self.strategy.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.strategy.activated.connect(
            lambda _index: self.controller.configure(query={"strategy": self.strategy.currentData()})
        )
        row.addWidget(QLabel("Look for"))
        row.addWidget(self.strategy, 1)
        column.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(button("Suggest slice (N)", self.controller.slices.suggest, name="suggest",
                             tip="go where labels help most; once more skips it"), 1)  # fmt: skip
        row.addWidget(button("Back", self.controller.slices.back, tip="Shift+N"))
        column.addLayout(row)
        self.suggestion = hint()
        column.addWidget(self.suggestion)
        row = QHBoxLayout()
        row.addWidget(button("Suggest plane (P)", self.controller.plane.suggest, name="suggest-plane",
                             tip="a small round piece of a slanted plane; two clicks answer it"), 1)  # fmt: skip
        row.addWidget(button("Back", self.controller.plane.back, tip="Shift+P"))
        column.addLayout(row)
        self.looking = hint("Looking for the plane where labels help most ...")
        column.addWidget(self.looking)
        self.start_review = button("Review uncertain supervoxels (R)", self.controller.review.toggle, name="review",
                                   tip="confirm or correct predictions one by one")  # fmt: skip
        column.addWidget(self.start_review)
        self.question = hint()
        column.addWidget(self.question)
        self.answers = QWidget()
        row = QHBoxLayout(self.answers)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(button("Confirm (Enter)", self.controller.review.confirm), 1)
        row.addWidget(button("Skip (Backspace)", self.controller.review.skip), 1)
        column.addWidget(self.answers)
        self.box.addWidget(group)

    def _add_progress(self) -> None:
        group = QGroupBox("How far")
        column = QVBoxLayout(group)
        row = QHBoxLayout()
        self.spent = hint()
        self.budget = QSpinBox()
        self.budget.setRange(1, 1_000_000)
        self.budget.setKeyboardTracking(False)
        self.budget.setToolTip("how many supervoxels you mean to label; strategies explore first and calm down with it")
        self.budget.valueChanged.connect(lambda budget: self.controller.configure(query={"budget": budget}))
        row.addWidget(self.spent, 1)
        row.addWidget(QLabel("of"))
        row.addWidget(self.budget)
        column.addLayout(row)
        self.curve = CurvePlot()
        column.addWidget(self.curve)
        self.accuracy, self.advice = hint(), hint()
        self.accuracy.setToolTip("of strokes, which people draw where it is clear: the volume may be harder")
        column.addWidget(self.accuracy)
        column.addWidget(self.advice)
        self.box.addWidget(group)

    # Showing

    def _show_progress(self) -> None:
        controller = self.controller
        n = controller.labels.n_labelled if controller.labels else 0
        self.spent.setText(f"{n:,} supervoxels labelled")
        query = controller.project.specs.query
        self.budget.blockSignals(True)
        self.budget.setValue(query.budget)
        self.budget.blockSignals(False)
        self.strategy.setCurrentIndex(self.strategy.findData(query.strategy))
        self.curve.show_rounds(controller.overview.rounds)
        for line, text in ((self.accuracy, controller.overview.accuracy_line()),
                           (self.advice, controller.overview.advice())):  # fmt: skip
            line.setText(text)
            line.setVisible(bool(text))

    def _show_classes(self) -> None:
        project = self.controller.project
        classes = project.annotations.classes
        if [row.class_id for row in self.rows] != [c.class_id for c in classes]:
            for row in self.rows:
                row.deleteLater()
            self.rows = [ClassRow(self.controller, c, key) for key, c in enumerate(classes, start=1)]
            for row in self.rows:
                self.class_box.addWidget(row)
        labels, selected = self.controller.labels, self.controller.labelling.selected
        for row, label_class in zip(self.rows, classes, strict=True):
            row.show_class(label_class)
            row.pick.setChecked(row.class_id == selected)
            row.count.setText(f"{labels.count(row.class_id):>6,}" if labels else "")
        self.eraser.setChecked(selected == ERASER)
        self.brush.setValue(self.controller.brush_size)
        self.brush_size.setText(str(self.controller.brush_size))
        self.conflicts.setText(_label_remarks(labels))
        self.conflicts.setVisible(bool(self.conflicts.text()))
        self.next_conflict.setVisible(len(self.controller.overview.conflicts) > 0)
        for tool, chosen in self.tools.items():
            chosen.setChecked(tool == self.controller.tool and selected != ERASER)

    def _show_layers(self) -> None:
        for name, box in self.shown.items():
            layer = getattr(self.controller.layers, name)
            box.setEnabled(layer is not None)
            box.setChecked(layer is not None and layer.visible)
        self.refined.setChecked(self.controller.refined.is_on)
        for axis, plane in enumerate(self.planes):
            plane.setChecked(axis == adapter.looked_along(self.controller.viewer))
        self.sides.setChecked(self.controller.sides.is_on)
        self.solid.setChecked(self.controller.solid.is_on)

    def _show_suggestion(self) -> None:
        found = self.controller.slices.current
        if self.controller.slices.is_busy:
            self.suggestion.setText("Looking for the slice where labels help most ...")
        elif found is None:
            self.suggestion.setText("Takes you to the slice where labels help most.")
        else:
            self.suggestion.setText(
                f"<b>{_AXES[found.axis]} = {found.index}</b>: {found.reason}. Label the ringed ones."
            )

    def _show_review(self) -> None:
        queue, is_asking = self.controller.review.queue, self.controller.review.is_asking
        self.start_review.setText("End review (R)" if queue else "Review uncertain supervoxels (R)")
        self.answers.setVisible(is_asking)
        self.question.setVisible(queue is not None)
        if is_asking:
            name = self.controller.need_project().class_names.get(queue.predicted_class, "?")
            self.question.setText(
                f"<b>{queue.position + 1}/{len(queue.ids)}</b>: is the ringed one <b>{name}</b> "
                f"({queue.confidence[queue.position]:.0%})? Or press the key of its class."
            )
        elif queue is not None:
            self.question.setText("All answered. End the review and start another for more.")

    def _add_class(self) -> None:
        self.controller.add_class(self.new_class.text())
        self.new_class.clear()
        adapter.focus_canvas(self.controller.viewer)


def _label_remarks(labels: Any) -> str:
    """Return what is odd about the labels; empty if nothing is."""
    if labels is None:
        return ""
    remarks = []
    if labels.n_conflicts:
        many = "supervoxels have" if labels.n_conflicts > 1 else "supervoxel has"
        remarks.append(f"{labels.n_conflicts} {many} strokes of several classes: the larger part counts")
    if labels.n_outside:
        remarks.append(f"{labels.n_outside} labelled voxels lie outside the mask and do not count")
    return "; ".join(remarks)
