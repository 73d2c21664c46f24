"""Live updates: labels go in as a frozen request, what the classifier says of them comes out as frozen responses.

``stroke -> append -> submit(request) -> worker: fit, predict what is on screen, then the rest -> deliver(response)``.
Nobody waits for anybody: `LiveUpdates.submit` returns at once, a newer request replaces one that waits, and each
request carries all that it needs, so that there is nothing to lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.active import neighbour_graph, top_uncertain, uncertainty
from voxloop.blocks import Executor
from voxloop.classify import (
    Classifier,
    LabelledImage,
    Opinions,
    Prediction,
    SupervoxelLabels,
    fit_classifier,
    fit_first,
    label_supervoxels,
)
from voxloop.errors import VoxloopError
from voxloop.project.training import check_labels
from voxloop.specs import ClassifierSpec, QuerySpec
from voxloop.supervoxels import Supervoxels
from voxloop.supervoxels.extent import Extent
from voxloop.supervoxels.neighbourhood import within_hops
from voxloop.volume import Spacing

if TYPE_CHECKING:
    from voxloop.project.project import Project

logger = logging.getLogger(__name__)

LiveState = Literal["whole", "visible", "provisional"]

# When the supervoxels on screen and their neighbours are more than this share of all, predicting them first and the
# rest afterwards takes longer than predicting everything at once.
_WORTH_TWO_STEPS = 0.4


@dataclass(frozen=True, eq=False)
class LiveImage:
    """The tables of one image that live updates work on; nothing here changes any more.

    Attributes
    ----------
    supervoxels
        Labels, centres and graph.
    values
        (n, f) float32 features.
    extent
        Which slices the supervoxels meet.
    spacing
        Size of a voxel (z, y, x).
    """

    supervoxels: Supervoxels
    values: NDArray[np.float32]
    extent: Extent
    spacing: Spacing

    @classmethod
    def of(cls, project: Project, image: int) -> LiveImage:
        """Return the tables of an image of `project`; what is missing or stale is computed first."""
        return cls(
            project.supervoxels(image),
            project.features(image).values,
            project.extent(image),
            project.images[image].spacing,
        )

    @property
    def n(self) -> int:
        """Number of supervoxels."""
        return self.supervoxels.n

    @cached_property
    def neighbours(self) -> sparse.csr_array:
        """The walk between neighbouring supervoxels, see `neighbour_graph`; made when first asked for."""
        return neighbour_graph(self.supervoxels.centers, spacing=self.spacing)

    def labelled(self, labels: SupervoxelLabels) -> LabelledImage:
        """Return what is learned from the image with these labels."""
        return LabelledImage.of(labels, self.values, self.supervoxels, self.spacing)


@dataclass(frozen=True, eq=False)
class LiveRequest:
    """All that an update depends on, as it was when a stroke ended.

    Attributes
    ----------
    number
        Counts the requests.
    images
        The tables of all images of the project.
    strokes
        Labelled voxels of each image: linear indices and classes, as `Annotations.labelled_voxels` gives them.
    class_names
        Names of the classes by id.
    classifier, query
        The specs to follow.
    shown
        Index of the image that is on screen: the one to predict.
    visible
        Its supervoxels that are on screen, predicted first; none if empty.
    """

    number: int
    images: tuple[LiveImage, ...]
    strokes: tuple[tuple[NDArray[np.int64], NDArray[np.uint16]], ...]
    class_names: dict[int, str]
    classifier: ClassifierSpec
    query: QuerySpec
    shown: int
    visible: NDArray[np.uint32]

    @classmethod
    def of(
        cls, project: Project, images: tuple[LiveImage, ...], *, number: int, shown: int, visible: NDArray[np.uint32]
    ) -> LiveRequest:
        """Return the request for the labels and specs of `project` as they are now."""
        return cls(
            number=number,
            images=images,
            strokes=tuple(project.annotations.labelled_voxels(index) for index in range(len(images))),
            class_names=project.class_names,
            classifier=project.specs.classifier,
            query=project.specs.query,
            shown=shown,
            visible=visible,
        )


@dataclass(frozen=True, eq=False)
class LiveLabels:
    """Which supervoxels the strokes of all images label.

    Attributes
    ----------
    images
        The labelled supervoxels of each image.
    """

    images: tuple[SupervoxelLabels, ...]

    @property
    def n_labelled(self) -> int:
        """Number of labelled supervoxels."""
        return sum(labels.n for labels in self.images)

    @property
    def n_conflicts(self) -> int:
        """Number of supervoxels with strokes of two or more classes."""
        return sum(len(labels.conflicts) for labels in self.images)

    @property
    def n_outside(self) -> int:
        """Number of labelled voxels outside the mask."""
        return sum(labels.n_outside for labels in self.images)

    def count(self, class_id: int) -> int:
        """Return the number of supervoxels labelled as `class_id`."""
        return sum(labels.count(class_id) for labels in self.images)


@dataclass(frozen=True, eq=False)
class LiveResult:
    """What the classifier says of some supervoxels of the image on screen, or of all.

    Attributes
    ----------
    request
        What was asked.
    labels
        The labelled supervoxels.
    classifier
        What was learned from them.
    state
        ``"whole"``: all supervoxels are here; ``"visible"``: those that are on screen, as they will be in the whole;
        ``"provisional"``: these as a new first forest sees them, with all else as the labels before taught it.
    ids
        (m,) uint32, sorted.
    prediction
        Probabilities (m, k) of the classes.
    uncertainty
        (m,) float32.
    top
        Supervoxels to highlight, most uncertain first; empty before the whole is there.
    seconds
        Time since the request was taken up.
    """

    request: LiveRequest
    labels: LiveLabels
    classifier: Classifier
    state: LiveState
    ids: NDArray[np.uint32]
    prediction: Prediction
    uncertainty: NDArray[np.float32]
    top: NDArray[np.uint32]
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether all supervoxels are here."""
        return self.state == "whole"


