"""What holds for every graph and every prediction."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxloop.active.geometry import combined_uncertainty, contradiction, neighbour_graph, propagate

coordinates = st.integers(0, 6).map(float) | st.floats(0, 50)


@st.composite
def worlds(draw):
    """Centres, some of which coincide, and class probabilities, some of which are exactly 0 or 1."""
    n = draw(st.integers(1, 25))
    centers = draw(hnp.arrays(np.float64, (n, 3), elements=coordinates))
    shares = draw(hnp.arrays(np.float64, (n, draw(st.integers(1, 4))), elements=st.sampled_from([0, 0.1, 0.5, 1, 3])))
    shares[shares.sum(axis=1) == 0] = 1
    return centers, shares / shares.sum(axis=1, keepdims=True)


@given(worlds(), st.integers(1, 30), st.integers(0, 20))
def test_a_walk_keeps_rows_stochastic_and_never_leaves_the_range_of_the_probabilities(world, k, tau):
    centers, P = world
    T = neighbour_graph(centers, k=k)
    n = len(P)
    assert np.diff(T.indptr).tolist() == [max(1, min(k, n - 1))] * n
    assert n == 1 or not T.diagonal().any()
    np.testing.assert_allclose(T.sum(axis=1), 1, atol=1e-12)
    Q = propagate(T, P, tau)
    np.testing.assert_allclose(Q.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_less(Q, np.broadcast_to(P.max(axis=0) + 1e-12, Q.shape))
    np.testing.assert_array_less(np.broadcast_to(P.min(axis=0) - 1e-12, Q.shape), Q)


@given(worlds(), st.data())
def test_relabelled_classes_change_nothing(world, data):
    centers, P = world
    order = data.draw(st.permutations(range(P.shape[1])))
    T = neighbour_graph(centers)
    Q = propagate(T, P, 2)
    np.testing.assert_allclose(propagate(T, P[:, order], 2), Q[:, order], atol=1e-12)
    for score in (combined_uncertainty, contradiction):
        got = score(P, Q)
        assert np.isfinite(got).all()
        assert (got >= 0).all()
        np.testing.assert_allclose(score(P[:, order], Q[:, order]), got, atol=1e-5)
