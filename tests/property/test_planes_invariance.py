from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxloop.active.planes import best_planes

SIDE = 41


def cells(seed):
    """Return centres around the middle of the volume, sizes and scores; the most uncertain one in the middle."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(8, 32, (80, 3))
    centers[0] = 20
    return centers, rng.integers(50, 400, 80), np.concatenate([[1.0], 0.99 * rng.random(79)])


def plane_of(scores, centers, sizes, **arguments):
    arguments = {"shape": (SIDE,) * 3, "radius": 11.0, "eps": 0.0, "prefer_axes": 0.0} | arguments
    (plane,) = best_planes(scores, centers, sizes, **arguments)
    return plane


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_turning_by_right_angles_changes_nothing(order, flips):
    for seed in range(3):
        centers, sizes, scores = cells(seed)
        turned = ((centers - 20) * flips)[:, order] + 20
        before, after = plane_of(scores, centers, sizes), plane_of(scores, turned, sizes)
        assert after.score == pytest.approx(before.score, rel=1e-9)
        assert set(after.supervoxels.tolist()) == set(before.supervoxels.tolist())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_any_rotation_keeps_the_score_within_eps(seed, turn):
    centers, sizes, scores = cells(seed)
    turned = Rotation.random(rng=np.random.default_rng(turn)).apply(centers - 20) + 20
    arguments = {"eps": 0.02, "number_of_centers": 1}
    before, after = (plane_of(scores, c, sizes, **arguments) for c in (centers, turned))
    assert abs(after.score / before.score - 1) <= 0.02 + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(3)), st.integers(1, 4), st.floats(1, 8))
def test_permuted_axes_with_their_spacing(seed, order, fine, coarse):
    centers, sizes, scores = cells(seed)
    spacing = np.array([coarse, fine, 1.0])
    before = plane_of(scores, centers, sizes, spacing=tuple(spacing), eps=0.02, number_of_centers=1)
    after = plane_of(scores, centers[:, order], sizes, spacing=tuple(spacing[order]), eps=0.02, number_of_centers=1)
    assert abs(after.score / before.score - 1) <= 0.02 + 1e-6
    assert sorted(after.center) == pytest.approx(sorted(before.center))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(-20, 20), st.floats(0.1, 100))
def test_the_unit_of_the_spacing_does_not_matter(seed, power, factor):
    centers, sizes, scores = cells(seed)
    spacing = np.array([3.0, 1.0, 1.0])
    before = plane_of(scores, centers, sizes, spacing=tuple(spacing))
    exactly = plane_of(scores, centers, sizes, spacing=tuple(spacing * 2.0**power))
    nearly = plane_of(scores, centers, sizes, spacing=tuple(spacing * factor))
    assert (exactly.normal, exactly.score) == (before.normal, before.score)
    assert nearly.score == pytest.approx(before.score, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_relabelled_ids_give_the_same_plane(seed, shuffle):
    centers, sizes, scores = cells(seed)
    order = np.random.default_rng(shuffle).permutation(len(scores))
    before, after = plane_of(scores, centers, sizes), plane_of(scores[order], centers[order], sizes[order])
    assert (after.center, after.normal, after.axis) == (before.center, before.normal, before.axis)
    assert (order[after.supervoxels - 1] + 1).tolist() == before.supervoxels.tolist()
    assert after.score == pytest.approx(before.score, rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_the_scale_of_the_scores_does_not_matter(seed, factor):
    centers, sizes, scores = cells(seed)
    before, after = plane_of(scores, centers, sizes), plane_of(scores * factor, centers, sizes)
    assert after.score == pytest.approx(before.score * factor, rel=1e-6)
