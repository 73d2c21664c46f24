"""The step Export: results of the image on screen, or of more files, to files that other programs open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QVBoxLayout,
)

from voxloop.app import napari_adapter as adapter
from voxloop.app.controller import Controller
from voxloop.app.pages import Page, RangeRow, ask_path, button, hint
from voxloop.errors import InputError
from voxloop.project.sources import SOURCES

_MEANINGS = {
    "segmentation": "the class of each voxel, 0 outside the mask",
    "graph_cut": "the class of each voxel, neighbours decided together: no specks, fewer holes",
    "refined": "the class of each voxel, decided voxel by voxel near boundaries: slower",
    "probabilities": "a channel a class, 0 to 1",
    "uncertainty": "entropy in bits",
    "supervoxels": "the number of each voxel's supervoxel",
    "labels": "the voxels that you painted",
    "masks": "0 or 1, a channel a class; {class} in the name makes a file of each",
    "objects": "a number for each connected piece of a class",
    "top_uncertain": "1 where the next labels help most",
    "features": "what the filters respond; large",
}
_PYRAMID = "OME-TIFF, tiles and pyramid"
_FORMATS = {
    "TIFF": ".tif",
    "OME-TIFF": ".ome.tif",
    _PYRAMID: ".ome.tif",
    "OME-Zarr": ".zarr",
    "NumPy": ".npy",
    "HDF5": ".h5",
    "NIfTI": ".nii.gz",
    "MRC": ".mrc",
    "NRRD": ".nrrd",
    "PNG, a file a slice": "-{slice_index}.png",
}
_TYPES = ("as it is", "uint8", "uint16", "uint32", "float32")


class ExportPage(Page):
    """Write a result to a file."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self.box.addWidget(
            hint("Results are written with voxel size, class names and colours. What is missing is computed first.")
        )
        form = QFormLayout()
        self.source, self.format, self.dtype = QComboBox(), QComboBox(), QComboBox()
        for source in SOURCES:
            self.source.addItem(source)
            self.source.setItemData(self.source.count() - 1, _MEANINGS[source], Qt.ItemDataRole.ToolTipRole)
        self.format.addItems(list(_FORMATS))
        self.dtype.addItems(_TYPES)
        self.dtype.setToolTip("probabilities become 0 to 255 in uint8; classes keep their numbers")
        self.format.setItemData(
            self.format.findText(_PYRAMID),
            "compressed, with coarser levels: large volumes open at once in viewers",
            Qt.ItemDataRole.ToolTipRole,
        )
        for box in (self.source, self.format, self.dtype):
            box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.source.currentTextChanged.connect(lambda _source: self._propose())
        self.format.currentTextChanged.connect(lambda _format: self._propose())
        self.meaning = hint()
        self.path = QLineEdit()
        self.path.setObjectName("export-path")
        row = QHBoxLayout()
        row.addWidget(self.path, 1)
        row.addWidget(button("...", self._browse))
        self.part = RangeRow()
        self.overwrite = QCheckBox("replace files that exist")
        self.overwrite.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        form.addRow("What", self.source)
        form.addRow(self.meaning)
        form.addRow("Format", self.format)
        form.addRow("File", row)
        form.addRow("Part of it", self.part)
        form.addRow("Type", self.dtype)
        form.addRow("", self.overwrite)
        self.box.addLayout(form)
        self.box.addWidget(button("Export", self.export, name="export"))
        self._add_batch()
        self.box.addStretch()

    def _add_batch(self) -> None:
        group = QGroupBox("More images")
        column = QVBoxLayout(group)
        column.addWidget(
            hint("Segments files of the same kind as this classifier would. Each result lies beside its image.")
        )
        column.addWidget(button("Choose files ...", self._choose_files, name="batch"))
        self.box.addWidget(group)

    def refresh(self, what: str) -> None:
        """Propose a file beside the project."""
        if what == "project":
            self.setEnabled(self.controller.project is not None)
            self._propose()

    def export(self) -> None:
        """Write the file."""
        if (options := self._options(with_part=True)) is not None:
            self.controller.export(self.source.currentText(), self.path.text(), **options)

    def batch(self, files: list[str]) -> None:
        """Segment these files, each to a file beside it."""
        if (options := self._options(with_part=False)) is not None:
            out = "{dataset_dir}/{nickname}-{result_type}" + _FORMATS[self.format.currentText()]
            self.controller.batch(self.source.currentText(), files, out, **options)

    def _options(self, *, with_part: bool) -> dict[str, Any] | None:
        """Return what is chosen; None, with a message, if a part cannot be read."""
        options: dict[str, Any] = {"overwrite": self.overwrite.isChecked()}
        if self.format.currentText() == _PYRAMID:
            options["ome_tiff"] = "pyramid"
        if self.dtype.currentText() != _TYPES[0]:
            options["dtype"] = self.dtype.currentText()
            if self.source.currentText() == "probabilities" and self.dtype.currentText() != "float32":
                options["rescale"] = (0.0, 1.0)
        try:
            if with_part and (crop := self.part.crop()) is not None:
                options["crop"] = crop
        except InputError as error:
            adapter.notify("warning", str(error))
            return None
        return options

    def _propose(self) -> None:
        project = self.controller.project
        self.meaning.setText(_MEANINGS[self.source.currentText()])
        if project is not None:
            suffix = _FORMATS[self.format.currentText()]
            name = f"{project.images[self.controller.image].name}-{self.source.currentText()}{suffix}"
            self.path.setText(str(project.folder.parent / name))

    def _browse(self) -> None:
        ask_path(self, "Export to", self.path.setText, mode=QFileDialog.FileMode.AnyFile)

    def _choose_files(self) -> None:
        dialog = QFileDialog(self, "Images to segment", str(Path(self.path.text()).parent))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFiles)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.filesSelected.connect(self.batch)
        dialog.show()
