"""The battery that every query strategy has to pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloop.active.geometry import neighbour_graph
from voxloop.active.strategies import (
    STRATEGIES,
    CombinedUncertainty,
    Diverse,
    FeatureUncertainty,
    ForegroundAwareRandom,
    GeometricUncertainty,
    PowerNoise,
    QueryState,
    ScoreStrategy,
    Strategy,
    TreeDisagreement,
    make_strategy,
)
from voxloop.blocks import SerialExecutor
from voxloop.classify import Prediction, SupervoxelLabels, fit_forest
from voxloop.errors import InputError
from voxloop.specs import ClassifierSpec

SPEC = ClassifierSpec(n_trees=8, min_samples_leaf=2)

# Each from the true classes of the supervoxels, which only one of them looks at.
FACTORIES: dict[str, Callable[[np.ndarray], Strategy]] = {
    **{name: (lambda _truth, name=name: make_strategy(name)) for name in STRATEGIES},
    "feature by margin": lambda _: FeatureUncertainty("min_margin"),
    "geometric, clamped": lambda _: GeometricUncertainty("selection_entropy", tau=2, clamp=True),
    "combined, clamped": lambda _: CombinedUncertainty("min_max", tau=20, weight=0.3, clamp=True),
    "power of geometric": lambda _: PowerNoise(GeometricUncertainty(), beta=4),
    "diverse in features": lambda _: Diverse(TreeDisagreement(), apart="features"),
    "foreground-aware random": ForegroundAwareRandom,
}
every_strategy = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES.keys())


def make_state(
    truth: np.ndarray, labelled: np.ndarray, *, seed: int = 0, candidates: np.ndarray | None = None
) -> QueryState:
    """Return a state in which the classifier was trained on the true classes of the `labelled` ids."""
    rng = np.random.default_rng(seed)
    features = (truth[:, None] + rng.normal(0, 1, (truth.size, 6))).astype(np.float32)
    features[:, 5] = 3  # a column that says nothing
    centers = rng.uniform(0, 40, (truth.size, 3))
    ids = np.sort(labelled).astype(np.uint32)
    classes = truth[ids.astype(int) - 1].astype(np.int32)
    labels = SupervoxelLabels(ids, classes, np.ones(ids.size))
    forest = prediction = None
    if np.unique(classes).size > 1:
        forest = fit_forest(features[ids.astype(int) - 1], classes, SPEC, executor=SerialExecutor())
        P = np.zeros((truth.size, truth.max()), np.float32)  # a class without labels has a column as well
        P[:, forest.classes - 1] = forest.predict(features, executor=SerialExecutor())
        prediction = Prediction(P, np.arange(1, truth.max() + 1, dtype=np.int32))
    graph = neighbour_graph(centers)
    return QueryState(features, centers, graph, labels, prediction, forest, candidates=candidates)


@st.composite
def situations(draw):
    """A state with 1 to 60 supervoxels, any of them labelled, any of them candidates, and a number to ask for."""
    n = draw(st.integers(1, 60))
    truth = draw(st.lists(st.integers(1, draw(st.integers(1, 4))), min_size=n, max_size=n).map(np.array))
    ids = st.lists(st.integers(1, n), unique=True).map(lambda ids: np.array(ids, np.int64))
    candidates = draw(st.none() | ids)
    state = make_state(truth, draw(ids), seed=draw(st.integers(0, 99)), candidates=candidates)
    return truth, state, draw(st.integers(1, n + 3))


TRUTH = np.random.default_rng(5).integers(1, 4, 90)


@pytest.fixture(scope="module", autouse=True)
def compiled_kernels() -> None:
    """Compile what grows the forests before Hypothesis complains that examples take long to draw."""
    make_state(TRUTH, np.arange(1, 20))


@every_strategy
@settings(max_examples=25, deadline=None)
@given(situation=situations(), seed=st.integers(0, 2**31))
def test_answers_are_open_candidates_each_once_as_many_as_there_are(factory, situation, seed):
    truth, state, number = situation
    strategy = factory(truth)
    got = strategy.query(state, number, rng=seed)
    candidates = set(range(1, truth.size + 1)) if state.candidates is None else set(state.candidates.tolist())
    allowed = candidates - set(state.labels.ids.tolist())
    assert got.dtype == np.uint32
    assert set(got.tolist()) <= allowed
    assert len(set(got.tolist())) == len(got) == min(number, len(allowed))
    np.testing.assert_array_equal(strategy.query(state, number, rng=seed), got)
    np.testing.assert_array_equal(strategy.query(state, number, rng=np.random.default_rng(seed)), got)


@every_strategy
@pytest.mark.parametrize("n_classes", [0, 1])
def test_without_a_classifier_everything_that_would_ask_it_is_the_same_cold_start(factory, n_classes):
    labelled = np.flatnonzero(TRUTH == 2)[:6] + 1 if n_classes else np.empty(0, int)
    state = make_state(TRUTH, labelled)
    assert state.is_cold
    strategy = factory(TRUTH)
    got = strategy.query(state, 12, rng=3)
    assert np.unique(got).size == 12
    if strategy.asks_classifier:
        np.testing.assert_array_equal(got, make_strategy("kinds").query(state, 12, rng=3))


@every_strategy
def test_nothing_is_left_to_ask(factory):
    everything = np.arange(1, 91)
    assert factory(TRUTH).query(make_state(TRUTH, everything), 3).size == 0
    assert factory(TRUTH).query(make_state(TRUTH, everything[:9], candidates=everything[:9]), 3).size == 0
    assert factory(TRUTH).query(make_state(TRUTH, everything[1:]), 3).tolist() == [1]


@every_strategy
@pytest.mark.parametrize("number", [0, -1])
def test_asking_for_nothing_is_an_error(factory, number):
    with pytest.raises(InputError, match=f"number must be 1 or more, not {number}"):
        factory(TRUTH).query(make_state(TRUTH, np.arange(1, 20)), number)


@every_strategy
def test_the_state_stays_as_it_is(factory):
    state = make_state(TRUTH, np.arange(1, 20))
    arrays = [state.features, state.centers, state.graph.data, state.prediction.probabilities, state.labels.ids]
    before = [array.copy() for array in arrays]
    factory(TRUTH).query(state, 20)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


DETERMINISTIC = [
    name
    for name, factory in FACTORIES.items()
    if isinstance(strategy := factory(TRUTH), ScoreStrategy | Diverse) and name not in ("bald", "diverse in features")
]


def relabelled(state: QueryState, order: np.ndarray) -> QueryState:
    """Return the same image where supervoxel ``order[i] + 1`` is called ``i + 1``."""
    new_id = np.argsort(order) + 1
    ids = new_id[state.labels.ids.astype(int) - 1]
    by_id = np.argsort(ids)
    labels = SupervoxelLabels(ids[by_id].astype(np.uint32), state.labels.classes[by_id], state.labels.purity[by_id])
    prediction = Prediction(state.prediction.probabilities[order], state.prediction.classes)
    centers = state.centers[order]
    features = state.features[order]
    return QueryState(features, centers, neighbour_graph(centers), labels, prediction, state.forest)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_relabelled_supervoxels_are_chosen_under_their_new_ids(name):
    state = make_state(TRUTH, np.arange(1, 20))
    # a forest of eight trees gives many supervoxels the same score: probabilities of their own instead
    P = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], TRUTH.size).astype(np.float32)
    state = QueryState(
        state.features, state.centers, state.graph, state.labels, Prediction(P, state.prediction.classes), state.forest
    )
    order = np.random.default_rng(1).permutation(TRUTH.size)
    strategy = FACTORIES[name](TRUTH)
    got = strategy.query(relabelled(state, order), 25)
    np.testing.assert_array_equal(order[got.astype(int) - 1] + 1, strategy.query(state, 25))


def test_disagreement_follows_relabelled_supervoxels():
    state = make_state(TRUTH, np.arange(1, 40))
    order = np.random.default_rng(1).permutation(TRUTH.size)
    score = TreeDisagreement().score
    np.testing.assert_array_equal(score(relabelled(state, order)), score(state)[order])


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_no_seed_moves_a_deterministic_strategy(name):
    state, strategy = make_state(TRUTH, np.arange(1, 20)), FACTORIES[name](TRUTH)
    np.testing.assert_array_equal(strategy.query(state, 9, rng=1), strategy.query(state, 9, rng=2))


@pytest.mark.parametrize("name", ["random", "power", "clasp", "foreground-aware random"])
def test_a_seed_moves_the_others(name):
    state, strategy = make_state(TRUTH, np.arange(1, 20)), FACTORIES[name](TRUTH)
    assert strategy.query(state, 9, rng=1).tolist() != strategy.query(state, 9, rng=2).tolist()
