"""Voxels as runs along x."""

import numpy as np
import pytest

from voxloop.errors import InputError
from voxloop.project.runs import (
    as_runs,
    count_voxels,
    nearest_to_centre,
    runs_from_mask,
    runs_from_points,
    runs_to_indices,
)

SHAPE = (3, 5, 7)


@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("shape", [SHAPE, (1, 6, 4), (1, 1, 1), (2, 1, 9)])
def test_mask_and_back(shape: tuple[int, int, int], density: float) -> None:
    mask = np.random.default_rng(0).random(shape) < density
    runs = runs_from_mask(mask)
    assert np.array_equal(runs_to_indices(runs, shape), np.flatnonzero(mask))
    assert count_voxels(runs) == mask.sum()


def test_mask_runs_are_as_few_as_possible() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1, 2, 1:4] = mask[1, 2, 6:] = mask[1, 3, :2] = True
    assert runs_from_mask(mask).tolist() == [[1, 2, 1, 4], [1, 2, 6, 7], [1, 3, 0, 2]]


def test_offset_moves_the_mask() -> None:
    mask = np.random.default_rng(1).random((2, 3, 4)) < 0.5
    whole = np.zeros((4, 6, 9), dtype=bool)
    whole[2:, 3:, 5:] = mask
    assert np.array_equal(runs_from_mask(mask, offset=(2, 3, 5)), runs_from_mask(whole))


def test_points_in_any_order_and_twice() -> None:
    mask = np.random.default_rng(2).random(SHAPE) < 0.6
    points = np.argwhere(mask)
    shuffled = np.random.default_rng(3).permutation(np.concatenate([points, points[:9]]))
    assert np.array_equal(runs_from_points(shuffled.astype(np.uint16)), runs_from_mask(mask))
    assert runs_from_points(np.zeros((0, 3), dtype=int)).shape == (0, 4)


def test_a_row_does_not_run_on_into_the_next() -> None:
    assert runs_from_points([[0, 0, 3], [0, 1, 0]]).tolist() == [[0, 0, 3, 4], [0, 1, 0, 1]]


def test_nearest_to_centre_lies_on_the_stroke() -> None:
    ring = np.hypot(*(np.mgrid[:21, :21] - 10)).round() == 8
    runs = runs_from_mask(ring[np.newaxis])
    z, y, x = nearest_to_centre(runs)
    assert z == 0
    assert ring[y, x]
    assert nearest_to_centre(as_runs([[2, 3, 0, 9]])) == (2, 3, 4)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([[0, 0, 0]], "rows of four integers"),
        ([[0, 0, 0, 1], [0, 0]], "rows differ"),
        ([[0, 0, 0.5, 1]], "not float64"),
        ([["0", "0", "0", "1"]], "not <U1"),
        ([[0, 0, 0, 2**63]], "rows of four integers"),
        ([[0, 0, 0, 2**70]], "rows of four integers"),
        ([[True, False, False, True]], "not bool"),
        ([[0, -1, 0, 1]], r"run 0 is \[0, -1, 0, 1\]"),
        ([[0, 0, 0, 1], [0, 1, 2, 2]], r"run 1 is \[0, 1, 2, 2\]"),
        ([[3, 0, 0, 1]], r"the image has shape \(3, 5, 7\)"),
        ([[0, 5, 0, 1]], r"the image has shape \(3, 5, 7\)"),
        ([[0, 0, 0, 8]], r"the image has shape \(3, 5, 7\)"),
        ([[2**62, 2**62, 0, 1]], r"the image has shape \(3, 5, 7\)"),
        ([[0, 0, 0, 3], [0, 0, 2, 4]], "run 1 is .* overlaps"),
        ([[0, 1, 0, 3], [0, 0, 0, 3]], "run 1 is .* comes before"),
    ],
)
def test_unsound_runs_are_refused(runs: list[list[int]], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        runs_to_indices(runs, SHAPE)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: runs_from_mask(np.ones((2, 2), dtype=bool)), "mask must be boolean"),
        (lambda: runs_from_mask(np.ones((2, 2, 2))), "not float64"),
        (lambda: runs_from_mask(np.ones((2, 2, 2), dtype=bool), offset=(0, -1, 0)), "offset"),
        (lambda: runs_from_points(np.ones((2, 2), dtype=int)), "points must be integers"),
        (lambda: runs_from_points(np.ones((2, 3))), "not float64"),
        (lambda: runs_from_points([[0, -4, 0]]), "-4"),
        (lambda: runs_from_points([[2**40, 2**40, 0]]), "no volume is that large"),
    ],
)
def test_unusable_masks_and_points_are_refused(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
