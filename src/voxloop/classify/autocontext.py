"""A second forest that sees what the first one thinks of the neighbourhood (autocontext).

Tu, *Auto-context and its application to high-level vision tasks*, CVPR 2008. The first forest's opinion of a labelled
supervoxel must not come from trees that learned from it, or the second would learn to trust it blindly. So further
trees are grown that leave out one fold of the labels each, and the opinion of a label comes from those that left it
out. Folds are made of strokes and neighbourhoods, as supervoxels of one stroke are alike. docs/decisions/0005.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor
from voxloop.classify.calibration import Calibration, fairness, fit_calibration, follow_shares
from voxloop.classify.forest import Forest, fit_forest
from voxloop.classify.held_out import HeldOut
from voxloop.classify.labelled import LabelledImage, deal_folds, group_labels, spacing_of_labels
from voxloop.classify.smoothing import Smoothing
from voxloop.errors import FormatError, InputError
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency
from voxloop.supervoxels.contrast import column
from voxloop.supervoxels.neighbourhood import induced_graph, within_hops

STEPS = 2  # how far the second forest sees, in steps along the graph
N_FOLDS = 5
WITNESSES = 20  # trees that leave out a fold
# The second forest has few columns, all alike: leaves of one label would follow every label's own error.
SECOND_LEAF = 5
# What a supervoxel takes while it is predicted: measured with 7 contacts each, 2 and 6 classes.
BYTES_PER_SUPERVOXEL, BYTES_PER_CLASS = 200, 30
BYTES_TO_SMOOTH, BYTES_IN_A_PART = 170, 150  # more: for smoothing, and for a graph of its own
LEAST_AT_ONCE = 100_000  # supervoxels: the contacts of all are looked through for each part
# How much of the volume each class has is counted among so many supervoxels. Images with fewer than the second number
# together are asked as a whole: they are predicted as a whole afterwards.
N_COUNTED, N_AT_ONCE = 10_000, 100_000
_N_RUNS = 10

Opinion = NDArray[np.float32]


class Opinions:
    """What the forests say of the supervoxels of an image; of the first one each row is computed when first asked for.

    Parameters
    ----------
    forest
        The first forest.
    values
        (n, f) features.
    executor
        Runs over the rows; the result does not depend on it.
    """

    def __init__(self, forest: Forest, values: NDArray[np.float32], *, executor: Executor | None = None) -> None:
        self._forest, self._values, self._executor = forest, values, executor
        self._known = np.zeros(len(values), bool)
        self._table = np.empty((len(values), forest.classes.size), np.float32)
        self._last_votes: tuple[Forest, NDArray[np.uint32], Opinion] | None = None

    def of(self, ids: NDArray[np.uint32]) -> Opinion:
        """Return the probabilities (m, k) of supervoxels (m,)."""
        rows = ids.astype(np.int64) - 1
        missing = rows[~self._known[rows]]
        if missing.size == len(self._values):
            self._table = self._forest.predict(self._values, executor=self._executor)
        elif missing.size:
            self._table[missing] = self._forest.predict(self._values, rows=missing, executor=self._executor)
        self._known[missing] = True
        return self._table[rows]

    def votes(self, second: Forest | None, graph: Adjacency, ids: NDArray[np.uint32]) -> Opinion:
        """Return the mean of both forests' probabilities (m, k) of supervoxels (m,), sorted.

        The last answer is kept: training asks for what is predicted next.
        """
        if second is None:
            return self.of(ids)
        if self._last_votes is not None:
            whose, known, found = self._last_votes
            if whose is second and np.array_equal(known, ids):
                return found
        near = ids if ids.size == graph.n else within_hops(graph, ids, STEPS)
        rows = np.searchsorted(near, ids)
        opinion = self.of(near)
        seen = surroundings(opinion, induced_graph(graph, near))[rows]
        found = _both(opinion[rows], second.predict(seen, executor=self._executor))
        self._last_votes = second, ids, found
        return found


@dataclass(frozen=True)
class Classifier:
    """What the labels taught.

    Attributes
    ----------
    first
        A forest on the features.
    second
        A forest on the first one's opinion of the neighbourhood, or None; the two have one vote each.
    calibration
        Makes probabilities of their votes.
    held_out
        What was said of labels by trees that did not see them, or None where labels are too few for that.
    smoothing
        Averages the probabilities along the graph.
    """

    first: Forest
    second: Forest | None
    calibration: Calibration
    held_out: HeldOut | None
    smoothing: Smoothing

    @property
    def classes(self) -> NDArray[np.int32]:
        """(k,) sorted ids of the classes that it knows."""
        return self.first.classes

    @property
    def reach(self) -> int:
        """How many steps along the graph it looks beyond a supervoxel."""
        return self.smoothing.rounds + (0 if self.second is None else STEPS)

    def with_first(self, first: Forest) -> Classifier:
        """Return the classifier with another first forest, of the same classes: nearly what a few more labels teach."""
        return replace(self, first=first, held_out=None)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        parts: dict[str, Forest | Calibration | Smoothing | HeldOut] = {
            "first": self.first, "calibration": self.calibration, "smoothing": self.smoothing,
        }  # fmt: skip
        parts |= {"second": self.second} if self.second else {}
        parts |= {"held": self.held_out} if self.held_out else {}
        return {f"{name}_{key}": array for name, part in parts.items() for key, array in part.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Classifier:
        """Return a classifier from arrays that may come from a stranger; raises `FormatError` if they are damaged."""

        def part(name: str) -> dict[str, NDArray[Any]]:
            prefix = f"{name}_"
            return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}

        first = Forest.from_arrays(part("first"))
        k = first.classes.size
        second = Forest.from_arrays(part("second")) if part("second") else None
        if second is not None and (
            second.n_features != k * (STEPS + 1) or second.classes.tolist() != first.classes.tolist()
        ):
            raise FormatError("the forest's arrays are damaged: its two forests do not fit one another")
        calibration = Calibration.from_arrays(part("calibration"), k)
        held_out = HeldOut.from_arrays(part("held"), k) if part("held") else None
        return cls(first, second, calibration, held_out, Smoothing.from_arrays(part("smoothing")))

    def predict(
        self,
        values: NDArray[np.float32],
        graph: Adjacency,
        *,
        ids: NDArray[np.uint32] | None = None,
        opinions: Opinions | None = None,
        executor: Executor | None = None,
        memory: int | None = None,
    ) -> NDArray[np.float32]:
        """Return the probabilities of `classes` for supervoxels of an image.

        Parameters
        ----------
        values
            (n, f) features.
        graph
            Which of the n supervoxels touch.
        ids
            (m,) sorted: which supervoxels, by default all. The others are looked at as far as `reach` only.
        opinions
            What the first forest says of the image, if some of that is known already.
        executor
            Runs over the rows; the result does not depend on it.
        memory
            Bytes that it may take beside what is known of each supervoxel; if all at once would take more, some
            supervoxels follow after the others. By default all at once.

        Returns
        -------
        (m, k) float32, rows sum to 1; the same bits for a supervoxel, whichever others are asked for.
        """
        opinions = opinions or Opinions(self.first, values, executor=executor)
        wanted = np.arange(1, graph.n + 1, dtype=np.uint32) if ids is None else ids
        each = BYTES_PER_SUPERVOXEL + BYTES_PER_CLASS * self.classes.size
        each += BYTES_TO_SMOOTH if self.smoothing.rounds else 0
        if memory is None or each * wanted.size <= memory:
            return self._at_once(values, graph, wanted, opinions)
        found = np.empty((wanted.size, self.classes.size), np.float32)
        n = max(LEAST_AT_ONCE, memory // (each + BYTES_IN_A_PART))
        for first in range(0, wanted.size, n):
            part = slice(first, first + n)
            found[part] = self._at_once(values, graph, wanted[part], opinions)
        return found

    def _at_once(
        self,
        values: NDArray[np.float32],
        graph: Adjacency,
        wanted: NDArray[np.uint32],
        opinions: Opinions,
    ) -> NDArray[np.float32]:
        """Return the probabilities (m, k) of supervoxels."""
        if not self.smoothing.rounds:
            return self._sharp(graph, wanted, opinions)
        near = within_hops(graph, wanted, self.smoothing.rounds)
        sharp = self._sharp(graph, near, opinions)
        smoothed = self.smoothing.apply(sharp, induced_graph(graph, near), column(values, 0, near))
        return smoothed[np.searchsorted(near, wanted)]

    def _sharp(self, graph: Adjacency, wanted: NDArray[np.uint32], opinions: Opinions) -> NDArray[np.float32]:
        """Return the probabilities (m, k) of supervoxels before they are smoothed."""
        return self.calibration.apply(opinions.votes(self.second, graph, wanted))


def fit_first(images: Sequence[LabelledImage], spec: ClassifierSpec, *, executor: Executor | None = None) -> Forest:
    """Return the first forest of `fit_classifier`, for callers who show something before the rest is trained."""
    if not images:
        raise InputError("there are no labels to train on")
    rows, classes, weights = _rows(images)
    return fit_forest(rows, classes, spec, weights=weights, executor=executor)


def _rows(images: Sequence[LabelledImage]) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float64]]:
    """Return features (m, f), classes and purities (m,) of the labels of all images."""
    return (
        np.concatenate([image.values[image.rows] for image in images]),
        np.concatenate([image.labels.classes for image in images]),
        np.concatenate([image.labels.purity for image in images]),
    )


def fit_classifier(
    images: Sequence[LabelledImage],
    spec: ClassifierSpec,
    *,
    first: Forest | None = None,
    opinions_of: Callable[[int, Forest], Opinions] | None = None,
    executor: Executor | None = None,
) -> Classifier:
    """Train on the labelled supervoxels of several images.

    Parameters
    ----------
    images
        With at least one label each, and of two classes in all.
    spec
        The forests; `autocontext` says whether there is a second one, once every class has labels enough for it.
    first
        What `fit_first` returned for them, if that is known already.
    opinions_of
        Gives what the first forest says of an image, by its position in `images`: for callers who keep that for
        `Classifier.predict`.
    executor
        Grows the trees; the result does not depend on it.

    Raises
    ------
    InputError
        If there are fewer than two classes, or the features do not fit one another.
    """
    first = first or fit_first(images, spec, executor=executor)
    rows, classes, weights = _rows(images)
    opinions = [
        opinions_of(index, first) if opinions_of else Opinions(first, image.values, executor=executor)
        for index, image in enumerate(images)
    ]
    groups = group_labels(images)
    folds = deal_folds(groups, classes, n_folds=N_FOLDS, rng=spec.seed)
    honest = first.predict(rows, executor=executor)
    if (folds >= 0).any():
        # The seeds of other trees: those that left a label out must not be the ones that see it later.
        witnesses = spec.changed(n_trees=N_FOLDS * WITNESSES, seed=(spec.seed + 1) % 2**32)
        left_out = fit_forest(rows, classes, witnesses, weights=weights, folds=folds, executor=executor)
        honest = left_out.predict_held_out(rows, folds)

    known = folds >= 0
    columns = np.searchsorted(first.classes, classes)

    second = None
    leaf = spec.changed(min_samples_leaf=max(spec.min_samples_leaf, SECOND_LEAF))
    # With fewer labels of a class the second forest could not tell it from the others: no leaf would be its own.
    if spec.autocontext and np.unique(classes, return_counts=True)[1].min() >= leaf.min_samples_leaf:
        seen = _seen_of_labels(images, honest, opinions)
        second = fit_forest(seen, classes, leaf, weights=weights, folds=folds, executor=executor)
        honest = _both(honest, second.predict_held_out(seen, folds))
    calibration, fair = Calibration.none(first.classes.size), 0.0
    if spec.calibrated:
        of_labels = honest[known], columns[known]
        calibration = fit_calibration(*of_labels, weights=weights[known])
        votes = _votes_anywhere(images, second, opinions)
        fair = fairness(honest[known], votes) if known.any() else 0.0
        spacing = spacing_of_labels(images, max(1, int(known.sum())))
        calibration = follow_shares(calibration, votes, *of_labels, spacing=spacing, weights=weights[known])
    held_out = None
    if known.any():
        held_out = HeldOut(calibration.apply(honest[known]), columns[known].astype(np.int32), groups[known])
    return Classifier(first, second, calibration, held_out, Smoothing.of(images, spec.smoothing, fairness=fair))


def _seen_of_labels(
    images: Sequence[LabelledImage], honest: Opinion, opinions: Sequence[Opinions]
) -> NDArray[np.float32]:
    """Return what the second forest sees of each label; of the labels themselves the first says what is `honest`."""
    ends = np.cumsum([image.labels.n for image in images])
    seen = []
    for image, of_image, end in zip(images, opinions, ends, strict=True):
        near = within_hops(image.graph, image.labels.ids, STEPS)
        labelled = np.searchsorted(near, image.labels.ids)
        opinion = of_image.of(near)
        opinion[labelled] = honest[end - image.labels.n : end]
        seen.append(surroundings(opinion, induced_graph(image.graph, near))[labelled])
    return np.concatenate(seen)


def _votes_anywhere(images: Sequence[LabelledImage], second: Forest | None, opinions: Sequence[Opinions]) -> Opinion:
    """Return what both forests say of about `N_COUNTED` supervoxels that lie all over the images, as a table."""
    wanted = max(1, N_COUNTED // len(images))
    found = []
    for image, of_image in zip(images, opinions, strict=True):
        n = image.graph.n
        ids = np.arange(1, n + 1, dtype=np.uint32) if n * len(images) < N_AT_ONCE else _ids_anywhere(n, wanted)
        votes = of_image.votes(second, image.graph, ids)
        found.append(votes[:: 1 + (len(votes) - 1) // wanted])
    return np.concatenate(found)


def _ids_anywhere(n: int, wanted: int) -> NDArray[np.uint32]:
    """Return about so many of the ids 1..n, sorted.

    They are a few runs: ids that are near lie near, so that few others must be asked about the neighbourhood.
    """
    n_runs = min(_N_RUNS, n)
    length = max(1, min(wanted, n) // n_runs)
    starts = np.linspace(1, n + 1 - length, n_runs).astype(np.int64)
    return np.concatenate([np.arange(start, start + length, dtype=np.uint32) for start in starts])


def _both(first: Opinion, second: Opinion) -> Opinion:
    """Return the mean of two opinions."""
    return (first + second) / np.float32(2)


def surroundings(opinion: Opinion, graph: Adjacency) -> NDArray[np.float32]:
    """Return an opinion (n, k) and its averages over 1 to `STEPS` steps along the graph, as columns."""
    average = graph.averaging()
    columns = [opinion]
    for _ in range(STEPS):
        columns.append(np.asarray(average @ columns[-1], np.float32))
    return np.concatenate(columns, axis=1)
