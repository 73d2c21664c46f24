from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import cohen_kappa_score

from voxloop.active.stopping import StopSignal, changed_share, cohen_kappa
from voxloop.errors import InputError


@st.composite
def rounds(draw):
    n = draw(st.integers(1, 40))
    classes = hnp.arrays(np.int32, n, elements=st.sampled_from([1, 2, 5, 200]))
    sizes = hnp.arrays(np.int64, n, elements=st.integers(1, 10_000))
    return draw(classes), draw(classes), draw(sizes)


@given(rounds())
def test_kappa_against_scikit_learn(example):
    before, after, sizes = example
    assume(np.unique(np.concatenate([before, after])).size > 1)  # scikit-learn divides 0 by 0
    expected = cohen_kappa_score(before, after, sample_weight=sizes)
    assert cohen_kappa(before, after, sizes=sizes) == pytest.approx(expected, abs=1e-12)
    plain = cohen_kappa_score(before, after)
    assert cohen_kappa(before, after) == pytest.approx(plain, abs=1e-12)


@given(rounds())
def test_share_and_kappa_see_relabelled_classes_and_order_alike(example):
    before, after, sizes = example
    names = {1: 77, 2: 3, 5: 1, 200: 9}
    renamed = [np.vectorize(names.get)(classes) for classes in (before, after)]
    for measure in (cohen_kappa, changed_share):
        got = measure(before, after, sizes=sizes)
        assert measure(*renamed, sizes=sizes) == pytest.approx(got, abs=1e-12)
        assert measure(after, before, sizes=sizes) == pytest.approx(got, abs=1e-12)
        assert measure(before, after, sizes=7.0 * sizes) == pytest.approx(got, abs=1e-12)
    share = np.sum(sizes[before != after]) / sizes.sum()
    assert changed_share(before, after, sizes=sizes) == pytest.approx(share)


def test_nothing_changed_is_full_agreement_even_with_one_class():
    assert cohen_kappa([2, 2, 2], [2, 2, 2]) == 1
    assert cohen_kappa([4], [4]) == 1
    assert cohen_kappa([1, 1], [2, 2]) == 0
    assert changed_share([4], [4]) == 0


def test_a_rare_class_that_flickers_keeps_the_signal_from_stopping():
    """99.8 % of the volume stays the same, but the class of interest is elsewhere each time: kappa is not fooled."""
    before, after = np.ones(10_000, int), np.ones(10_000, int)
    before[:10], after[10:20] = 2, 2
    assert changed_share(before, after) == pytest.approx(0.002)
    assert cohen_kappa(before, after) < 0.01


def step(signal: StopSignal, changed: int) -> StopSignal:
    before = np.repeat([1, 2], 500)
    after = before.copy()
    after[:changed] = 2
    return signal.after(before, after)


def test_three_stable_rounds_in_a_row():
    signal = StopSignal()
    assert signal.kappa is None
    assert signal.expected_change is None
    reached = []
    for changed in (300, 0, 4, 100, 0, 4, 0, 0):  # 4 of 1000: kappa 0.992
        signal = step(signal, changed)
        reached.append(signal.reached)
    assert reached == [False] * 6 + [True, True]
    assert signal.rounds_stable == 4
    assert not step(signal, 100).reached


def test_expected_change_is_smoothed():
    signal = StopSignal()
    seen = []
    for changed in (400, 200, 0, 0):
        signal = step(signal, changed)
        seen.append(signal.expected_change)
    assert seen == pytest.approx([0.4, 0.3, 0.15, 0.075])


def test_sizes_decide_about_kappa_but_not_about_the_share_of_supervoxels():
    before, after, sizes = [1, 2, 1, 2], [1, 2, 1, 1], [100_000, 100_000, 100_000, 1]
    signal = StopSignal(patience=1).after(before, after, sizes=sizes)
    assert signal.reached
    assert signal.expected_change == 0.25
    assert not StopSignal(patience=1).after(before, after).reached


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cohen_kappa([], []), "n above 0"),
        (lambda: cohen_kappa([1, 2], [1]), r"before has shape \(2,\), after \(1,\)"),
        (lambda: changed_share([1, 2], [1, 2], sizes=[1]), r"sizes \(1,\)"),
        (lambda: cohen_kappa([1, 2], [1, 2], sizes=[1, 0]), "sizes must be positive"),
        (lambda: cohen_kappa([1, 2], [1, 2], sizes=[1, math.nan]), "sizes must be positive"),
        (lambda: StopSignal(threshold=1.1), "threshold must be above 0 and at most 1, not 1.1"),
        (lambda: StopSignal(patience=0), "patience must be 1 or more, not 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
