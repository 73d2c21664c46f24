"""What each query strategy is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import chisquare

from voxloop.active import typical
from voxloop.active.diverse import diverse_queue
from voxloop.active.geometry import combined_uncertainty, geometric_uncertainty, neighbour_graph, propagate
from voxloop.active.strategies import (
    STRATEGIES,
    ClassStratified,
    CombinedUncertainty,
    Diverse,
    FeatureUncertainty,
    ForegroundAwareRandom,
    GeometricUncertainty,
    Kinds,
    Mixed,
    PowerNoise,
    QueryState,
    Random,
    TreeDisagreement,
    TypiClust,
    make_strategy,
)
from voxloop.active.uncertainty import top_uncertain, uncertainty
from voxloop.classify import Prediction, SupervoxelLabels, fit_forest
from voxloop.errors import InputError
from voxloop.specs import ClassifierSpec


def labels_of(ids=(), classes=()) -> SupervoxelLabels:
    return SupervoxelLabels(np.array(ids, np.uint32), np.array(classes, np.int32), np.ones(len(ids)))


def state_of(P: Any, **fields: Any) -> QueryState:
    """Return a warm state with probabilities `P`: supervoxels in a row, supervoxel 1 and 2 labelled unless told."""
    P = np.asarray(P, np.float32)
    n = len(P)
    centers = np.stack([np.zeros(n), np.zeros(n), 8.0 * np.arange(n)], axis=1)
    defaults = {
        "features": np.random.default_rng(0).normal(size=(n, 4)),
        "centers": centers,
        "graph": neighbour_graph(centers, k=2),
        "labels": labels_of([1, 2], [1, 1]),
        "prediction": Prediction(P, np.arange(1, P.shape[1] + 1, dtype=np.int32)),
    }
    return QueryState(**(defaults | fields))


def binary(p: Any) -> np.ndarray:
    return np.stack([1 - np.asarray(p), np.asarray(p)], axis=1)


P = np.random.default_rng(3).dirichlet([1, 1, 1], 60)


def test_scores_are_those_of_the_functions():
    state = state_of(P)
    Q = propagate(state.graph, state.prediction.probabilities, 3)
    for strategy, scores in (
        (FeatureUncertainty("min_margin"), uncertainty(P.astype(np.float32), "min_margin")),
        (GeometricUncertainty("min_max", tau=3), geometric_uncertainty(Q, "min_max")),
        (CombinedUncertainty(tau=3, weight=2), combined_uncertainty(P.astype(np.float32), Q, weight=2)),
    ):
        np.testing.assert_array_equal(strategy.score(state), scores)
        expected = top_uncertain(scores, number=10, exclude=[1, 2])
        np.testing.assert_array_equal(strategy.query(state, 10), expected)


def test_clamped_labels_flow_to_their_neighbours():
    state = state_of(binary([0.5] * 9), labels=labels_of([1, 9], [1, 2]))
    held = state.propagated(4, clamp=True)
    assert held[[0, 8], 1].tolist() == [0, 1]
    assert held[1, 1] < 0.4 < 0.6 < held[7, 1]
    scores = GeometricUncertainty(clamp=True, tau=20).score(state)
    assert scores.argmax() == 4
    assert np.ptp(GeometricUncertainty(clamp=False).score(state)) == 0
    unknown = state_of(binary([0.5] * 9), labels=labels_of([1, 9], [1, 7]))
    with pytest.raises(InputError, match=r"a column for each labelled class; \[7\] is missing"):
        unknown.propagated(4, clamp=True)


def test_tree_disagreement_asks_the_trees():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 4)), np.repeat([1, 2], 25)
    forest = fit_forest(X[::3], y[::3], ClassifierSpec(n_trees=10, min_samples_leaf=3))
    state = state_of(binary([0.5] * 50), features=X, forest=forest)
    expected = top_uncertain(forest.disagreement(X), number=5, exclude=[1, 2])
    np.testing.assert_array_equal(TreeDisagreement().query(state, 5), expected)
    with pytest.raises(InputError, match="forest is missing"):
        TreeDisagreement().query(state_of(binary([0.5] * 50)))


@pytest.mark.parametrize("beta", [0.5, 1, 3])
def test_power_noise_draws_in_proportion_to_the_power_of_the_score(beta):
    state = state_of(binary([0, 0, 0.5, 0.3, 0.1, 0.02]))
    weights = FeatureUncertainty().score(state)[2:].astype(float) ** beta
    rng = np.random.default_rng(0)
    first = [PowerNoise(beta=beta).query(state, rng=rng)[0] for _ in range(3000)]
    counts = np.bincount(first, minlength=7)[3:]
    assert chisquare(counts, 3000 * weights / weights.sum()).pvalue > 1e-3
    np.testing.assert_array_equal(PowerNoise(beta=1e6).query(state, 4), FeatureUncertainty().query(state, 4))


def test_power_noise_takes_certain_supervoxels_last_and_in_any_order():
    state = state_of(binary([0, 0, 0, 0.5, 0, 0, 0.01, 0]))
    orders = {tuple(PowerNoise().query(state, 6, rng=seed).tolist()) for seed in range(20)}
    assert all(set(order[:2]) == {4, 7} for order in orders)
    assert len(orders) > 10


RARE = [*range(11, 16), *range(21, 26)]


def unsure_background() -> np.ndarray:
    """Return 300 supervoxels that are unsure between class 1 and 2, five of class 2 and five of class 3 among them."""
    shares = np.tile([0.55, 0.45, 0.0], (300, 1))
    shares[10:15], shares[20:25] = [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]
    return shares


def test_class_stratified_serves_rare_classes_that_uncertainty_would_starve():
    state = state_of(unsure_background(), progress=1.0)
    assert not set(RARE) & set(FeatureUncertainty().query(state, 12).tolist())
    chosen = set(ClassStratified().query(state, 12).tolist())
    assert len(chosen & set(range(11, 16))) == 4
    assert len(chosen & set(range(21, 26))) == 4
    # no class is background: the unsure ones of class 1 get a turn as well
    chosen = set(ClassStratified(background=9).query(state, 9).tolist())
    assert [len(chosen & set(ids)) for ids in (range(11, 16), range(21, 26))] == [2, 2]


def test_class_stratified_keeps_its_shares_when_asked_for_one_at_a_time():
    state = state_of(unsure_background(), progress=1.0)
    rng = np.random.default_rng(0)
    got = np.array([ClassStratified().query(state, rng=rng)[0] for _ in range(600)])
    counts = [np.isin(got, range(11, 16)).sum(), np.isin(got, range(21, 26)).sum()]
    assert chisquare([*counts, 600 - sum(counts)]).pvalue > 1e-3


def test_class_stratified_explores_first():
    found = []
    for progress in (0.0, 1.0):
        state = state_of(unsure_background(), progress=progress)
        answers = [ClassStratified().query(state, 6, rng=seed) for seed in range(20)]
        found.append(np.isin(answers, range(11, 16)).sum())
    assert found[1] == 40
    assert found[0] < 20


def test_class_stratified_with_no_foreground_in_sight_asks_anywhere():
    state = state_of(binary(np.linspace(0, 0.4, 50)), progress=1.0)
    assert set(ClassStratified().query(state, 5).tolist()) <= set(range(40, 51))


def test_mixed_draws_half_in_proportion_to_the_score_and_half_from_each_class_alike():
    state = state_of(binary(np.concatenate([np.linspace(0, 0.45, 90), np.full(10, 0.99)])))
    score = CombinedUncertainty().score(state)[state.open_rows].astype(float) ** 2
    is_rare = state.open_rows >= 90
    share = 0.5 * score / score.sum() + 0.25 * np.where(is_rare, 1 / is_rare.sum(), 1 / (~is_rare).sum())
    rng = np.random.default_rng(0)
    drawn = np.array([Mixed(beta=2).query(state, rng=rng)[0] for _ in range(2000)])
    groups = [*np.array_split(state.open_rows[~is_rare], 8), state.open_rows[is_rare]]
    found = [np.isin(drawn - 1, group).sum() for group in groups]
    expected = [2000 * share[np.isin(state.open_rows, group)].sum() for group in groups]
    assert chisquare(found, expected).pvalue > 1e-3
    for number in (1, 2, 7):  # the halves take turns
        rows = Mixed().query(state, number, rng=1)
        assert len(set(rows.tolist())) == number


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Features of five kinds of supervoxels, 400 to 20 of each, in mixed order, and their kind."""
    rng = np.random.default_rng(4)
    kind = rng.permutation(np.repeat(np.arange(5), [400, 200, 100, 50, 20]))
    middle = 12 * np.eye(5, 8)
    return (middle[kind] + rng.normal(size=(kind.size, 8))).astype(np.float32), kind


