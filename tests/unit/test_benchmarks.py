"""The benchmarks, unmeasured: tiny, but checked for equal work; and how they are timed and reported."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import benchmarks.__main__ as command
from benchmarks import features, first_use, gigavoxel, growth, memory, scaling, scenes, supervoxels
from benchmarks.catalogue import BENCHMARKS
from benchmarks.measure import Comparison, Kind, Result, measure, row, verify
from voxloop.errors import InputError
from voxloop.features import FeatureTable
from voxloop.samples import Sample


@pytest.fixture(autouse=True, scope="module")
def _forget_scenes():
    yield
    for cached in (scenes.scene, scenes.table, scaling._scene):
        cached.cache_clear()


SLOW = (scaling.slic_processes, scaling.features_processes)  # they start processes


@pytest.mark.parametrize(
    "benchmark",
    [pytest.param(b, marks=[pytest.mark.slow] if b in SLOW else [], id=b.__name__) for b in BENCHMARKS],
)
def test_both_sides_do_the_same_work(benchmark: Callable[[str], Comparison]) -> None:
    figures = verify(benchmark("test"))
    assert all(np.isfinite(value) for value in figures.values())


def test_names_tell_benchmarks_apart() -> None:
    assert len({benchmark.__name__ for benchmark in BENCHMARKS}) == len(BENCHMARKS)


class Clock:
    """Time that passes only when a call says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = self.wall = 0.0
        self.calls: list[str] = []
        monkeypatch.setattr("benchmarks.measure.time.process_time", lambda: self.cpu)
        monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: self.wall)

    def comparison(self, ours: list[float], theirs: list[float], kind: Kind = "peer") -> Comparison:
        """Return calls that take so many seconds of CPU one after another, and twice as many by the clock."""

        def call(name: str, seconds: list[float]) -> Callable[[], str]:
            left = iter(seconds)

            def run() -> str:
                self.calls.append(name)
                taken = next(left)
                self.cpu += taken
                self.wall += 2 * taken
                return name

            return run

        return Comparison(
            "sorting", "5 numbers", "a peer", call("A", ours), call("B", theirs), lambda a, b: {a + b: 1.0}, kind, 3
        )


def test_pairs_take_turns_and_ratios_are_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    result = measure(clock.comparison([9, 1, 2, 4], [9, 2, 8, 4]), max_repeats=5)
    assert "".join(clock.calls) == "ABABABAB"
    assert (result.ours.cpu, result.theirs.cpu) == (2, 4)
    assert (result.ours.wall, result.theirs.wall) == (4, 8)
    assert result.cpu_ratio == result.wall_ratio == 2  # of 2, 4 and 1: not the ratio of the medians by accident
    assert result.figures == {"AB": 1.0}


def test_growth_is_ours_over_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    result = measure(Clock(monkeypatch).comparison([9, 6], [9, 2], "growth"), max_repeats=1)
    assert result.cpu_ratio == 3
    assert "t(2n) / t(n)" in row(result)


def test_no_repeats_is_an_error() -> None:
    with pytest.raises(InputError, match="max_repeats must be at least 1, not 0"):
        measure(BENCHMARKS[0]("test"), max_repeats=0)


def test_the_command_prints_one_row_a_benchmark_and_writes_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sorting(size: str) -> Comparison:
        numbers = list(range(10))
        return Comparison(
            "sorting",
            size,
            "reversed",
            lambda: sorted(numbers),
            lambda: numbers[::-1],
            lambda a, _: {"length": float(len(a))},
        )

    monkeypatch.setattr(command, "BENCHMARKS", (sorting,))
    monkeypatch.setattr(command, "warm_up", lambda: None)
    command.main(["--quick", "--only", "sort", "--json", str(tmp_path / "out.json")])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| sorting: quick")]
    assert len(rows) == 1
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["size"] == "quick"
    assert written["memory"] == []  # its name does not hold "sort"
    (comparison,) = written["comparisons"]
    assert Result(**comparison).figures == {"length": 10.0}
    assert comparison["ours"]["wall"] > 0


def test_an_unknown_benchmark_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["--only", "bogus"])
    assert stopped.value.code == 2
    assert "no benchmark's name holds 'bogus'; there are slic_scikit_image" in capsys.readouterr().err


def test_other_numbers_of_supervoxels_are_no_equal_work() -> None:
    comparison = supervoxels.slic_simpleitk("test")
    ours = comparison.ours()
    with pytest.raises(AssertionError, match="supervoxels against"):
        comparison.check(ours, np.arange(np.prod(ours.labels.shape)).reshape(ours.labels.shape))


def test_a_wrong_column_is_no_equal_work() -> None:
    comparison = features.bank_pooled_epfl("test")
    ours, theirs = comparison.ours(), comparison.theirs()
    wrong = FeatureTable(ours.values[:, ::-1], ours.names)
    with pytest.raises(AssertionError):
        comparison.check(wrong, theirs)


def test_growth_doubles_the_volume() -> None:
    found = list(growth.growth("test"))
    assert [g.stage for g in found] == ["SLIC", "graph", "features"] * 2
    assert [g.voxels for g in found] == [2048] * 3 + [4096] * 3
    assert [g.half for g in found[3:]] == [g.cpu for g in found[:3]]
    assert all(g.cpu > 0 for g in found)
    assert growth.row(growth.Growth("SLIC", 2_000_000, 3.0, 1.5)) == "| SLIC | 2.0 | 3 | 1500 | **2.00** |"


def test_first_use_is_measured_in_new_processes() -> None:
    first, second = first_use.starts("import os; assert os.listdir(os.environ['NUMBA_CACHE_DIR']) == []")
    assert (first.name, second.name) == ("compiled", "loaded from the cache")
    assert first.cpu > 0
    assert second.wall > 0


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory_grows_with_the_volume() -> None:
    small, large = (memory.peak_in_new_process("features", shape) for shape in ((8, 64, 64), (16, 128, 128)))
    # Eight times the voxels; at least what the moments of the block and its fields take.
    assert large > small
    assert large > 10 * 16 * 128 * 128


def test_copies_are_mirrored() -> None:
    assert gigavoxel.mirrored(10, 4).tolist() == [0, 1, 2, 3, 3, 2, 1, 0, 0, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_watching_a_command() -> None:
    script = "import time; block = bytearray(300_000_000); time.sleep(0.3)"
    usage = gigavoxel.watch("stage", [sys.executable, "-c", script])
    assert 300e6 < usage.anonymous < 400e6
    assert usage.resident >= usage.anonymous
    assert usage.cpu > 0
    assert usage.wall > 0.3
    with pytest.raises(RuntimeError, match="ended with 3: oh no"):
        gigavoxel.watch("stage", [sys.executable, "-c", "print('oh no'); raise SystemExit(3)"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_the_whole_job_within_a_budget(
    tmp_path: Path, small_sample: Sample, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ("phantom", np.asarray(small_sample.image.data), small_sample.truth)
    monkeypatch.setattr(gigavoxel, "source", lambda: source)
    usages = gigavoxel.run(tmp_path, voxels=100_000, memory="200MB")
    table = capsys.readouterr().out
    assert [usage.stage for usage in usages][:3] == ["new", "supervoxels", "features"]
    assert all(f"| {usage.stage} |" in table for usage in usages)
    assert all(0 < usage.anonymous <= usage.resident < 1e9 for usage in usages)
