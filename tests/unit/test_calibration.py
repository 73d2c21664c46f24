"""Calibration on held-out labels: what it mends, what it leaves alone, and that it needs labels enough."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from voxloop.classify import Calibration, fit_calibration
from voxloop.classify.calibration import FEW, MIN_LABELS, PRIOR_LABELS, fairness, follow_shares
from voxloop.errors import FormatError, InputError


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def draw(rng: np.random.Generator, n: int, k: int, *, scale: float, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right, classes drawn from them, and the same seen through a wrong scale and shift."""
    right = softmax(rng.normal(0, 0.8, (n, k)))
    columns = (rng.random((n, 1)) > np.cumsum(right, axis=1)).sum(axis=1).clip(max=k - 1)
    return softmax((np.log(right) - shift) / scale), columns


@pytest.mark.parametrize("k", [2, 4])
def test_a_wrong_scale_and_shift_are_found(k):
    rng = np.random.default_rng(0)
    shift = np.linspace(-1, 1, k)
    seen, columns = draw(rng, 40_000, k, scale=0.5, shift=shift)
    found = fit_calibration(seen, columns)
    # The offsets are those under shares of the classes that are nearly equal, as they are here.
    assert found.scale == pytest.approx(0.5, abs=0.06)
    np.testing.assert_allclose(found.offsets, shift - shift.mean(), atol=0.15)


def test_the_same_as_scikit_learn_without_a_prior():
    """With two classes it is Platt's scaling, a logistic regression on the log-odds."""
    rng = np.random.default_rng(1)
    seen, columns = draw(rng, 20_000, 2, scale=2.0, shift=np.array([0.5, -0.5]))
    found = fit_calibration(seen, columns)
    odds = np.log(seen[:, 1] / seen[:, 0])[:, np.newaxis]
    ours = found.apply(seen.astype(np.float32))[:, 1]
    n = np.bincount(columns)
    shares = (n + FEW) / n
    theirs = LogisticRegression(C=1e6).fit(odds, columns, sample_weight=shares[columns]).predict_proba(odds)[:, 1]
    assert np.abs(ours - theirs).max() < 0.02  # of the prior and of the floor under probabilities


def test_no_thread_goes_on_after_it():
    """Each of five fits takes a millisecond; threads of a linear algebra library would spin for as long as it waits."""
    code = (
        "import numpy as np, time\n"
        "from voxloop.classify import fit_calibration\n"
        "rng = np.random.default_rng(0)\n"
        "seen, columns = rng.dirichlet([1, 1], 200), rng.integers(0, 2, 200)\n"
        "fit_calibration(seen, columns)\n"
        "time.sleep(0.5)\n"
        "start = time.process_time()\n"
        "for _ in range(5):\n"
        "    fit_calibration(seen, columns)\n"
        "    time.sleep(0.1)\n"
        "print(time.process_time() - start)\n"
    )
    free = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=free).stdout
    assert float(said) < 0.1


def test_a_few_labels_leave_the_classes_equal_and_thousands_say_that_one_is_rare():
    """One in ten is of the second class; the rest is drawn from probabilities that are right under equal shares."""

    def boundary_of(n: int) -> float:
        rng = np.random.default_rng(0)
        columns = (rng.random(n) < 0.1).astype(np.int64)
        columns[:3] = 1
        odds = rng.normal(2 * columns - 1, np.sqrt(2))  # log-odds of either class, were they equally common
        return boundary(fit_calibration(softmax(np.stack([np.zeros(n), odds], axis=1)), columns))

    few, more, many = boundary_of(200), boundary_of(3_000), boundary_of(60_000)
    assert abs(few) < 0.3
    assert few < more < many
    assert many == pytest.approx(np.log((54_000 + FEW) / (6_000 + FEW)), abs=0.1)


