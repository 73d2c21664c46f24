from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloop.active import QueryState, make_strategy, neighbour_graph
from voxloop.active.slices import N_TO_LABEL, slices_to_label, suggest_slices
from voxloop.active.uncertainty import top_uncertain
from voxloop.blocks import SerialExecutor
from voxloop.classify import Prediction, label_supervoxels
from voxloop.errors import InputError
from voxloop.specs import SlicSpec
from voxloop.supervoxels import slic
from voxloop.supervoxels.extent import extent
from voxloop.volume import Volume


class Case:
    """A volume cut into pieces, with scores, and its slices looked at one by one."""

    def __init__(self, shape, *, seed=0, size=20, mask=None, spacing=(1.0, 1.0, 1.0)):
        rng = np.random.default_rng(seed)
        volume = Volume.from_array(rng.integers(0, 255, shape, np.uint8), spacing=spacing)
        cut = slic(volume, SlicSpec(size=size, min_size_factor=0.1), mask=mask, executor=SerialExecutor())
        self.labels, self.n, self.centers, self.spacing = np.asarray(cut.labels), cut.n, cut.centers, spacing
        self.scores = rng.random(cut.n)
        self.extent = extent(self.labels, cut.n, executor=SerialExecutor())

    def suggest(self, **options):
        return suggest_slices(self.scores, self.extent, self.centers, spacing=self.spacing, **options)

    def plane(self, axis, index):
        return np.take(self.labels, index, axis=axis)

    def score(self, axis, index, labelled=()):
        ids = np.setdiff1d(np.unique(self.plane(axis, index)), [0])
        seen = np.count_nonzero(self.plane(axis, index))
        return self.scores[np.setdiff1d(ids, labelled).astype(int) - 1].sum() / seen if seen else -np.inf

    def scores_along(self, axis, labelled=()):
        return np.array([self.score(axis, index, labelled) for index in range(self.labels.shape[axis])])

    def well_cut(self, ids, axis, index):
        """Those of `ids` whose middle half a slice cuts; all of them if there is none."""
        layers = {i: np.flatnonzero((self.labels == i).any(axis=tuple({0, 1, 2} - {axis}))) for i in ids}
        middle = {i: (of.min() + of.max()) / 2 for i, of in layers.items()}
        well = [i for i, of in layers.items() if abs(index - middle[i]) <= (np.ptp(of) + 1) / 4]
        return np.array(well or ids, np.uint32)

    def thickness(self, axis):
        found = [np.flatnonzero((self.labels == i).any(axis=tuple({0, 1, 2} - {axis}))) for i in range(1, self.n + 1)]
        return int(np.ceil(np.median([f[-1] - f[0] + 1 for f in found])))


SHAPE = (9, 14, 17)
cases = st.builds(Case, st.just(SHAPE), seed=st.integers(0, 30))


@settings(deadline=None, max_examples=25)
@given(cases, st.sampled_from([None, [0], [1], [2], [0, 2]]), st.integers(0, 20))
def test_first_suggestion_is_the_best_slice(case, axes, n_labelled):
    labelled = np.argsort(case.scores)[::-1][:n_labelled] + 1
    profiles = {axis: case.scores_along(axis, labelled) for axis in (axes or [0, 1, 2])}
    (best,) = case.suggest(axes=axes, labelled=labelled)
    top = max(profile.max() for profile in profiles.values())
    assert best.score == pytest.approx(top)
    assert profiles[best.axis][best.index] == pytest.approx(top)


@settings(deadline=None, max_examples=25)
@given(cases, st.integers(2, 12))
def test_suggestions_keep_their_distance_and_leave_no_better_slice(case, number):
    found = case.suggest(number=number)
    free = {axis: np.ones(SHAPE[axis], bool) for axis in range(3)}
    for suggestion in found:
        allowed = [case.scores_along(axis)[free[axis]].max(initial=-np.inf) for axis in range(3)]
        assert suggestion.score == pytest.approx(max(allowed))
        assert free[suggestion.axis][suggestion.index]
        reach = case.thickness(suggestion.axis)
        free[suggestion.axis][max(0, suggestion.index - reach) : suggestion.index + reach + 1] = False
    assert len(found) == number or not any(f.any() for f in free.values())
    assert len(found) <= number


