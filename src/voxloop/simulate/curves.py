"""Learning curves: how good the segmentation of one part of a volume is after so many inputs on the other part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from voxloop.active import QueryState
from voxloop.blocks import Executor, SerialExecutor
from voxloop.classify import (
    Classifier,
    Forest,
    Opinions,
    Prediction,
    SupervoxelLabels,
    fit_classifier,
    label_supervoxels,
)
from voxloop.errors import InputError
from voxloop.simulate.answers import Answer, answer_supervoxels, make_dialogue
from voxloop.simulate.score import Score
from voxloop.simulate.tables import ImageTables
from voxloop.specs import ClassifierSpec, PositiveFloat, Spec

FULL_LABELS = 20_000  # supervoxels that "fully labelled" trains on at most: more change little and take minutes


class SimulationSpec(Spec):
    """How long a simulated person labels, and from where.

    The person begins with `start_per_class` supervoxels of each class, drawn at random, one input each; with 0 of
    them, with nothing (a cold start). Then come `rounds` times `inputs_per_round` inputs, with a new prediction
    whenever the inputs of a round are used up. `radius` is that of a patch, in voxels of the
    finest axis.
    """

    rounds: Annotated[int, Field(ge=1)] = 20
    inputs_per_round: Annotated[int, Field(ge=1)] = 10
    start_per_class: Annotated[int, Field(ge=0)] = 5
    radius: PositiveFloat = 12.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @property
    def n_inputs(self) -> int:
        """Inputs after the start."""
        return self.rounds * self.inputs_per_round


class CurvePoint(Spec):
    """One point of a learning curve.

    Attributes
    ----------
    strategy, repeat
        Which curve.
    round
        0 for the start.
    inputs
        Clicks and strokes so far.
    labelled
        Supervoxels labelled so far.
    wrong
        Of these, those whose label is not the class of most of their voxels.
    measures
        How good the segmentation of the scored part is; see `Task.measure`.
    """

    strategy: str
    repeat: int
    round: int
    inputs: int
    labelled: int
    wrong: int
    measures: dict[str, float]


@dataclass(frozen=True, eq=False)
class Task:
    """What is learned and scored.

    Attributes
    ----------
    learn, judge
        The part that is labelled, and the part that is scored.
    class_names
        Names of the classes 1..k.
    """

    learn: ImageTables
    judge: ImageTables
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        k = len(self.class_names)
        highest = max(int(self.learn.truth.max()), int(self.judge.truth.max()))
        if highest > k:
            raise InputError(f"class_names has {k} entries but truth holds class {highest}")
        if np.unique(self.learn.majority[self.learn.majority > 0]).size < 2:
            raise InputError("the part to label must hold supervoxels of two classes at least")

    @property
    def classes(self) -> NDArray[np.int32]:
        """(k,) ids of the classes."""
        return np.arange(1, len(self.class_names) + 1, dtype=np.int32)

    @property
    def main_measure(self) -> str:
        """What a curve shows if nobody asks for something else: IoU of the foreground, or the mean of many classes."""
        return f"iou {self.class_names[1]}" if len(self.class_names) == 2 else "mean_iou"

    def measure(self, prediction: Prediction) -> dict[str, float]:
        """Return how good a prediction of the scored part is.

        ``mean_iou`` and ``mean_dice``; ``iou NAME`` and ``dice NAME`` of each class in the scored part; and ``best_iou
        NAME``, see `SupervoxelTruth.best_iou`.
        """
        table = self.judge.truth_table
        score = table.score(prediction.segmentation)
        best = {c: table.best_iou(prediction.probabilities[:, c - 1], c) for c in score.classes}
        return self._named(score) | {f"best_iou {self.class_names[c - 1]}": iou for c, iou in best.items()}

    @property
    def oracle(self) -> dict[str, float]:
        """The measures of the best segmentation that the supervoxels of the scored part allow."""
        return self._named(self.judge.truth_table.oracle())

    def _named(self, score: Score) -> dict[str, float]:
        named = {"mean_iou": score.mean_iou, "mean_dice": score.mean_dice}
        for kind, values in (("iou", score.iou), ("dice", score.dice)):
            named |= {f"{kind} {self.class_names[c - 1]}": v for c, v in zip(score.classes, values, strict=True)}
        return named


@dataclass(frozen=True)
class _Opinion:
    """What the labels taught: of the part to label, if there is a classifier, and how good it is on the other."""

    classifier: Classifier | None
    learned: Prediction | None
    measures: dict[str, float]


def run_curve(
    task: Task,
    strategy: str,
    *,
    repeat: int = 0,
    spec: SimulationSpec | None = None,
    classifier: ClassifierSpec | None = None,
    executor: Executor | None = None,
) -> Iterator[CurvePoint]:
    """Yield the points of one learning curve, from the start until the inputs are used up or nothing is left to ask.

    Parameters
    ----------
    task
        What is learned and scored.
    strategy
        A name that `make_dialogue` knows.
    repeat
        Which of the repetitions: start, questions and forests are drawn anew. The same repeat of two strategies has
        the same start.
    spec
        How long and from where.
    classifier
        The classifier; its seed is not used.
    executor
        Grows trees and predicts; the points do not depend on it.

    Raises
    ------
    InputError
        If the strategy is unknown or does not fit the image.
    """
    spec, classifier = spec or SimulationSpec(), classifier or ClassifierSpec()
    executor = executor or SerialExecutor()
    starting, asking, forest = np.random.SeedSequence([spec.seed, repeat]).spawn(3)
    classifier = classifier.changed(seed=int(forest.generate_state(1)[0]))
    dialogue = make_dialogue(strategy, task.learn, rng=np.random.default_rng(asking), radius=spec.radius)
    answers = _start(task.learn, spec.start_per_class, np.random.default_rng(starting))
    inputs = n_start = sum(answer.n_inputs for answer in answers)
    total = n_start + spec.n_inputs
    number = 0
    while True:
        labels = _labels_of(answers)
        opinion = _learn(task, labels, classifier, executor)
        if answers:
            yield CurvePoint(
                strategy=strategy, repeat=repeat, round=number, inputs=inputs, labelled=labels.n,
                wrong=_count_wrong(task.learn, labels),
                measures=opinion.measures,
            )  # fmt: skip
        if inputs >= total:
            return
        state = _state(task.learn, labels, opinion, progress=(inputs - n_start) / spec.n_inputs)
        answer = dialogue.answer(state, min(spec.inputs_per_round, total - inputs))
        if answer is None:
            return
        answers.append(answer)
        inputs += answer.n_inputs
        number += 1


def score_fully_labelled(
    task: Task, *, seed: int = 0, classifier: ClassifierSpec | None = None, executor: Executor | None = None
) -> dict[str, float]:
    """Return the measures of what labelling the whole part comes to, which strategies are held against.

    Every supervoxel has the class of most of its voxels. Above 20,000 supervoxels as many are drawn at random.
    """
    classifier = (classifier or ClassifierSpec()).changed(seed=seed)
    ids = task.learn.known_ids
    if ids.size > FULL_LABELS:
        ids = np.sort(np.random.default_rng(seed).choice(ids, FULL_LABELS, replace=False))
    labels = _labels_of([answer_supervoxels(task.learn, ids)])
    return _learn(task, labels, classifier, executor or SerialExecutor()).measures


def _start(tables: ImageTables, per_class: int, rng: np.random.Generator) -> list[Answer]:
    """Return the labels of some supervoxels of each class; of all of them if a class has fewer."""
    if per_class == 0:
        return []
    chosen = []
    for class_id in np.unique(tables.majority[tables.majority > 0]):
        of_class = np.flatnonzero(tables.majority == class_id) + 1
        chosen.append(rng.choice(of_class, min(per_class, of_class.size), replace=False))
    return [answer_supervoxels(tables, np.concatenate(chosen).astype(np.uint32))]


def _labels_of(answers: list[Answer]) -> SupervoxelLabels:
    if not answers:
        return label_supervoxels([], [])
    return label_supervoxels(
        np.concatenate([answer.supervoxels for answer in answers]),
        np.concatenate([answer.classes for answer in answers]),
    )


def _count_wrong(tables: ImageTables, labels: SupervoxelLabels) -> int:
    return int(np.count_nonzero(tables.majority[labels.ids.astype(np.int64) - 1] != labels.classes))


def _learn(task: Task, labels: SupervoxelLabels, spec: ClassifierSpec, executor: Executor) -> _Opinion:
    """Return what the labels teach; with labels of one class only, that everything is of that class."""
    learn, judge = task.learn, task.judge
    known = np.unique(labels.classes)
    if known.size < 2:
        column = known[0] if known.size else 1
        certain = np.tile(np.eye(task.classes.size, dtype=np.float32)[column - 1], (judge.supervoxels.n, 1))
        return _Opinion(None, None, task.measure(Prediction(certain, task.classes)))
    kept: list[Opinions] = []

    def keep(_: int, first: Forest) -> Opinions:
        kept.append(Opinions(first, learn.values, executor=executor))
        return kept[-1]

    classifier = fit_classifier([learn.labelled(labels)], spec, opinions_of=keep, executor=executor)
    learned, judged = (
        Prediction.by(
            classifier, part.values, part.supervoxels.graph, task.classes,
            opinions=opinions, executor=executor,
        )
        for part, opinions in ((learn, kept[0] if kept else None), (judge, None))
    )  # fmt: skip
    return _Opinion(classifier, learned, task.measure(judged))


def _state(tables: ImageTables, labels: SupervoxelLabels, opinion: _Opinion, *, progress: float) -> QueryState:
    return QueryState(
        features=tables.values,
        centers=tables.supervoxels.centers,
        graph=tables.walk,
        labels=labels,
        prediction=opinion.learned,
        forest=opinion.classifier.first if opinion.classifier else None,
        spacing=tables.spacing,
        candidates=tables.known_ids,
        progress=min(progress, 1.0),
    )
