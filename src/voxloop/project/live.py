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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.active import neighbour_graph, top_uncertain, uncertainty
from voxloop.blocks import Executor
from voxloop.classify import (
    Classifier,
    Forest,
    LabelledImage,
    Opinions,
    Prediction,
    SupervoxelLabels,
    label_supervoxels,
)
from voxloop.errors import VoxloopError
from voxloop.project.training import fit_labels
from voxloop.specs import ClassifierSpec, QuerySpec
from voxloop.supervoxels import Supervoxels
from voxloop.supervoxels.extent import Extent
from voxloop.supervoxels.neighbourhood import within_hops
from voxloop.volume import Spacing

if TYPE_CHECKING:
    from voxloop.project.project import Project

logger = logging.getLogger(__name__)

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
    whole
        Whether all supervoxels are here, or only those that are on screen.
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
    whole: bool
    ids: NDArray[np.uint32]
    prediction: Prediction
    uncertainty: NDArray[np.float32]
    top: NDArray[np.uint32]
    seconds: float


@dataclass(frozen=True, eq=False)
class LiveProblem:
    """Why there is no new prediction, in one line: nothing labelled yet, or one class only."""

    request: LiveRequest
    labels: LiveLabels | None
    message: str


LiveResponse = LiveResult | LiveProblem


def answer(
    request: LiveRequest, *, executor: Executor | None = None, superseded: Callable[[], bool] = lambda: False
) -> Iterator[LiveResponse]:
    """Yield the responses to a request: what is on screen first, if that is worth it, then everything.

    Parameters
    ----------
    request
        What is asked.
    executor
        Runs the trees.
    superseded
        Whether a newer request waits: then the rest is not worth computing any more.
    """
    start = time.perf_counter()
    labels: LiveLabels | None = None
    try:
        labels = _labels(request)
        yield from _predictions(request, labels, executor, superseded, start)
    except VoxloopError as error:
        yield LiveProblem(request, labels, str(error))


def _labels(request: LiveRequest) -> LiveLabels:
    found = []
    for image, (indices, classes) in zip(request.images, request.strokes, strict=True):
        voxels = np.asarray(image.supervoxels.labels).reshape(-1)
        found.append(label_supervoxels(voxels[indices], classes))
    return LiveLabels(tuple(found))


def _predictions(
    request: LiveRequest,
    labels: LiveLabels,
    executor: Executor | None,
    superseded: Callable[[], bool],
    start: float,
) -> Iterator[LiveResult]:
    image = request.images[request.shown]
    opinions: dict[int, Opinions] = {}

    def opinions_of(index: int, first: Forest) -> Opinions:
        opinions[index] = Opinions(first, request.images[index].values, executor=executor)
        return opinions[index]

    classifier = fit_labels(
        labels.images,
        lambda index: request.images[index].labelled(labels.images[index]),
        request.class_names,
        request.classifier,
        opinions_of=opinions_of,
        executor=executor,
    )
    known = opinions.get(request.shown) or opinions_of(request.shown, classifier.first)
    classes = np.array(sorted(request.class_names), np.int32)
    graph, smoothing = image.supervoxels.graph, request.classifier.smoothing

    def result(ids: NDArray[np.uint32], *, whole: bool) -> LiveResult:
        prediction = Prediction.by(
            classifier, image.values, graph, classes,
            smoothing=smoothing, ids=ids, opinions=known, executor=executor,
        )  # fmt: skip
        unsure = uncertainty(prediction.probabilities, request.query.uncertainty)
        top = np.empty(0, np.uint32)
        if whole:
            top = top_uncertain(unsure, share=request.query.top_share, exclude=labels.images[request.shown].ids)
        return LiveResult(request, labels, classifier, whole, ids, prediction, unsure, top, time.perf_counter() - start)

    around = within_hops(graph, request.visible, smoothing + classifier.reach)
    if 0 < around.size <= _WORTH_TWO_STEPS * image.n:
        yield result(request.visible, whole=False)
        if superseded():
            return
    yield result(np.arange(1, image.n + 1, dtype=np.uint32), whole=True)


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
        while (request := self._next()) is not None:
            try:
                for response in answer(request, executor=self._executor, superseded=self._is_superseded):
                    if self._closed:
                        return
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
