from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloop.blocks import SerialExecutor
from voxloop.classify import Calibration, Classifier, LabelledImage, Prediction, fit_forest, label_supervoxels, look_up
from voxloop.classify.smoothing import Smoothing, smooth
from voxloop.errors import FormatError, InputError
from voxloop.features import FeatureTable
from voxloop.features.context import join_lazily
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency
from voxloop.supervoxels.contrast import column


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


@settings(deadline=None)  # the first call compiles
@given(st.integers(4, 12), st.integers(0, 6), st.integers(2, 4), st.integers(0, 99))
def test_against_dense_matrices(n, rounds, k, seed):
    graph, P = ring(n), np.random.default_rng(seed).dirichlet(np.ones(k), n).astype(np.float32)
    step = (np.eye(n) + dense(graph)) / 2
    got = smooth(P, graph.averaging(), rounds)
    np.testing.assert_allclose(got, np.linalg.matrix_power(step, rounds) @ P, atol=1e-6)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[-1], P[-1], atol=1e-6)  # alone


def test_half_as_strong_goes_half_as_far():
    graph, P = ring(9), np.random.default_rng(0).dirichlet([1, 1, 1], 9).astype(np.float32)
    whole, half = (smooth(P, graph.averaging(), 1, strength=strength) for strength in (1.0, 0.5))
    np.testing.assert_allclose(half, (P + whole) / 2, atol=1e-6)
    assert np.array_equal(smooth(P, graph.averaging(), 3, strength=0.0), P)


def test_unless_rounds_are_asked_for_it_is_one_as_strong_as_labels_are_fair():
    image = image_of(np.random.default_rng(0).normal(size=(8, 1)).astype(np.float32), ring(8))
    contrast = Smoothing.of([image], 2, fairness=0.0).contrast
    assert Smoothing.of([image], None, fairness=0.25) == Smoothing(1, contrast, 0.25)
    assert Smoothing.of([image], None, fairness=0.0) == Smoothing.none()
    assert Smoothing.of([image], 0, fairness=1.0) == Smoothing.none()
    assert Smoothing.of([image], 2, fairness=0.25) == Smoothing(2, contrast, 1.0)


def test_constant_stays_and_0_rounds_change_nothing():
    P = np.full((6, 2), 0.5, np.float32)
    assert np.array_equal(smooth(P, ring(6).averaging(), 5), P)
    Q = np.random.default_rng(0).dirichlet([1, 1], 6).astype(np.float32)
    assert smooth(Q, ring(6).averaging(), 0).tobytes() == Q.tobytes()


def test_little_is_averaged_across_edges_of_the_image():
    """A chain of 20, dark and bright in turns of 5: what is certain of one side says little of the other."""
    n = 20
    ids = np.arange(1, n + 1)
    chain = Adjacency(np.stack([ids[:-1], ids[1:]], 1), np.ones(n - 1), n)
    side = np.arange(n) // 5 % 2
    intensity = 10.0 * side + 0.1 * np.arange(n)
    P = np.stack([1 - side, side], 1).astype(np.float32)
    assert np.abs(smooth(P, chain.averaging(), 2) - P).max() > 0.3
    assert np.abs(Smoothing(2, contrast=1.0).apply(P, chain, intensity) - P).max() < 1e-6
    doubt = np.where(np.arange(n) % 5 == 2, 0.4, 0.9)[:, np.newaxis]
    cleared = Smoothing(2, contrast=1.0).apply(np.where(P > 0, doubt, 1 - doubt).astype(np.float32), chain, intensity)
    assert (cleared.argmax(axis=1) == side).all()
    np.testing.assert_allclose(cleared.sum(axis=1), 1, atol=1e-6)


def image_of(values: np.ndarray, graph: Adjacency) -> LabelledImage:
    return LabelledImage(label_supervoxels([], []), values, graph, np.zeros((graph.n, 3)), 4.0, 3)


def test_brightness_and_contrast_of_the_image_do_not_matter():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 3)).astype(np.float32)
    P = rng.dirichlet([1, 1], 8).astype(np.float32)

    def smoothed(v: np.ndarray) -> np.ndarray:
        return Smoothing.of([image_of(v, ring(8))], 3, fairness=1.0).apply(P, ring(8), column(v, 0, np.arange(1, 9)))

    assert np.abs(smoothed(values) - P).max() > 0.01
    np.testing.assert_allclose(smoothed(4 * values + 2), smoothed(values), atol=1e-6)
    changed = values.copy()
    changed[:, 1:] = 0  # only the first column is looked at
    assert np.array_equal(smoothed(changed), smoothed(values))


def test_constant_images_and_single_supervoxels():
    values = np.ones((6, 2), np.float32)
    P = np.random.default_rng(0).dirichlet([1, 1], 6).astype(np.float32)
    found = Smoothing.of([image_of(values, ring(6))], 2, fairness=1.0)
    got = found.apply(P, ring(6), column(values, 0, np.arange(1, 7)))
    np.testing.assert_allclose(got, smooth(P, ring(6).averaging(), 2), rtol=1e-6)
    single = Adjacency(np.empty((0, 2), np.int64), np.empty(0), 1)
    assert np.array_equal(
        Smoothing.of([image_of(values[:1], single)], 2, fairness=1.0).apply(P[:1], single, np.ones(1)), P[:1]
    )


def test_a_table_on_the_disk_gives_the_same():
    table = FeatureTable(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32), ("a", "b"))
    ids = np.array([2, 5, 8])
    lazy = join_lazily([table, join_lazily([table, table])]).values
    for which in range(6):
        assert np.array_equal(column(lazy, which, ids), column(table.values, which % 2, ids))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("rounds", 101),
        ("rounds", [1, 2]),
        ("contrast", 0.0),
        ("contrast", np.nan),
        ("strength", 0.0),
        ("strength", 1.5),
        ("strength", np.nan),
    ],
)
def test_damaged_arrays(name, wrong):
    good = Smoothing(2, 3.5, 0.5)
    assert Smoothing.from_arrays(good.to_arrays()) == good
    with pytest.raises(FormatError, match="smoothing is damaged"):
        Smoothing.from_arrays(good.to_arrays() | {name: np.array(wrong)})


def test_prediction_has_a_column_for_every_class():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 3)).astype(np.float32)
    forest = fit_forest(values, [2, 5, 2, 5, 2, 5, 2, 5], ClassifierSpec(n_trees=5), executor=SerialExecutor())
    classifier = Classifier(forest, None, Calibration.none(2), None, Smoothing(2, 1.0))
    got = Prediction.by(classifier, values, ring(8), np.array([1, 2, 5, 9], np.int32))
    expected = Smoothing(2, 1.0).apply(forest.predict(values), ring(8), values[:, 0].astype(np.float64))
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
