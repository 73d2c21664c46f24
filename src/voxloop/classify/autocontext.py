"""A second forest that sees what the first one thinks of the neighbourhood (autocontext).

Tu, *Auto-context and its application to high-level vision tasks*, CVPR 2008. The first forest's opinion of a labelled
supervoxel must not come from trees that learned from it, or the second would learn to trust it blindly. So each tree
leaves out one fold of the labels, and the opinion of a label comes from the trees that left it out. Folds are made of
neighbourhoods, as supervoxels of one stroke are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor
from voxloop.classify.forest import Forest, fit_forest
from voxloop.classify.labels import SupervoxelLabels
from voxloop.errors import FormatError, InputError
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency, Supervoxels
from voxloop.volume import Spacing, relative_spacing

STEPS = 5  # how far the second forest sees, in steps along the graph
N_FOLDS = 10
NEIGHBOURHOOD = 3.0  # side of a cube of labels that stay together, in supervoxel diameters
# The second forest has few columns, all alike: leaves of one label would follow every label's own error.
SECOND_LEAF = 5

Opinion = NDArray[np.float32]


@dataclass(frozen=True)
class LabelledImage:
    """What is learned from one image.

    Attributes
    ----------
    labels
        Its labelled supervoxels.
    values
        (n, f) features of all its supervoxels.
    graph
        Which of them touch.
    positions
        (n, 3) centres in supervoxel diameters.
    """

    labels: SupervoxelLabels
    values: NDArray[np.float32]
    graph: Adjacency
    positions: NDArray[np.float64]

    @classmethod
    def of(
        cls, labels: SupervoxelLabels, values: NDArray[np.float32], supervoxels: Supervoxels, spacing: Spacing
    ) -> LabelledImage:
        """Return what is learned from an image with these supervoxels and voxel size (z, y, x)."""
        steps = np.array(relative_spacing(spacing))
        flat = supervoxels.labels.shape[0] == 1
        mean_volume = supervoxels.sizes.mean() * (steps[1:] if flat else steps).prod()
        diameter = mean_volume ** (1 / 2 if flat else 1 / 3)
        return cls(labels, values, supervoxels.graph, supervoxels.centers * steps / diameter)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the labelled supervoxels."""
        return self.labels.ids.astype(np.int64) - 1


@dataclass(frozen=True)
class Classifier:
    """What the labels taught: a forest on the features, and one on its opinion of the neighbourhood, or None."""

    first: Forest
    second: Forest | None

    @property
    def classes(self) -> NDArray[np.int32]:
        """(k,) sorted ids of the classes that it knows."""
        return self.first.classes

    @property
    def reach(self) -> int:
        """How many steps along the graph it looks beyond a supervoxel."""
        return 0 if self.second is None else STEPS

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        forests = {"first": self.first} | ({"second": self.second} if self.second else {})
        return {f"{name}_{key}": array for name, forest in forests.items() for key, array in forest.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Classifier:
        """Return a classifier from arrays that may come from a stranger; raises `FormatError` if they are damaged."""

        def forest(name: str) -> Forest:
            prefix = f"{name}_"
            return Forest.from_arrays({k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)})

        first = forest("first")
        second = forest("second") if "second_roots" in arrays else None
        if second is not None and (
            second.n_features != first.classes.size * (STEPS + 1) or second.classes.tolist() != first.classes.tolist()
        ):
            raise FormatError("the forest's arrays are damaged: its two forests do not fit one another")
        return cls(first, second)

    def predict(
        self,
        values: NDArray[np.float32],
        graph: Adjacency,
        *,
        opinion: Opinion | None = None,
        executor: Executor | None = None,
    ) -> NDArray[np.float32]:
        """Return the probabilities (n, k) of `classes` for the supervoxels of an image.

        Parameters
        ----------
        values
            (n, f) features.
        graph
            Which of the n supervoxels touch.
        opinion
            What the first forest says of `values`, if that is known already.
        executor
            Runs over the rows; the result does not depend on it.
        """
        if opinion is None:
            opinion = self.first.predict(values, executor=executor)
        if self.second is None:
            return opinion
        return self.second.predict(surroundings(opinion, graph), executor=executor)


