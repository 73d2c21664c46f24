"""What a simulated person answers: supervoxels, strokes on slices, two clicks in a patch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxloop.active import STRATEGIES, QueryState, best_planes
from voxloop.classify import Prediction, label_supervoxels
from voxloop.errors import InputError
from voxloop.simulate.answers import (
    PATCH_INPUTS,
    answer_patch,
    answer_supervoxels,
    best_line,
    dialogue_names,
    make_dialogue,
)
from voxloop.simulate.tables import ImageTables
from voxloop.supervoxels import from_labels
from voxloop.supervoxels.extent import extent

SIDE = 4


def grid_tables(truth: np.ndarray, *, seed: int = 0, spacing=(1.0, 1.0, 1.0)) -> ImageTables:
    """Cubes of 4^3 voxels with one feature that tells the classes apart, and one of noise."""
    z, y, x = (np.arange(n) // SIDE for n in truth.shape)
    ids = (z[:, None, None] * (y.max() + 1) + y[:, None]) * (x.max() + 1) + x + 1
    supervoxels = from_labels(ids.astype(np.uint32), spacing=spacing)
    rng = np.random.default_rng(seed)
    known = np.bincount(ids.ravel(), truth.ravel())[1:] / supervoxels.sizes
    values = np.column_stack([known + rng.normal(0, 0.2, supervoxels.n), rng.normal(size=supervoxels.n)])
    where = extent(supervoxels.labels, supervoxels.n)
    return ImageTables.of(supervoxels, values.astype(np.float32), where, truth, spacing=spacing)


def half_space(shape=(24, 24, 24), normal=(1.0, 1.0, 0.5)) -> np.ndarray:
    at = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return (1 + (at @ np.array(normal) > 0)).astype(np.uint8)


def warm_state(tables: ImageTables, n_labels: int = 6, seed: int = 0) -> QueryState:
    """Some labels, and a classifier that is unsure of everything to a different degree."""
    rng = np.random.default_rng(seed)
    n = tables.supervoxels.n
    ids = rng.choice(tables.known_ids, n_labels, replace=False)
    share = rng.uniform(0.05, 0.95, n).astype(np.float32)
    prediction = Prediction(np.column_stack([share, 1 - share]), np.array([1, 2], np.int32))
    return QueryState(
        features=tables.values,
        centers=tables.supervoxels.centers,
        graph=tables.walk,
        labels=label_supervoxels(ids, tables.majority[ids - 1]),
        prediction=prediction,
        spacing=tables.spacing,
        candidates=tables.known_ids,
    )


def plane_of(tables: ImageTables, center: int, **options):
    """Return the patch around one supervoxel that cuts the most others."""
    n = tables.supervoxels.n
    scores = np.full(n, 1e-6)
    scores[center - 1] = 1
    found = best_planes(
        scores,
        tables.supervoxels.centers,
        tables.supervoxels.sizes,
        shape=tables.truth.shape,
        spacing=tables.spacing,
        number_of_centers=1,
        **{"radius": 9.0, **options},
    )
    assert found[0].center_supervoxel == center
    return found[0]


# The line


@given(st.floats(0, 2 * np.pi), st.floats(-4, 4), st.integers(0, 5))
def test_the_line_parts_two_half_planes(angle, height, seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-8, 8, (400, 2))
    points = points[np.hypot(*points.T) < 8]
    above = points @ (np.cos(angle), np.sin(angle)) > height
    line = best_line(points, np.where(above, 1, -1), radius=8.0)
    assert line is not None
    (start, end), first_is_left = line
    along, offsets = end - start, points - start
    # The sense of rotation from (down, right) to its left: a walk to the right has "up" on its left.
    is_left = along[0] * offsets[:, 1] - along[1] * offsets[:, 0] > 0
    agreement = (is_left == (above if first_is_left else ~above)).mean()
    assert agreement > 0.93  # within half of the 5 degrees between the directions
    np.testing.assert_allclose(np.hypot(*np.array([start, end]).T), 8.0)


def test_no_line_where_none_helps():
    points = np.random.default_rng(0).uniform(-5, 5, (50, 2))
    assert best_line(points, np.ones(50, np.int64), radius=5.0) is None
    assert best_line(points[:1], np.array([1]), radius=5.0) is None
    assert best_line(np.zeros((4, 2)), np.array([1, 1, -1, -1]), radius=5.0) is None  # all at one place


def test_the_line_is_the_best_of_all_directions_and_heights():
    rng = np.random.default_rng(1)
    for _ in range(20):
        points, signs = rng.uniform(-5, 5, (30, 2)), rng.integers(-1, 2, 30)
        right = [abs(int(signs.sum()))]
        for angle in np.arange(36) * np.pi / 36:
            heights = points @ (np.cos(angle), np.sin(angle))
            right += [abs(int(np.where(heights <= h, signs, -signs).sum())) for h in heights]
        line = best_line(points, signs, radius=5.0)
        if line is None:
            assert max(right) == right[0]
            continue
        (start, end), first_is_left = line
        along, offsets = end - start, points - start
        is_left = along[0] * offsets[:, 1] - along[1] * offsets[:, 0] > 0
        assert np.where(is_left == first_is_left, signs, -signs).sum() == max(right) > right[0]


# A patch


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, 1, 0), (1, 1, 0.5), (0.3, -1, 0.7)])
def test_two_clicks_part_a_half_space(normal):
    tables = grid_tables(half_space(normal=normal))
    middle = int(tables.labels[12, 12, 12])
    plane = plane_of(tables, middle)
    answer = answer_patch(tables, plane, rng=np.random.default_rng(0), click_error=0)
    assert set(answer) == set(plane.supervoxels.tolist())
    distance = (tables.supervoxels.centers - 11.5) @ (np.array(normal) / np.linalg.norm(normal))
    for supervoxel, class_id in answer.items():
        if abs(distance[supervoxel - 1]) > 2:
            assert class_id == tables.majority[supervoxel - 1]


def test_a_shaky_hand_makes_mistakes():
    tables = grid_tables(half_space())
    plane = plane_of(tables, int(tables.labels[12, 12, 12]))
    clear = np.abs((tables.supervoxels.centers - 11.5) @ (1, 1, 0.5)) > 3

    def wrong(click_error: float) -> int:
        answers = [
            answer_patch(tables, plane, rng=np.random.default_rng(s), click_error=click_error) for s in range(20)
        ]
        return sum(tables.majority[i - 1] != c for answer in answers for i, c in answer.items() if clear[i - 1])

    assert 0 == wrong(0) < wrong(3) < wrong(8)


def test_one_class_takes_one_answer_and_slivers_do_not_count():
    truth = np.full((24, 24, 24), 2, np.uint8)
    truth[:, :, :9] = 1
    tables = grid_tables(truth)
    plane = plane_of(tables, int(tables.labels[12, 12, 16]), radius=8.0)
    answer = answer_patch(tables, plane, rng=np.random.default_rng(0))
    assert set(answer.values()) == {2}
    assert set(answer) == set(plane.supervoxels.tolist())


def test_a_patch_of_the_unknown_gets_no_answer():
    truth = half_space()
    truth[:] = 0
    truth[0, 0, 0], truth[0, 0, 1] = 1, 2
    tables = grid_tables(truth)
    plane = plane_of(tables, int(tables.labels[16, 16, 16]))
    assert answer_patch(tables, plane, rng=np.random.default_rng(0)) == {}


# A dialogue


def test_supervoxels_get_the_class_of_most_voxels():
    truth = half_space()
    truth[:8] = 0
    truth[0, 0, 0] = 2
    tables = grid_tables(truth)
    answer = answer_supervoxels(tables, tables.known_ids)
    assert answer.n_inputs == answer.supervoxels.size == np.count_nonzero(tables.majority)
    for supervoxel, class_id in zip(answer.supervoxels, answer.classes, strict=True):
        counts = np.bincount(truth[tables.labels == supervoxel], minlength=3)
        counts[0] = 0
        assert class_id == counts.argmax()
    assert tables.majority[0] == 2  # one known voxel of 64


@pytest.mark.parametrize("name", ["slices-feature", "slices-combined"])
def test_slices_are_painted_once_and_truthfully(name):
    tables = grid_tables(half_space())
    dialogue = make_dialogue(name, tables, rng=np.random.default_rng(0))
    state = warm_state(tables)
    for _ in range(4):
        answer = dialogue.answer(state, 7)
        assert 1 <= answer.n_inputs <= 7
        assert answer.supervoxels.shape == answer.classes.shape
        mixed = answer.classes != tables.majority[answer.supervoxels.astype(int) - 1]
        assert mixed.mean() < 0.5  # a stroke is true voxel by voxel, not supervoxel by supervoxel
    assert len(set(dialogue.painted)) == len(dialogue.painted) >= 4


def test_patches_cost_two_inputs_each_and_never_ask_again():
    tables = grid_tables(half_space())
    state = warm_state(tables, n_labels=40)
    for n_inputs, expected in ((1, 1), (2, 1), (7, 3)):
        answer = make_dialogue("planes-feature", tables, rng=np.random.default_rng(0), radius=6.0).answer(
            state, n_inputs
        )
        assert answer.n_inputs == PATCH_INPUTS * expected
        assert len(set(answer.supervoxels.tolist())) == answer.supervoxels.size > expected
        assert not np.isin(answer.supervoxels, state.labels.ids).any()


@pytest.mark.parametrize("name", ["feature", "slices-feature", "planes-feature"])
def test_a_cold_start_asks_for_typical_supervoxels(name):
    tables = grid_tables(half_space())
    state = warm_state(tables)
    cold = QueryState(
        features=tables.values, centers=state.centers, graph=state.graph, labels=label_supervoxels([], [])
    )
    answers = [make_dialogue(n, tables, rng=np.random.default_rng(3)).answer(cold, 4) for n in (name, "kinds")]
    assert answers[0].supervoxels.tolist() == answers[1].supervoxels.tolist()
    assert answers[0].n_inputs == 4


@pytest.mark.parametrize("name", ["random", "far", "slices-feature", "planes-feature"])
def test_nothing_left_to_ask(name):
    tables = grid_tables(half_space((8, 8, 8)))
    state = warm_state(tables, n_labels=tables.supervoxels.n)
    assert make_dialogue(name, tables, rng=np.random.default_rng(0)).answer(state, 5) is None


def test_names():
    names = dialogue_names()
    assert len(set(names)) == len(names)
    assert {*STRATEGIES, "far", "slices-feature", "planes-bald"} <= set(names)
    tables = grid_tables(half_space((1, 24, 24)))
    for name in ("slices-", "nonsense", "slices-far"):
        with pytest.raises(InputError, match="expected one of"):
            make_dialogue(name, tables, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="3D"):
        make_dialogue("planes-feature", tables, rng=np.random.default_rng(0))


def test_tables_that_do_not_fit():
    tables = grid_tables(half_space((8, 8, 8)))
    with pytest.raises(InputError, match="values has shape"):
        ImageTables.of(tables.supervoxels, tables.values[1:], tables.extent, tables.truth)
    with pytest.raises(InputError, match="truth has shape"):
        ImageTables.of(tables.supervoxels, tables.values, tables.extent, tables.truth[1:])