@settings(deadline=None, max_examples=25)
@given(cases, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), max_size=4))
def test_slices_to_avoid(case, avoid):
    for suggestion in case.suggest(avoid=avoid, number=4):
        for axis, index in avoid:
            assert suggestion.axis != axis or abs(suggestion.index - index) > case.thickness(axis) // 2


@settings(deadline=None, max_examples=25)
@given(cases, st.integers(0, 15), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_supervoxels_center_and_reason(case, n_labelled, share):
    labelled = np.random.default_rng(n_labelled).permutation(case.n)[:n_labelled] + 1
    top = top_uncertain(case.scores, share=share, exclude=labelled)
    for suggestion in case.suggest(labelled=labelled, number=3, top_share=share):
        there = np.setdiff1d(np.unique(case.plane(suggestion.axis, suggestion.index)), [0])
        to_ask = case.well_cut(np.setdiff1d(there, labelled), suggestion.axis, suggestion.index)
        expected = to_ask[np.argsort(-case.scores[to_ask.astype(int) - 1], kind="stable")[:N_TO_LABEL]]
        assert suggestion.supervoxels.tolist() == expected.tolist()
        assert suggestion.center[suggestion.axis] == suggestion.index
        assert all(0 <= c < n for c, n in zip(suggestion.center, SHAPE, strict=True))
        n_top = np.isin(there, top).sum()
        assert re.findall(r"\d+", suggestion.reason) == [str(n_top), str(len(top))]


def test_who_chooses_sees_what_is_open_within_view():
    case = Case((4, 150, 150), size=27)
    labelled = np.argsort(case.scores)[::2] + 1
    shown = []

    def choose(ids):
        shown.append(ids)
        return ids[::7]

    for suggestion in case.suggest(axes=[0], number=2, labelled=labelled, choose=choose):
        ids = shown.pop(0)
        assert suggestion.supervoxels.tolist() == ids[::7].tolist()
        assert not set(ids.tolist()) & set(labelled.tolist())
        there = np.setdiff1d(np.unique(case.plane(0, suggestion.index)), [0, *labelled])
        there = case.well_cut(there, 0, suggestion.index)
        apart = np.abs(case.centers[there.astype(int) - 1] - suggestion.center)[:, 1:]
        radius = 20 * 3  # of cubes of 27 voxels, about
        near = there[np.hypot(*apart.T) < 0.7 * radius]
        far = there[np.hypot(*apart.T) > 1.5 * radius]
        assert near.size
        assert far.size
        assert set(near.tolist()) <= set(ids.tolist())
        assert not set(far.tolist()) & set(ids.tolist())


def test_a_strategy_chooses_in_the_slice_as_in_the_volume():
    case = Case(SHAPE, size=15)
    rng = np.random.default_rng(3)
    shares = rng.dirichlet((1, 1), case.n).astype(np.float32)
    state = QueryState(
        features=rng.normal(size=(case.n, 2)).astype(np.float32),
        centers=case.centers,
        graph=neighbour_graph(case.centers),
        labels=label_supervoxels([2, 5, 9, 10], [1, 2, 1, 2]),
        prediction=Prediction(shares, np.array([1, 2], np.int32)),
    )
    for strategy in (make_strategy("feature"), make_strategy("mixed"), make_strategy("kinds")):
        worth = strategy.worth(state, rng=4)
        found = slices_to_label(strategy, state, case.extent, number=3, rng=4)
        plain = suggest_slices(worth, case.extent, case.centers, labelled=[2, 5, 9, 10], number=3)
        assert [(s.axis, s.index, s.score) for s in found] == [(s.axis, s.index, s.score) for s in plain]
        for suggestion in found:
            there = np.unique(case.plane(suggestion.axis, suggestion.index))
            assert set(suggestion.supervoxels.tolist()) <= set(there.tolist()) - {2, 5, 9, 10}
            there = case.well_cut(np.setdiff1d(there, [0, 2, 5, 9, 10]), suggestion.axis, suggestion.index)
            assert len(suggestion.supervoxels) == min(5, len(there))
        again = slices_to_label(strategy, replace(state), case.extent, number=3, rng=4)
        assert [s.supervoxels.tolist() for s in again] == [s.supervoxels.tolist() for s in found]
        best = [s.supervoxels.tolist() for s in plain]
        assert (best == [s.supervoxels.tolist() for s in found]) == (strategy == make_strategy("feature"))


def test_center_is_where_the_uncertainty_is():
    case = Case((6, 40, 40), size=27)
    corner = (np.abs(case.centers[:, 1] - 33) < 5) & (np.abs(case.centers[:, 2] - 6) < 5)
    case.scores = np.where(corner, 1.0, 0.01)
    (best,) = case.suggest(axes=[0])
    assert abs(best.center[1] - 33) < 6
    assert abs(best.center[2] - 6) < 6


def test_mask_counts_what_is_seen():
    mask = np.zeros(SHAPE, bool)
    mask[3:6, 2:9, 4:12] = True
    case = Case(SHAPE, mask=mask, size=10)
    for suggestion in case.suggest(number=50):
        assert mask.take(suggestion.index, axis=suggestion.axis).any()
        assert suggestion.score == pytest.approx(case.score(suggestion.axis, suggestion.index))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 1, 0), (0, 2, 1), (1, 0, 2), (2, 0, 1)])
