from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.ensemble import ExtraTreesClassifier

from tests.kernel_source import python_source
from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.classify import Forest, fit_forest
from voxloop.errors import FormatError, InputError
from voxloop.kernels import forest as kernels
from voxloop.specs import ClassifierSpec


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    X, y = make_classification(
        4000, 30, n_informative=12, n_redundant=8, n_classes=3, n_clusters_per_class=2, random_state=0
    )
    return X.astype(np.float32), y + 1


def test_as_accurate_as_scikit_learn(data):
    X, y = data
    ours, theirs = [], []
    for seed in range(3):
        forest = fit_forest(X[:300], y[:300], ClassifierSpec(seed=seed))
        ours.append(np.mean(forest.classes[forest.predict(X[300:]).argmax(axis=1)] == y[300:]))
        reference = ExtraTreesClassifier(100, class_weight="balanced", random_state=seed).fit(X[:300], y[:300])
        theirs.append(reference.score(X[300:], y[300:]))
    assert np.mean(ours) > np.mean(theirs) - 0.015
    assert np.mean(ours) > 0.7


def test_same_seed_same_bits_with_any_number_of_threads(data):
    X, y = data
    results = []
    for executor in (SerialExecutor(), ThreadExecutor(2), ThreadExecutor(3)):
        forest = fit_forest(X[:200], y[:200], executor=executor)
        results.append(forest.predict(X, executor=executor).tobytes())
    assert results[0] == results[1] == results[2]
    other = fit_forest(X[:200], y[:200], ClassifierSpec(seed=1))
    assert other.predict(X).tobytes() != results[0]


def test_a_row_does_not_depend_on_the_rows_beside_it(data):
    X, y = data
    forest = fit_forest(X[:200], y[:200])
    whole = forest.predict(X[:1003])
    np.testing.assert_array_equal(whole[7:500], forest.predict(X[7:500]))
    np.testing.assert_array_equal(whole[1002:], forest.predict(X[1002:1003]))
    rows = np.random.default_rng(0).permutation(1003)[:700]
    np.testing.assert_array_equal(whole[rows], forest.predict(X[:1003], rows=rows))


def test_training_rows_are_recalled_and_rows_sum_to_one(data):
    X, y = data
    forest = fit_forest(X[:150], y[:150])
    P = forest.predict(X[:150])
    assert (forest.classes[P.argmax(axis=1)] == y[:150]).all()
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-6)


def test_scaling_and_shifting_a_feature_changes_nothing_much(data):
    X, y = data
    scaled = (X * 4 + 8).astype(np.float32)  # powers of two: thresholds scale along, up to rounding of the shift
    P, Q = (fit_forest(values[:300], y[:300]).predict(values) for values in (X, scaled))
    assert np.abs(P - Q).mean() < 2e-3


def leaves(forest: Forest, tree: int, X: np.ndarray) -> np.ndarray:
    """Return the leaf of one tree that each row ends in, found by walking in plain numpy."""
    nodes = slice(forest.roots[tree], forest.roots[tree + 1])
    feature, threshold, left = forest.feature[nodes], forest.threshold[nodes], forest.left[nodes]
    node, rows = np.zeros(len(X), int), np.arange(len(X))
    while (feature[node] >= 0).any():
        right = X[rows, np.maximum(feature[node], 0)] > threshold[node]
        node = np.where(feature[node] >= 0, left[node] + right, node)
    return node


@pytest.mark.parametrize("n", [1, 2, 3, 4, 63, 64, 66, 133])
def test_votes_are_those_of_a_plain_walk(data, n):
    X, y = data
    forest = fit_forest(X[:200], y[:200], ClassifierSpec(n_trees=7))
    votes = np.zeros((n, 3), np.float32)
    for tree in range(7):
        votes += forest.value[forest.roots[tree] : forest.roots[tree + 1]][leaves(forest, tree, X[:n])]
    np.testing.assert_array_equal(forest.predict(X[:n]), votes / votes.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("size", [1, 10])
def test_leaf_size_is_kept(data, size):
    X, y = data
    forest = fit_forest(X[:200], y[:200], ClassifierSpec(n_trees=5, min_samples_leaf=size))
    smallest = min(np.unique(leaves(forest, tree, X[:200]), return_counts=True)[1].min() for tree in range(5))
    assert size <= smallest < 2 * size + 5


def test_balance_gives_a_rare_class_its_say():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (500, 5)), rng.normal(1, 1, (12, 5))]).astype(np.float32)
    y = np.repeat([1, 2], [500, 12])
    test = rng.normal(1, 1, (1000, 5)).astype(np.float32)
    spec = ClassifierSpec(min_samples_leaf=5)
    balanced = fit_forest(X, y, spec).predict(test)[:, 1].mean()
    plain = fit_forest(X, y, spec.changed(balanced=False)).predict(test)[:, 1].mean()
    assert balanced > plain + 0.2