def fit_classifier(
    images: Sequence[LabelledImage],
    spec: ClassifierSpec,
    *,
    opinion_of: Callable[[int, Forest], Opinion] | None = None,
    executor: Executor | None = None,
) -> Classifier:
    """Train on the labelled supervoxels of several images.

    Parameters
    ----------
    images
        With at least one label each, and of two classes in all.
    spec
        The forests; `autocontext` says whether there is a second one, once every class has labels enough for it.
    opinion_of
        Gives what the first forest says of all supervoxels of an image, by its position in `images`: for callers who
        keep that for `Classifier.predict`.
    executor
        Grows the trees; the result does not depend on it.

    Raises
    ------
    InputError
        If there are fewer than two classes, or the features do not fit one another.
    """
    if not images:
        raise InputError("there are no labels to train on")
    rows = np.concatenate([image.values[image.rows] for image in images])
    classes = np.concatenate([image.labels.classes for image in images])
    weights = np.concatenate([image.labels.purity for image in images])
    leaf = spec.changed(min_samples_leaf=max(spec.min_samples_leaf, SECOND_LEAF))
    # With fewer labels of a class the second forest could not tell it from the others: no leaf would be its own.
    enough = np.unique(classes, return_counts=True)[1].min() >= leaf.min_samples_leaf
    if not (spec.autocontext and enough):
        return Classifier(fit_forest(rows, classes, spec, weights=weights, executor=executor), None)
    folds = neighbourhood_folds(images, rng=spec.seed)
    first = fit_forest(rows, classes, spec, weights=weights, folds=folds, executor=executor)
    honest = first.predict_held_out(rows, folds)
    ends = np.cumsum([image.labels.n for image in images])
    seen = []
    for index, (image, end) in enumerate(zip(images, ends, strict=True)):
        opinion = opinion_of(index, first) if opinion_of else first.predict(image.values, executor=executor)
        opinion = opinion.copy()
        opinion[image.rows] = honest[end - image.labels.n : end]
        seen.append(surroundings(opinion, image.graph)[image.rows])
    second = fit_forest(np.concatenate(seen), classes, leaf, weights=weights, executor=executor)
    return Classifier(first, second)


def surroundings(opinion: Opinion, graph: Adjacency) -> NDArray[np.float32]:
    """Return an opinion (n, k) and its averages over 1 to `STEPS` steps along the graph, as columns."""
    average = graph.averaging().astype(np.float32)
    columns = [opinion]
    for _ in range(STEPS):
        columns.append(np.asarray(average @ columns[-1], np.float32))
    return np.concatenate(columns, axis=1)


def neighbourhood_folds(
    images: Sequence[LabelledImage], *, n_folds: int = N_FOLDS, rng: int | np.random.Generator = 0
) -> NDArray[np.int64]:
    """Return the fold 0..n_folds - 1 of each label of all images; -1 for labels that are never left out.

    Labels in one cube of `NEIGHBOURHOOD` supervoxel diameters share a fold. Where a fold would take all labels of a
    class, those stay in.
    """
    parts = [np.floor(image.positions[image.rows] / NEIGHBOURHOOD).astype(np.int64) for image in images]
    which = np.repeat(np.arange(len(images)), [len(part) for part in parts])
    cubes = np.column_stack([which, np.concatenate(parts)])
    classes = np.concatenate([image.labels.classes for image in images])
    _, cube = np.unique(cubes, axis=0, return_inverse=True)
    fold_of_cube = np.random.default_rng(rng).permutation(cube.max() + 1) % n_folds
    folds: NDArray[np.int64] = fold_of_cube[cube.ravel()]
    for class_id in np.unique(classes):
        own = classes == class_id
        if (folds[own] == folds[own][0]).all():
            folds[own] = -1
    return folds
