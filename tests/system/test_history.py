"""What a project remembers between the strokes: rounds, suggestions, and when to stop."""

from __future__ import annotations

import itertools
import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from voxloop.active import StopSignal, cohen_kappa
from voxloop.project import Project
from voxloop.project.history import History, Round, Suggested
from voxloop.volume import Volume


def a_round(**values) -> Round:
    return Round(time=datetime.now(UTC), image=0, n_labelled=2, n_strokes=2, **values)


@pytest.fixture
def project(tmp_path: Path):
    image = np.random.default_rng(0).normal(100, 5, (10, 20, 20))
    image[..., 10:] += 80
    volume = Volume.from_array(image.astype(np.uint8))
    with Project.create(tmp_path / "p.voxloop", volume, classes=["dark", "bright"]) as made:
        made.configure(
            slic={"size": 64.0},
            features={"sigmas": (0.7,), "families": ("gaussian",), "context": 0},
            classifier={"n_trees": 10, "smoothing": 0},
        )
        yield made


def test_rounds_outlive_the_process_that_saw_them(project: Project) -> None:
    seen = []
    for i in range(5):
        project.paint("dark", [(2 * i, 4 * i + 1, 2)])
        project.paint("bright", [(2 * i, 4 * i + 1, 17)])
        seen.append(project.predict().segmentation)
    rounds = project.history.rounds()
    assert [r.n_strokes for r in rounds] == [2, 4, 6, 8, 10]
    assert rounds[0].kappa is None
    sizes = project.supervoxels().sizes
    pairs = list(itertools.pairwise(seen))
    assert [r.kappa for r in rounds[1:]] == [cohen_kappa(a, b, sizes=sizes) for a, b in pairs]
    assert [r.change for r in rounds[1:]] == [(a != b).mean() for a, b in pairs]
    assert project.stop_signal().kappa == rounds[-1].kappa
    folder = project.folder
    project.close()
    with Project.open(folder) as again:
        assert again.history.entries == project.history.entries
        assert again.stop_signal() == project.stop_signal()


def test_three_rounds_that_change_nothing_say_stop(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    before = np.array([1, 1, 2, 2])
    after = np.array([1, 2, 2, 2])
    sizes = np.array([3, 1, 1, 1])
    for number, (old, new) in enumerate([(None, before), (before, after), (after, after), (after, after)]):
        history.add_round(0, n_labelled=number, n_strokes=number, before=old, after=new, sizes=sizes)
        assert not history.stop_signal().reached
    assert history.rounds()[1].change == 0.25
    assert history.rounds()[1].kappa == pytest.approx(1 - (1 / 6) / (1 - (4 / 6 * 3 / 6 + 2 / 6 * 3 / 6)))
    history.add_round(0, n_labelled=5, n_strokes=5, before=after, after=after, sizes=sizes)
    assert history.stop_signal().reached
    assert not history.stop_signal(1).reached


def test_another_forest_or_other_supervoxels_are_no_round_to_compare(project: Project) -> None:
    project.paint("dark", [(5, 3, 1)])
    project.paint("bright", [(5, 3, 19)])
    project.predict()
    project.configure(classifier={"n_trees": 11})
    project.predict()
    assert len(project.history.rounds()) == 1
    project.configure(slic={"size": 80.0})
    project.paint("bright", [(5, 9, 19)])
    project.predict()
    assert [r.kappa for r in project.history.rounds()] == [None, None]


def test_suggestions_are_remembered(project: Project) -> None:
    (found,) = project.suggest_slices()
    (plane,) = project.suggest_planes()
    first, second = project.history.entries
    assert isinstance(first, Suggested)
    assert (first.kind, first.axis, first.index, first.reason) == ("slice", found.axis, found.index, found.reason)
    assert isinstance(second, Suggested)
    assert (second.kind, second.normal, second.center) == ("plane", plane.normal, plane.center)


def test_a_torn_line_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.jsonl"
    History(path).add(a_round(kappa=0.5, change=0.25))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    with caplog.at_level(logging.WARNING):
        torn = History(path)
    assert "line 2 of history.jsonl is damaged" in caplog.text
    assert len(torn.entries) == 1
    torn.add(a_round(kappa=1.0, change=0.0))
    signal = History(path).stop_signal()
    assert signal == StopSignal().after_change(0.5, 0.25).after_change(1.0, 0.0)
    assert signal.expected_change == 0.125


def test_a_history_that_cannot_be_written_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "history.jsonl").mkdir()
    with caplog.at_level(logging.WARNING):
        history = History(tmp_path / "history.jsonl")
        history.add(a_round())
    assert "could not be added to" in caplog.text
    assert len(history.entries) == 1
    looked_at = History(tmp_path / "other.jsonl", read_only=True)
    looked_at.add(a_round())
    assert not (tmp_path / "other.jsonl").exists()