def test_few_labels_change_little_and_no_fewer_than_three_a_class_anything():
    P = np.tile([0.9, 0.1], (2 * MIN_LABELS, 1))
    columns = np.repeat([0, 1], MIN_LABELS)
    few = fit_calibration(P, columns)
    assert 0 < few.offsets[1] < 2
    many = fit_calibration(np.tile(P, (100, 1)), np.tile(columns, 100))
    assert many.offsets[1] > few.offsets[1]
    assert 2 * MIN_LABELS < PRIOR_LABELS
    assert fit_calibration(P[1:], columns[1:]).is_none


def test_labels_that_contradict_the_forest_do_not_turn_it_round():
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 2, 500)
    P = np.where(np.eye(2)[1 - columns] > 0, 0.9, 0.1)
    found = fit_calibration(P, columns)
    assert found.scale > 0


def test_rows_sum_to_one_and_none_changes_nothing():
    P = softmax(np.random.default_rng(0).normal(0, 4, (100, 3))).astype(np.float32)
    P[0] = [1, 0, 0]
    assert Calibration.none(3).apply(P) is P
    changed = Calibration(0.7, np.array([1.0, 0.0, -1.0]), np.zeros(3)).apply(P)
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed.sum(axis=1), 1, atol=1e-6)
    assert (changed > 0).all()


def test_a_heavy_label_counts_for_more():
    P = np.tile([0.5, 0.5], (40, 1))
    P[:20:2] = [0.8, 0.2]
    columns = np.repeat([0, 1], 20)
    weights = np.where(P[:, 0] > 0.7, 10.0, 0.1)
    assert fit_calibration(P, columns, weights=weights).offsets[0] != fit_calibration(P, columns).offsets[0]


def test_bad_input():
    for columns in ([0, 1], [0, 1, 2], [0, 1, -1]):
        with pytest.raises(InputError, match="held_out has shape"):
            fit_calibration(np.full((3, 2), 0.5), columns)
    with pytest.raises(FormatError, match="damaged"):
        Calibration.from_arrays({"scale": np.array(1.0)}, 2)


def boundary(calibration: Calibration) -> float:
    """Log-odds, before calibration, at which two classes are equally likely."""
    return float(calibration.offsets[0] - calibration.offsets[1]) / calibration.scale


N_LABELS = 40  # of each class
FAR = 1000.0  # voxels from label to label
RIGHT = np.repeat([0, 1], N_LABELS)


