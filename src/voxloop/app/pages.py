"""What the pages have in common, the step Supervoxels and the list of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from voxloop.app.controller import Controller
from voxloop.app.keys import KEYS
from voxloop.app.piece_guide import describe, explain, warn
from voxloop.app.preview import SLAB_DEPTH, SLAB_WIDTH
from voxloop.errors import InputError
from voxloop.project.images import Crop
from voxloop.specs import default_size
from voxloop.supervoxels import Supervoxels

_STATE_LINES = {
    "ready": "Done; nothing that it depends on has changed.",
    "stale": "Out of date: a setting has changed since it was computed.",
    "missing": "Not computed yet. The defaults suit most images.",
}


def button(text: str, action: Callable[[], None], *, tip: str = "", name: str = "") -> QPushButton:
    """Return a button that leaves the keyboard where it is, so that the keys of the canvas go on working."""
    made = QPushButton(text)
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    made.setToolTip(tip)
    made.setObjectName(name)
    made.clicked.connect(lambda: action())
    return made


def choice(text: str) -> QToolButton:
    """Return a button that shows whether it is chosen; it leaves the keyboard where it is."""
    made = QToolButton()
    made.setText(text)
    made.setCheckable(True)
    made.setProperty("class", "choice")  # see the style of the dock
    made.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return made


def hint(text: str = "") -> QLabel:
    """Return a line of explanation."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def ask_path(
    parent: QWidget, title: str, then: Callable[[str], None], *, mode: QFileDialog.FileMode, pattern: str = ""
) -> QFileDialog:
    """Ask for a path in a window that does not block the others; `then` gets it."""
    dialog = QFileDialog(parent, title, "", pattern)
    dialog.setFileMode(mode)
    if mode == QFileDialog.FileMode.AnyFile:
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(then)
    dialog.show()
    return dialog


class RangeRow(QWidget):
    """Three fields ``start:stop`` for z, y and x; empty means all."""

    def __init__(self) -> None:
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self.fields = [QLineEdit() for _ in "zyx"]
        for axis, field in zip("zyx", self.fields, strict=True):
            field.setPlaceholderText(f"{axis}: all")
            field.setMinimumWidth(40)
            field.setToolTip(f"part of {axis} in voxels, such as 10:60; empty for all")
            row.addWidget(field)

    def crop(self) -> Crop | None:
        """Return three slices, or None for all; raises `InputError` for what is no range."""
        if not any(field.text().strip() for field in self.fields):
            return None
        z, y, x = (_range_of(axis, field.text()) for axis, field in zip("zyx", self.fields, strict=True))
        return z, y, x


def _range_of(axis: str, text: str) -> slice:
    """Return ``start:stop`` as a slice; empty is all."""
    parts = [part.strip() for part in text.split(":")] if text.strip() else ["", ""]
    if len(parts) != 2 or not all(part.isdigit() or not part for part in parts):
        raise InputError(f"the part along {axis} is {text!r}; expected start:stop in voxels, such as 10:60")
    start, stop = (int(part) if part else None for part in parts)
    return slice(start, stop)