def state_of_blobs(blobs, **fields) -> QueryState:
    X, _ = blobs
    return state_of(binary(np.full(len(X), 0.5)), features=X, **({"prediction": None, "labels": labels_of()} | fields))


@pytest.mark.parametrize("seed", range(4))
def test_typiclust_asks_for_the_most_typical_of_each_kind(blobs, seed):
    X, kind = blobs
    rows = TypiClust().query(state_of_blobs(blobs), 5, rng=seed).astype(int) - 1
    assert kind[rows].tolist() == [0, 1, 2, 3, 4]  # the largest kind first
    points = typical.embed(X)
    for row in rows:
        alike = np.flatnonzero(kind == kind[row])
        nearest = np.sort(cdist(points[alike], points[alike]), axis=1)[:, 1:21]
        assert row == alike[nearest.mean(axis=1).argmin()]


def test_typiclust_asks_for_kinds_without_a_label(blobs):
    _, kind = blobs
    ids = [int(np.flatnonzero(kind == k)[0]) + 1 for k in (0, 2)]
    rows = TypiClust().query(state_of_blobs(blobs, labels=labels_of(ids, [1, 2])), 3).astype(int) - 1
    assert sorted(kind[rows]) == [1, 3, 4]


def test_typiclust_asks_for_outliers_last(blobs):
    X, _ = blobs
    far = np.array([[90, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 90]], np.float32)
    state = state_of_blobs((np.concatenate([far, X]), None))
    rows = TypiClust().query(state, 7, rng=1).astype(int) - 1
    assert not set(rows.tolist()) & {0, 1}  # each is a cluster of its own


