from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxloop.blocks import SerialExecutor
from voxloop.classify import Calibration, Classifier, Prediction, fit_forest, look_up
from voxloop.classify.smoothing import smooth
from voxloop.errors import InputError
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency


def ring(n: int) -> Adjacency:
    """Return supervoxels in a circle, the last of them alone."""
    edges = np.array(sorted((min(a, b), max(a, b)) for a, b in ((i + 1, (i + 1) % (n - 1) + 1) for i in range(n - 1))))
    return Adjacency(edges, np.arange(1.0, n), n)


def dense(graph: Adjacency) -> np.ndarray:
    areas = np.zeros((graph.n, graph.n))
    a, b = graph.edges.T - 1
    areas[a, b] = areas[b, a] = graph.area
    areas[-1, -1] = 1
    return areas / areas.sum(axis=1, keepdims=True)


@given(st.integers(4, 12), st.integers(0, 6), st.integers(2, 4), st.integers(0, 99))
def test_against_dense_matrices(n, rounds, k, seed):
    graph, P = ring(n), np.random.default_rng(seed).dirichlet(np.ones(k), n).astype(np.float32)
    step = (np.eye(n) + dense(graph)) / 2
    got = smooth(P, graph, rounds)
    np.testing.assert_allclose(got, np.linalg.matrix_power(step, rounds) @ P, atol=1e-6)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[-1], P[-1], atol=1e-6)  # alone


def test_constant_stays_and_0_rounds_change_nothing():
    P = np.full((6, 2), 0.5, np.float32)
    assert np.array_equal(smooth(P, ring(6), 5), P)
    Q = np.random.default_rng(0).dirichlet([1, 1], 6).astype(np.float32)
    assert smooth(Q, ring(6), 0).tobytes() == Q.tobytes()


def test_bad_input():
    with pytest.raises(InputError, match="graph has 6 supervoxels but probabilities has 5 rows"):
        smooth(np.ones((5, 1), np.float32), ring(6), 1)


def test_prediction_has_a_column_for_every_class():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 3)).astype(np.float32)
    forest = fit_forest(values, [2, 5, 2, 5, 2, 5, 2, 5], ClassifierSpec(n_trees=5), executor=SerialExecutor())
    classifier = Classifier(forest, None, Calibration.none(2), None)
    got = Prediction.by(classifier, values, ring(8), np.array([1, 2, 5, 9], np.int32), smoothing=2)
    expected = smooth(forest.predict(values), ring(8), 2)
    assert np.array_equal(got.probabilities[:, [1, 2]], expected)
    assert not got.probabilities[:, [0, 3]].any()
    assert set(got.segmentation) <= {2, 5}
    with pytest.raises(InputError, match=r"\[5\] is missing"):
        Prediction.by(classifier, values, ring(8), np.array([1, 2], np.int32))


def test_ties_go_to_the_lower_class():
    prediction = Prediction(np.array([[0.5, 0.5], [0.2, 0.8]], np.float32), np.array([3, 7], np.int32))
    assert prediction.segmentation.tolist() == [3, 7]


def test_look_up():
    labels = np.array([[0, 1], [3, 2]], np.uint32)
    assert look_up(labels, np.array([10, 20, 30])).tolist() == [[0, 10], [30, 20]]
    assert look_up(labels, np.array([[1, 2], [3, 4], [5, 6]])).tolist() == [[[0, 0], [1, 2]], [[5, 6], [3, 4]]]
    assert look_up(labels, np.array([1, 2, 3], np.uint8), outside=9).dtype == np.uint8
    assert look_up(labels, np.array([1, 2, 3]), outside=9)[0, 0] == 9
