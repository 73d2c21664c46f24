"""Previews of settings on what is on screen, and the thread that computes only the newest."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxloop.app.latest import Latest
from voxloop.blocks import Box
from voxloop.errors import InputError
from voxloop.features import preview_feature

Desk = Any


@pytest.fixture
def calls() -> queue.SimpleQueue[Callable[[], None]]:
    return queue.SimpleQueue()


@pytest.fixture
def latest(calls: queue.SimpleQueue[Callable[[], None]]) -> Iterator[Latest]:
    made = Latest(calls.put, name="test")
    yield made
    made.close(5)


def test_only_the_newest_task_is_answered(latest: Latest, calls: Any) -> None:
    started, go, answers = threading.Event(), threading.Event(), []

    def slow() -> str:
        started.set()
        go.wait(5)
        latest.progress("", 0, 1)
        return "slow"

    latest.submit(slow, answers.append, answers.append)
    assert started.wait(5)
    latest.submit(lambda: "overtaken", answers.append, answers.append)
    latest.submit(lambda: "newest", answers.append, answers.append)
    go.set()
    calls.get(timeout=5)()
    assert answers == ["newest"]
    assert not latest.is_busy


def test_an_answer_that_nobody_waits_for_is_dropped(latest: Latest, calls: Any) -> None:
    answers: list[str] = []
    latest.submit(lambda: "done", answers.append, answers.append)
    call = calls.get(timeout=5)
    latest.forget()
    call()
    assert answers == []


@pytest.mark.parametrize(
    ("error", "line"), [(InputError("too small"), "too small"), (KeyError("x"), "internal error: KeyError: 'x'")]
)
def test_what_fails_is_one_line(latest: Latest, calls: Any, error: Exception, line: str) -> None:
    def fail() -> None:
        raise error

    said: list[str] = []
    latest.submit(fail, said.append, said.append)
    calls.get(timeout=5)()
    assert said == [line]


def test_a_feature_is_shown_on_the_visible_slice_and_follows_it(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    controller = desk.controller
    for z in (3, 7):
        desk.viewer.dims.set_point(0, controller.layers.labels.scale[0] * z)
        if z == 3:
            controller.previews.feature("gaussian", 1.6)
        desk.until(lambda: not controller.previews.is_busy)
        layer = desk.viewer.layers["preview"]
        expected = preview_feature(controller.layers.image.volume, "gaussian", 1.6, Box((z, 0, 0), (z + 1, 64, 64)))
        assert np.array_equal(layer.data, expected[0])
        assert np.allclose(layer.world_to_data(desk.viewer.dims.point)[0], 0)
    assert desk.viewer.layers.selection.active is controller.layers.labels
    controller.previews.clear()
    assert "preview" not in desk.viewer.layers
    assert desk.said == []


def test_the_outlines_that_the_settings_would_give_are_shown_around_the_view(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    controller = desk.controller
    controller.configure(slic={"n_segments": None, "size": 100.0})
    desk.viewer.dims.set_point(0, controller.layers.labels.scale[0] * 9)
    drawn, shown, steps = [], set(), desk.viewer.dims.range
    for compactness in (0.1, 3.0):
        controller.configure(slic={"compactness": compactness})
        controller.previews.supervoxels()
        desk.until(lambda: not controller.previews.is_busy)
        layer = desk.viewer.layers["preview"]
        drawn.append(layer.data[9])
        shown.add(layer)
        assert layer.data.shape == (16, 64, 64)  # less than a slab: all of it
        assert desk.viewer.dims.range == steps  # the sliders stay as they are
    assert 0.1 < drawn[0].mean() < 0.9
    assert not np.array_equal(*drawn)
    assert len(shown) == 1
    controller.compute("supervoxels")
    desk.idle()
    assert "preview" not in desk.viewer.layers
