from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.datasets import make_classification

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.classify import Forest, fit_forest
from voxloop.errors import InputError
from voxloop.specs import ClassifierSpec


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    X, y = make_classification(6000, 12, n_informative=8, n_classes=3, n_clusters_per_class=2, random_state=0)
    return X.astype(np.float32), y + 1


def votes(forest: Forest, X: np.ndarray) -> np.ndarray:
    """Return what each tree says of each row (t, n, k), found by walking in plain numpy."""
    said = []
    for start, stop in zip(forest.roots, forest.roots[1:], strict=False):
        feature, threshold = forest.feature[start:stop], forest.threshold[start:stop]
        left, value = forest.left[start:stop], forest.value[start:stop]
        node, rows = np.zeros(len(X), int), np.arange(len(X))
        while (feature[node] >= 0).any():
            right = X[rows, np.maximum(feature[node], 0)] > threshold[node]
            node = np.where(feature[node] >= 0, left[node] + right, node)
        said.append(value[node])
    return np.array(said)


@pytest.mark.parametrize("leaf", [1, 5, 20])
def test_against_walked_trees(data, leaf):
    X, y = data
    forest = fit_forest(X[:300], y[:300], ClassifierSpec(n_trees=30, min_samples_leaf=leaf))
    said = votes(forest, X).astype(np.float64)
    expected = entropy(said.mean(axis=0), base=2, axis=1) - entropy(said, base=2, axis=2).mean(axis=0)
    got = forest.disagreement(X)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert got.max() > 0.1
    assert got.min() >= 0


def test_predictions_are_the_trees_votes_summed_in_order(data):
    X, y = data
    forest = fit_forest(X[:300], y[:300], ClassifierSpec(n_trees=30, min_samples_leaf=5))
    total = np.zeros((len(X), 3), np.float32)
    for vote in votes(forest, X):
        total += vote
    np.testing.assert_array_equal(forest.predict(X), total / total.sum(axis=1, keepdims=True))


def test_pure_leaves_leave_the_entropy_of_the_prediction(data):
    X, y = data
    forest = fit_forest(X[:200], y[:200], ClassifierSpec(n_trees=40))
    np.testing.assert_allclose(forest.disagreement(X), entropy(forest.predict(X), base=2, axis=1), atol=1e-5)


def test_what_all_trees_are_unsure_of_alike_is_no_disagreement(data):
    X, y = data
    one = fit_forest(X[:200], y[:200], ClassifierSpec(n_trees=1, min_samples_leaf=20))
    np.testing.assert_allclose(one.disagreement(X), 0, atol=1e-6)
    nothing_to_split_on = fit_forest(np.zeros((9, 2)), [1, 2, 3] * 3, ClassifierSpec(n_trees=50))
    np.testing.assert_allclose(nothing_to_split_on.disagreement(np.zeros((4, 2))), 0, atol=1e-5)


def test_same_bits_with_any_number_of_threads_and_rows(data):
    X, y = data
    forest = fit_forest(X[:200], y[:200], ClassifierSpec(n_trees=20, min_samples_leaf=3))
    whole = forest.disagreement(X, executor=SerialExecutor())
    np.testing.assert_array_equal(forest.disagreement(X, executor=ThreadExecutor(2)), whole)
    np.testing.assert_array_equal(forest.disagreement(X[777:778]), whole[777:778])
    assert forest.disagreement(X[:0]).shape == (0,)


def test_wrong_number_of_features(data):
    X, y = data
    with pytest.raises(InputError, match="trained on 12 features"):
        fit_forest(X[:50], y[:50]).disagreement(X[:, :5])
