"""The steps around labelling: Data, Supervoxels, Features, Export, and the list of keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.keys import KEYS
from voxloop.app.preview import SLAB_DEPTH, SLAB_WIDTH
from voxloop.specs import DEFAULT_SIZE, FAMILIES, SIGMAS
from voxloop.volume import Volume

_STATE_LINES = {
    "ready": "Done; nothing that it depends on has changed.",
    "stale": "Out of date: a setting has changed since it was computed.",
    "missing": "Not computed yet. The defaults suit most images.",
}
_FAMILY_NAMES = {
    "gaussian": "brightness",
    "laplacian": "edges (Laplacian)",
    "gradient_magnitude": "edges (gradient)",
    "difference_of_gaussians": "blobs",
    "structure_tensor": "texture (structure tensor)",
    "hessian": "lines and sheets (Hessian)",
}
_SOURCES = {
    "segmentation": "the class of each voxel, 0 outside the mask",
    "probabilities": "a channel a class, 0 to 1",
    "uncertainty": "entropy in bits",
    "supervoxels": "the number of each voxel's supervoxel",
    "labels": "the voxels that you painted",
}

_HOW_IT_GOES = """<ol style="margin-left: -20px">
<li>Open an image. Supervoxels and features have defaults that suit most; <b>Update</b> computes them.</li>
<li>Paint a stroke or two of each class. The prediction follows.</li>
<li><b>N</b> takes you to the slice where labels help most. Paint there, press N again.</li>
<li>Export the segmentation. <b>F1</b> lists the keys.</li>
</ol>"""


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


class DataPage(Page):
    """Open a project or an image; what is open."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.box.addWidget(
            hint("Open an image, or a project to go on with. A project is a folder; everything is saved as you go.")
        )
        files = QFileDialog.FileMode.ExistingFile
        folders = QFileDialog.FileMode.Directory
        row = QHBoxLayout()
        row.addWidget(button("Open image ...", lambda: self._ask("Open an image", controller.open_path, files)))
        row.addWidget(
            button("Open project ...", lambda: self._ask("Open a project folder", controller.open_path, folders))
        )
        self.box.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(button("Use selected layer ...", self._use_layer, tip="make a project from an image layer"))
        row.addWidget(button("Try a sample ...", self._use_sample, tip="an EM-like volume with mitochondria to find"))
        self.box.addLayout(row)
        self.about = QGroupBox("Open now")
        form = QFormLayout(self.about)
        self.images = QComboBox()
        self.images.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.images.activated.connect(controller.show_image)
        self.folder, self.size, self.voxel, self.mask = (hint() for _ in range(4))
        for name, widget in (("Image", self.images), ("Project", self.folder), ("Size", self.size),
                             ("Voxel", self.voxel), ("Mask", self.mask)):  # fmt: skip
            form.addRow(name, widget)
        add = button("Add image ...", lambda: self._ask("Add an image", controller.add_image, files),
                     tip="strokes on any image train the same classifier")  # fmt: skip
        form.addRow("", add)
        self.box.addWidget(self.about)
        self.how = QGroupBox("How it goes")
        column = QVBoxLayout(self.how)
        column.addWidget(hint(_HOW_IT_GOES))
        self.box.addWidget(self.how)
        self.box.addStretch()

    def refresh(self, what: str) -> None:
        """Show which image is open."""
        if what != "project":
            return
        project = self.controller.project
        self.about.setVisible(project is not None)
        self.how.setVisible(project is None)
        if project is None:
            return
        record = project.images[self.controller.image]
        self.images.clear()
        self.images.addItems([image.name for image in project.images])
        self.images.setCurrentIndex(self.controller.image)
        self.folder.setText(str(project.folder))
        channels = f", {record.n_channels} channels" if record.n_channels > 1 else ""
        self.size.setText(" x ".join(str(n) for n in record.shape) + f" (z y x), {record.dtype}{channels}")
        self.voxel.setText(" x ".join(f"{s:g}" for s in record.spacing) + f" {record.unit} (z y x)")
        self.mask.setText("yes" if record.mask else "none: all of the image counts")

    def _ask(self, title: str, then: Callable[[str], None], mode: QFileDialog.FileMode) -> None:
        ask_path(self, title, then, mode=mode)

    def _use_layer(self) -> None:
        layer = self.controller.viewer.layers.selection.active
        if layer is None or type(layer).__name__ != "Image":
            adapter.notify("warning", "select an image layer in the list on the left first")
            return
        self._create_from(lambda: layer_volume(layer))

    def _use_sample(self) -> None:
        from voxloop.samples import phantom

        self._create_from(lambda: phantom().image)

    def _create_from(self, volume: Callable[[], Volume]) -> None:
        def create(folder: str) -> None:
            folder = folder if folder.endswith(".voxloop") else f"{folder}.voxloop"
            self.controller.create(folder, volume())

        ask_path(self, "Where to make the project folder", create, mode=QFileDialog.FileMode.AnyFile)


def layer_volume(layer: Any) -> Volume:
    """Return the volume that an image layer shows, with its voxel size."""
    data = np.asarray(layer.data)
    axes = "zyx"[-layer.ndim :] + ("c" if layer.rgb else "")
    spacing = [1.0, *(float(s) for s in layer.scale)][-3:]
    return Volume.from_array(data, axes=axes, spacing=tuple(spacing), unit=str(layer.units[-1]), name=layer.name)


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
        self.number = hint()
        form.addRow("That makes", self.number)
        self.box.addLayout(form)
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
        size = n_voxels / spec.n_segments if spec.n_segments else spec.size or DEFAULT_SIZE
        values = ((self.size, round(size)), (self.compactness, spec.compactness), (self.sigma, spec.sigma),
                  (self.iterations, spec.max_num_iter))  # fmt: skip
        for widget, value in values:
            widget.blockSignals(True)
            widget.setValue(value)
            widget.blockSignals(False)
        self.number.setText(f"about {n_voxels / size:,.0f} supervoxels")

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


