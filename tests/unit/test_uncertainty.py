from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import entropy

from voxloop.active import top_uncertain, uncertainty
from voxloop.errors import InputError
from voxloop.specs import UncertaintyKind

KINDS: tuple[UncertaintyKind, ...] = UncertaintyKind.__args__

probabilities = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 20), st.integers(2, 5)), elements=st.floats(0.001, 1)
).map(lambda P: P / P.sum(axis=1, keepdims=True))


@given(probabilities)
def test_against_definitions(P):
    ordered = np.sort(P, axis=1)[:, ::-1]
    first, second = ordered[:, 0], ordered[:, 1]
    expected = {
        "total_entropy": entropy(P, base=2, axis=1),
        "selection_entropy": entropy(np.stack([first, 1 - first]), base=2),
        "conditional_entropy": entropy(np.stack([first, second]), base=2),
        "min_max": 1 - first,
        "min_margin": 1 - first + second,
    }
    for kind in KINDS:
        np.testing.assert_allclose(uncertainty(P, kind), expected[kind], atol=1e-6)


def test_two_classes_all_rank_alike():
    P = np.random.default_rng(0).random(50)
    ranks = [np.argsort(uncertainty(np.stack([P, 1 - P], 1), kind)).tolist() for kind in KINDS]
    assert all(r == ranks[0] for r in ranks)


def test_selection_entropy_is_not_monotone():
    """Three equal classes are less unsure than (1/2, 1/4, 1/4): by definition."""
    got = uncertainty([[1 / 3] * 3, [0.5, 0.25, 0.25]], "selection_entropy")
    np.testing.assert_allclose(got, [0.9183, 1.0], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_certain_and_one_class(kind):
    assert uncertainty([[1.0, 0, 0]], kind) == 0
    assert uncertainty([[1.0], [1.0]], kind).tolist() == [0, 0]
    assert uncertainty(np.zeros((0, 3)), kind).shape == (0,)


def test_bad_probabilities():
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        uncertainty([0.1, 0.2, 0.7])
    with pytest.raises(InputError, match="sum to 1"):
        uncertainty([[0.5, 0.6]])
    with pytest.raises(InputError, match="expected one of total_entropy"):
        uncertainty([[0.5, 0.5]], "entropy")  # type: ignore[arg-type]


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)), st.integers(1, 40), st.data())
def test_top_uncertain_is_sorted_and_never_labelled(scores, number, data):
    labelled = data.draw(st.lists(st.integers(1, len(scores)), unique=True))
    top = top_uncertain(scores, number=number, exclude=labelled)
    assert not set(top) & set(labelled)
    assert len(top) == min(number, len(scores) - len(labelled))
    left = [i + 1 for i in np.lexsort((np.arange(len(scores)), -scores)) if i + 1 not in labelled]
    assert top.tolist() == left[:number]


def test_top_uncertain_is_never_empty_because_scores_are_zero():
    assert top_uncertain(np.zeros(5), share=0.01).tolist() == [1]
    assert top_uncertain(np.zeros(20)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0}, "share"),
        ({"share": 1.5}, "share"),
        ({"number": 0}, "number"),
        ({"share": 0.1, "number": 3}, "not both"),
    ],
)
def test_top_uncertain_bad_input(arguments, message):
    with pytest.raises(InputError, match=message):
        top_uncertain([0.1, 0.2], **arguments)
