"""A simulated session: first strokes, then round after round where the suggestions lead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from voxloop.active import SliceSuggestion
from voxloop.classify import Prediction
from voxloop.project import Project
from voxloop.simulate.annotator import SimulatedAnnotator, SimulatedStroke
from voxloop.simulate.score import Score, SupervoxelTruth


@dataclass(frozen=True)
class Round:
    """What happened in one round.

    Attributes
    ----------
    number
        0 for the first strokes.
    suggestion
        The slice that was labelled; None in round 0.
    strokes
        What was painted.
    n_labelled
        Labelled supervoxels, all rounds so far.
    prediction
        Of the image that is scored.
    score
        Its agreement with the truth.
    seconds
        From the strokes to the new prediction of both images and the next suggestion: what a user waits for.
    """

    number: int
    suggestion: SliceSuggestion | None
    strokes: tuple[SimulatedStroke, ...]
    n_labelled: int
    prediction: Prediction
    score: Score
    seconds: float


def run_session(
    project: Project,
    annotator: SimulatedAnnotator,
    truth: SupervoxelTruth,
    *,
    rounds: int,
    learn: int = 0,
    judge: int = 1,
) -> Iterator[Round]:
    """Yield round 0 and then `rounds` more: the annotator labels image `learn`, image `judge` is scored.

    Parameters
    ----------
    project
        With both images and the annotator's classes.
    annotator
        Knows the truth of image `learn`.
    truth
        The truth of image `judge`, by supervoxel.
    rounds
        How many suggestions are followed at most; fewer if none is left.
    learn, judge
        Indices of the two images.
    """
    labels = project.supervoxels(learn).labels
    suggestion, strokes = None, annotator.first_strokes()
    for number in range(rounds + 1):
        start = time.perf_counter()
        for stroke in strokes:
            project.paint(stroke.class_id, stroke.voxels, image=learn, source="simulated")
        prediction = project.predict(judge)
        following = project.suggest_slices(image=learn)
        seconds = time.perf_counter() - start
        n_labelled = project.label_summary().n_labelled
        yield Round(
            number, suggestion, tuple(strokes), n_labelled, prediction, truth.score(prediction.segmentation), seconds
        )
        if not following:
            return
        suggestion = following[0]
        cut: list[slice | int] = [slice(None)] * 3
        cut[suggestion.axis] = suggestion.index
        ids = np.asarray(labels[tuple(cut)])
        segmentation = np.concatenate([[0], project.predict(learn).segmentation])[ids]
        strokes = annotator.answer(suggestion, ids, segmentation)
