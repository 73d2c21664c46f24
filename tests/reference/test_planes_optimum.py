"""Branch and bound against an exact sweep: an optimal plane can be turned until it is tangent to some ball."""

from __future__ import annotations

import numpy as np
import pytest

from voxloop.active.planes import best_planes


def heaviest_plane(offsets, radii, weights):
    """Return the highest weight of balls that a plane through the origin cuts; O(s^2 log s).

    The normals of the planes tangent to ball k form a circle. Another ball is missed on open arcs of it, where the
    plane passes above or below: a sweep over their ends finds the point where the least is missed.
    """
    distances = np.linalg.norm(offsets, axis=1)
    best = weights[distances <= radii].sum()
    for k in np.flatnonzero(distances > radii):
        toward = offsets[k] / distances[k]
        sine = radii[k] / distances[k]
        first = np.cross(toward, np.eye(3)[np.argmin(np.abs(toward))])
        first /= np.linalg.norm(first)
        second = np.cross(toward, first)
        others = np.flatnonzero((np.arange(len(offsets)) != k) & (distances > radii))
        best = max(
            best, weights.sum() - _least_missed(k, others, (toward, first, second), sine, offsets, radii, weights)
        )
    return best


def _least_missed(k, others, frame, sine, offsets, radii, weights):
    height, x, y = (offsets[others] @ axis for axis in frame)
    height, swing, phase = sine * height, np.sqrt(1 - sine * sine) * np.hypot(x, y), np.arctan2(y, x)
    with np.errstate(divide="ignore"):
        above = np.arccos(np.clip((radii[others] - height) / swing, -1, 1))
        below = np.arccos(np.clip((radii[others] + height) / swing, -1, 1))
    middle, half = np.concatenate([phase, phase + np.pi]), np.concatenate([above, below])
    weight = np.concatenate([weights[others]] * 2)
    always = weight[half == np.pi].sum()
    arcs = (half > 0) & (half < np.pi)
    start, weight = (middle - half)[arcs] % (2 * np.pi), weight[arcs]
    end = start + 2 * half[arcs]
    at_zero = weight[end > 2 * np.pi].sum()
    angle = np.concatenate([end % (2 * np.pi), start])  # the arcs are open: ends first
    change = np.concatenate([-weight, weight])
    missed = at_zero + np.cumsum(change[np.argsort(angle, kind="stable")])
    return always + min(at_zero, missed.min(initial=np.inf))


def instance(seed):
    """Return centres, sizes and scores of supervoxels around (50, 50, 50), which has the highest score."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    centers = rng.uniform(40, 60, (n, 3))
    centers[0] = 50
    sizes = rng.integers(1, 600, n)
    scores = rng.random(n) ** rng.integers(1, 5)
    scores[0] = 1.0
    return centers, sizes, scores


def optimum(centers, sizes, scores, radius):
    offsets = centers - 50
    near = np.linalg.norm(offsets, axis=1) <= radius
    return heaviest_plane(offsets[near], np.cbrt(3 * sizes[near] / (4 * np.pi)), scores[near])


def check(seeds, eps):
    for seed in seeds:
        centers, sizes, scores = instance(seed)
        (plane,) = best_planes(
            scores, centers, sizes, shape=(100,) * 3, radius=11, number_of_centers=1, eps=eps, prefer_axes=0
        )
        exact = optimum(centers, sizes, scores, 11)
        assert plane.score >= (1 - eps) * exact, seed
        assert plane.score <= exact * (1 + 1e-6), seed
        assert plane.upper_bound >= exact * (1 - 1e-6), seed
        assert plane.gap <= eps + 1e-6, seed


def test_the_sweep_finds_what_dense_sampling_finds():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(200_000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for seed in range(5):
        centers, sizes, scores = (a[:12] for a in instance(100 + seed))
        radii = np.cbrt(3 * sizes / (4 * np.pi))
        sampled = (scores @ (np.abs((centers - 50) @ normals.T) <= radii[:, None])).max()
        exact = heaviest_plane(centers - 50, radii, scores)
        # The best normals can fill less than the 0.3 degrees between two samples.
        assert 0.985 * exact <= sampled <= exact * (1 + 1e-9)


@pytest.mark.parametrize("eps", [0.001, 0.01, 0.1])
def test_never_below_the_optimum_by_more_than_eps(eps):
    check(range(40), eps)


@pytest.mark.slow
def test_never_below_the_optimum_by_more_than_eps_on_a_thousand():
    check(range(1000), 0.01)


def test_sampling_comes_close():
    ratios = []
    for seed in range(60):
        centers, sizes, scores = instance(seed)
        (plane,) = best_planes(
            scores,
            centers,
            sizes,
            shape=(100,) * 3,
            radius=11,
            number_of_centers=1,
            prefer_axes=0,
            method="sampling",
        )
        ratios.append(plane.score / optimum(centers, sizes, scores, 11))
        assert plane.upper_bound * (1 + 1e-9) >= plane.score
    assert np.mean(ratios) > 0.997
    assert min(ratios) > 0.95
    assert max(ratios) < 1 + 1e-9


def test_every_centre_is_tried():
    """The best of all centres, not the plane of the most uncertain one."""
    centers, sizes, _ = (a[:20] for a in instance(3))
    scores = np.ones(len(sizes))
    offsets = [centers - c for c in centers]
    radii = np.cbrt(3 * sizes / (4 * np.pi))
    near = [np.linalg.norm(o, axis=1) <= 9 for o in offsets]
    exact = max(heaviest_plane(o[b], radii[b], scores[b]) for o, b in zip(offsets, near, strict=True))
    (plane,) = best_planes(
        scores, centers, sizes, shape=(100,) * 3, radius=9, number_of_centers=len(scores), eps=0, prefer_axes=0
    )
    assert exact * 0.9999 <= plane.score
    assert plane.upper_bound >= exact