def test_weights_move_the_vote():
    X = np.zeros((10, 1), np.float32)  # nothing to split on: the leaf's shares are the weights' shares
    y = np.repeat([1, 2], 5)
    weights = np.repeat([3.0, 1.0], 5)
    forest = fit_forest(X, y, ClassifierSpec(n_trees=2, balanced=False), weights=weights)
    np.testing.assert_allclose(forest.predict(X[:1]), [[0.75, 0.25]])


def test_kernel_equals_its_python_source():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(12, 4)).astype(np.float32)
    y = rng.integers(0, 2, 12).astype(np.int32)
    grown = []
    state = np.random.get_state()
    for function in (kernels.grow_tree, kernels.grow_tree.py_func):
        arrays = (
            np.zeros(24, np.int32),
            np.zeros(24, np.float32),
            np.zeros(24, np.int32),
            np.zeros((24, 2), np.float32),
        )
        n = function(np.ascontiguousarray(X.T), y, np.ones(12), 2, 2, 1, 5, *arrays)
        out = np.zeros((12, 2), np.float32)
        predict = kernels.sum_trees if function is kernels.grow_tree else python_source(kernels.sum_trees)
        feature, threshold, left, value = (a[:n] for a in arrays)
        way = (np.maximum(feature, 0).astype(np.uint64) << np.uint64(32)) | left.astype(np.uint64)
        predict(X, np.array([0, n], np.int32), way, np.where(feature < 0, np.float32(np.inf), threshold), value, out)
        grown.append((n, *arrays, out))
    np.random.set_state(state)
    for ours, python in zip(*grown, strict=True):
        np.testing.assert_array_equal(ours, python)
    assert grown[0][0] > 3


def test_arrays_round_trip_and_damage_is_found(data):
    X, y = data
    forest = fit_forest(X[:100], y[:100], ClassifierSpec(n_trees=3))
    arrays = forest.to_arrays()
    np.testing.assert_array_equal(Forest.from_arrays(arrays).predict(X), forest.predict(X))
    loop = arrays["left"].copy()
    loop[0] = 0
    beyond = arrays["feature"].copy()
    beyond[0] = 30
    for damaged in (
        {"left": loop},
        {"feature": beyond},
        {"roots": arrays["roots"][:-1]},
        {"value": arrays["value"][:, :2]},
    ):
        with pytest.raises(FormatError, match="damaged"):
            Forest.from_arrays(arrays | damaged)
    with pytest.raises(FormatError, match="damaged"):
        Forest.from_arrays({k: v for k, v in arrays.items() if k != "left"})


@pytest.mark.parametrize(
    ("values", "classes", "weights", "message"),
    [
        (np.zeros((3, 2)), [1, 1, 1], None, "two classes at least, not 1"),
        (np.zeros((0, 2)), [], None, "two classes at least, not 0"),
        (np.zeros((3, 2)), [1, 2], None, r"values has shape \(3, 2\) and classes \(2,\)"),
        (np.array([[0, 1], [np.nan, 0], [1, 1]]), [1, 2, 1], None, "row 1, feature 0 is nan"),
        (np.zeros((3, 2)), [1, 2, 1], [1, 0, 1], "3 positive numbers"),
    ],
)
def test_bad_input(values, classes, weights, message):
    with pytest.raises(InputError, match=message):
        fit_forest(values, classes, weights=weights)


def test_wrong_number_of_features(data):
    X, y = data
    with pytest.raises(InputError, match="trained on 30 features"):
        fit_forest(X[:50], y[:50]).predict(X[:, :5])
