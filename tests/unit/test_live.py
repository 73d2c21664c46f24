"""Live updates: the bits of a project's own prediction, newest request first, and problems as a line of text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import shortest_path

from voxloop.blocks import SerialExecutor
from voxloop.errors import InputError
from voxloop.project import Project
from voxloop.project import live as live_module
from voxloop.project.live import (
    LiveImage,
    LiveProblem,
    LiveRequest,
    LiveResponse,
    LiveResult,
    LiveUpdates,
    answer,
)
from voxloop.samples import phantom
from voxloop.specs import FeatureSpec, SlicSpec
from voxloop.supervoxels.neighbourhood import induced_graph, within_hops

# Long, so that what the classifier and the smoothing see around one end is not all of it.
SHAPE = (12, 24, 256)


@pytest.fixture(scope="module", params=[False, True], ids=["one forest", "autocontext"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("live") / "cells.voxloop"
    image = phantom(SHAPE, seed=1).image
    made = Project.create(folder, image, classes=["background", "mitochondria"], executor=SerialExecutor())
    with made as project:
        project.configure(
            slic=SlicSpec(n_segments=800),
            features=FeatureSpec(sigmas=(1.0,), families=("gaussian",), context=0, regions=()),
            classifier={"n_trees": 10, "smoothing": 1, "autocontext": request.param},
        )
        yield project


@pytest.fixture
def image(project: Project) -> LiveImage:
    return LiveImage.of(project, 0)


@pytest.fixture
def left_end(image: LiveImage) -> NDArray[np.uint32]:
    return (np.flatnonzero(image.supervoxels.centers[:, 2] < 8) + 1).astype(np.uint32)


def paint(project: Project) -> None:
    project.clear_labels()
    project.paint("background", [(2, 5, x) for x in range(4, 90)])
    project.paint("mitochondria", [(6, 18, x) for x in range(4, 90)])


def ask(
    project: Project, image: LiveImage, *, number: int = 1, visible: NDArray[np.uint32] | tuple[()] = ()
) -> LiveRequest:
    ids = np.asarray(visible, np.uint32)
    return LiveRequest.of(project, (image,), number=number, shown=0, visible=ids)


def test_the_whole_has_the_bits_of_the_project(project: Project, image: LiveImage) -> None:
    paint(project)
    (result,) = answer(ask(project, image))
    expected = project.predict()
    assert isinstance(result, LiveResult)
    assert result.whole
    assert np.array_equal(result.ids, np.arange(1, image.n + 1))
    assert np.array_equal(result.prediction.probabilities, expected.probabilities)
    assert np.array_equal(result.uncertainty, project.uncertainty())
    assert np.array_equal(result.top, project.top_uncertain())
    assert result.labels.n_labelled == project.label_summary().n_labelled
    assert result.labels.count(2) == project.label_summary().counts["mitochondria"]


def test_what_is_on_screen_comes_first_and_has_the_bits_of_the_whole(
    project: Project, image: LiveImage, left_end: NDArray[np.uint32]
) -> None:
    paint(project)
    first, second = answer(ask(project, image, visible=left_end))
    assert isinstance(first, LiveResult)
    assert isinstance(second, LiveResult)
    assert not first.whole
    assert second.whole
    assert np.array_equal(first.ids, left_end)
    assert np.array_equal(first.prediction.probabilities, second.prediction.probabilities[left_end - 1])
    assert np.array_equal(first.uncertainty, second.uncertainty[left_end - 1])
    assert first.top.size == 0


def test_what_the_labels_before_taught_lets_what_is_on_screen_come_sooner(
    project: Project, image: LiveImage, left_end: NDArray[np.uint32]
) -> None:
    paint(project)
    (last,) = answer(ask(project, image))
    assert isinstance(last, LiveResult)
    project.paint("mitochondria", [(8, 18, x) for x in range(4, 60)])
    quick, whole = answer(ask(project, image, visible=left_end), before=last.classifier)
    assert isinstance(quick, LiveResult)
    assert isinstance(whole, LiveResult)
    assert (quick.state, whole.state) == ("provisional", "whole")
    assert np.array_equal(quick.ids, left_end)
    assert quick.classifier.second is last.classifier.second
    assert quick.classifier.first.to_arrays().keys() == whole.classifier.first.to_arrays().keys()
    assert np.array_equal(quick.classifier.first.threshold, whole.classifier.first.threshold)
    assert np.array_equal(whole.prediction.probabilities, project.predict().probabilities)
    wanted = whole.prediction.probabilities[left_end - 1]
    kept = last.prediction.probabilities[left_end - 1]
    assert np.abs(quick.prediction.probabilities - wanted).mean() < np.abs(kept - wanted).mean()


def test_a_class_that_was_not_known_before_waits_for_what_it_teaches(
    project: Project, image: LiveImage, left_end: NDArray[np.uint32]
) -> None:
    paint(project)
    (last,) = answer(ask(project, image))
    assert isinstance(last, LiveResult)
    other = replace(last.classifier, first=replace(last.classifier.first, classes=np.array([1, 3], np.int32)))
    states = [r.state for r in answer(ask(project, image, visible=left_end), before=other) if isinstance(r, LiveResult)]
    assert states == ["visible", "whole"]


def test_when_most_is_on_screen_all_comes_at_once(project: Project, image: LiveImage) -> None:
    paint(project)
    (only,) = answer(ask(project, image, visible=np.arange(1, image.n + 1, dtype=np.uint32)))
    assert isinstance(only, LiveResult)
    assert only.whole


def test_the_rest_is_not_computed_for_nobody(project: Project, image: LiveImage, left_end: NDArray[np.uint32]) -> None:
    paint(project)
    responses = list(answer(ask(project, image, visible=left_end), superseded=lambda: True))
    assert [r.whole for r in responses if isinstance(r, LiveResult)] == [False]


@pytest.mark.parametrize("hops", [0, 1, 3])
def test_within_hops_is_the_distance_in_the_graph(image: LiveImage, hops: int) -> None:
    graph = image.supervoxels.graph
    distance = shortest_path(graph.matrix() > 0, unweighted=True, indices=[4, 99]).min(axis=0)
    found = within_hops(graph, np.array([5, 100], np.uint32), hops)
    assert found.tolist() == (np.flatnonzero(distance <= hops) + 1).tolist()


def test_induced_graph_keeps_contacts_and_areas(image: LiveImage) -> None:
    graph = image.supervoxels.graph
    ids = np.arange(10, 90, 2, dtype=np.uint32)
    part = induced_graph(graph, ids).matrix().toarray()
    assert np.array_equal(part, graph.matrix().toarray()[np.ix_(ids - 1, ids - 1)])


def test_a_class_alone_and_no_labels_are_a_line_of_text(project: Project, image: LiveImage) -> None:
    project.clear_labels()
    (nothing,) = answer(ask(project, image))
    project.paint("background", [(2, 5, 5)])
    (one,) = answer(ask(project, image))
    assert isinstance(nothing, LiveProblem)
    assert isinstance(one, LiveProblem)
    assert nothing.message == "there are no labels to train on"
    assert one.message == "all labels are 'background'; training needs labels of two classes at least"
    assert one.labels is not None
    assert one.labels.n_labelled == 1


def test_requests_keep_what_they_were_made_with(project: Project, image: LiveImage) -> None:
    paint(project)
    before = ask(project, image)
    project.clear_labels()
    (result,) = answer(before)
    assert isinstance(result, LiveResult)
    assert result.labels.n_labelled > 0
    with pytest.raises(ValueError, match="read-only"):
        before.strokes[0][0][0] = 0


class Inbox:
    """Collects responses and lets a test wait for them."""

    def __init__(self) -> None:
        self.responses: list[LiveResponse] = []
        self._arrived = threading.Condition()

    def __call__(self, response: LiveResponse) -> None:
        with self._arrived:
            self.responses.append(response)
            self._arrived.notify_all()

    def wait_for(self, number: int) -> LiveResponse:
        def found() -> list[LiveResponse]:
            ended = (r for r in self.responses if isinstance(r, LiveProblem) or r.whole)
            return [r for r in ended if r.request.number == number]

        with self._arrived:
            assert self._arrived.wait_for(found, timeout=60), f"no response to request {number}"
            return found()[0]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def test_a_series_of_strokes_costs_one_update(project: Project, image: LiveImage, inbox: Inbox) -> None:
    paint(project)
    updates = LiveUpdates(inbox, executor=SerialExecutor(), debounce=0.2)
    for number in range(1, 6):
        updates.submit(ask(project, image, number=number))
    inbox.wait_for(5)
    updates.close()
    assert {r.request.number for r in inbox.responses} == {5}


def test_the_worker_survives_a_fault(
    project: Project, image: LiveImage, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("of our own")

    paint(project)
    updates = LiveUpdates(inbox, executor=SerialExecutor(), debounce=0)
    with monkeypatch.context() as patch:
        patch.setattr(live_module, "fit_classifier", fail)
        updates.submit(ask(project, image, number=1))
        problem = inbox.wait_for(1)
    updates.submit(ask(project, image, number=2))
    result = inbox.wait_for(2)
    updates.close()
    assert isinstance(problem, LiveProblem)
    assert problem.message == "internal error: ZeroDivisionError: of our own"
    assert isinstance(result, LiveResult)


def test_nothing_is_delivered_after_closing_and_the_thread_ends(
    project: Project, image: LiveImage, inbox: Inbox
) -> None:
    paint(project)
    updates = LiveUpdates(inbox, executor=SerialExecutor(), debounce=30)
    updates.submit(ask(project, image))
    updates.close()
    assert inbox.responses == []
    assert "voxloop-live" not in {thread.name for thread in threading.enumerate()}


def test_submit_never_waits_for_a_slow_update(
    project: Project,
    image: LiveImage,
    left_end: NDArray[np.uint32],
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paint(project)
    started, release = threading.Event(), threading.Event()
    fit = live_module.fit_classifier

    def slow(*arguments: object, **options: object) -> object:
        started.set()
        assert release.wait(60)
        return fit(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(live_module, "fit_classifier", slow)
    updates = LiveUpdates(inbox, executor=SerialExecutor(), debounce=0)
    updates.submit(ask(project, image, number=1, visible=left_end))
    assert started.wait(60)
    for number in range(2, 50):
        updates.submit(ask(project, image, number=number, visible=left_end))
    release.set()
    inbox.wait_for(49)
    updates.close()
    # What the first request wanted on screen was still shown; the rest of it, and 2 to 48, nobody wanted any more.
    answered = [(r.request.number, r.whole) for r in inbox.responses if isinstance(r, LiveResult)]
    assert answered == [(1, False), (49, False), (49, True)]


def test_live_image_needs_an_image_of_the_project(project: Project) -> None:
    with pytest.raises(InputError, match="image is 7"):
        LiveImage.of(project, 7)
