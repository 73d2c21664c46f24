"""What labels say about a classifier: intervals that cover, groups that count, features that matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from voxloop.classify import Assessment, HeldOut, LabelledImage, SupervoxelLabels
from voxloop.classify.assessment import balanced_log_loss, effective_number, wilson_interval
from voxloop.classify.importance import cells_of, importances, suggest_cells
from voxloop.errors import Cancelled, InputError
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency

SPEC = ClassifierSpec(n_trees=50)


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (37, 40), (500, 1000), (1, 2)])
def test_the_interval_is_that_of_scipy(right, n):
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson_interval(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=60))
def test_the_effective_number_lies_between_that_of_groups_and_that_of_labels(found):
    right = np.array([float(r) for r, _ in found])
    groups = np.array([g for _, g in found])
    number = effective_number(right, groups)
    sizes = np.unique(groups, return_counts=True)[1]
    assert 1 <= sizes.sum() ** 2 / (sizes**2).sum() <= number + 1e-9
    assert number <= right.size + 1e-9


def test_labels_of_a_stroke_that_fall_together_count_once():
    rng = np.random.default_rng(0)
    of_group = rng.random(50) < 0.8
    together = np.repeat(of_group, 10).astype(float)
    apart = (rng.random(500) < 0.8).astype(float)
    groups = np.repeat(np.arange(50), 10)
    assert effective_number(together, groups) == pytest.approx(50, rel=0.05)
    assert effective_number(apart, groups) > 250


def test_the_interval_covers_the_truth_when_labels_come_in_strokes():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        right = (rng.random(400) < np.repeat(rng.beta(4, 1, 40), 10)).astype(float)
        low, high = wilson_interval(right.mean(), effective_number(right, np.repeat(np.arange(40), 10)))
        covered += low <= 0.8 <= high
    assert covered >= 0.92 * 400


def test_an_assessment_by_hand():
    P = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], np.float32)
    found = Assessment.of(HeldOut(P, np.array([0, 0, 1, 1], np.int32), np.array([3, 3, 5, 9])), np.array([2, 7]))
    assert found.classes == (2, 7)
    assert (found.n_labels, found.n_groups) == (4, 3)
    assert found.confusion == ((2, 0), (1, 1))
    assert found.accuracy == 0.75
    assert found.balanced_accuracy == 0.75
    assert found.low < 0.75 < found.high
    assert found.log_loss == pytest.approx(-(np.log2(0.9 * 0.6) / 2 + np.log2(0.8 * 0.3) / 2) / 2)


def test_a_class_without_held_out_labels_does_not_count():
    P = np.array([[0.9, 0.05, 0.05], [0.1, 0.1, 0.8]], np.float32)
    found = Assessment.of(HeldOut(P, np.array([0, 0], np.int32), np.array([0, 1])), np.array([1, 2, 3]))
    assert found.balanced_accuracy == 0.5
    assert found.confusion == ((1, 0, 1), (0, 0, 0), (0, 0, 0))
    assert balanced_log_loss(np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(np.log2(1000))


NAMES = (
    "gaussian sigma=0.7 mean", "hessian_1 sigma=0.7 mean", "hessian_2 sigma=0.7 mean", "gaussian sigma=1.6 2d mean",
    "gaussian sigma=0.7 std", "red gaussian sigma=0.7 mean", "elongation", "gaussian sigma=0.7 mean 1 step away",
    "hessian_1 sigma=0.7 std 2 steps away", "elongation 1 step away", "hessian_2 sigma=0.7 mean within 16 steps",
    "elongation within 4 steps", "hessian_2 sigma=0.7 mean spread within 16 steps", "elongation spread within 1 step",
)  # fmt: skip


def test_cells_hold_statistics_channels_and_context():
    found = {key: columns.tolist() for key, columns in cells_of(NAMES).items()}
    assert found == {
        "gaussian sigma=0.7": [0, 4, 5, 7],
        "hessian sigma=0.7": [1, 2, 8, 10, 12],
        "gaussian sigma=1.6 2d": [3],
        "elongation": [6, 9, 11, 13],
    }


def image_of(values: np.ndarray, classes: np.ndarray) -> LabelledImage:
    """Labels far from each other."""
    n = len(values)
    positions = np.column_stack([np.zeros(n), np.zeros(n), np.arange(n) * 20.0])
    labels = SupervoxelLabels(np.arange(1, n + 1, dtype=np.uint32), classes.astype(np.int32), np.ones(n))
    graph = Adjacency(np.empty((0, 2), np.int64), np.empty(0), n)
    return LabelledImage(labels, values.astype(np.float32), graph, positions, 4.0, 3)


@pytest.fixture
def labelled() -> LabelledImage:
    """Three features: the class with little noise, the class with much, and nothing at all."""
    rng = np.random.default_rng(0)
    classes = rng.integers(1, 3, 120)
    noise = np.array([0.3, 1.0, 1.0])
    signal = np.array([1.0, 1.0, 0.0])
    return image_of(classes[:, np.newaxis] * signal + rng.normal(0, 1, (120, 3)) * noise, classes)


CELLS = {"clear": np.array([0]), "noisy": np.array([1]), "nothing": np.array([2])}


def test_importances_say_which_feature_is_used(labelled):
    found = importances([labelled], SPEC, CELLS)
    assert max(found, key=lambda cell: found[cell]) == "clear"
    assert found["clear"] > 0.2
    assert found["nothing"] < 0.02
    assert found == importances([labelled], SPEC, CELLS)


def test_what_adds_most_is_suggested_first_and_nothing_else(labelled):
    chosen = suggest_cells([labelled], SPEC, CELLS)
    assert chosen[0].cell == "clear"
    assert "nothing" not in [gain.cell for gain in chosen]
    assert all(gain.gain >= 0.01 for gain in chosen)
    assert chosen[0].log_loss + chosen[0].gain == pytest.approx(1)  # a bit: one of two classes


def test_a_copy_of_a_chosen_feature_adds_nothing(labelled):
    twice = LabelledImage(
        labelled.labels, np.concatenate([labelled.values, labelled.values[:, :1]], axis=1), labelled.graph,
        labelled.positions, labelled.diameter, labelled.ndim,
    )  # fmt: skip
    chosen = [gain.cell for gain in suggest_cells([twice], SPEC, CELLS | {"copy": np.array([3])})]
    assert len({"clear", "copy"} & set(chosen)) == 1


def test_a_suggestion_can_be_cancelled(labelled):
    calls = []

    def stop(stage, done, total):
        calls.append((stage, done, total))
        if len(calls) == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        suggest_cells([labelled], SPEC, CELLS, progress=stop)
    assert calls == [("feature 1", 1, 3), ("feature 1", 2, 3)]


def test_labels_in_one_place_cannot_judge():
    image = image_of(np.zeros((2, 3)), np.array([1, 2]))
    with pytest.raises(InputError, match="labelled in two places"):
        importances([image], SPEC, CELLS)
