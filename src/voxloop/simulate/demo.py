"""The main job from end to end on a volume with known truth: a project, a simulated session, pictures of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxloop.active import top_uncertain, uncertainty
from voxloop.blocks import Executor, Progress
from voxloop.classify import look_up
from voxloop.errors import InputError
from voxloop.project import Project
from voxloop.samples import Sample
from voxloop.simulate.annotator import SimulatedAnnotator
from voxloop.simulate.pictures import SessionScores, SuggestedSlice, draw_learning_curve, draw_overview
from voxloop.simulate.score import Score, SupervoxelTruth
from voxloop.simulate.session import Round, run_session
from voxloop.volume import ArrayLike

LEARN, JUDGE = 0, 1
PICTURE_SIDE = 320  # pixels of a slice that the overview shows: in more, supervoxels could not be told apart
_FOLDER_NOTE = "made by voxloop demo"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found and wrote.

    Attributes
    ----------
    rounds
        Round 0 and those that followed.
    oracle
        Score of the best that these supervoxels allow.
    files
        What was written, by what it is.
    """

    rounds: list[Round]
    oracle: Score
    files: dict[str, Path]


def run_demo(
    sample: Sample,
    out: Path,
    *,
    rounds: int = 10,
    seed: int = 0,
    n_learn: int | None = None,
    specs: dict[str, Any] | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    report: Callable[[Project, Round], None] = lambda _project, _round: None,
) -> DemoResult:
    """Segment the second part of a sample with strokes on its first part, and write the results to a folder.

    Parameters
    ----------
    sample
        The image with its truth.
    out
        Folder for the results; one of an earlier demo is replaced.
    rounds
        Suggestions to follow.
    seed
        Of the annotator and the classifier; the same seed gives the same bytes.
    n_learn
        Slices along z (along y for a 2D image) that are labelled; the rest is scored. By default half.
    specs
        Choices for `Project.configure`.
    executor, progress
        As for `Project.open`.
    report
        Called with the project and each round.

    Raises
    ------
    InputError
        If `out` is a folder that no demo made, or the sample cannot be split.
    """
    if rounds < 1:
        raise InputError(f"rounds must be 1 or more, not {rounds}")
    parts = split_sample(sample, n_learn)
    truths = [sample.truth[part] for part in parts]
    _prepare_folder(out)
    project = Project.create(out / "project.voxloop", classes=sample.class_names, executor=executor, progress=progress)
    with project:
        project.configure(**(specs or {}))
        project.configure(classifier={"seed": seed})
        for part in parts:
            project.add_image(sample.image, mask=sample.mask, crop=part)
        for index in (LEARN, JUDGE):
            project.supervoxels(index)
            project.features(index)
        judged = project.supervoxels(JUDGE)
        truth = SupervoxelTruth(judged.labels, truths[JUDGE], judged.n)
        annotator = SimulatedAnnotator(truths[LEARN], rng=seed)
        played = []
        for round_ in run_session(project, annotator, truth, rounds=rounds):
            played.append(round_)
            report(project, round_)
        if len(played) == 1:
            raise InputError("the first part is too small: no slice is left to suggest after the first strokes")
        files = {"segmentation": out / "segmentation.tif", "uncertainty": out / "uncertainty.tif"}
        project.export("segmentation", files["segmentation"], image=JUDGE)
        project.export("uncertainty", files["uncertainty"], image=JUDGE)
        result = DemoResult(played, truth.oracle(), files)
        _draw(project, sample, truths[JUDGE], result, out)
        files["table"] = out / "rounds.json"
        files["table"].write_text(json.dumps([_row(r, sample) for r in played], indent=1) + "\n")
        files["project"] = project.folder
    return result


def _row(round_: Round, sample: Sample) -> dict[str, Any]:
    """Return what the results say of a round; no times, so that equal runs give equal bytes."""
    suggestion = round_.suggestion
    return {
        "round": round_.number,
        "slice": None if suggestion is None else f"{'zyx'[suggestion.axis]} = {suggestion.index}",
        "labelled_supervoxels": round_.n_labelled,
        "iou": {sample.class_names[c - 1]: iou for c, iou in zip(round_.score.classes, round_.score.iou, strict=True)},
        "mean_iou": round_.score.mean_iou,
    }


def split_sample(sample: Sample, n_learn: int | None) -> tuple[tuple[slice, slice, slice], tuple[slice, slice, slice]]:
    """Return the part of a sample to label and the part to score.

    Parameters
    ----------
    sample
        The image with its truth.
    n_learn
        Slices along z (along y for a 2D image) of the first part; by default half.

    Raises
    ------
    InputError
        If one of the parts would be empty.
    """
    axis = 1 if sample.image.is_2d else 0
    length = sample.image.shape[axis]
    first = (length + 1) // 2 if n_learn is None else n_learn
    if not 0 < first < length:
        raise InputError(f"n_learn must be 1 to {length - 1}, not {first}")
    parts = []
    for part in (slice(0, first), slice(first, length)):
        cut = [slice(0, n) for n in sample.image.shape]
        cut[axis] = part
        parts.append((cut[0], cut[1], cut[2]))
    return parts[0], parts[1]


