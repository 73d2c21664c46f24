"""Learning curves on tables: what is counted, what is drawn anew, and what the summary says."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.errors import InputError
from voxloop.simulate.answers import dialogue_names
from voxloop.simulate.curve_plot import draw_curves
from voxloop.simulate.curves import (
    CurvePoint,
    SimulationSpec,
    Task,
    run_curve,
    score_fully_labelled,
)
from voxloop.simulate.score import score
from voxloop.simulate.summary import Spread, summarise
from voxloop.simulate.tables import ImageTables
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import from_labels
from voxloop.supervoxels.extent import extent

SIDE = 3
FAST = ClassifierSpec(n_trees=10)


def ball_tables(seed: int, shape=(12, 24, 24), *, n_classes: int = 2) -> ImageTables:
    """Cubes of 3^3 voxels, balls of class 2 (and 3) in class 1, features that tell them apart for the most part."""
    rng = np.random.default_rng(seed)
    at = np.moveaxis(np.indices(shape), 0, -1)
    truth = np.ones(shape, np.uint8)
    for i, center in enumerate(rng.uniform(3, np.array(shape) - 3, (6, 3))):
        truth[np.linalg.norm(at - center, axis=-1) < 5] = 2 + i % (n_classes - 1)
    z, y, x = (np.arange(n) // SIDE for n in shape)
    ids = (z[:, None, None] * (y.max() + 1) + y[:, None]) * (x.max() + 1) + x + 1
    supervoxels = from_labels(ids.astype(np.uint32))
    mean = np.bincount(ids.ravel(), truth.ravel())[1:] / supervoxels.sizes
    values = np.column_stack([mean + rng.normal(0, 0.3, supervoxels.n), rng.normal(size=(supervoxels.n, 2))])
    return ImageTables.of(supervoxels, values.astype(np.float32), extent(supervoxels.labels, supervoxels.n), truth)


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(ball_tables(0), ball_tables(1), ("dark", "ball"))


def curve(task: Task, strategy: str, **options) -> list[CurvePoint]:
    spec = SimulationSpec(**{"rounds": 3, "inputs_per_round": 6, "radius": 6.0, **options.pop("spec", {})})
    return list(run_curve(task, strategy, spec=spec, classifier=FAST, **options))


# One curve


@pytest.mark.parametrize("strategy", dialogue_names())
def test_every_strategy_uses_up_its_inputs(task, strategy):
    points = curve(task, strategy)
    assert points[0].round == 0
    assert points[0].inputs == points[0].labelled == 10  # five a class
    assert [p.round for p in points] == list(range(len(points)))
    inputs = [p.inputs for p in points]
    assert all(0 < b - a <= 6 for a, b in pairwise(inputs))
    assert inputs[-1] == 10 + 3 * 6
    assert all(a.labelled <= b.labelled for a, b in pairwise(points))
    if "-" not in strategy:
        assert all(p.labelled == p.inputs and p.wrong == 0 for p in points)
    else:
        assert points[-1].labelled > 10
    names = {f"{kind} {name}" for kind in ("iou", "dice", "best_iou") for name in ("dark", "ball")}
    for point in points:
        assert set(point.measures) == {"mean_iou", "mean_dice"} | names
        dark, ball = (point.measures[f"dice {name}"] for name in ("dark", "ball"))
        assert point.measures["mean_dice"] == pytest.approx((dark + ball) / 2)
        assert point.measures["iou ball"] == pytest.approx(ball / (2 - ball))
        assert point.measures["best_iou ball"] >= point.measures["iou ball"] - 1e-12


@pytest.mark.parametrize("strategy", ["random", "power", "slices-feature", "planes-feature"])
def test_the_same_seed_gives_the_same_curve_with_any_executor(task, strategy):
    first = curve(task, strategy, executor=SerialExecutor())
    assert curve(task, strategy, executor=ThreadExecutor(2)) == first
    assert curve(task, strategy, repeat=1)[1:] != first[1:]
    assert [p.measures for p in curve(task, strategy, spec={"seed": 9})] != [p.measures for p in first]


def test_strategies_of_one_repeat_begin_alike(task):
    for repeat in (0, 1):
        starts = [curve(task, s, repeat=repeat, spec={"rounds": 1})[0].measures for s in ("random", "planes-feature")]
        assert starts[0] == starts[1]


@pytest.mark.parametrize("strategy", ["random", "feature", "slices-feature", "planes-combined"])
def test_a_cold_start(task, strategy):
    points = curve(task, strategy, spec={"start_per_class": 0})
    assert points[0].round == 1
    assert points[0].inputs == 6
    assert points[-1].inputs == 18


def test_with_one_class_known_all_is_of_that_class(task):
    point = curve(task, "random", spec={"start_per_class": 0, "rounds": 1, "inputs_per_round": 1})[0]
    truth = task.judge.truth
    named = 1 if point.measures["iou dark"] > 0 else 2
    expected = score(np.full_like(truth, named), truth)
    assert point.measures["mean_iou"] == pytest.approx(expected.mean_iou)
    assert point.measures["mean_dice"] == pytest.approx(expected.mean_dice)


def test_a_curve_ends_when_all_is_labelled(task):
    small = ball_tables(2, (6, 12, 12))
    points = curve(Task(small, task.judge, ("dark", "ball")), "random", spec={"rounds": 50})
    assert points[-1].labelled == small.supervoxels.n < 10 + 300


def test_more_labels_help_and_the_oracle_is_above(task):
    full, oracle = score_fully_labelled(task, classifier=FAST), task.oracle
    finals = [curve(task, "feature", repeat=r, spec={"rounds": 10})[-1] for r in range(3)]
    starts = [curve(task, "feature", repeat=r, spec={"rounds": 1})[0] for r in range(3)]
    gain = np.mean([p.measures["iou ball"] for p in finals]) - np.mean([p.measures["iou ball"] for p in starts])
    assert gain > 0.02
    assert full["iou ball"] <= oracle["iou ball"]
    majority = task.judge.majority[task.judge.labels - 1]
    assert oracle["mean_iou"] == pytest.approx(score(majority, task.judge.truth).mean_iou)


def test_three_classes_and_an_unknown_part():
    learn, judge = ball_tables(3, n_classes=3), ball_tables(4, n_classes=3)
    learn.truth[:3] = 0
    learn = ImageTables.of(learn.supervoxels, learn.values, learn.extent, learn.truth)
    task = Task(learn, judge, ("dark", "one", "two"))
    assert task.main_measure == "mean_iou"
    for strategy in ("far", "feature", "clasp", "slices-feature", "planes-feature"):
        points = curve(task, strategy)
        assert {"iou dark", "iou one", "iou two"} <= set(points[-1].measures)
        if "-" not in strategy:
            assert points[-1].wrong == 0


def test_tasks_that_cannot_be_learned(task):
    alike = ball_tables(5)
    alike.truth[:] = 1
    alike = ImageTables.of(alike.supervoxels, alike.values, alike.extent, alike.truth)
    with pytest.raises(InputError, match="two classes"):
        Task(alike, task.judge, ("dark", "ball"))
    with pytest.raises(InputError, match="class_names has 1 entries but truth holds class 2"):
        Task(task.learn, task.judge, ("dark",))
    for field in ("rounds", "inputs_per_round"):
        with pytest.raises(InputError, match=field):
            SimulationSpec(**{field: 0})


# The summary


def points_of(strategy: str, *curves: list[tuple[int, float]]) -> list[CurvePoint]:
    return [
        CurvePoint(
            strategy=strategy,
            repeat=r,
            round=i,
            inputs=inputs,
            labelled=0,
            wrong=0,
            measures={"mean_iou": v, "iou a": v},
        )
        for r, curve in enumerate(curves)
        for i, (inputs, v) in enumerate(curve)
    ]


def test_a_summary_by_hand():
    points = points_of("s", [(10, 0.0), (20, 0.5), (40, 0.9)], [(10, 0.2), (20, 0.2), (40, 0.4)])
    [s] = summarise(points, "iou a", full=0.5)
    assert (s.strategy, s.n_repeats) == ("s", 2)
    assert s.inputs.tolist() == [10, 20, 40]
    np.testing.assert_allclose(s.mean, [0.1, 0.35, 0.65])
    np.testing.assert_allclose(s.low, [0.02, 0.23, 0.45])
    np.testing.assert_allclose(s.high, [0.18, 0.47, 0.85])
    assert s.final == Spread(pytest.approx(0.65), pytest.approx(0.45), pytest.approx(0.85))
    areas = [(10 * 0.25 + 20 * 0.7) / 30, (10 * 0.2 + 20 * 0.3) / 30]
    assert s.area.mean == pytest.approx(np.mean(areas))
    assert (s.good_enough, s.n_good_enough) == (20, 1)  # 0.475 is reached by one of two, which is half
    [s] = summarise(points, "mean_iou", full=0.95)
    assert (s.good_enough, s.n_good_enough) == (None, 0)


def test_a_curve_that_ends_early_stays_where_it_is():
    short, long = points_of("short", [(10, 0.2), (20, 0.6)]), points_of("long", [(10, 0.2), (30, 0.4)])
    a, b = summarise([*short, *long], "mean_iou", full=1.0)
    assert a.inputs.tolist() == b.inputs.tolist() == [10, 20, 30]
    assert a.mean.tolist() == pytest.approx([0.2, 0.6, 0.6])
    assert b.mean.tolist() == pytest.approx([0.2, 0.3, 0.4])


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=5),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(1, 8),
)
def test_other_strategies_and_points_on_the_way_change_nothing(heights, steps, between):
    inputs = np.cumsum([10, *steps])
    curves = [list(zip(inputs.tolist(), h, strict=True)) for h in heights]
    alone = summarise(points_of("s", *curves), "mean_iou", full=1.0)[0]
    at = 10 + between * (inputs[-1] - 10) // 9
    other = points_of("other", [(10, 0.3), (int(at), 0.1), (int(inputs[-1]), 0.5)] if at > 10 else [(10, 0.3)])
    together = summarise([*other, *points_of("s", *curves)], "mean_iou", full=1.0)[1]
    assert together.area.mean == pytest.approx(alone.area.mean)
    assert together.final == alone.final
    assert together.good_enough == alone.good_enough
    assert (together.low <= together.high + 1e-12).all()
    assert set(inputs) <= set(together.inputs.astype(int))


def test_summaries_of_nothing():
    with pytest.raises(InputError, match="at least one point"):
        summarise([], "mean_iou", full=1.0)
    with pytest.raises(InputError, match="measure is 'iou b'; expected one of mean_iou"):
        summarise(points_of("s", [(1, 0.5)]), "iou b", full=1.0)
    [single] = summarise(points_of("s", [(1, 0.5)]), "mean_iou", full=0.5)
    assert single.area.mean == 0.5


def test_the_figure_shows_bands_where_the_runs_are(tmp_path: Path):
    points = points_of("s", [(0, 0.2), (100, 0.8)], [(0, 0.1), (100, 0.3)])
    draw_curves(
        tmp_path / "a.png",
        summarise(points, "mean_iou", full=0.9),
        measure="mean_iou",
        full=0.9,
        oracle=0.95,
        title="t",
    )
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 20) & (pixels[..., 2] > 200)  # the band's pale blue
    columns = np.flatnonzero(blue.any(axis=0))
    heights = blue.sum(axis=0)[columns]
    assert len(columns) > 300
    assert heights[-40:].mean() > 2 * heights[5:45].mean() > 0  # 0.1 wide at the start, 0.4 at the end
    with pytest.raises(InputError, match="at least one"):
        draw_curves(tmp_path / "b.png", [], measure="mean_iou", full=0.9, oracle=0.95, title="t")