def a_volume(rng: np.random.Generator, *, share: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of supervoxels whose log-odds lie in two overlapping heaps, and the class of each."""
    classes = (rng.random(n) < share).astype(int)
    odds = rng.normal(np.where(classes, 2.0, -2.0), 1.0)
    return softmax(np.stack([np.zeros(n), odds], axis=1)), classes


def of_each_class(rng: np.random.Generator, P: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Probabilities of labels drawn at random, as many of each class."""
    return np.concatenate([P[rng.choice(np.flatnonzero(classes == c), N_LABELS)] for c in (0, 1)])


def test_a_class_that_fills_little_of_the_volume_becomes_less_likely():
    rng = np.random.default_rng(0)
    shifts = []
    for share in (0.02, 0.1, 0.5, 0.9):
        P, classes = a_volume(rng, share=share)
        found = follow_shares(Calibration.none(2), P, of_each_class(rng, P, classes), RIGHT, spacing=FAR)
        shifts.append(found.shift[1] - found.shift[0])
    assert shifts == sorted(shifts)
    assert shifts[0] < -1 < shifts[1] < -0.5
    assert abs(shifts[2]) < 0.15
    assert shifts[3] > 0.5


def test_labels_that_were_asked_for_because_they_are_hard_shift_nothing():
    rng = np.random.default_rng(0)
    P, classes = a_volume(rng, share=0.1)
    hardest = np.argsort(P.max(axis=1))[: len(P) // 4]
    chosen = of_each_class(rng, P[hardest], classes[hardest])
    assert not follow_shares(Calibration.none(2), P, chosen, RIGHT, spacing=FAR).shift.any()
    mixed = np.where(np.arange(2 * N_LABELS)[:, np.newaxis] % 2, chosen, of_each_class(rng, P, classes))
    fair = follow_shares(Calibration.none(2), P, of_each_class(rng, P, classes), RIGHT, spacing=FAR).shift
    assert abs(follow_shares(Calibration.none(2), P, mixed, RIGHT, spacing=FAR).shift[1]) < 0.6 * abs(fair[1])


def test_labels_are_fair_while_they_are_no_harder_than_the_volume():
    sure, unsure = np.tile([0.99, 0.01], (50, 1)), np.tile([0.5, 0.5], (50, 1))
    volume = np.concatenate([sure, unsure])
    assert fairness(sure, volume) == fairness(volume, volume) == 1
    assert fairness(unsure, volume) == 0
    harder = np.concatenate([sure[:30], unsure])
    assert 0 < fairness(harder, volume) < 1
    assert fairness(harder, volume[:, ::-1]) == fairness(harder, volume), "classes have no order"
    assert fairness(sure, np.eye(2)) == 0, "nothing is harder than what is certain"


def test_the_farther_labels_are_from_one_another_the_more_they_shift():
    rng = np.random.default_rng(0)
    P, classes = a_volume(rng, share=0.1)
    known = of_each_class(rng, P, classes)
    shifts = [
        abs(follow_shares(Calibration.none(2), P, known, RIGHT, spacing=apart).shift[1]) for apart in (30, 40, 50, 500)
    ]
    assert shifts[0] == 0 < shifts[1] < shifts[2] == shifts[3]


def test_shares_do_not_depend_on_the_order_of_classes_or_supervoxels():
    rng = np.random.default_rng(3)
    P = softmax(rng.normal([0.5, 0, -0.9], 2, (2000, 3)))
    held_out, right = P[:60], rng.integers(0, 3, 60)
    start = Calibration(0.8, np.array([0.2, -0.3, 0.1]), np.zeros(3))
    found = follow_shares(start, P, held_out, right, spacing=FAR)
    assert found.shift.any()
    assert np.array_equal(found.offsets, start.offsets)
    turned = [2, 0, 1]
    other = follow_shares(
        Calibration(0.8, start.offsets[turned], np.zeros(3)),
        rng.permutation(P)[:, turned],
        held_out[:, turned],
        np.argsort(turned)[right],
        spacing=FAR,
    )
    np.testing.assert_allclose(other.shift, found.shift[turned], atol=1e-9)


def test_what_is_unshifted_treats_the_classes_as_the_labels_do():
    shifted = Calibration(0.8, np.array([0.2, -0.2]), np.array([0.5, -0.5]))
    P = softmax(np.random.default_rng(0).normal(0, 2, (50, 2)))
    odds = np.log(shifted.apply(P)) - np.log(shifted.unshifted.apply(P))
    np.testing.assert_allclose(odds[:, 0] - odds[:, 1], 1, atol=1e-4)
    assert not Calibration(1.0, np.zeros(2), np.array([0.5, -0.5])).is_none


def test_nothing_shifts_without_supervoxels_or_below_three_labels_of_a_class():
    rng = np.random.default_rng(0)
    P, classes = a_volume(rng, share=0.1)
    start, known = Calibration.none(2), of_each_class(rng, P, classes)
    assert follow_shares(start, P[:0], known, RIGHT, spacing=FAR) is start
    few = slice(0, N_LABELS + MIN_LABELS - 1)
    assert follow_shares(start, P, known[few], RIGHT[few], spacing=FAR) is start
    sure = np.tile([1.0, 0.0], (100, 1))
    assert not follow_shares(start, sure, known, RIGHT, spacing=FAR).shift.any(), "the volume is not hard at all"
    with pytest.raises(InputError, match="probabilities has shape"):
        follow_shares(start, P[:, :1], known, RIGHT, spacing=FAR)
    with pytest.raises(InputError, match="held_out has shape"):
        follow_shares(start, P, known, RIGHT[:-1], spacing=FAR)
