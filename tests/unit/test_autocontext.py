"""The second forest: honest opinions, neighbourhoods as folds, and what it is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.classify import (
    Classifier,
    LabelledImage,
    Opinions,
    SupervoxelLabels,
    autocontext,
    fit_classifier,
    fit_forest,
)
from voxloop.classify.autocontext import SECOND_LEAF, STEPS, _ids_anywhere, surroundings
from voxloop.classify.forest import fold_of_trees
from voxloop.errors import FormatError, InputError
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency
from voxloop.supervoxels.neighbourhood import induced_graph

SIDE = 24


def grid_graph(side: int) -> Adjacency:
    ids = np.arange(1, side * side + 1).reshape(side, side)
    edges = np.concatenate(
        [np.stack([ids[:, :-1], ids[:, 1:]], -1).reshape(-1, 2), np.stack([ids[:-1], ids[1:]], -1).reshape(-1, 2)]
    )
    return Adjacency(edges[np.lexsort(edges.T[::-1])], np.ones(len(edges)), side * side)


def make_labels(ids: np.ndarray, classes: np.ndarray) -> SupervoxelLabels:
    order = np.argsort(ids)
    return SupervoxelLabels(
        ids[order].astype(np.uint32), classes[order].astype(np.int32), np.ones(len(ids)), n_outside=0
    )


def noisy_halves(rng: np.random.Generator, n_labels: int = 80) -> tuple[LabelledImage, np.ndarray]:
    """Two classes side by side, told apart by a feature with much noise: only the neighbourhood makes it clear."""
    truth = np.repeat([[1] * (SIDE // 2) + [2] * (SIDE // 2)], SIDE, axis=0).ravel()
    values = rng.normal(truth[:, None], 1.0, (SIDE * SIDE, 6)).astype(np.float32)
    values[:, 1:] = rng.normal(size=(SIDE * SIDE, 5))
    chosen = rng.choice(SIDE * SIDE, n_labels, replace=False)
    positions = np.stack([np.zeros(SIDE * SIDE), *np.divmod(np.arange(SIDE * SIDE), SIDE)], axis=1)
    return LabelledImage(make_labels(chosen + 1, truth[chosen]), values, grid_graph(SIDE), positions, 4.0, 3), truth


def test_shares_are_followed_where_labels_lie_far_apart():
    """A class fills a tenth of the image and half of the labels, drawn at random."""
    rng = np.random.default_rng(0)
    image, _ = noisy_halves(rng)
    truth = np.where(rng.random(SIDE * SIDE) < 0.1, 2, 1)
    chosen = np.concatenate([rng.choice(np.flatnonzero(truth == c), 40, replace=False) for c in (1, 2)])
    values = rng.normal(truth[:, None], 0.5, (SIDE * SIDE, 1)).astype(np.float32)
    image = replace(image, values=values, labels=make_labels(chosen + 1, truth[chosen]))
    spec = ClassifierSpec(autocontext=False)
    near, far = (fit_classifier([replace(image, diameter=d)], spec).calibration for d in (4.0, 400.0))
    assert not near.shift.any()
    assert far.shift[0] > 0.1 > -0.1 > far.shift[1]
    assert np.array_equal(near.offsets, far.offsets)


def test_the_neighbourhood_makes_up_for_noise():
    plain, context = [], []
    for seed in range(3):
        image, truth = noisy_halves(np.random.default_rng(seed))
        for found, twice in ((plain, False), (context, True)):
            classifier = fit_classifier([image], ClassifierSpec(autocontext=twice))
            assert (classifier.second is not None) == twice
            P = classifier.predict(image.values, image.graph)
            np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-5)
            found.append(np.mean(classifier.classes[P.argmax(axis=1)] == truth))
    assert np.mean(context) > np.mean(plain) + 0.1
    assert np.mean(context) > 0.85


def test_few_labels_get_one_forest():
    image, _ = noisy_halves(np.random.default_rng(0), n_labels=2 * SECOND_LEAF)
    classifier = fit_classifier([image], ClassifierSpec(smoothing=0))
    assert classifier.second is None
    assert classifier.reach == 0


def test_smoothing_is_automatic_where_labels_are_no_harder_than_the_image():
    """Of a noisy image labels at random teach little; the hardest ones are answers to questions."""
    easy, truth = noisy_halves(np.random.default_rng(0), n_labels=40)
    spec = ClassifierSpec(autocontext=False)
    fair = fit_classifier([easy], spec)
    assert fair.smoothing.rounds == fair.reach == 1
    assert fair.smoothing.strength > 0.5
    assert fit_classifier([easy], spec.changed(calibrated=False)).smoothing.rounds == 0
    assert fit_classifier([easy], spec.changed(smoothing=2)).smoothing == replace(
        fair.smoothing, rounds=2, strength=1.0
    )

    values = np.random.default_rng(0).normal(truth[:, None] * 4.0, 1.0, (SIDE * SIDE, 1)).astype(np.float32)
    hardest = np.argsort(np.abs(values[:, 0] - 6.0))[:100]
    asked = replace(easy, values=values, labels=make_labels(hardest + 1, truth[hardest]))
    assert fit_classifier([asked], spec).smoothing.rounds == 0


def test_same_bits_with_any_number_of_threads_and_with_a_known_opinion():
    image, _ = noisy_halves(np.random.default_rng(1))
    results = set()
    for executor in (SerialExecutor(), ThreadExecutor(2)):
        classifier = fit_classifier([image], ClassifierSpec(), executor=executor)
        results.add(classifier.predict(image.values, image.graph, executor=executor).tobytes())
    kept: list[Opinions] = []

    def opinions_of(index, first):
        kept.append(Opinions(first, image.values))
        return kept[-1]

    classifier = fit_classifier([image], ClassifierSpec(), opinions_of=opinions_of)
    results.add(classifier.predict(image.values, image.graph, opinions=kept[0]).tobytes())
    everything = np.arange(1, SIDE * SIDE + 1)
    # Honest opinions of the labels must not leak into what the caller keeps.
    np.testing.assert_array_equal(kept[0].of(everything), classifier.first.predict(image.values))
    assert len(results) == 1


@pytest.mark.parametrize("ids", [[1], [5, 77, 300], list(range(1, SIDE + 1))])
def test_some_supervoxels_get_the_bits_that_they_get_among_all(ids):
    image, _ = noisy_halves(np.random.default_rng(1))
    classifier = fit_classifier([image], ClassifierSpec(n_trees=20, smoothing=2))
    assert classifier.second is not None
    assert classifier.reach == STEPS + 2
    whole = classifier.predict(image.values, image.graph)
    some = classifier.predict(image.values, image.graph, ids=np.array(ids, np.uint32))
    np.testing.assert_array_equal(some, whole[np.array(ids) - 1])


@pytest.mark.parametrize("smoothing", [0, 2])
def test_the_same_bits_with_little_memory(smoothing: int, monkeypatch: pytest.MonkeyPatch):
    image, _ = noisy_halves(np.random.default_rng(2))
    classifier = fit_classifier([image], ClassifierSpec(n_trees=20, smoothing=smoothing))
    whole = classifier.predict(image.values, image.graph)
    looked_at: list[int] = []

    def counted(graph: Adjacency, ids: np.ndarray) -> Adjacency:
        looked_at.append(ids.size)
        return induced_graph(graph, ids)

    monkeypatch.setattr(autocontext, "induced_graph", counted)
    monkeypatch.setattr(autocontext, "LEAST_AT_ONCE", 5 * SIDE)
    np.testing.assert_array_equal(classifier.predict(image.values, image.graph, memory=1), whole)
    assert len(looked_at) == -(-SIDE // 5) * (1 + (smoothing > 0))
    assert max(looked_at) == (5 + 2 * (STEPS + smoothing)) * SIDE
    each = autocontext.BYTES_PER_SUPERVOXEL + 2 * autocontext.BYTES_PER_CLASS + autocontext.BYTES_TO_SMOOTH
    enough = SIDE * SIDE * each
    looked_at.clear()
    np.testing.assert_array_equal(classifier.predict(image.values, image.graph, memory=enough), whole)
    assert min(looked_at) == SIDE * SIDE


def test_opinions_are_computed_once(monkeypatch: pytest.MonkeyPatch):
    image, _ = noisy_halves(np.random.default_rng(1))
    forest = fit_forest(image.values[image.rows], image.labels.classes, ClassifierSpec(n_trees=5))
    whole, rows = forest.predict(image.values), []
    predict = type(forest).predict

    def counted(self, values, **options):
        rows.append(len(values) if options.get("rows") is None else len(options["rows"]))
        return predict(self, values, **options)

    monkeypatch.setattr(type(forest), "predict", counted)
    opinions = Opinions(forest, image.values)
    for ids in ([3, 9], [2, 3, 9], [2, 9], list(range(1, SIDE * SIDE + 1))):
        np.testing.assert_array_equal(opinions.of(np.array(ids, np.uint32)), whole[np.array(ids) - 1])
    assert rows == [2, 1, SIDE * SIDE - 3]


def test_held_out_opinions_come_from_trees_that_did_not_see_the_row():
    """Labels at random: trees that saw them recall them, trees that did not cannot."""
    rng = np.random.default_rng(0)
    values, classes = rng.normal(size=(300, 5)), rng.integers(1, 3, 300)
    folds = np.arange(300) % 5
    forest = fit_forest(values, classes, folds=folds)
    recalled = (forest.classes[forest.predict(values).argmax(axis=1)] == classes).mean()
    honest = (forest.classes[forest.predict_held_out(values, folds).argmax(axis=1)] == classes).mean()
    assert recalled > 0.95
    assert 0.35 < honest < 0.65


def test_held_out_equals_a_forest_grown_without_the_fold():
    rng = np.random.default_rng(0)
    values, classes = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(1, 3, 60)
    folds = np.where(np.arange(60) < 40, np.arange(60) % 2, -1)
    spec = ClassifierSpec(n_trees=10, balanced=False)
    forest = fit_forest(values, classes, spec, folds=folds)
    assert fold_of_trees(folds, 10) == [0] * 5 + [1] * 5
    without = fit_forest(values[folds != 0], classes[folds != 0], spec)
    first_half = without._some_trees(0, 5).predict(values[folds == 0])
    np.testing.assert_array_equal(forest.predict_held_out(values, folds)[folds == 0], first_half)
    np.testing.assert_array_equal(forest.predict_held_out(values, folds)[folds < 0], forest.predict(values[folds < 0]))
    tree = fit_forest(values, classes, ClassifierSpec(n_trees=1), folds=folds)  # which leaves out fold 0 and no other
    np.testing.assert_array_equal(tree.predict_held_out(values, folds), tree.predict(values))


def test_surroundings_against_dense_averages():
    graph = grid_graph(4)
    opinion = np.random.default_rng(0).random((16, 3)).astype(np.float32)
    A = (graph.matrix().toarray() > 0).astype(float)
    A /= A.sum(axis=1, keepdims=True)
    expected, step = [], opinion.astype(float)
    for _ in range(STEPS + 1):
        expected.append(step)
        step = A @ step
    np.testing.assert_allclose(surroundings(opinion, graph), np.concatenate(expected, axis=1), atol=1e-5)


def test_arrays_round_trip_and_forests_that_do_not_fit_are_refused():
    image, _ = noisy_halves(np.random.default_rng(2))
    classifier = fit_classifier([image], ClassifierSpec(n_trees=10))
    again = Classifier.from_arrays(classifier.to_arrays())
    np.testing.assert_array_equal(
        again.predict(image.values, image.graph), classifier.predict(image.values, image.graph)
    )
    alone = fit_classifier([image], ClassifierSpec(n_trees=10, autocontext=False))
    assert Classifier.from_arrays(alone.to_arrays()).second is None
    arrays = alone.to_arrays()
    first_twice = arrays | {k.replace("first", "second"): a for k, a in arrays.items() if k.startswith("first")}
    first_twice["second_n_features"] = np.array(7)
    with pytest.raises(FormatError, match="do not fit one another"):
        Classifier.from_arrays(first_twice)
    assert again.held_out is not None
    for name, wrong in {
        "calibration_scale": np.array(np.nan),
        "calibration_offsets": np.zeros(3),
        "held_probabilities": np.ones((3, 2)),
        "held_columns": np.full(again.held_out.columns.shape, 2),
        "held_groups": np.full(again.held_out.groups.shape, -1),
        "smoothing_rounds": np.array(101),
    }.items():
        with pytest.raises(FormatError, match="damaged"):
            Classifier.from_arrays(classifier.to_arrays() | {name: wrong})


def test_bad_input():
    with pytest.raises(InputError, match="no labels"):
        fit_classifier([], ClassifierSpec())
    values, classes = np.zeros((6, 2)), [1, 1, 1, 2, 2, 2]
    with pytest.raises(InputError, match="fold 0 holds all labels of one"):
        fit_forest(values, classes, folds=[0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(("n", "wanted"), [(1, 50), (9, 50), (50, 50), (99, 50), (1000, 50), (1000, 7), (23, 1)])
def test_ids_anywhere_are_some_of_all_and_lie_all_over(n, wanted):
    ids = _ids_anywhere(n, wanted)
    assert ids.dtype == np.uint32
    assert (np.diff(ids.astype(np.int64)) > 0).all()
    assert ids[0] == 1
    assert ids[-1] == n
    assert min(n, wanted) - 10 < ids.size <= max(wanted, 10)


def test_votes_are_the_same_bits_for_a_part_and_kept_for_the_next_who_asks():
    image, _ = noisy_halves(np.random.default_rng(1))
    classifier = fit_classifier([image], ClassifierSpec(n_trees=10))
    opinions = Opinions(classifier.first, image.values)
    everything = np.arange(1, image.graph.n + 1, dtype=np.uint32)
    votes = opinions.votes(classifier.second, image.graph, everything)
    assert opinions.votes(classifier.second, image.graph, everything.copy()) is votes
    part = everything[100:160:3]
    np.testing.assert_array_equal(opinions.votes(classifier.second, image.graph, part), votes[part - 1])
    other = fit_classifier([image], ClassifierSpec(n_trees=10, seed=1)).second
    assert not np.array_equal(opinions.votes(other, image.graph, part), votes[part - 1])