def test_typiclust_on_a_sample_and_on_supervoxels_that_are_alike(blobs, monkeypatch):
    monkeypatch.setattr(typical, "MAX_POINTS", 300)
    _, kind = blobs
    rows = TypiClust().query(state_of_blobs(blobs), 5).astype(int) - 1
    assert sorted(kind[rows]) == [0, 1, 2, 3, 4]
    assert np.unique(TypiClust().query(state_of_blobs(blobs), 400)).size == 400
    alike = np.tile(np.float32([1 / 3, 7e5, 0]), (40, 1))
    assert np.unique(TypiClust().query(state_of_blobs((alike, None)), 7)).size == 7
    two_kinds = np.repeat(np.eye(2, dtype=np.float32), [30, 10], axis=0)
    assert sorted(TypiClust().query(state_of_blobs((two_kinds, None)), 2) > 30) == [False, True]


@pytest.mark.parametrize("seed", range(3))
def test_kinds_asks_for_each_kind_before_it_asks_for_more_of_one(blobs, seed):
    _, kind = blobs
    rows = Kinds().query(state_of_blobs(blobs), 5, rng=seed).astype(int) - 1
    assert sorted(kind[rows]) == [0, 1, 2, 3, 4]


def test_kinds_finds_the_rare_sooner_than_typiclust():
    """5000 supervoxels of five common kinds, each wide enough for clusters of its own, and 40 of a rare one."""
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(np.arange(6), [1000] * 5 + [40]))
    X = 4 * np.eye(6, 8)[kind] + rng.normal(size=(kind.size, 8))
    X[kind == 5, 7] += 4
    state = state_of_blobs((X, kind))
    first = {
        name: [
            np.append(np.flatnonzero(kind[make_strategy(name).query(state, 8, rng=s) - 1] == 5), 8)[0] for s in range(5)
        ]
        for name in ("kinds", "typiclust")
    }
    assert max(first["kinds"]) < 8
    assert np.median(first["kinds"]) < np.median(first["typiclust"])


def test_kinds_by_its_definition(blobs):
    """The first is of the largest cluster, and no later one lies nearer to those before than the rule allows."""
    X, _ = blobs
    points = typical.embed(X)
    cluster = typical._cluster(points, 38, np.random.default_rng(1))
    rows = typical.different_rows(X, np.arange(len(X)), np.empty(0, int), number=20, rng=np.random.default_rng(1))
    sizes = np.bincount(cluster)
    large = sizes >= 5
    assert sizes[cluster[rows[0]]] == sizes.max()
    left = {c: typical._densest_first(points, np.flatnonzero(cluster == c), np.ones(len(X), bool)) for c in range(38)}
    left[cluster[rows[0]]].popleft()
    for i, row in enumerate(rows[1:], start=1):
        worth = {
            c: cdist(points[[queue[0]]], points[rows[:i]]).min() * sizes[c] ** 0.25
            for c, queue in left.items()
            if large[c] and queue
        }
        best = max(worth, key=lambda c: worth[c])
        assert row == left[best].popleft()


def test_kinds_asked_one_by_one_are_those_of_one_question(blobs, monkeypatch):
    monkeypatch.setattr(typical, "MAX_POINTS_OF_KINDS", 300)
    together = Kinds().query(state_of_blobs(blobs), 9, rng=5).tolist()
    asked: list[int] = []
    for _ in range(9):
        labels = labels_of(sorted(asked), [1] * len(asked))
        asked += Kinds().query(state_of_blobs(blobs, labels=labels), rng=5).tolist()
    assert asked == together