@dataclass(frozen=True, eq=False)
class LiveProblem:
    """Why there is no new prediction, in one line: nothing labelled yet, or one class only."""

    request: LiveRequest
    labels: LiveLabels | None
    message: str


LiveResponse = LiveResult | LiveProblem


def answer(
    request: LiveRequest,
    *,
    before: Classifier | None = None,
    executor: Executor | None = None,
    superseded: Callable[[], bool] = lambda: False,
) -> Iterator[LiveResponse]:
    """Yield the responses to a request: what is on screen first, if that is worth it, then everything.

    Parameters
    ----------
    request
        What is asked.
    before
        What the labels before taught. What is on screen is then shown as soon as there is a new first forest; the
        second one and the calibration are still those of `before`, until everything comes.
    executor
        Runs the trees.
    superseded
        Whether a newer request waits: then the rest is not worth computing any more.
    """
    start = time.perf_counter()
    labels: LiveLabels | None = None
    try:
        labels = _labels(request)
        check_labels(labels.images, request.class_names)
        yield from _Update(request, labels, executor, start).results(before, superseded)
    except VoxloopError as error:
        yield LiveProblem(request, labels, str(error))


def _labels(request: LiveRequest) -> LiveLabels:
    found = []
    for image, (indices, classes) in zip(request.images, request.strokes, strict=True):
        voxels = np.asarray(image.supervoxels.labels).reshape(-1)
        found.append(label_supervoxels(voxels[indices], classes))
    return LiveLabels(tuple(found))


