from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import entropy

from voxloop.active.geometry import (
    combined_uncertainty,
    contradiction,
    geometric_uncertainty,
    neighbour_graph,
    propagate,
)
from voxloop.active.uncertainty import uncertainty
from voxloop.errors import InputError
from voxloop.specs import UncertaintyKind

KINDS: tuple[UncertaintyKind, ...] = UncertaintyKind.__args__


def places(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 60, (n, 3))


def dirichlet(n: int, n_classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(n_classes, 0.5), n)


def graph_by_definition(centers: np.ndarray, spacing: tuple[float, ...], k: int) -> np.ndarray:
    """Return the dense graph: every pair of distances, sorted."""
    distance = cdist(*[centers * np.array(spacing) / min(spacing)] * 2)
    np.fill_diagonal(distance, np.inf)
    T = np.zeros_like(distance)
    for i, row in enumerate(distance):
        nearest = np.argsort(row)[: min(k, len(row) - 1)]
        T[i, nearest] = 1 / np.maximum(row[nearest], 1)
    return T / T.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (50.0, 4.6, 4.6)])
@pytest.mark.parametrize(("n", "k"), [(2, 12), (12, 12), (13, 12), (14, 12), (80, 12), (80, 1), (80, 500)])
def test_graph_against_all_distances(n, k, spacing):
    centers = places(n)
    got = neighbour_graph(centers, spacing=spacing, k=k)
    np.testing.assert_allclose(got.toarray(), graph_by_definition(centers, spacing, k), rtol=1e-12, atol=1e-15)
    assert np.diff(got.indptr).tolist() == [min(k, n - 1)] * n


def test_one_supervoxel_and_none():
    assert neighbour_graph([[1.0, 2, 3]]).toarray().tolist() == [[1]]
    assert neighbour_graph(np.zeros((0, 3))).shape == (0, 0)
    assert propagate(neighbour_graph([[1.0, 2, 3]]), [[0.2, 0.8]]).tolist() == [[0.2, 0.8]]


def test_centres_that_coincide_do_not_walk_to_themselves():
    centers = np.concatenate([np.full((30, 3), 7.0), [[7.0, 7, 9]], places(20)])
    T = neighbour_graph(centers, k=12)
    assert not T.diagonal().any()
    assert np.isfinite(T.data).all()
    np.testing.assert_allclose(T.sum(axis=1), 1)
    twins = neighbour_graph([[0.0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 3]], k=3).toarray()
    np.testing.assert_allclose(twins[0], np.array([0, 1, 1, 1 / 3]) / (7 / 3))


def test_unit_of_the_spacing_and_order_of_axes_do_not_matter():
    centers = places(60)
    nanometers = neighbour_graph(centers, spacing=(40, 8, 5)).toarray()
    np.testing.assert_allclose(
        neighbour_graph(centers, spacing=(0.040, 0.008, 0.005)).toarray(), nanometers, atol=1e-14
    )
    np.testing.assert_allclose(neighbour_graph(centers[:, ::-1], spacing=(5, 8, 40)).toarray(), nanometers, atol=1e-14)
    assert np.abs(neighbour_graph(centers).toarray() - nanometers).max() > 0.01


@pytest.mark.parametrize("tau", [0, 1, 4, 20])
def test_propagation_is_a_power_of_the_graph(tau):
    T, P = neighbour_graph(places(70)), dirichlet(70, 4)
    expected = np.linalg.matrix_power(T.toarray(), tau) @ P
    np.testing.assert_allclose(propagate(T, P, tau), expected, atol=1e-14)
    np.testing.assert_allclose(propagate(T, P.astype(np.float32), tau), expected, atol=1e-6)


def test_labelled_supervoxels_are_held_before_during_and_after_the_walk():
    T, P = neighbour_graph(places(40)), dirichlet(40, 3)
    labelled, columns = [3, 40, 11], [0, 2, 1]
    rows = np.array(labelled) - 1
    expected = P.copy()
    expected[rows] = np.eye(3)[columns]
    for _ in range(4):
        expected = T.toarray() @ expected
        expected[rows] = np.eye(3)[columns]
    np.testing.assert_allclose(propagate(T, P, 4, labelled=labelled, columns=columns), expected, atol=1e-14)
    assert propagate(T, P, 0, labelled=labelled, columns=columns)[2].tolist() == [1, 0, 0]


def test_a_held_class_flows_into_a_neighbourhood_without_opinion():
    line = np.stack([np.zeros(9), np.zeros(9), 10.0 * np.arange(9)], axis=1)
    Q = propagate(neighbour_graph(line, k=2), np.full((9, 2), 0.5), 20, labelled=[1, 9], columns=[0, 1])
    assert (np.diff(Q[:, 0]) < 0).all()
    assert Q[4, 0] == pytest.approx(0.5)