def test_kinds_asks_for_outliers_last_and_takes_what_is_alike(blobs):
    X, _ = blobs
    far = np.array([[90, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 90]], np.float32)
    rows = Kinds().query(state_of_blobs((np.concatenate([far, X]), None)), 30, rng=1).astype(int) - 1
    assert not set(rows.tolist()) & {0, 1}
    alike = np.tile(np.float32([1 / 3, 7e5, 0]), (40, 1))
    assert np.unique(Kinds().query(state_of_blobs((alike, None)), 7)).size == 7


def test_a_cold_start_is_worth_most_where_the_first_questions_lie(blobs):
    state = state_of_blobs(blobs)
    worth = FeatureUncertainty().worth(state, rng=2)
    asked = Kinds().query(state, 50, rng=2).astype(int) - 1
    np.testing.assert_array_equal(np.argsort(-worth, kind="stable")[:50], asked)
    assert worth.max() == 1
    assert np.count_nonzero(worth) == 50


def test_embedding_keeps_distances_and_does_not_depend_on_units():
    X = np.random.default_rng(0).normal(size=(80, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
    points = typical.embed(X)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(
        np.linalg.norm(points[:40] - points[40:], axis=1), np.linalg.norm(z[:40] - z[40:], axis=1) / np.sqrt(12)
    )
    np.testing.assert_allclose(np.abs(typical.embed(X * 1e6 + 5)), np.abs(points), atol=1e-9)
    pairs = ((points[:, None] - points) ** 2).sum(axis=2)
    assert pairs.mean() == pytest.approx(1)
    wide = typical.embed(np.random.default_rng(2).normal(size=(50, 40)))
    assert wide.shape == (50, 15)
    with pytest.raises(InputError, match="column 1 is not"):
        typical.embed(np.array([[1, np.nan], [2, 3]]))


def test_diverse_queue_by_its_definition():
    rng = np.random.default_rng(0)
    scores, points = rng.random(40), rng.uniform(0, 10, (40, 3))
    left, expected = scores.copy(), []
    for _ in range(12):
        best = max((i for i in range(40) if i + 1 not in expected and i != 4), key=lambda i: left[i])
        expected.append(best + 1)
        left *= 1 - np.exp(-((points - points[best]) ** 2).sum(axis=1) / (2 * 3.0**2))
    assert diverse_queue(scores, points, number=12, radius=3, exclude=[5]).tolist() == expected
    assert expected != top_uncertain(scores, number=12, exclude=[5]).tolist()


def test_diverse_queue_keeps_from_asking_twice_in_one_place():
    scores, places = [1, 0.99, 0.98, 0.5, 0.4], [[0.0], [0], [0.1], [50], [99]]
    assert diverse_queue(scores, places, number=3, radius=5).tolist() == [1, 4, 5]
    assert diverse_queue(scores, places, number=9, radius=5)[-1] == 2
    assert diverse_queue(scores, places, number=3, radius=1e-3).tolist() == [1, 3, 4]
    assert diverse_queue(np.zeros(3), np.zeros((3, 2)), number=3, radius=1).tolist() == [1, 2, 3]
    assert diverse_queue([1, 1], [[0], [1]], number=1, radius=1, exclude=[1, 2]).size == 0


def test_diverse_places_are_physical():
    """Ten slices apart is far where slices are thick: the second of two neighbours along z comes sooner."""
    P = binary([0, 0, 0.5, 0.49, 0.3])
    centers = np.array([[0.0, 500, 0], [0, 500, 50], [0, 0, 0], [4, 0, 0], [0, 900, 900]])
    thin = state_of(P, centers=centers, spacing=(1, 1, 1))
    thick = state_of(P, centers=centers, spacing=(50, 5, 5))
    assert Diverse().query(thin, 3).tolist() == [3, 5, 4]
    assert Diverse().query(thick, 3).tolist() == [3, 4, 5]
    assert Diverse(radius=0.01).query(thin, 3).tolist() == [3, 4, 5]


def test_diverse_looks():
    features = np.array([[0, 0], [9, 9], [1, 1], [1.01, 1], [9, 0]], float)
    state = state_of(binary([0, 0, 0.5, 0.49, 0.3]), features=features)
    assert Diverse(apart="features").query(state, 3).tolist() == [3, 5, 4]


def test_foreground_aware_random_meets_its_shares():
    truth = np.repeat([1, 2, 3], [960, 30, 10])
    state = state_of(binary(np.full(1000, 0.5)), labels=labels_of())
    rng = np.random.default_rng(0)
    got = np.concatenate([ForegroundAwareRandom(truth).query(state, 3, rng=rng) for _ in range(400)])
    share = 2 / 3
    expected = 1200 * np.array([(1 - share) * 0.96, share / 2 + (1 - share) * 0.03, share / 2 + (1 - share) * 0.01])
    assert chisquare(np.bincount(truth[got.astype(int) - 1], minlength=4)[1:], expected).pvalue > 1e-3
    rest = ForegroundAwareRandom(truth, foreground_share=1).query(state, 50)
    assert (truth[rest[:40].astype(int) - 1] > 1).all()  # background only when there is nothing else
    with pytest.raises(InputError, match=r"truth has shape \(9,\) for 1000 supervoxels"):
        ForegroundAwareRandom(truth[:9]).query(state)


def test_random_is_uniform():
    state = state_of(binary(np.full(12, 0.5)))
    rng = np.random.default_rng(0)
    got = np.concatenate([Random().query(state, 3, rng=rng) for _ in range(500)])
    assert chisquare(np.bincount(got, minlength=13)[3:]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("ids", "classes", "cold"), [([], [], True), ([1, 2], [1, 2], True), ([1, 2, 3], [1, 2, 2], False)]
)
def test_it_is_cold_until_a_class_has_two_labels(ids, classes, cold):
    state = state_of(binary(np.linspace(0.1, 0.5, 30)), labels=labels_of(ids, classes))
    assert state.is_cold == cold
    assert FeatureUncertainty().query(state, 1).tolist() == ([30] if not cold else Kinds().query(state, 1).tolist())
    assert state_of(binary([0.5] * 4), prediction=None).is_cold


def test_strategies_by_name():
    assert make_strategy("combined", tau=2, weight=0.5) == CombinedUncertainty(tau=2, weight=0.5)
    for name, kind in STRATEGIES.items():
        assert make_strategy(name) == kind()
    with pytest.raises(InputError, match="strategy is 'best'; expected one of random, typiclust, kinds"):
        make_strategy("best")
    with pytest.raises(InputError, match="'power' has no option 'gamma'; it has base, beta"):
        make_strategy("power", gamma=2)
    with pytest.raises(InputError, match="'random' has no option 'tau'; it has none"):
        make_strategy("random", tau=2)


HALF = binary([0.5] * 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GeometricUncertainty(tau=21), "tau must be 0 to 20, not 21"),
        (lambda: CombinedUncertainty(tau=-1), "tau must be 0 to 20, not -1"),
        (lambda: CombinedUncertainty(weight=-1), "weight must be 0 or more, not -1"),
        (lambda: PowerNoise(beta=0), "beta must be positive, not 0"),
        (lambda: Diverse(radius=0), "radius must be positive, not 0"),
        (lambda: Diverse(apart="time"), "apart must be 'place' or 'features', not 'time'"),  # type: ignore[arg-type]
        (lambda: ForegroundAwareRandom(np.ones(3), foreground_share=2), "foreground_share must be 0 to 1, not 2"),
        (lambda: state_of(HALF, features=np.zeros(4)), r"features has shape \(4,\); expected \(n, f\)"),
        (lambda: state_of(HALF, centers=np.zeros((5, 3))), r"centers has shape \(5, 3\), .* for 4 supervoxels"),
        (lambda: state_of(HALF, prediction=Prediction(HALF[:3], np.array([1, 2]))), "prediction has 3 rows for 4"),
        (lambda: state_of(HALF, progress=1.5), "progress must be 0 to 1, not 1.5"),
        (lambda: state_of(HALF, labels=labels_of([5], [1])), "supervoxel 5 does not exist"),
        (lambda: state_of(HALF, candidates=np.array([0, 1])), "supervoxel 0 does not exist"),
        (lambda: FeatureUncertainty().score(state_of(HALF, prediction=None)), "there is no classifier to ask"),
        (lambda: diverse_queue([1, 2], [[0], [1], [2]], number=1, radius=1), r"points has shape \(3, 1\)"),
        (lambda: diverse_queue([1, -2], [[0], [1]], number=1, radius=1), "not negative"),
        (lambda: diverse_queue([1, 2], [[0], [1]], number=0, radius=1), "number must be 1 or more"),
        (lambda: diverse_queue([1, 2], [[0], [1]], number=1, radius=0), "radius must be positive"),
        (lambda: diverse_queue([1, 2], [[0], [1]], number=1, radius=1, exclude=[3]), "supervoxel 3 does not"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
