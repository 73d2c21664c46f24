"""The step Features: which filters at which scales, how they are pooled, what is worth it for the labels there are."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from voxloop.app import napari_adapter as adapter
from voxloop.app.feature_guide import estimate
from voxloop.app.pages import StagePage, button, choice, hint
from voxloop.errors import InputError
from voxloop.specs import FAMILIES, SIGMAS, FeatureFamily, FeatureSpec, Statistic

FAMILY_NAMES: dict[FeatureFamily, str] = {
    "gaussian": "brightness",
    "laplacian": "edges (Laplacian)",
    "gradient_magnitude": "edges (gradient)",
    "difference_of_gaussians": "blobs",
    "structure_tensor": "texture (structure tensor)",
    "hessian": "lines and sheets (Hessian)",
}
REGIONS = FeatureSpec().regions  # what the box stands for
_STATISTICS: dict[Statistic, str] = {
    "mean": "mean",
    "std": "spread",
    "min": "lowest",
    "max": "highest",
    "q10": "10 %",
    "q50": "median",
    "q90": "90 %",
}


class FeaturesPage(StagePage):
    """Which filters describe the supervoxels."""

    stage, title = "features", "features"

    def add_settings(self) -> None:
        """Add filters, scales, pooling, a suggestion and a look at one of them."""
        self.box.addWidget(hint("Filters describe each supervoxel by brightness, edges and texture at several scales."))
        self._add_filters()
        self._add_scales()
        self._add_pooling()
        self.cost = hint()
        self.box.addWidget(self.cost)
        self._add_suggestion()
        self._add_preview()

    def show_settings(self) -> None:
        """Show the settings of the open project."""
        controller = self.controller
        self.preview.setChecked(controller.previews.cell is not None)
        spec = controller.project.specs.features
        for family, box in self.families.items():
            box.setChecked(family in spec.families)
        for sigma, (used, planar) in self.sigmas.items():
            used.setChecked(sigma in spec.sigmas)
            planar.setChecked(sigma in spec.sigmas_2d)
            planar.setEnabled(sigma in spec.sigmas)
        if not self.more.hasFocus():
            self.more.setText(", ".join(f"{s:g}" for s in spec.sigmas if s not in SIGMAS))
        for statistic, box in self.statistics.items():
            box.setChecked(statistic in spec.statistics)
        self.context.blockSignals(True)
        self.context.setValue(spec.context)
        self.context.blockSignals(False)
        self.regions.setChecked(bool(spec.regions))
        record = controller.project.images[controller.image]
        self.cost.setText(estimate(spec, record.shape, record.n_channels))
        self._show_left_out(spec)
        self._show_suggestion()

    def refresh(self, what: str) -> None:
        """Show what has changed."""
        super().refresh(what)
        if what == "features" and self.controller.project is not None:
            self._show_suggestion()

    # Building

    def _add_filters(self) -> None:
        group = QGroupBox("Filters")
        grid = QGridLayout(group)
        self.families = {family: self._check(FAMILY_NAMES[family]) for family in FAMILIES}
        for index, box in enumerate(self.families.values()):
            grid.addWidget(box, index // 2, index % 2)
        self.box.addWidget(group)

    def _add_scales(self) -> None:
        group = QGroupBox("Scales: sigma in voxels of the finest axis")
        grid = QGridLayout(group)
        grid.addWidget(QLabel("use"), 1, 0)
        grid.addWidget(QLabel("in 2D"), 2, 0)
        self.sigmas = {sigma: (self._check(""), self._check("")) for sigma in SIGMAS}
        for column, (sigma, (used, planar)) in enumerate(self.sigmas.items(), start=1):
            grid.addWidget(QLabel(f"{sigma:g}"), 0, column)
            grid.addWidget(used, 1, column)
            grid.addWidget(planar, 2, column)
            planar.setToolTip("slice by slice: for thick slices that have little to do with each other")
        self.more = QLineEdit()
        self.more.setPlaceholderText("further ones, such as 7, 15")
        self.more.editingFinished.connect(self._choose)
        self.more.returnPressed.connect(lambda: adapter.focus_canvas(self.controller.viewer))
        grid.addWidget(self.more, 3, 0, 1, len(SIGMAS) + 1)
        self.box.addWidget(group)

    def _add_pooling(self) -> None:
        group = QGroupBox("Over each supervoxel")
        form = QFormLayout(group)
        self.statistics = {statistic: self._check(name) for statistic, name in _STATISTICS.items()}
        chosen = QWidget()
        grid = QGridLayout(chosen)
        grid.setContentsMargins(0, 0, 0, 0)
        for index, box in enumerate(self.statistics.values()):
            grid.addWidget(box, index // 4, index % 4)
        form.addRow(chosen)
        self.context = QSpinBox()
        self.context.setRange(0, 4)
        self.context.setToolTip("how many steps away neighbours count as the surroundings; 0: they do not")
        self.context.valueChanged.connect(lambda _steps: self._choose())
        form.addRow("Surroundings, in steps", self.context)
        self.regions = self._check("The region around as well")
        self.regions.setToolTip(
            "averages over many steps that hardly cross edges, and how much they vary: what the supervoxel is a part of"
        )
        form.addRow(self.regions)
        self.box.addWidget(group)

    def _add_suggestion(self) -> None:
        group = QGroupBox("What is worth it")
        column = QVBoxLayout(group)
        self.suggestion = hint()
        column.addWidget(self.suggestion)
        row = QHBoxLayout()
        self.suggest = button("Suggest features", self.controller.features.suggest, name="suggest-features",
                              tip="ranks the computed ones by what they add for the labels that there are")  # fmt: skip
        self.take = button("Choose these", self.controller.features.take, name="take-features",
                           tip="leave out the filters and scales that add nothing")  # fmt: skip
        row.addWidget(self.suggest, 1)
        row.addWidget(self.take, 1)
        column.addLayout(row)
        self.left_out = hint()
        self.left_out.setObjectName("left-out")
        self.all_again = button("Use all of them again", lambda: self.controller.configure(features={"left_out": ()}),
                                name="all-again")  # fmt: skip
        column.addWidget(self.left_out)
        column.addWidget(self.all_again)
        self.box.addWidget(group)

    def _add_preview(self) -> None:
        group = QGroupBox("Look at one of them")
        column = QVBoxLayout(group)
        row = QHBoxLayout()
        column.addLayout(row)
        self.family, self.sigma = QComboBox(), QComboBox()
        for family, name in FAMILY_NAMES.items():
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

    def _check(self, text: str) -> QCheckBox:
        box = QCheckBox(text)
        box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        box.clicked.connect(lambda _checked: self._choose())
        return box

    # Showing and choosing

    def _show_left_out(self, spec: FeatureSpec) -> None:
        """Show which of the chosen filters are not computed at which of the chosen scales."""
        pairs: dict[FeatureFamily, list[float]] = {}
        for family, sigma in spec.left_out:
            pairs.setdefault(family, []).append(sigma)
        listed = "; ".join(
            f"{FAMILY_NAMES[family]} at {', '.join(f'{sigma:g}' for sigma in sorted(sigmas))}"
            for family, sigmas in pairs.items()
        )
        self.left_out.setText(f"Left out of the filters and scales above: {listed}.")
        for widget in (self.left_out, self.all_again):
            widget.setVisible(bool(pairs))

    def _show_suggestion(self) -> None:
        found = self.controller.features.found
        self.take.setVisible(found is not None)
        if found is None:
            self.suggestion.setText("Which of the computed features help? Label some supervoxels first.")
            return
        ranked = [f"{_cell_name(gain.cell)} ({gain.gain:.2f})" for gain in found.cells]
        self.suggestion.setText(
            f"Each adds to those before, in bits of log-loss on held-out strokes: {', '.join(ranked)}."
            if ranked
            else "None of them helps on held-out strokes: label more, in more places."
        )

    def _show_feature(self) -> None:
        if self.preview.isChecked():
            self.controller.previews.feature(self.family.currentData(), self.sigma.currentData())
        else:
            self.controller.previews.clear()

    def _choose(self) -> None:
        if self.controller.project is None:
            return
        try:
            sigmas = {float(word) for word in self.more.text().replace(",", " ").split()}
        except ValueError:
            adapter.notify("warning", f"{self.more.text()!r} is no list of sigmas; expected numbers such as 7, 15")
            return
        sigmas |= {sigma for sigma, (used, _) in self.sigmas.items() if used.isChecked()}
        spec: FeatureSpec = self.controller.project.specs.features
        planar = {sigma for sigma, (_, box) in self.sigmas.items() if box.isChecked()}
        planar |= {sigma for sigma in spec.sigmas_2d if sigma not in SIGMAS}
        chosen = {
            "families": tuple(family for family, box in self.families.items() if box.isChecked()),
            "sigmas": tuple(sorted(sigmas)),
            "sigmas_2d": tuple(sorted(planar & sigmas)),
            "statistics": tuple(statistic for statistic, box in self.statistics.items() if box.isChecked()),
            "context": self.context.value(),
            "regions": (spec.regions or REGIONS) if self.regions.isChecked() else (),
        }
        try:
            if spec.changed(**chosen) == spec:
                return
        except InputError:
            pass  # said by the next line
        self.controller.configure(features=chosen)


def _cell_name(cell: str) -> str:
    """Return a name such as ``"hessian sigma=1.6"`` in the words of the page."""
    family, _, rest = cell.partition(" ")
    named = next((name for known, name in FAMILY_NAMES.items() if known == family), family)
    return f"{named} {rest.replace('=', ' ')}".strip()