@dataclass(frozen=True, eq=False)
class _Update:
    """One answer in the making."""

    request: LiveRequest
    labels: LiveLabels
    executor: Executor | None
    start: float

    def results(self, before: Classifier | None, superseded: Callable[[], bool]) -> Iterator[LiveResult]:
        request, image = self.request, self.request.images[self.request.shown]
        labelled = [index for index, of_image in enumerate(self.labels.images) if of_image.n]
        images = [request.images[index].labelled(self.labels.images[index]) for index in labelled]
        first = fit_first(images, request.classifier, executor=self.executor)
        opinions = {
            index: Opinions(first, request.images[index].values, executor=self.executor)
            for index in {*labelled, request.shown}
        }
        shown = opinions[request.shown]
        fits = before is not None and before.classes.tolist() == first.classes.tolist()
        if before is not None and fits and self._is_worth_two_steps(before):
            yield self._result(before.with_first(first), shown, request.visible, state="provisional")
            if superseded():
                return
        classifier = fit_classifier(
            images,
            request.classifier,
            first=first,
            opinions_of=lambda position, _: opinions[labelled[position]],
            executor=self.executor,
        )
        if not fits and self._is_worth_two_steps(classifier):
            yield self._result(classifier, shown, request.visible, state="visible")
            if superseded():
                return
        yield self._result(classifier, shown, np.arange(1, image.n + 1, dtype=np.uint32), state="whole")

    def _is_worth_two_steps(self, classifier: Classifier) -> bool:
        """Whether what is on screen, with all that it depends on, is so little that it should not wait for the rest."""
        image = self.request.images[self.request.shown]
        around = within_hops(image.supervoxels.graph, self.request.visible, classifier.reach)
        return 0 < around.size <= _WORTH_TWO_STEPS * image.n

    def _result(
        self, classifier: Classifier, opinions: Opinions, ids: NDArray[np.uint32], *, state: LiveState
    ) -> LiveResult:
        request, image = self.request, self.request.images[self.request.shown]
        prediction = Prediction.by(
            classifier,
            image.values,
            image.supervoxels.graph,
            np.array(sorted(request.class_names), np.int32),
            ids=ids,
            opinions=opinions,
            executor=self.executor,
        )
        unsure = uncertainty(prediction.probabilities, request.query.uncertainty)
        top = np.empty(0, np.uint32)
        if state == "whole":
            top = top_uncertain(unsure, share=request.query.top_share, exclude=self.labels.images[request.shown].ids)
        seconds = time.perf_counter() - self.start
        return LiveResult(request, self.labels, classifier, state, ids, prediction, unsure, top, seconds)


class LiveUpdates:
    """Answers requests in a thread of its own, always the newest one next.

    A result that a newer request has overtaken while it was computed is still delivered for what is on screen, since
    somebody who paints without a pause would otherwise never see one; the rest of it is not computed.

    Parameters
    ----------
    deliver
        Called with each response, in the thread.
    executor
        Runs the trees.
    debounce
        Seconds without a new request before the newest one is taken up, so that a quick series of strokes costs one
        update.
    """

    def __init__(
        self, deliver: Callable[[LiveResponse], None], *, executor: Executor | None = None, debounce: float = 0.05
    ) -> None:
        self._deliver = deliver
        self._executor = executor
        self._debounce = debounce
        self._changed = threading.Condition()
        self._waiting: LiveRequest | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="voxloop-live", daemon=True)
        self._thread.start()

    def submit(self, request: LiveRequest) -> None:
        """Ask for an update; returns at once. A request that still waits is forgotten."""
        with self._changed:
            self._waiting = request
            self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Deliver nothing more, and wait for what is under way for at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        before: Classifier | None = None
        while (request := self._next()) is not None:
            try:
                for response in answer(request, before=before, executor=self._executor, superseded=self._is_superseded):
                    if self._closed:
                        return
                    if isinstance(response, LiveResult) and response.state != "provisional":
                        before = response.classifier
                    self._deliver(response)
            except Exception as error:
                # A fault must not end the thread: the user goes on painting, and the strokes are safe.
                logger.exception("a live update failed")
                self._deliver(LiveProblem(request, None, f"internal error: {type(error).__name__}: {error}"))

    def _next(self) -> LiveRequest | None:
        """Return the newest request once no other has come for a while; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._closed)
            newest = None
            while newest is not self._waiting and not self._closed:
                newest = self._waiting
                self._changed.wait_for(self._is_newer_than(newest), self._debounce)
            self._waiting = None
            return None if self._closed else newest

    def _is_newer_than(self, request: LiveRequest | None) -> Callable[[], bool]:
        return lambda: self._waiting is not request or self._closed

    def _is_superseded(self) -> bool:
        return self._waiting is not None or self._closed
