from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from voxloop.classify.priors import correct_priors, estimate_priors
from voxloop.errors import InputError

MEANS = np.array([0.0, 2.0, 4.5])


def posterior(x: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the exact class probabilities of three Gaussians that are mixed in `shares`."""
    joint = norm.pdf(x[:, None], MEANS) * shares
    return joint / joint.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shares", [(0.9, 0.07, 0.03), (0.2, 0.6, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.0, 0.3, 0.7)])
def test_a_simulated_shift_is_found_and_undone(shares):
    rng = np.random.default_rng(1)
    classes = rng.choice(3, 40_000, p=shares)
    x = rng.normal(MEANS[classes])
    trained = np.array([0.4, 0.4, 0.2])
    P = posterior(x, trained)
    priors = estimate_priors(P, trained)
    # four standard errors of a share estimated from 40,000 that overlap
    np.testing.assert_allclose(priors, np.bincount(classes, minlength=3) / classes.size, atol=0.015)
    np.testing.assert_allclose(correct_priors(P, trained, shares), posterior(x, np.array(shares)), atol=1e-5)
    corrected = correct_priors(P, trained, priors)
    better, worse = (np.mean(Q.argmax(axis=1) == classes) for Q in (corrected, P))
    assert better >= worse - 0.005
    assert shares[0] != 0.9 or better > worse + 0.02


def test_it_is_where_another_step_changes_nothing_and_more_likely_than_elsewhere():
    rng = np.random.default_rng(2)
    trained = np.array([0.5, 0.3, 0.2])
    P = posterior(rng.normal(1.5, 2, 3000), trained)
    priors = estimate_priors(P, trained)
    np.testing.assert_allclose(correct_priors(P, trained, priors).mean(axis=0), priors, atol=1e-5)

    def likelihood(shares):
        return np.log(P @ (shares / trained)).sum()

    for elsewhere in rng.dirichlet([1, 1, 1], 50):
        assert likelihood(priors) >= likelihood(elsewhere)


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.sampled_from([0, 0.01, 0.5, 1])
    ),
    st.data(),
)
def test_any_prediction_gives_shares_and_rows_that_sum_to_one(P, data):
    P[P.sum(axis=1) == 0] = 1
    P /= P.sum(axis=1, keepdims=True)
    trained = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=P.shape[1], max_size=P.shape[1])))
    priors = estimate_priors(P, trained)
    assert priors.sum() == pytest.approx(1)
    assert (priors >= 0).all()
    Q = correct_priors(P, trained, priors)
    np.testing.assert_allclose(Q.sum(axis=1), 1, atol=1e-5)
    order = data.draw(st.permutations(range(P.shape[1])))
    np.testing.assert_allclose(estimate_priors(P[:, order], 5 * trained[order]), priors[order], atol=1e-4)


def test_sure_rows_are_counted():
    P = np.repeat(np.eye(2), [95, 5], axis=0)
    np.testing.assert_allclose(estimate_priors(P, [0.5, 0.5]), [0.95, 0.05])
    np.testing.assert_array_equal(correct_priors(P, [0.5, 0.5], [0.95, 0.05]), P)


def test_degenerate():
    assert estimate_priors(np.zeros((0, 2)), [1, 3]).tolist() == [0.25, 0.75]
    assert estimate_priors(np.ones((4, 1)), [7]).tolist() == [1]
    assert correct_priors(np.zeros((0, 2)), [1, 1], [1, 0]).shape == (0, 2)
    no_information = np.tile([0.3, 0.7], (20, 1))
    np.testing.assert_allclose(estimate_priors(no_information, [0.3, 0.7]), [0.3, 0.7])
    # a class without labels stays out, and a row whose classes are all ruled out stays as it is
    P = np.array([[0.4, 0.6, 0], [1, 0, 0]])
    assert estimate_priors(P, [1, 1, 0])[2] == 0
    np.testing.assert_allclose(correct_priors(P, [1, 1, 0], [0, 1, 9]), [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimate_priors([0.5, 0.5], [1, 1]), r"probabilities has shape \(2,\)"),
        (lambda: estimate_priors([[0.5, 0.6]], [1, 1]), "must sum to 1"),
        (lambda: estimate_priors([[0.5, 0.5]], [1, 1, 1]), "trained must be 2 numbers"),
        (lambda: estimate_priors([[0.5, 0.5]], [0, 0]), "not all 0"),
        (lambda: estimate_priors([[0.5, 0.5]], [1, -1]), "none negative"),
        (lambda: estimate_priors([[0.5, 0.5]], [1, 0]), "trained is 0 for column 1, which has probability"),
        (lambda: correct_priors([[0.5, 0.5]], [1, 1], [1, np.nan]), "priors must be 2 numbers"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
