"""A seeded forest of extremely randomised trees on the rows of the supervoxel table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.blocks import Executor, in_this_process
from voxloop.errors import FormatError, InputError
from voxloop.kernels.forest import grow_tree, sum_trees
from voxloop.specs import ClassifierSpec

# Few enough that threads end together: with 4096, one of two has an eighth more to do than half of 50,000 rows.
_ROWS_A_TASK = 1024


@dataclass(frozen=True)
class Forest:
    """Trees as arrays: nothing to unpickle, and the same bits on every machine and number of threads.

    Attributes
    ----------
    classes
        (k,) int32, sorted: the classes it was trained on, the columns of `predict`.
    n_features
        Columns of the table it was trained on.
    roots
        (t + 1,) int32: where each tree starts in the node arrays, and their length.
    feature, threshold, left, value
        Node arrays as `voxloop.kernels.forest` defines them, all trees behind one another.
    """

    classes: NDArray[np.int32]
    n_features: int
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    value: NDArray[np.float32]

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return int(self.roots.size - 1)

    def predict(
        self, values: ArrayLike, *, rows: NDArray[np.integer] | None = None, executor: Executor | None = None
    ) -> NDArray[np.float32]:
        """Return the probabilities (n, k) of `classes` for a table (n, n_features), or for some `rows` (m,) of it.

        Each row of the result sums to 1.
        """
        out = self._sum_leaves(values, self.value, executor, rows=rows)
        out /= out.sum(axis=1, keepdims=True)
        return out

    def predict_held_out(self, values: ArrayLike, folds: ArrayLike) -> NDArray[np.float32]:
        """Return for each training row what the trees say that left it out: an honest opinion of a labelled row.

        Parameters
        ----------
        values, folds
            The (m, n_features) rows and (m,) folds that the forest was trained with; a row without a fold gets the
            opinion of all trees.
        """
        table, fold_of_row = np.asarray(values, np.float32), np.asarray(folds)
        held_out = np.empty((len(table), self.classes.size), np.float32)
        left_out = np.array(fold_of_trees(folds, self.n_trees))
        # With more folds than trees, nobody leaves some of them out.
        seen_by_all = (fold_of_row < 0) | ~np.isin(fold_of_row, left_out)
        held_out[seen_by_all] = self.predict(table[seen_by_all])
        for fold in np.unique(fold_of_row[~seen_by_all]):
            trees = np.flatnonzero(left_out == fold)
            rows = fold_of_row == fold
            held_out[rows] = self._some_trees(int(trees[0]), int(trees[-1]) + 1).predict(table[rows])
        return held_out

    def _some_trees(self, start: int, stop: int) -> Forest:
        """Return the forest of the trees from `start` to `stop`."""
        nodes = slice(self.roots[start], self.roots[stop])
        arrays = (self.feature[nodes], self.threshold[nodes], self.left[nodes], self.value[nodes])
        return Forest(self.classes, self.n_features, self.roots[start : stop + 1] - self.roots[start], *arrays)

    def disagreement(self, values: ArrayLike, *, executor: Executor | None = None) -> NDArray[np.float32]:
        """Return how far the trees disagree about each row of a table (n, n_features), in bits.

        The mutual information of the class and the tree that is asked: entropy of the trees' mean minus their mean
        entropy (BALD: Houlsby et al., arXiv 1112.5745, 2011; for committees, McCallum, Nigam, ICML 1998). It leaves
        out what every tree is unsure of alike, which no further label would settle. Leaves of one class have no
        entropy of their own, so with `min_samples_leaf` below 3 this is nearly the entropy of `predict`.

        Returns
        -------
        (n,) float32, 0 where all trees say the same, whatever they say.
        """
        # The leaf's entropy as one more column: the kernel that sums up the trees' votes sums it up as well.
        leaves = np.column_stack([self.value, _entropy(self.value)])
        sums = self._sum_leaves(values, leaves, executor)
        votes = sums[:, :-1] / sums[:, :-1].sum(axis=1, keepdims=True)
        bits: NDArray[np.float32] = np.maximum(_entropy(votes) - sums[:, -1] / self.n_trees, 0)
        return bits

    def _sum_leaves(
        self,
        values: ArrayLike,
        leaves: NDArray[np.float32],
        executor: Executor | None,
        *,
        rows: NDArray[np.integer] | None = None,
    ) -> NDArray[np.float32]:
        """Return for all rows of a table, or some `rows`, the sum over the trees of their leaf's `leaves`."""
        # A table larger than memory gives its rows when they are asked for.
        table: Any = values if hasattr(values, "shape") else np.asarray(values, np.float32)
        if len(table.shape) != 2 or table.shape[1] != self.n_features:
            raise InputError(f"values has shape {table.shape} but the forest was trained on {self.n_features} features")
        n = table.shape[0] if rows is None else rows.size
        out = np.zeros((n, leaves.shape[1]), np.float32)
        inner = self.feature >= 0
        threshold = np.where(inner, self.threshold, np.float32(np.inf))
        way = np.where(inner, self.feature, 0).astype(np.uint64) << np.uint64(32)
        way |= np.where(inner, self.left, self._within_tree).astype(np.uint64)

        def sum_rows(start: int) -> None:
            part = slice(start, start + _ROWS_A_TASK)
            # Some rows are gathered task by task: a copy of all of them at once costs as much as a third of the trees.
            seen = np.ascontiguousarray(table[part] if rows is None else table[rows[part]], np.float32)
            sum_trees(seen, self.roots, way, threshold, leaves, out[part])

        for _ in in_this_process(executor).map(sum_rows, range(0, n, _ROWS_A_TASK)):
            pass
        return out

    @property
    def _within_tree(self) -> NDArray[np.int64]:
        """Where each node stands in its tree."""
        within: NDArray[np.int64] = np.arange(self.feature.size) - np.repeat(self.roots[:-1], np.diff(self.roots))
        return within

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        names = ("classes", "roots", "feature", "threshold", "left", "value")
        return {name: getattr(self, name) for name in names} | {"n_features": np.array(self.n_features)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Forest:
        """Return a forest from arrays that may come from a stranger.

        Raises
        ------
        FormatError
            If an array is missing or a walk through a tree could leave it or never end.
        """
        try:
            forest = cls(
                classes=np.asarray(arrays["classes"], np.int32),
                n_features=int(arrays["n_features"]),
                roots=np.asarray(arrays["roots"], np.int32),
                feature=np.asarray(arrays["feature"], np.int32),
                threshold=np.asarray(arrays["threshold"], np.float32),
                left=np.asarray(arrays["left"], np.int32),
                value=np.asarray(arrays["value"], np.float32),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the forest's arrays are damaged: {error}") from None
        if not forest._is_sound():
            raise FormatError("the forest's arrays are damaged: a tree points outside itself")
        return forest

    def _is_sound(self) -> bool:
        """Whether every walk stays inside its tree and ends: children come after their parent."""
        n = self.feature.size
        if self.roots.ndim != 1 or self.roots.size < 2 or self.roots[0] != 0 or self.roots[-1] != n:
            return False
        sizes = np.diff(self.roots)
        if not (self.threshold.shape == self.left.shape == (n,) and self.value.shape == (n, self.classes.size)):
            return False
        if self.classes.size == 0 or np.any(np.diff(self.classes) <= 0) or np.any(sizes < 1):
            return False
        within = self._within_tree
        inner = self.feature >= 0
        goes_on = (self.left > within) & (self.left < np.repeat(sizes, sizes) - 1) & (self.feature < self.n_features)
        # NaN is not close to 1 either.
        shares = np.all(self.value >= 0) and np.allclose(self.value.sum(axis=1), 1, atol=1e-3)
        return bool(np.all(goes_on[inner]) and shares)


def fit_forest(
    values: ArrayLike,
    classes: ArrayLike,
    spec: ClassifierSpec | None = None,
    *,
    weights: ArrayLike | None = None,
    folds: ArrayLike | None = None,
    executor: Executor | None = None,
) -> Forest:
    """Train a forest on labelled rows.

    Parameters
    ----------
    values
        (m, f) features of the labelled supervoxels, finite.
    classes
        (m,) their classes; two different ones at least.
    spec
        Number of trees, leaf size, features tried a split, class balance, seed.
    weights
        (m,) positive weight of each row, such as its purity; 1 by default.
    folds
        (m,) number of the fold that each row belongs to, below 0 for none. The first trees leave out fold 0, as many
        the next fold, and so on; `Forest.predict_held_out` asks them of those rows. By default every tree sees all.
    executor
        Grows the trees; the result does not depend on it.

    Raises
    ------
    InputError
        If shapes do not fit, a feature is not finite, a weight is not positive, or there are fewer than two classes.
    """
    spec = spec or ClassifierSpec()
    table = np.asarray(values, np.float32)
    class_of_row = np.asarray(classes)
    _check_training_data(table, class_of_row)
    known, index = np.unique(class_of_row, return_inverse=True)
    row_weights = _row_weights(index, known.size, weights, balanced=spec.balanced)
    n_features = table.shape[1]
    tried = {"sqrt": int(np.sqrt(n_features)), "log2": int(np.log2(n_features)), "all": n_features}[spec.max_features]
    seeds = np.random.SeedSequence(spec.seed).generate_state(spec.n_trees)
    left_out = fold_of_trees(folds, spec.n_trees)
    kept = {fold: _rows_kept(class_of_row, folds, fold) for fold in sorted(set(left_out))}
    columns = {fold: np.ascontiguousarray(table[rows].T) for fold, rows in kept.items()}

    def grow(tree: int) -> tuple[NDArray[Any], ...]:
        rows = kept[left_out[tree]]
        room = 2 * len(rows)
        feature, left = np.empty(room, np.int32), np.empty(room, np.int32)
        threshold, value = np.empty(room, np.float32), np.empty((room, known.size), np.float32)
        n = grow_tree(
            columns[left_out[tree]], index[rows].astype(np.int32), row_weights[rows], known.size, max(1, tried),
            spec.min_samples_leaf, int(seeds[tree]), feature, threshold, left, value,
        )  # fmt: skip
        return feature[:n].copy(), threshold[:n].copy(), left[:n].copy(), value[:n].copy()

    trees = list(in_this_process(executor).map(grow, range(spec.n_trees)))
    feature, threshold, left, value = (np.concatenate(parts) for parts in zip(*trees, strict=True))
    roots = np.cumsum([0, *(len(tree[0]) for tree in trees)]).astype(np.int32)
    return Forest(known.astype(np.int32), n_features, roots, feature, threshold, left, value)


def fold_of_trees(folds: ArrayLike | None, n_trees: int) -> list[int]:
    """Return the fold that each tree leaves out, the same number of trees a fold as far as possible; -1 for none."""
    n_folds = 0 if folds is None else int(np.max(folds)) + 1
    return [tree * n_folds // n_trees if n_folds else -1 for tree in range(n_trees)]


def _rows_kept(classes: NDArray[Any], folds: ArrayLike | None, fold: int) -> NDArray[np.intp]:
    """Return the rows that the trees of a fold see."""
    rows = np.arange(len(classes)) if folds is None or fold < 0 else np.flatnonzero(np.asarray(folds) != fold)
    if np.unique(classes[rows]).size < np.unique(classes).size:
        raise InputError(f"folds must leave labels of every class, but fold {fold} holds all labels of one")
    return rows


def _entropy(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the entropy of each row in bits."""
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    bits: NDArray[np.float32] = -(shares * logs).sum(axis=1)
    return bits


def _check_training_data(table: NDArray[np.float32], classes: NDArray[Any]) -> None:
    if table.ndim != 2 or table.shape[1] == 0 or classes.shape != (table.shape[0],):
        raise InputError(f"values has shape {table.shape} and classes {classes.shape}; expected (m, f) and (m,)")
    if np.unique(classes).size < 2:
        raise InputError(f"training needs labels of two classes at least, not {np.unique(classes).size}")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise InputError(f"values must be finite; row {row}, feature {column} is {table[row, column]}")


def _row_weights(
    index: NDArray[np.intp], n_classes: int, weights: ArrayLike | None, *, balanced: bool
) -> NDArray[np.float64]:
    """Return the weight of each row; if `balanced`, the classes weigh the same in all."""
    row_weights = np.ones(index.size) if weights is None else np.asarray(weights, np.float64)
    if row_weights.shape != index.shape or not (np.isfinite(row_weights).all() and (row_weights > 0).all()):
        raise InputError(f"weights must be {index.size} positive numbers")
    if balanced:
        totals = np.bincount(index, row_weights, minlength=n_classes)
        row_weights = row_weights * (row_weights.sum() / (n_classes * totals))[index]
    return row_weights
