"""Background jobs: one at a time, cancelled between two pieces of work, and every end is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from voxloop.errors import InputError, ProjectError
from voxloop.project.jobs import Jobs, JobState


class Told:
    def __init__(self) -> None:
        self.states: list[JobState] = []
        self.results: list[Any] = []
        self.jobs = Jobs(self.states.append)

    def run(self, work: Callable[[], Any]) -> JobState:
        self.jobs.start("work", work, self.results.append)
        assert self.jobs.wait(30)
        return self.states[-1]


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_job_tells_its_progress_and_hands_over_its_result(told: Told) -> None:
    def work() -> str:
        for done in range(5):
            told.jobs.progress("cutting", done, 4)
        return "pieces"

    end = told.run(work)
    assert end.status == "done"
    assert told.results == ["pieces"]
    assert [(s.stage, s.done, s.total) for s in told.states[1:-1]] == [("cutting", n, 4) for n in range(5)]
    assert told.states[1].seconds_left is None
    assert told.states[-2].seconds_left == 0


def test_cancel_stops_at_the_next_piece(told: Told) -> None:
    started, cancelled, pieces = threading.Event(), threading.Event(), []

    def work() -> None:
        started.set()
        assert cancelled.wait(30)
        for n in range(100):
            told.jobs.progress("cutting", n, 100)
            pieces.append(n)

    told.jobs.start("work", work, told.results.append)
    assert started.wait(30)
    told.jobs.cancel()
    cancelled.set()
    assert told.jobs.wait(30)
    assert [s.status for s in told.states] == ["running", "cancelling", "cancelled"]
    assert pieces == []
    assert told.results == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("spacing must be positive"), "spacing must be positive"),
        (KeyError("x"), "internal error: KeyError: 'x'"),
    ],
)
def test_a_failure_is_one_line(told: Told, error: Exception, message: str) -> None:
    def work() -> None:
        raise error

    end = told.run(work)
    assert (end.status, end.message) == ("failed", message)
    assert told.results == []


def test_one_job_at_a_time(told: Told) -> None:
    go_on = threading.Event()
    told.jobs.start("first", lambda: go_on.wait(30), told.results.append)
    with pytest.raises(ProjectError, match="first is still running"):
        told.jobs.start("second", lambda: None, told.results.append)
    go_on.set()
    assert told.jobs.wait(30)
    assert told.run(lambda: 2).status == "done"


def test_progress_of_other_threads_is_not_the_jobs(told: Told) -> None:
    told.run(lambda: None)
    before = list(told.states)
    told.jobs.cancel()
    told.jobs.progress("something else", 1, 2)
    assert told.states == before
