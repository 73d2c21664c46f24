"""The dock: five steps beside each other, and below them what runs and whether everything is saved."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.data_page import DataPage
from voxloop.app.export_page import ExportPage
from voxloop.app.features_page import FeaturesPage
from voxloop.app.keys import STEPS
from voxloop.app.label_page import LabelPage
from voxloop.app.pages import KeysPage, SupervoxelsPage, choice
from voxloop.app.panels import Panels
from voxloop.app.strokes_page import StrokesPage
from voxloop.project import warm_up
from voxloop.project.jobs import JobState

_WIDEST = 1.15  # of the width that the dock needs
_DATA, _LABEL, _KEYS, _STROKES = 0, 3, 5, 6
_MARKS = {"ready": "✓", "stale": "●", "missing": "○"}
_MARK_TIPS = {"ready": "done", "stale": "something it depends on has changed", "missing": "not computed yet"}

# napari's themes leave checked tool buttons as they are; which step, class or eraser is chosen must be seen.
_STYLE = """
QToolButton[class="choice"] { padding: 4px 6px; border-radius: 3px; }
QToolButton::menu-indicator { image: none; }
QToolButton[class="choice"]:checked { background-color: #4a62c7; color: white; font-weight: bold; }
"""


@functools.cache
def warm_up_once() -> None:
    """Compile the kernels in the background before somebody waits for them."""
    threading.Thread(target=warm_up, name="voxloop-warm-up", daemon=True).start()


class Dispatcher(QObject):
    """Runs calls from any thread in the thread that made it."""

    _called = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._called.connect(self._run, Qt.ConnectionType.QueuedConnection)
        self._open = True

    def __call__(self, call: Callable[[], None]) -> None:
        """Run `call` soon; after `close` nothing runs any more."""
        if self._open:
            self._called.emit(call)

    def close(self) -> None:
        """Run nothing more."""
        self._open = False

    def _run(self, call: Callable[[], None]) -> None:
        if self._open:
            call()


class Dock(QWidget):
    """What Plugins > voxloop shows; every button calls one method of the controller."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        viewer = adapter.real_viewer(napari_viewer)
        self._dispatch = Dispatcher(self)
        chosen = adapter.settings()
        self.controller = Controller(viewer, dispatch=self._dispatch, live=chosen.live)
        self.controller.brush_size = chosen.brush_size
        self._viewer = viewer
        self._steps = [self._step_button(index, name) for index, name in enumerate(STEPS)]
        pages = (DataPage, SupervoxelsPage, FeaturesPage, LabelPage, ExportPage, KeysPage, StrokesPage)
        self.pages = [page(self.controller) for page in pages]
        self._stack = QStackedWidget()
        for page in self.pages:
            self._stack.addWidget(Scrolled(page))
        self.panels = Panels(self.controller, self)
        self.job = JobRow(self.controller)
        self.saved = QLabel()
        self.saved.setObjectName("saved")
        self.saved.setWordWrap(True)
        self._lay_out()
        self.controller.changed.connect(self._on_changed)
        self.controller.job_changed.connect(self.job.show_state)
        self.controller.notified.connect(adapter.notify)
        self.controller.offered.connect(adapter.offer)
        # Lines such as "updated 3 s ago" grow old by themselves.
        self._clock = QTimer(self)
        self._clock.timeout.connect(self._tick)
        self._clock.start(500)
        self._saver = QTimer(self)
        self._saver.timeout.connect(self.controller.try_again)
        self._saver.start(2000)
        adapter.skip_picking(adapter.main_canvas(viewer))
        self.controller.step_wanted.connect(self.show_step)
        self._clear_palette = adapter.add_to_palette(self.controller.palette)
        adapter.before_closing(viewer, self.close_down)
        self.destroyed.connect(self._dispatch.close)
        warm_up_once()
        self.show_step(_DATA)
        self._on_changed("project")

    def open_path(self, path: str) -> None:
        """Open a project or an image file."""
        self.controller.open_path(path)

    def show_step(self, index: int) -> None:
        """Turn to a step."""
        self._stack.setCurrentIndex(index)
        self._chosen.setExclusive(False)  # none is chosen while keys or strokes are listed
        for step, button in enumerate(self._steps):
            button.setChecked(step == index)
        self._chosen.setExclusive(True)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802 - Qt's name
        """Take a file or folder."""
        if len(event.mimeData().urls()) == 1 and event.mimeData().urls()[0].isLocalFile():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802 - Qt's name
        """Open the project or image that is dropped here."""
        self.controller.propose(event.mimeData().urls()[0].toLocalFile())
        self.show_step(_DATA)

    def close_down(self) -> bool:
        """Stop everything before the window goes; return False if something would be lost with it."""
        if not self.controller.may_close():
            return False
        self._clock.stop()
        self._saver.stop()
        self._clear_palette()
        self._dispatch.close()
        self.controller.close()
        self.panels.close()
        return True

    def event(self, event: QEvent) -> bool:
        """Stay about as wide as the widest page, whatever the size of the font: more room is for the image."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.setMaximumWidth(round(_WIDEST * self.minimumSizeHint().width()))
        return super().event(event)

    # Behind the scenes

    def _step_button(self, index: int, name: str) -> QToolButton:
        button = choice(name)
        button.setObjectName(f"step-{name.lower()}")
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: self.show_step(index))
        return button

    def _lay_out(self) -> None:
        steps, self._chosen = QHBoxLayout(), QButtonGroup(self)
        steps.setSpacing(2)
        for button in self._steps:
            self._chosen.addButton(button)
            steps.addWidget(button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(steps)
        layout.addWidget(self._stack, 1)
        layout.addWidget(self.job)
        layout.addWidget(self.saved)
        # Else napari puts empty space below, as much as the pages get.
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self.setAcceptDrops(True)
        self.setStyleSheet(_STYLE)

    def _on_changed(self, what: str) -> None:
        if what in ("help", "strokes"):
            page = _KEYS if what == "help" else _STROKES
            self.show_step(_LABEL if self._stack.currentIndex() == page else page)
            self.pages[page].refresh(what)
            return
        if what == "files" and (self.controller.pending or self.controller.moved):
            self.show_step(_DATA)
        if what == "project" and self.controller.project is not None:
            self.show_step(_LABEL)
            adapter.focus_canvas(self._viewer)
        if what in ("project", "stages"):
            self._mark_steps()
        for page in self.pages:
            page.refresh(what)
        self.panels.refresh(what)
        self._tick()

    def _mark_steps(self) -> None:
        for button, stage in zip(self._steps[1:3], ("supervoxels", "features"), strict=True):
            state = self.controller.state_of(stage)
            button.setText(f"{stage.capitalize()} {_MARKS[state]}")
            button.setToolTip(_MARK_TIPS[state])

    def _tick(self) -> None:
        self.saved.setText(self.controller.saved_line())
        self.pages[_LABEL].tick()


class JobRow(QWidget):
    """What runs, how far it is, how long it will still take, and a button that stops it."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setObjectName("progress")
        self.cancel = QPushButton("Cancel")
        self.cancel.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.cancel.clicked.connect(controller.cancel)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.cancel)
        self.hide()

    def show_state(self, state: JobState) -> None:
        """Show a job, or nothing once it is over."""
        self.setVisible(not state.is_over)
        self.cancel.setEnabled(state.status == "running")
        self.bar.setRange(0, state.total)  # 0 to 0 means: busy
        self.bar.setValue(state.done)
        # A stage that is nearly over is not worth a number.
        is_long = state.seconds_left is not None and state.seconds_left >= 1
        left = f", {state.seconds_left:.0f} s left" if is_long else ""
        what = "stopping ..." if state.status == "cancelling" else (state.stage or state.name)
        self.bar.setFormat(f"{what} %p %{left}" if state.total else what)


class Scrolled(QScrollArea):
    """A page that scrolls up and down, and is never narrower than its words."""

    def __init__(self, page: QWidget) -> None:
        super().__init__()
        self.setWidget(page)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QScrollArea.Shape.NoFrame)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Return the width of the page and of the bar beside it."""
        bar = self.verticalScrollBar()
        bar.ensurePolished()
        width = self.widget().minimumSizeHint().width() + bar.sizeHint().width()
        return QSize(width, super().minimumSizeHint().height())