def test_the_callers_probabilities_stay_as_they_are():
    P = dirichlet(10, 2)
    before = P.copy()
    propagate(neighbour_graph(places(10)), P, 3, labelled=[1], columns=[0])
    np.testing.assert_array_equal(P, before)


@pytest.mark.parametrize("n_classes", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_combined_is_the_sum_and_labelled_score_nothing(kind, n_classes):
    T, P = neighbour_graph(places(50)), dirichlet(50, n_classes)
    Q = propagate(T, P)
    feature, geometric = uncertainty(P, kind), geometric_uncertainty(Q, kind, labelled=[1, 50])
    assert geometric[[0, 49]].tolist() == [0, 0]
    np.testing.assert_array_equal(geometric[1:49], uncertainty(Q, kind)[1:49])
    combined = combined_uncertainty(P, Q, kind, weight=0.5, labelled=[1, 50])
    np.testing.assert_allclose(combined[1:49], feature[1:49] + 0.5 * geometric[1:49], rtol=1e-6)
    assert combined[[0, 49]].tolist() == [0, 0]
    np.testing.assert_array_equal(combined_uncertainty(P, Q, kind, weight=0), feature)


def test_the_neighbourhood_finds_what_the_features_miss():
    """One supervoxel in the middle is sure of the wrong class: only geometry sees it, contradiction most of all."""
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"), -1).reshape(-1, 3) * 8
    P = np.tile([0.95, 0.05], (125, 1))
    P[62] = [0.05, 0.95]
    Q = propagate(neighbour_graph(grid, k=6), P, 1)
    assert np.ptp(uncertainty(P)) < 1e-6
    assert geometric_uncertainty(Q)[62] < geometric_uncertainty(Q)[61]
    assert contradiction(P, Q).argmax() == 62
    assert contradiction(P, Q)[62] > 10 * np.delete(contradiction(P, Q), 62).max()


def test_contradiction_against_scipy_and_at_its_ends():
    P, Q = dirichlet(200, 4, seed=1), dirichlet(200, 4, seed=2)
    expected = entropy(P, 0.99 * Q + 0.01 * P, base=2, axis=1)
    np.testing.assert_allclose(contradiction(P, Q), expected, rtol=1e-5)
    np.testing.assert_allclose(contradiction(P[:, ::-1], Q[:, ::-1]), expected, rtol=1e-5)
    np.testing.assert_allclose(contradiction(P, P), 0, atol=1e-12)
    np.testing.assert_allclose(contradiction([[1.0, 0]], [[0.0, 1]]), np.log2(100), rtol=1e-6)
    assert contradiction(P, Q, labelled=[7])[6] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: neighbour_graph(np.zeros((4, 2))), r"centers must be finite \(n, 3\), not of shape \(4, 2\)"),
        (lambda: neighbour_graph(np.full((4, 3), np.nan)), "centers must be finite"),
        (lambda: neighbour_graph(places(4), k=0), "k must be 1 or more, not 0"),
        (lambda: neighbour_graph(places(4), spacing=(1, 0, 1)), "spacing must be"),
        (lambda: propagate(neighbour_graph(places(4)), dirichlet(5, 2)), r"shape \(5, 2\) but the graph has 4"),
        (lambda: propagate(neighbour_graph(places(4)), dirichlet(4, 2), 21), "tau must be 0 to 20, not 21"),
        (
            lambda: propagate(neighbour_graph(places(4)), dirichlet(4, 2), labelled=[5], columns=[0]),
            "supervoxel 5 does",
        ),
        (
            lambda: propagate(neighbour_graph(places(4)), dirichlet(4, 2), labelled=[0], columns=[0]),
            "supervoxel 0 does",
        ),
        (lambda: propagate(neighbour_graph(places(4)), dirichlet(4, 2), labelled=[1], columns=[2]), "column below 2"),
        (lambda: propagate(neighbour_graph(places(4)), dirichlet(4, 2), labelled=[1]), "each of 1 labelled"),
        (lambda: geometric_uncertainty(dirichlet(4, 2), labelled=[9]), "supervoxel 9 does not exist; ids are 1 to 4"),
        (lambda: combined_uncertainty(dirichlet(4, 2), dirichlet(4, 3)), r"propagated has shape \(4, 3\)"),
        (lambda: combined_uncertainty(dirichlet(4, 2), dirichlet(4, 2), weight=-1), "weight must be 0 or more"),
        (lambda: contradiction(dirichlet(4, 2), dirichlet(3, 2)), r"but probabilities \(4, 2\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
