"""A folder of learning curves: what was stopped goes on, what has changed is computed again, the bytes are the same."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from benchmarks import active
from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.errors import Cancelled, InputError
from voxloop.samples import Sample
from voxloop.simulate.benchmark import SimulationResult, prepare_task, run_simulation
from voxloop.simulate.curves import SimulationSpec

SPECS = {"slic": {"size": 100.0}, "features": {"sigmas": (0.7, 1.6), "context": 0}, "classifier": {"n_trees": 10}}
SHORT = SimulationSpec(rounds=2, inputs_per_round=4, start_per_class=2)


def simulate(sample: Sample, out: Path, **options) -> SimulationResult:
    arguments = {"strategies": ["random", "feature"], "repeats": 2, "spec": SHORT, "specs": SPECS, **options}
    return run_simulation(sample, out, **arguments)


def tables(result: SimulationResult) -> list[bytes]:
    return [result.files[name].read_bytes() for name in ("curves", "bands", "summary", "plot")]


def test_the_same_bytes_with_any_executor_and_after_going_on(tmp_path: Path, small_sample: Sample) -> None:
    serial = simulate(small_sample, tmp_path / "a", executor=SerialExecutor())
    threads = simulate(small_sample, tmp_path / "b", executor=ThreadExecutor(2))
    assert tables(serial) == tables(threads)
    again = simulate(small_sample, tmp_path / "b")
    assert (serial.n_reused, again.n_reused) == (0, 4)
    assert tables(again) == tables(serial)
    (tmp_path / "b" / "runs" / "feature-001.json").unlink()
    (tmp_path / "b" / "runs" / "random-000.json").write_text('{"made_from": "x", "points": [{"strategy": 1')
    mended = simulate(small_sample, tmp_path / "b")
    assert mended.n_reused == 2
    assert tables(mended) == tables(serial)


def test_a_stopped_simulation_keeps_its_finished_curves(tmp_path: Path, small_sample: Sample) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "learning curves" and done == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        simulate(small_sample, tmp_path / "a", progress=stop, executor=SerialExecutor())
    assert simulate(small_sample, tmp_path / "a").n_reused >= 2


@pytest.mark.slow
def test_more_is_added_and_other_settings_are_computed_again(tmp_path: Path, small_sample: Sample) -> None:
    first = simulate(small_sample, tmp_path / "a")
    more = simulate(small_sample, tmp_path / "a", strategies=["feature", "random", "planes-feature"], repeats=3)
    assert (more.n_reused, len({(p.strategy, p.repeat) for p in more.points})) == (4, 9)
    assert [p for p in more.points if p.strategy == "random" and p.repeat < 2] == [
        p for p in first.points if p.strategy == "random"
    ]
    assert [s.strategy for s in more.summaries] == ["feature", "random", "planes-feature"]
    other = simulate(small_sample, tmp_path / "a", specs={**SPECS, "classifier": {"n_trees": 11}})
    assert other.n_reused == 0
    assert simulate(small_sample, tmp_path / "a", spec=SHORT.changed(seed=1), strategies=["random"]).n_reused == 0


def test_the_files_say_what_the_result_says(tmp_path: Path, small_sample: Sample) -> None:
    result = simulate(small_sample, tmp_path / "a")
    with result.files["curves"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.points) == 2 * 2 * 3
    for row, point in zip(rows, result.points, strict=True):
        assert (row["strategy"], int(row["repeat"]), int(row["inputs"])) == (point.strategy, point.repeat, point.inputs)
        assert float(row["iou mitochondria"]) == pytest.approx(point.measures["iou mitochondria"], rel=1e-5)
    assert result.measure == "iou mitochondria"
    with result.files["summary"].open(newline="") as file:
        for row, summary in zip(csv.DictReader(file), result.summaries, strict=True):
            last = [
                p.measures["iou mitochondria"]
                for p in result.points
                if p.strategy == row["strategy"] and p.inputs == 12
            ]
            assert float(row["final_mean"]) == pytest.approx(np.mean(last), rel=1e-5)
            assert float(row["area_mean"]) == pytest.approx(summary.area.mean, rel=1e-5)
            assert float(row["oracle"]) == pytest.approx(result.oracle["iou mitochondria"], rel=1e-5)
    with result.files["bands"].open(newline="") as file:
        bands = list(csv.DictReader(file))
    assert [float(b["inputs"]) for b in bands if b["strategy"] == "random"] == [4, 8, 12]
    assert all(float(b["low"]) <= float(b["mean"]) <= float(b["high"]) for b in bands)


def test_parquet_holds_what_csv_holds(tmp_path: Path, small_sample: Sample) -> None:
    texts = simulate(small_sample, tmp_path / "a").files
    tables = simulate(small_sample, tmp_path / "a", table_format="parquet").files
    for name in ("curves", "bands", "summary"):
        table = parquet.read_table(tables[name]).to_pydict()
        with texts[name].open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) > 1
        assert list(rows[0]) == list(table)
        for column, values in table.items():
            assert ["" if v is None else str(v) for v in values] == [row[column] for row in rows]


def test_a_folder_is_of_one_image_truth_and_split(tmp_path: Path, small_sample: Sample) -> None:
    simulate(small_sample, tmp_path / "a", strategies=["random"], repeats=1)
    flipped = replace(small_sample, truth=small_sample.truth[:, ::-1].copy())
    for sample, options in ((flipped, {}), (small_sample, {"n_learn": 5})):
        with pytest.raises(InputError, match="no simulation of this image"):
            simulate(sample, tmp_path / "a", strategies=["random"], repeats=1, **options)
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="no simulation of this image"):
        simulate(small_sample, tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_bad_input_makes_no_folder(tmp_path: Path, small_sample: Sample) -> None:
    for options, words in (
        ({"repeats": 0}, "repeats must be 1 or more"),
        ({"strategies": []}, "at least one"),
        ({"table_format": "xlsx"}, "table_format is 'xlsx'"),
        ({"strategies": ["random", "random"]}, "none twice"),
        ({"strategies": ["best"]}, "strategy is 'best'; expected one of random"),
        ({"n_learn": 16}, "n_learn"),
        ({"out": tmp_path / "no" / "where"}, "does not exist"),
    ):
        with pytest.raises((InputError, FileNotFoundError), match=words):
            simulate(small_sample, **{"out": tmp_path / "a", **options})
        assert not (tmp_path / "a").exists()


def test_parquet_without_its_library_makes_no_folder(
    tmp_path: Path, small_sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'pip install "voxloop\[tables\]"'):
        simulate(small_sample, tmp_path / "a", table_format="parquet")
    assert not (tmp_path / "a").exists()


def test_the_table_over_several_volumes(tmp_path: Path, small_sample: Sample) -> None:
    result = simulate(small_sample, tmp_path / "a", executor=SerialExecutor())
    never = replace(result, summaries=[replace(s, good_enough=None) for s in result.summaries])
    lines = active.overall_table({"one": result, "two": never})
    area = {s.strategy: s.area.mean for s in result.summaries}
    best = max(area, key=lambda name: area[name])
    assert lines[2].startswith(f"| `{best}` | {area[best]:.3f} | {area[best]:.3f} | {area[best]:.3f} |")
    assert lines[2].endswith("(1) |") or lines[2].endswith("(0) |")
    assert len(active.volume_table(result)) == 6


def test_counting_until_the_first_foreground(tmp_path: Path, small_sample: Sample) -> None:
    task = prepare_task(small_sample, tmp_path / "a", executor=SerialExecutor())
    again = prepare_task(small_sample, tmp_path / "a", executor=SerialExecutor())
    np.testing.assert_array_equal(task.learn.values, again.learn.values)
    assert 1 <= active.asked_until_foreground(task.learn, "kinds", 0) <= 50
    nothing = replace(task.learn, majority=np.ones_like(task.learn.majority))
    assert active.asked_until_foreground(nothing, "random", 0) == np.inf
    everything = replace(task.learn, majority=np.full_like(task.learn.majority, 2))
    assert active.asked_until_foreground(everything, "typiclust", 0) == 1