def _prepare_folder(out: Path) -> None:
    """Make the folder; remove what an earlier demo left there, and nothing else."""
    note = out / "README.txt"
    if out.exists():
        if not note.is_file() or not note.read_text().startswith(_FOLDER_NOTE):
            raise InputError(f"{out} exists and no demo made it; choose another folder")
        shutil.rmtree(out)
    if not out.parent.is_dir():
        raise InputError(f"{out} cannot be made: the folder {out.parent} does not exist")
    out.mkdir()
    note.write_text(f"{_FOLDER_NOTE}; the next demo replaces this folder\n")


def _draw(project: Project, sample: Sample, truth: NDArray[np.uint8], result: DemoResult, out: Path) -> None:
    """Draw the overview and the learning curve."""
    colors = [c.color for c in project.annotations.classes]
    names = sample.class_names
    foreground = names[1:] if len(names) == 2 else names
    z = int(np.argmax((truth > 1).sum(axis=(1, 2))))
    window = _window_around(_densest(truth[z] > 1), truth[z].shape)
    part = (z, *window)
    image = project.volume(JUDGE)
    ids = np.asarray(project.supervoxels(JUDGE).labels[part])
    first, last = result.rounds[0], result.rounds[-1]
    unsure = top_uncertain(uncertainty(first.prediction.probabilities))

    def of_class(score: Score) -> float:
        return score.iou_of(2) if len(names) == 2 else score.mean_iou

    result.files["overview"] = out / "overview.png"
    draw_overview(
        result.files["overview"],
        image=_grey(image.data, part),
        supervoxels=ids,
        first_prediction=look_up(ids, first.prediction.segmentation),
        uncertain=np.isin(ids, unsure),
        suggestion=_suggested(project, result.rounds[1]),
        segmentation=look_up(ids, last.prediction.segmentation),
        truth=truth[part],
        class_names=names,
        class_colors=colors,
        spacing=(image.spacing[1], image.spacing[2]),
        unit=image.unit,
        scores=SessionScores(of_class(first.score), of_class(last.score), of_class(result.oracle)),
        title=f"{image.name}: {last.n_labelled} labelled supervoxels in {last.number} rounds",
    )
    result.files["curve"] = out / "learning-curve.png"
    draw_learning_curve(
        result.files["curve"],
        n_labelled=[r.n_labelled for r in result.rounds],
        iou={name: [r.score.iou_of(names.index(name) + 1) for r in result.rounds] for name in foreground},
        oracle_iou={name: result.oracle.iou_of(names.index(name) + 1) for name in foreground},
        class_colors=dict(zip(names, colors, strict=True)),
        title=f"{image.name}: what each round of strokes brings",
    )


def _suggested(project: Project, round_: Round) -> SuggestedSlice:
    """Return what a round labelled of its slice, with the strokes."""
    suggestion = round_.suggestion
    assert suggestion is not None
    image, labels = project.volume(LEARN), project.supervoxels(LEARN).labels
    seen = [axis for axis in range(3) if axis != suggestion.axis]
    shape = (image.shape[seen[0]], image.shape[seen[1]])
    strokes = np.zeros(shape, np.uint8)
    for stroke in round_.strokes:
        strokes[tuple(stroke.voxels[:, seen].T)] = stroke.class_id
    window = _window_around(_densest(strokes > 0), shape)
    cut: list[Any] = list(window)
    cut.insert(suggestion.axis, suggestion.index)
    return SuggestedSlice(
        image=_grey(image.data, cut),
        uncertain=np.isin(np.asarray(labels[tuple(cut)]), suggestion.supervoxels),
        strokes=strokes[window],
        spacing=(image.spacing[seen[0]], image.spacing[seen[1]]),
        caption=f"{'zyx'[suggestion.axis]} = {suggestion.index}",
    )


def _densest(wanted: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel around which a window of the picture's size holds most of `wanted`."""
    held = ndimage.uniform_filter(wanted.astype(np.float32), PICTURE_SIDE, mode="constant")
    row, column = np.unravel_index(int(held.argmax()), held.shape)
    return int(row), int(column)


def _window_around(center: tuple[int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return a window of the picture's size around a pixel, inside a slice of `shape`."""
    parts = []
    for middle, length in zip(center, shape, strict=True):
        start = min(max(0, middle - PICTURE_SIDE // 2), max(0, length - PICTURE_SIDE))
        parts.append(slice(start, min(length, start + PICTURE_SIDE)))
    return parts[0], parts[1]


def _grey(data: ArrayLike, cut: Sequence[Any]) -> NDArray[Any]:
    """Return a slice of an image as grey values, channels averaged."""
    part = np.asarray(data[tuple(cut)])
    return part.mean(axis=2) if part.ndim == 3 else part