def test_turned_axes_turn_the_suggestions(order):
    case = Case((11, 12, 13), spacing=(3.0, 1.0, 2.0))
    turned = Case.__new__(Case)
    turned.labels = case.labels.transpose(order)
    turned.n, turned.scores = case.n, case.scores
    turned.centers, turned.spacing = case.centers[:, order], tuple(case.spacing[a] for a in order)
    turned.extent = extent(np.ascontiguousarray(turned.labels), case.n)
    for a, b in zip(case.suggest(number=6), turned.suggest(number=6), strict=True):
        assert (order[b.axis], b.index) == (a.axis, a.index)
        assert [a.center[i] for i in order] == list(b.center)
        assert a.score == pytest.approx(b.score)
        assert a.supervoxels.tolist() == b.supervoxels.tolist()


def test_2d_has_one_slice():
    case = Case((1, 30, 30))
    found = case.suggest(number=5)
    assert [(s.axis, s.index) for s in found] == [(0, 0)]
    # There is no other slice to go to; what is labelled in it leads the view elsewhere.
    (again,) = case.suggest(number=5, avoid=[(0, 0)], labelled=found[0].supervoxels)
    assert (again.axis, again.index) == (0, 0)
    assert not set(again.supervoxels) & set(found[0].supervoxels)


def test_a_narrow_strip_comes_last():
    case = Case((30, 4, 30), size=8)
    axes = [s.axis for s in case.suggest(number=100)]
    assert 1 in axes
    narrow = [axis != 1 for axis in axes]
    assert narrow == sorted(narrow), "the axis whose slices show most comes first"


def test_one_supervoxel():
    case = Case((2, 2, 2), size=1000)
    assert len(case.suggest()) == 1
    case.scores[:] = 0
    (only,) = case.suggest()
    assert only.score == 0
    assert only.reason == "cuts 1 of the 1 supervoxel most worth a label"


def test_bad_input():
    case = Case(SHAPE)
    for options, words in (
        ({"labelled": np.arange(1, case.n + 1)}, "every supervoxel is labelled"),
        ({"labelled": [*range(1, case.n + 1), 1, 2]}, "every supervoxel is labelled"),
        ({"number": 0}, "number must be 1 or more"),
        ({"axes": [3]}, "axes must name"),
        ({"axes": []}, "axes must name"),
        ({"top_share": 0}, "share"),
    ):
        with pytest.raises(InputError, match=words):
            case.suggest(**options)
    assert case.suggest(labelled=np.arange(1, case.n)) != []
