from __future__ import annotations

import numpy as np
import pytest

from tests.kernel_source import python_source
from voxloop.active.planes import best_planes, cut_supervoxels
from voxloop.errors import InputError
from voxloop.kernels.planes import branch_and_bound

SHAPE = (40, 40, 40)
RADIUS_3 = 113  # voxels of a ball of radius 3.0


def tilted_sheet():
    """Return unsure supervoxels on the plane z + y = 40 among sure ones."""
    grid = np.stack(np.meshgrid(*[np.arange(2, 40, 6.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    on_sheet = np.abs(grid[:, 0] + grid[:, 1] - 40) < 1
    return grid, np.full(len(grid), 27), np.where(on_sheet, 1.0, 0.01)


def test_finds_the_plane_in_which_the_unsure_ones_lie():
    centers, sizes, scores = tilted_sheet()
    (plane,) = best_planes(scores, centers, sizes, shape=SHAPE, radius=15)
    assert plane.axis is None
    np.testing.assert_allclose(plane.normal, [0.5**0.5, 0.5**0.5, 0], atol=0.15)
    assert np.linalg.norm(plane.normal) == pytest.approx(1)
    seen = (np.linalg.norm(centers - plane.center, axis=1) <= 15) & (scores == 1)
    assert set(plane.supervoxels[: seen.sum()].tolist()) == set((np.flatnonzero(seen) + 1).tolist())
    assert plane.center == tuple(centers[plane.center_supervoxel - 1])
    assert plane.reason.startswith("an oblique plane cuts")
    directions = plane.directions
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(directions @ plane.normal, 0, atol=1e-12)


def test_score_is_the_sum_over_what_is_cut():
    rng = np.random.default_rng(0)
    centers, sizes, scores = rng.uniform(0, 39, (300, 3)), rng.integers(50, 400, 300), rng.random(300)
    labelled = [4, 17, 200]
    for plane in (
        best_planes(scores, centers, sizes, shape=SHAPE, exclude=labelled)[0],
        best_planes(scores, centers, sizes, shape=SHAPE, exclude=labelled, prefer_axes=0)[0],
    ):
        offsets = centers - plane.center
        cut = np.abs(offsets @ plane.normal) <= np.cbrt(3 * sizes / (4 * np.pi))
        cut &= np.linalg.norm(offsets, axis=1) <= plane.radius
        ids = np.flatnonzero(cut) + 1
        assert cut_supervoxels(plane, centers, sizes).tolist() == ids.tolist()
        assert set(plane.supervoxels.tolist()) == set(ids.tolist()) - set(labelled)
        assert plane.score == pytest.approx(scores[plane.supervoxels - 1].sum())
        assert (np.diff(scores[plane.supervoxels - 1]) <= 0).all()
        assert plane.center_supervoxel not in labelled


def test_a_slice_is_preferred_when_it_is_nearly_as_good():
    rng = np.random.default_rng(5)
    centers, sizes, scores = rng.uniform(0, 39, (300, 3)), rng.integers(50, 400, 300), rng.random(300)
    arguments = {"shape": SHAPE, "eps": 0.0}
    (oblique,) = best_planes(scores, centers, sizes, prefer_axes=0, **arguments)
    (native,) = best_planes(scores, centers, sizes, prefer_axes=1, **arguments)
    assert oblique.axis is None
    assert native.axis is not None
    assert native.normal == tuple(np.eye(3)[native.axis])
    assert native.center[native.axis] == round(native.center[native.axis])
    assert native.reason.startswith(f"slice {'zyx'[native.axis]} = {native.center[native.axis]:.0f} cuts")
    assert native.center_supervoxel == oblique.center_supervoxel
    needed = 1 - native.score / oblique.score
    for share, axis in ((needed * 0.99, None), (needed * 1.01, native.axis)):
        (plane,) = best_planes(scores, centers, sizes, prefer_axes=share, **arguments)
        assert plane.axis == axis


def test_several_planes_do_not_show_the_same():
    rng = np.random.default_rng(1)
    centers, sizes = rng.uniform(0, 39, (400, 3)), rng.integers(100, 400, 400)
    scores = rng.random(400)
    planes = best_planes(scores, centers, sizes, shape=SHAPE, number=4)
    left = scores.copy()
    for plane in planes:
        ids = plane.supervoxels.astype(int) - 1
        assert plane.score <= left[ids].sum() + 1e-9, "what was shown before counts again"
        left[ids] = 0
        apart = [
            np.linalg.norm(np.subtract(plane.center, p.center)) > 3 or abs(np.dot(plane.normal, p.normal)) < 0.9
            for p in planes
            if p is not plane
        ]
        assert all(apart)
    assert len(planes) == 4
    (alone,) = best_planes(scores, centers, sizes, shape=SHAPE)
    assert (planes[0].center, planes[0].normal) == (alone.center, alone.normal)


def test_what_lies_beside_an_earlier_plane_counts_half():
    """Three parallel sheets: the second plane shows the far sheet, not the one next to the first."""
    y, x = (a.ravel() for a in np.meshgrid(np.arange(0, 25, 6.0), np.arange(0, 25, 6.0)))
    centers = np.concatenate([np.stack([np.full(25, z), y, x], 1) for z in (4.0, 12.0, 32.0)])
    scores = np.repeat([1.0, 0.9, 0.8], 25)
    first, second = best_planes(scores, centers, np.full(75, RADIUS_3), shape=SHAPE, radius=13, number=2)
    assert (first.axis, first.center[0]) == (0, 4)
    assert (second.axis, second.center[0]) == (0, 32)


def test_the_bound_holds_for_centres_that_were_left_out():
    """A plane through the first centre cuts two of its four neighbours: 1.0, and 1.08 elsewhere is not 10 % more."""
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 4 + 10
    centers = np.concatenate([[[10, 10, 10]], tetrahedron, [[30, 30, 30]]])
    (plane,) = best_planes([0.6, *[0.2] * 4, 1.08], centers, [1] * 6, shape=SHAPE, number_of_centers=2, eps=0.1)
    assert (plane.score, plane.upper_bound) == (pytest.approx(1.0), pytest.approx(1.08))
    assert plane.gap == pytest.approx(0.08)


def test_comes_to_an_end():
    centers = np.array([[5.0, 5, 5], [30, 30, 30]])
    planes = best_planes([0.5, 0.4], centers, [100, 100], shape=SHAPE, number=10)
    assert [p.supervoxels.tolist() for p in planes] == [[1], [2]]
    assert planes[0].score == 0.5


def test_one_supervoxel():
    (plane,) = best_planes([0.7], [[3.0, 4, 5]], [60], shape=SHAPE)
    assert (plane.center, plane.axis, plane.supervoxels.tolist()) == ((3, 4, 5), 0, [1])
    assert plane.gap == 0


@pytest.mark.parametrize("method", ["branch_and_bound", "sampling"])
def test_all_scores_zero(method):
    (plane,) = best_planes(np.zeros(3), np.eye(3) * 9, [50] * 3, shape=SHAPE, number=5, method=method)
    assert (plane.score, plane.gap, plane.center_supervoxel) == (0, 0, 1)
    assert 1 in plane.supervoxels


def test_centres_on_a_line_are_all_cut():
    centers = np.outer(np.arange(5.0) - 2, [1, 2, 2]) + 20
    (plane,) = best_planes(np.ones(5), centers, [1] * 5, shape=SHAPE, radius=20, prefer_axes=0)
    assert plane.score == 5


def test_a_radius_that_reaches_no_neighbour():
    centers = np.array([[5.0, 5, 5], [5, 5, 15], [30, 30, 30]])
    (plane,) = best_planes([0.2, 0.9, 0.3], centers, [100] * 3, shape=SHAPE, radius=0.5)
    assert (plane.supervoxels.tolist(), plane.score) == ([2], 0.9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": (1, 40, 40)}, r"planes need a 3D volume, not one of shape \(1, 40, 40\)"),
        ({"shape": (40, 40)}, "expected \\(z, y, x\\)"),
        ({"exclude": [1, 2, 2]}, "every supervoxel is labelled"),
        ({"exclude": [3]}, "exclude must hold ids from 1 to 2, not 3 to 3"),
        ({"exclude": [0]}, "exclude must hold ids from 1 to 2, not 0 to 0"),
        ({"radius": 0}, "radius must be positive"),
        ({"radius": np.inf}, "radius must be positive"),
        ({"number": 0}, "number must be 1 or more"),
        ({"number_of_centers": 0}, "number_of_centers must be 1 or more"),
        ({"eps": -0.1}, "eps must be 0 or more"),
        ({"prefer_axes": 2}, "prefer_axes must be between 0 and 1"),
        ({"method": "guess"}, "expected one of branch_and_bound, sampling"),
        ({"spacing": (1, 0, 1)}, "spacing"),
        ({"scores": [0.1]}, r"centers has shape \(2, 3\); expected \(1, 3\)"),
        ({"scores": []}, "one supervoxel at least"),
        ({"scores": [0.1, np.nan]}, "finite"),
        ({"scores": [0.1, -1]}, "not negative"),
        ({"sizes": [1]}, r"sizes has shape \(1,\); expected \(2,\)"),
        ({"sizes": [1, 0]}, "sizes positive"),
    ],
)
def test_bad_input(changed, message):
    arguments = {"scores": [0.1, 0.2], "centers": np.ones((2, 3)), "sizes": [5, 5], "shape": SHAPE} | changed
    scores, centers, sizes = (arguments.pop(name) for name in ("scores", "centers", "sizes"))
    with pytest.raises(InputError, match=message):
        best_planes(scores, centers, sizes, **arguments)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_kernel_is_its_python_source(n):
    rng = np.random.default_rng(n)
    directions = rng.normal(size=(3, n))
    directions = directions / np.linalg.norm(directions, axis=0)
    sines = rng.uniform(0.1, 0.5, n)
    arguments = (directions, sines, np.sqrt(1 - sines**2), rng.integers(1, 1000, n), 0, 0.05, 0.01)
    compiled, interpreted = branch_and_bound(*arguments), python_source(branch_and_bound)(*arguments)
    np.testing.assert_allclose(compiled[0], interpreted[0], atol=1e-12)
    assert compiled[1:] == interpreted[1:]
    assert (compiled[1] > 0) == (n > 0)


def test_kernel_starts_from_what_is_to_be_beaten():
    one = np.array([[1.0], [0], [0]]), np.array([0.1]), np.array([0.995])
    normal, score, upper = branch_and_bound(*one, np.array([100]), 100, 0.0, 0.01)
    assert (normal.tolist(), score, upper) == ([0, 0, 0], 100, 100)