class Page(QWidget):
    """A step: shows the state of the controller and calls its methods."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.controller = controller
        self.box = QVBoxLayout(self)
        self.box.setContentsMargins(4, 8, 4, 4)
        self.box.setSpacing(8)

    def refresh(self, what: str) -> None:
        """Show what has changed."""


class StagePage(Page):
    """A stage: its settings, whether it is up to date, and a button that computes it."""

    stage: Any
    title: str

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.state = hint()
        self.add_settings()
        self.compute = button(
            f"Compute {self.title}", lambda: controller.compute(self.stage), name=f"compute-{self.stage}"
        )
        self.box.addWidget(self.state)
        self.box.addWidget(self.compute)
        self.box.addStretch()

    def add_settings(self) -> None:
        """Add the settings to the page."""

    def refresh(self, what: str) -> None:
        """Show whether the stage is up to date."""
        if what not in ("project", "stages"):
            return
        self.setEnabled(self.controller.project is not None)
        state = self.controller.state_of(self.stage)
        self.state.setText(_STATE_LINES[state] if self.controller.project else "Open an image first.")
        self.compute.setEnabled(state != "ready" and not self.controller.is_busy)
        if self.controller.project is not None:
            self.show_settings()

    def show_settings(self) -> None:
        """Show the settings of the open project."""


class SupervoxelsPage(StagePage):
    """How the image is cut into supervoxels."""

    stage, title = "supervoxels", "supervoxels"

    def add_settings(self) -> None:
        """Add size, compactness, smoothing and iterations."""
        self.box.addWidget(hint("The image is cut into small pieces of like voxels. One stroke labels whole pieces."))
        form = QFormLayout()
        self.size, self.iterations = QSpinBox(), QSpinBox()
        self.compactness, self.sigma = QDoubleSpinBox(), QDoubleSpinBox()
        self.size.setRange(8, 1_000_000)
        self.iterations.setRange(1, 100)
        self.compactness.setRange(0.01, 100)
        self.compactness.setSingleStep(0.05)
        self.sigma.setRange(0, 20)
        self.sigma.setSingleStep(0.5)
        for name, widget, tip in (
            ("Voxels in each", self.size, "smaller pieces follow finer structures and take longer"),
            ("Compactness", self.compactness, "higher: rounder pieces; lower: they follow the image more closely"),
            ("Smoothing", self.sigma, "blur before cutting, in voxels of the finest axis"),
            ("Iterations", self.iterations, "more than 10 rarely changes anything"),
        ):
            widget.setToolTip(tip)
            widget.setKeyboardTracking(False)
            widget.valueChanged.connect(self._choose)
            form.addRow(name, widget)
        self.number = QSpinBox()
        self.number.setRange(1, 100_000_000)
        self.number.setSuffix(" supervoxels")
        self.number.setKeyboardTracking(False)
        self.number.setToolTip("say how many instead of how large")
        self.number.valueChanged.connect(self._choose_number)
        form.addRow("That makes", self.number)
        self.got, self.advice = hint(), hint()
        self.advice.setObjectName("supervoxel-advice")
        form.addRow("There are", self.got)
        self.box.addLayout(form)
        self.box.addWidget(self.advice)
        self.preview = QCheckBox("Preview around the view while I change them")
        self.preview.setChecked(True)
        self.preview.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.preview.setToolTip(f"the {SLAB_DEPTH} slices around this one, {SLAB_WIDTH} voxels wide")
        self.preview.clicked.connect(lambda on: self._show_preview() if on else self.controller.previews.clear())
        self.box.addWidget(self.preview)

    def show_settings(self) -> None:
        """Show the settings of the open project."""
        project = self.controller.project
        spec = project.specs.slic
        n_voxels = int(np.prod(project.images[self.controller.image].shape))
        size = n_voxels / spec.n_segments if spec.n_segments else spec.size or default_size(n_voxels)
        values = ((self.size, round(size)), (self.compactness, spec.compactness), (self.sigma, spec.sigma),
                  (self.iterations, spec.max_num_iter), (self.number, round(n_voxels / size)))  # fmt: skip
        for widget, value in values:
            widget.blockSignals(True)
            widget.setValue(value)
            widget.blockSignals(False)
        found = self._found()
        record = project.images[self.controller.image]
        self.got.setText(describe(found, record) if found else "none with these settings yet")
        self.advice.setText(self._advice(found) if found else "")
        self.advice.setVisible(found is not None)

    def _found(self) -> Supervoxels | None:
        """Return the supervoxels on screen; None if there are none, or others with these settings."""
        if not self.controller.tables or self.controller.state_of("supervoxels") != "ready":
            return None
        return self.controller.tables[self.controller.image].supervoxels

    def _advice(self, found: Supervoxels) -> str:
        project, image = self.controller.project, self.controller.image
        lines = [warn(found, project.images[image])]
        if self.controller.state_of("features") == "ready":
            lines.append(explain(found, project.features(image)))
        return " ".join(filter(None, lines))

    def _choose_number(self, n_segments: int) -> None:
        self.controller.configure(slic={"n_segments": n_segments, "size": None})
        self._show_preview()

    def _choose(self) -> None:
        self.controller.configure(
            slic={
                "n_segments": None,
                "size": self.size.value(),
                "compactness": round(self.compactness.value(), 2),
                "sigma": self.sigma.value(),
                "max_num_iter": self.iterations.value(),
            }
        )
        self._show_preview()

    def _show_preview(self) -> None:
        if self.preview.isChecked():
            self.controller.previews.supervoxels()


class KeysPage(Page):
    """All keys; F1 shows and hides it."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.box.addWidget(
            hint(
                "Keys work while the mouse is over the image; F1 or Label goes back. The command palette of napari "
                "(Ctrl+Shift+P) finds all of this and more under voxloop."
            )
        )
        grid = QGridLayout()
        grid.setVerticalSpacing(6)
        for row, key in enumerate(key for key in KEYS if key.shown):
            shown = QLabel(f"<b>{key.shown}</b>")
            grid.addWidget(shown, row, 0)
            grid.addWidget(hint(key.does), row, 1)
        grid.setColumnStretch(1, 1)
        self.box.addLayout(grid)
        self.box.addStretch()
