"""What the features are worth: judged by labels that were held out, stroke by stroke."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor, Progress
from voxloop.classify.assessment import balanced_log_loss
from voxloop.classify.forest import fit_forest
from voxloop.classify.labelled import LabelledImage, deal_folds, group_labels
from voxloop.errors import InputError
from voxloop.specs import ClassifierSpec

_N_FOLDS = 5
_PERMUTATIONS = 5
_MAX_LABELS = 1000  # more take long and change little
_TREES = 8  # that leave out a fold, of a forest on a few columns
_ENOUGH = 0.01  # of a bit: a feature that adds less is not worth its computing
_CELL = re.compile(r"(?P<family>[a-z_]+?)(?:_\d+)? sigma=(?P<sigma>\S+)(?P<planar> 2d)?")

Cells = Mapping[str, NDArray[np.intp]]


@dataclass(frozen=True)
class CellGain:
    """What one more cell of features brought.

    Attributes
    ----------
    cell
        Its name, such as ``"hessian sigma=1.6"``.
    log_loss
        Held-out log-loss in bits, every class weighing the same, with this cell and those before it.
    gain
        By how much it is less than without this cell.
    """

    cell: str
    log_loss: float
    gain: float


def cells_of(names: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """Return the columns of each cell, a family at a sigma: channels, statistics and context of it belong together.

    A feature of another kind is a cell of its own, together with its context.
    """
    cells: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        found = _CELL.search(name)
        own = re.sub(r" (\d steps? away|(spread )?within \d+ steps?)$", "", name)
        key = f"{found['family']} sigma={found['sigma']}{found['planar'] or ''}" if found else own
        cells.setdefault(key, []).append(column)
    return {key: np.array(columns) for key, columns in cells.items()}


@dataclass(frozen=True, eq=False)
class _Labels:
    """The labels to judge by, and which are left out together."""

    values: NDArray[np.float32]
    classes: NDArray[np.int32]
    weights: NDArray[np.float64]
    folds: NDArray[np.int64]

    @classmethod
    def of(cls, images: Sequence[LabelledImage], spec: ClassifierSpec) -> _Labels:
        """Return the labels of all images, or some of them where there are very many."""
        values = np.concatenate([image.values[image.rows] for image in images])
        classes = np.concatenate([image.labels.classes for image in images])
        weights = np.concatenate([image.labels.purity for image in images])
        folds = deal_folds(group_labels(images), classes, n_folds=_N_FOLDS, rng=spec.seed)
        known = folds[folds >= 0]
        if np.unique(known).size < 2:
            raise InputError("features can be judged once every class is labelled in two places at least")
        if classes.size > _MAX_LABELS:
            kept = np.sort(np.random.default_rng(spec.seed).permutation(classes.size)[:_MAX_LABELS])
            values, classes, weights, folds = values[kept], classes[kept], weights[kept], folds[kept]
        return cls(values, classes, weights, folds)

    def loss(self, columns: NDArray[np.intp], spec: ClassifierSpec, executor: Executor | None) -> float:
        """Return the held-out log-loss of a forest on some columns."""
        values = np.ascontiguousarray(self.values[:, columns])
        forest = fit_forest(values, self.classes, spec, weights=self.weights, folds=self.folds, executor=executor)
        return self.loss_of(forest.predict_held_out(values, self.folds), forest.classes)

    def loss_of(self, opinions: NDArray[np.float32], classes: NDArray[np.int32]) -> float:
        """Return the log-loss of opinions of all labels, over those that were held out."""
        known = self.folds >= 0
        return balanced_log_loss(opinions[known], np.searchsorted(classes, self.classes[known]))


def importances(
    images: Sequence[LabelledImage], spec: ClassifierSpec, cells: Cells, *, executor: Executor | None = None
) -> dict[str, float]:
    """Return for each cell by how many bits held-out labels surprise more once its columns are shuffled among them.

    Permutation importance (Breiman, Machine Learning 45, 2001) of groups of columns. Two cells that say the same hide
    one another: neither is missed while the other is there; `suggest_cells` does not suffer from that.

    Parameters
    ----------
    images
        What is learned from.
    spec
        The forest.
    cells
        Columns of each cell, from `cells_of`.
    executor
        Grows the trees.

    Raises
    ------
    InputError
        If there are fewer than two classes, or none in two places.
    """
    labels = _Labels.of(images, spec)
    forest = fit_forest(
        labels.values, labels.classes, spec, weights=labels.weights, folds=labels.folds, executor=executor
    )
    before = labels.loss_of(forest.predict_held_out(labels.values, labels.folds), forest.classes)
    rng = np.random.default_rng(spec.seed)
    found = {}
    for cell, columns in cells.items():
        losses = []
        for _ in range(_PERMUTATIONS):
            shuffled = labels.values.copy()
            shuffled[:, columns] = shuffled[rng.permutation(len(shuffled))][:, columns]
            losses.append(labels.loss_of(forest.predict_held_out(shuffled, labels.folds), forest.classes))
        found[cell] = float(np.mean(losses)) - before
    return found


def suggest_cells(
    images: Sequence[LabelledImage],
    spec: ClassifierSpec,
    cells: Cells,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[CellGain]:
    """Return the cells that are worth computing, in the order in which they add most to those before them.

    Forward selection: again and again the cell is added that lowers the held-out log-loss most, until none lowers it by
    a hundredth of a bit.

    Parameters
    ----------
    images, spec, cells, executor
        As for `importances`.
    progress
        Told after each cell tried; may raise `Cancelled`.

    Raises
    ------
    InputError
        As for `importances`.
    """
    labels = _Labels.of(images, spec)
    small = spec.changed(n_trees=_N_FOLDS * _TREES, min_samples_leaf=max(2, spec.min_samples_leaf))
    # Nothing known: each class is as likely as the others.
    best, chosen, left = float(np.log2(np.unique(labels.classes).size)), list[CellGain](), dict(cells)
    taken = np.empty(0, np.intp)
    while left:
        losses = {}
        for cell, columns in left.items():
            losses[cell] = labels.loss(np.concatenate([taken, columns]), small, executor)
            if progress is not None:
                progress(f"feature {len(chosen) + 1}", len(losses), len(left))
        cell = min(losses, key=lambda name: losses[name])
        if best - losses[cell] < _ENOUGH:
            break
        chosen.append(CellGain(cell, losses[cell], best - losses[cell]))
        best, taken = losses[cell], np.concatenate([taken, left.pop(cell)])
    return chosen
