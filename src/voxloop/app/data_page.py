"""The step Data: open, look whether the voxel size is right, crop, mask, several images, images that have moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
)

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.pages import Page, RangeRow, ask_path, button, hint
from voxloop.errors import InputError, VoxloopError
from voxloop.volume import Volume, check_spacing

_UNITS = ("nanometer", "micrometer", "millimeter", "pixel")
_HOW_IT_GOES = """<ol style="margin-left: -20px">
<li>Open an image. Supervoxels and features have defaults that suit most; <b>Update</b> computes them.</li>
<li>Paint a stroke or two of each class. The prediction follows.</li>
<li><b>N</b> takes you to the slice where labels help most. Paint there, press N again.</li>
<li>Export the segmentation. <b>F1</b> lists the keys.</li>
</ol>"""


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
        row.addWidget(button("Open image ...", lambda: self._ask("Open an image", controller.propose, files)))
        row.addWidget(
            button("Open project ...", lambda: self._ask("Open a project folder", controller.open_path, folders))
        )
        self.box.addLayout(row)
        row = QHBoxLayout()
        row.addWidget(button("Use selected layer ...", self._use_layer, tip="make a project from an image layer"))
        row.addWidget(button("Try a sample ...", self._use_sample, tip="an EM-like volume with mitochondria to find"))
        self.box.addLayout(row)
        self._add_moved()
        self._add_pending()
        self.about = QGroupBox("Open now")
        form = QFormLayout(self.about)
        self.images = QComboBox()
        self.images.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.images.activated.connect(controller.show_image)
        self.folder, self.size, self.voxel, self.mask = (hint() for _ in range(4))
        for name, widget in (("Image", self.images), ("Project", self.folder), ("Size", self.size),
                             ("Voxel", self.voxel), ("Mask", self.mask)):  # fmt: skip
            form.addRow(name, widget)
        add = button("Add image ...", lambda: self._ask("Add an image", controller.propose, files),
                     tip="strokes on any image train the same classifier")  # fmt: skip
        form.addRow("", add)
        self.box.addWidget(self.about)
        self.how = QGroupBox("How it goes")
        column = QVBoxLayout(self.how)
        column.addWidget(hint(_HOW_IT_GOES))
        self.box.addWidget(self.how)
        self.box.addStretch()

    def _add_moved(self) -> None:
        self.moved = QGroupBox("Images have moved")
        column = QVBoxLayout(self.moved)
        self.missing = hint()
        column.addWidget(self.missing)
        row = QHBoxLayout()
        row.addWidget(
            button("Show where it is ...", lambda: self._ask("Where the image is now", self.controller.relink,
                                                             QFileDialog.FileMode.ExistingFile), name="relink")
        )  # fmt: skip
        row.addWidget(button("Not now", self.controller.dismiss))
        column.addLayout(row)
        self.box.addWidget(self.moved)

    def _add_pending(self) -> None:
        self.pending = QGroupBox("Is this right?")
        form = QFormLayout(self.pending)
        self.found = hint()
        self.axes = QLineEdit()
        self.axes.setPlaceholderText("as the file says")
        self.axes.setToolTip("a letter for each dimension of the file: t z y x, c for channels, such as tzyx")
        self.axes.editingFinished.connect(self._read_again)
        self.frame = QSpinBox()
        self.frame.setToolTip("each time point is an image of its own")
        self.spacing = [QLineEdit() for _ in "zyx"]
        row = QHBoxLayout()
        for axis, size in zip("zyx", self.spacing, strict=True):
            size.setToolTip(f"size of a voxel along {axis}; wrong sizes make wrong supervoxels and features")
            row.addWidget(size, 1)
        self.unit = QComboBox()
        self.unit.addItems(_UNITS)
        row.addWidget(self.unit)
        self.part = RangeRow()
        self.mask_path = QLineEdit()
        self.mask_path.setPlaceholderText("none: all of it counts")
        mask_row = QHBoxLayout()
        mask_row.addWidget(self.mask_path, 1)
        mask_row.addWidget(
            button("...", lambda: self._ask("A mask: 0 is left out", self.mask_path.setText,
                                            QFileDialog.FileMode.ExistingFile))
        )  # fmt: skip
        self.form = form
        form.addRow("File", self.found)
        form.addRow("Its axes", self.axes)
        form.addRow("Time point", self.frame)
        form.addRow("Voxel z, y, x", row)
        form.addRow("Part of it", self.part)
        form.addRow("Mask", mask_row)
        buttons = QHBoxLayout()
        self.accept = button("Make the project", self._accept, name="accept-image")
        buttons.addWidget(self.accept, 1)
        buttons.addWidget(button("Not now", self.controller.dismiss))
        form.addRow("", buttons)
        self.box.addWidget(self.pending)

    def _accept(self) -> None:
        try:
            spacing = check_spacing([size.text() for size in self.spacing])
            crop = self.part.crop()
        except InputError as error:
            adapter.notify("warning", str(error))
            return
        mask = self.mask_path.text().strip() or None
        frame = self.frame.value() if self.controller.pending and self.controller.pending.n_frames > 1 else None
        self.controller.accept(spacing=spacing, unit=self.unit.currentText(), crop=crop, mask=mask, frame=frame)

    def _read_again(self) -> None:
        pending, axes = self.controller.pending, self.axes.text().strip().lower() or None
        if pending is not None and axes != pending.axes:
            self.controller.propose(pending.path, axes=axes)

    def _show_files(self) -> None:
        moved, pending = self.controller.moved, self.controller.pending
        self.moved.setVisible(moved is not None)
        self.pending.setVisible(pending is not None)
        if moved is not None:
            others = f" and {len(moved.files) - 1} more" if len(moved.files) > 1 else ""
            self.missing.setText(f"{moved.files[0]}{others} cannot be found. Labels and settings are safe.")
        if pending is not None:
            volume = pending.volume
            shape = " x ".join(map(str, volume.shape))
            channels = f", {volume.n_channels} channels" if volume.n_channels > 1 else ""
            self.found.setText(f"{pending.path.name}: {shape} (z y x), {volume.dtype}{channels}")
            for size, value in zip(self.spacing, volume.spacing, strict=True):
                size.setText(f"{value:g}")
            if self.unit.findText(volume.unit) < 0:
                self.unit.addItem(volume.unit)
            self.unit.setCurrentText(volume.unit)
            self.axes.setText(pending.axes or "")
            self.frame.setRange(0, pending.n_frames - 1)
            self.form.setRowVisible(self.frame, pending.n_frames > 1)
            for field in (*self.part.fields, self.mask_path):
                field.clear()
            self.accept.setText("Make the project" if self.controller.project is None else "Add to the project")

    def refresh(self, what: str) -> None:
        """Show which image is open."""
        if what in ("project", "files"):
            self._show_files()
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
            try:
                self.controller.create(folder, volume())
            except VoxloopError as error:
                adapter.notify("error", str(error))

        ask_path(self, "Where to make the project folder", create, mode=QFileDialog.FileMode.AnyFile)


def layer_volume(layer: Any) -> Volume:
    """Return the volume that an image layer shows, with its voxel size."""
    data = np.asarray(layer.data)
    if layer.ndim > 3:
        raise InputError(f"layer {layer.name!r} has {layer.ndim} dimensions; expected 2 or 3 and colours")
    axes = "zyx"[-layer.ndim :] + ("c" if layer.rgb else "")
    spacing = [1.0, *(float(s) for s in layer.scale)][-3:]
    return Volume.from_array(data, axes=axes, spacing=tuple(spacing), unit=str(layer.units[-1]), name=layer.name)