class FeaturesPage(StagePage):
    """Which filters describe the supervoxels."""

    stage, title = "features", "features"

    def add_settings(self) -> None:
        """Add the families of filters, the sigmas and the context."""
        self.box.addWidget(hint("Filters describe each supervoxel by brightness, edges and texture at several scales."))
        self.families = {family: QCheckBox(_FAMILY_NAMES[family]) for family in FAMILIES}
        self.sigmas = {sigma: QCheckBox(f"{sigma:g}") for sigma in SIGMAS}
        kinds, scales = QGroupBox("Filters"), QGroupBox("Scales: sigma in voxels of the finest axis")
        column = QVBoxLayout(kinds)
        for box in self.families.values():
            column.addWidget(box)
        grid = QGridLayout(scales)
        for index, box in enumerate(self.sigmas.values()):
            grid.addWidget(box, index // 4, index % 4)
        for box in (*self.families.values(), *self.sigmas.values()):
            box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            box.clicked.connect(lambda _checked: self._choose())
        self.box.addWidget(kinds)
        self.box.addWidget(scales)
        self._add_preview()

    def _add_preview(self) -> None:
        group = QGroupBox("Look at one of them")
        column = QVBoxLayout(group)
        row = QHBoxLayout()
        column.addLayout(row)
        self.family, self.sigma = QComboBox(), QComboBox()
        for family, name in _FAMILY_NAMES.items():
            self.family.addItem(name, family)
        for sigma in SIGMAS:
            self.sigma.addItem(f"sigma {sigma:g}", sigma)
        self.sigma.setCurrentIndex(SIGMAS.index(1.6))
        self.preview = choice("Show on this slice")
        self.preview.setToolTip("follows the slice; computes nothing else")
        for box in (self.family, self.sigma):
            box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            box.activated.connect(lambda _index: self._show_feature())
            row.addWidget(box, 1)
        self.preview.clicked.connect(self._show_feature)
        column.addWidget(self.preview)
        self.box.addWidget(group)

    def _show_feature(self) -> None:
        if self.preview.isChecked():
            self.controller.previews.feature(self.family.currentData(), self.sigma.currentData())
        else:
            self.controller.previews.clear()

    def show_settings(self) -> None:
        """Show the settings of the open project."""
        self.preview.setChecked(self.controller.previews.cell is not None)
        spec = self.controller.project.specs.features
        for family, box in self.families.items():
            box.setChecked(family in spec.families)
        for sigma, box in self.sigmas.items():
            box.setChecked(sigma in spec.sigmas)

    def _choose(self) -> None:
        own = [s for s in self.controller.project.specs.features.sigmas if s not in self.sigmas]
        sigmas = sorted([*own, *(sigma for sigma, box in self.sigmas.items() if box.isChecked())])
        families = tuple(family for family, box in self.families.items() if box.isChecked())
        planar = [s for s in self.controller.project.specs.features.sigmas_2d if s in sigmas]
        self.controller.configure(features={"families": families, "sigmas": tuple(sigmas), "sigmas_2d": tuple(planar)})


class ExportPage(Page):
    """Write a result to a file."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.box.addWidget(
            hint("Results are written with voxel size, class names and colours. What is missing is computed first.")
        )
        form = QFormLayout()
        self.source = QComboBox()
        self.source.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for source, meaning in _SOURCES.items():
            self.source.addItem(source)
            self.source.setItemData(self.source.count() - 1, meaning, Qt.ItemDataRole.ToolTipRole)
        self.source.currentTextChanged.connect(lambda _source: self._propose())
        self.meaning = hint()
        self.path = QLineEdit()
        self.path.setObjectName("export-path")
        browse = button("...", self._browse)
        browse.setFixedWidth(36)
        row = QHBoxLayout()
        row.addWidget(self.path, 1)
        row.addWidget(browse)
        self.overwrite = QCheckBox("replace the file if it exists")
        self.overwrite.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        form.addRow("What", self.source)
        form.addRow("", self.meaning)
        form.addRow("File", row)
        form.addRow("", hint(".tif, .ome.tif, .npy or .zarr says the format"))
        form.addRow("", self.overwrite)
        self.box.addLayout(form)
        self.box.addWidget(button("Export", self.export, name="export"))
        self.box.addStretch()

    def refresh(self, what: str) -> None:
        """Propose a file beside the project."""
        if what == "project":
            self.setEnabled(self.controller.project is not None)
            self._propose()

    def export(self) -> None:
        """Write the file."""
        self.controller.export(self.source.currentText(), self.path.text(), overwrite=self.overwrite.isChecked())

    def _propose(self) -> None:
        project = self.controller.project
        self.meaning.setText(_SOURCES[self.source.currentText()])
        if project is not None:
            name = f"{project.images[self.controller.image].name}-{self.source.currentText()}.tif"
            self.path.setText(str(project.folder.parent / name))

    def _browse(self) -> None:
        ask_path(self, "Export to", self.path.setText, mode=QFileDialog.FileMode.AnyFile)


class KeysPage(Page):
    """All keys; F1 shows and hides it."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.box.addWidget(hint("Keys work while the mouse is over the image. F1 or Label goes back."))
        grid = QGridLayout()
        grid.setVerticalSpacing(6)
        for row, key in enumerate(KEYS):
            shown = QLabel(f"<b>{key.shown}</b>")
            grid.addWidget(shown, row, 0)
            grid.addWidget(hint(key.does), row, 1)
        grid.setColumnStretch(1, 1)
        self.box.addLayout(grid)
        self.box.addStretch()
