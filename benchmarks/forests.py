"""The forest, a live update and the search for planes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier

from benchmarks.measure import Comparison, Size
from benchmarks.scenes import CUBES_A_SIDE, N_CLASSES, N_FEATURES, N_LABELS, cubes, table
from voxloop.active.planes import PlaneSuggestion, best_planes
from voxloop.blocks import available_cpus
from voxloop.classify import Forest, fit_forest
from voxloop.project.live import LiveImage, LiveRequest, LiveResult, answer
from voxloop.specs import ClassifierSpec, QuerySpec
from voxloop.supervoxels import from_labels
from voxloop.supervoxels.extent import extent

SPEC = ClassifierSpec()
ACCURACY_LOSS = 0.02  # at most, for "the same work"


def _extra_trees() -> ExtraTreesClassifier:
    return ExtraTreesClassifier(
        SPEC.n_trees, max_features="sqrt", class_weight="balanced", n_jobs=available_cpus(), random_state=0
    )


def forest_fit(size: Size) -> Comparison:
    """Return the comparison of training with scikit-learn's extra-trees."""
    rows = table(CUBES_A_SIDE[size])
    values, classes = rows.values[rows.labelled], rows.classes[rows.labelled]
    return Comparison(
        name="forest, training",
        work=f"{SPEC.n_trees} trees, {N_LABELS} labels, {N_FEATURES} features, {N_CLASSES} classes",
        peer="scikit-learn ExtraTreesClassifier",
        ours=lambda: fit_forest(values, classes, SPEC),
        theirs=lambda: _extra_trees().fit(values, classes),
        check=lambda mine, other: _accuracies(size, mine.predict(rows.values), other.predict_proba(rows.values)),
        repeats=5,
    )


def forest_predict(size: Size) -> Comparison:
    """Return the comparison of prediction with scikit-learn's extra-trees."""
    rows = table(CUBES_A_SIDE[size])
    values, classes = rows.values[rows.labelled], rows.classes[rows.labelled]
    mine: Forest = fit_forest(values, classes, SPEC)
    other = _extra_trees().fit(values, classes)
    return Comparison(
        name="forest, prediction",
        work=f"{SPEC.n_trees} trees of {N_LABELS} labels, {rows.n:,} supervoxels",
        peer="scikit-learn ExtraTreesClassifier",
        ours=lambda: mine.predict(rows.values),
        theirs=lambda: other.predict_proba(rows.values),
        check=lambda a, b: _accuracies(size, a, b),
        repeats=5,
    )


def _accuracies(size: Size, ours: NDArray[Any], theirs: NDArray[Any]) -> dict[str, float]:
    rows = table(CUBES_A_SIDE[size])
    mine, other = rows.accuracy(ours), rows.accuracy(theirs)
    assert mine >= other - ACCURACY_LOSS, f"accuracy {mine} against {other}"
    return {"accuracy": mine, "accuracy theirs": other}


def live_update(size: Size) -> Comparison:
    """Return the comparison of all that follows a stroke with scikit-learn's training and prediction alone."""
    n = CUBES_A_SIDE[size]
    rows = table(n)
    request = _request(n)

    def ours() -> LiveResult:
        *_, last = answer(request)
        assert isinstance(last, LiveResult), last
        return last

    def theirs() -> NDArray[Any]:
        forest = _extra_trees().fit(rows.values[rows.labelled], rows.classes[rows.labelled])
        return forest.predict_proba(rows.values)

    return Comparison(
        name="live update",
        work=f"{rows.n:,} supervoxels, {N_LABELS} labels: two forests, calibration, uncertainty",
        peer="scikit-learn ExtraTreesClassifier, one forest only",
        ours=ours,
        theirs=theirs,
        check=lambda mine, other: _accuracies(size, mine.prediction.probabilities, other),
        repeats=5,
    )


def live_screen(size: Size) -> Comparison:
    """Return the comparison of the first answer after a stroke, one slice, with a forest of scikit-learn for it."""
    n = CUBES_A_SIDE[size]
    rows = table(n)
    on_screen = np.arange(n**3).reshape(n, n, n)[n // 2].ravel()
    request = replace(_request(n), visible=(on_screen + 1).astype(np.uint32))
    *_, last = answer(request)
    assert isinstance(last, LiveResult), last

    def ours() -> LiveResult:
        first = next(answer(request, before=last.classifier))
        assert isinstance(first, LiveResult), first
        assert np.array_equal(first.ids, request.visible)
        return first

    def theirs() -> NDArray[Any]:
        forest = _extra_trees().fit(rows.values[rows.labelled], rows.classes[rows.labelled])
        return forest.predict_proba(rows.values[on_screen])

    def check(mine: LiveResult, other: NDArray[Any]) -> dict[str, float]:
        right = rows.classes[on_screen]
        accuracy = [float((p.argmax(axis=1) == right).mean()) for p in (mine.prediction.probabilities, other)]
        assert accuracy[0] >= accuracy[1] - ACCURACY_LOSS, f"accuracy {accuracy[0]} against {accuracy[1]}"
        return {"accuracy": accuracy[0], "accuracy theirs": accuracy[1]}

    return Comparison(
        name="live update, what is on screen",
        work=f"{on_screen.size:,} of {rows.n:,} supervoxels, {N_LABELS} labels: until the slice changes",
        peer="scikit-learn ExtraTreesClassifier, one forest only",
        ours=ours,
        theirs=theirs,
        check=check,
        repeats=5,
    )


def _request(n: int) -> LiveRequest:
    """Return a request with one labelled voxel in each of `N_LABELS` cubes."""
    rows, labels = table(n), cubes(n)
    supervoxels = from_labels(labels)
    # The supervoxels are renumbered by their first voxels, which leaves cubes in the order of the table.
    image = LiveImage(supervoxels, rows.values, extent(supervoxels.labels, supervoxels.n), (1.0, 1.0, 1.0))
    shape = labels.shape
    corners = np.stack(np.unravel_index(rows.labelled, (n, n, n))) * (shape[0] // n)
    strokes = (np.ravel_multi_index(tuple(corners), shape), (rows.classes[rows.labelled] + 1).astype(np.uint16))
    names = {c + 1: f"class {c + 1}" for c in range(N_CLASSES)}
    nothing = np.empty(0, np.uint32)
    return LiveRequest(0, (image,), (strokes,), names, SPEC, QuerySpec(), 0, nothing)


def plane_search(size: Size) -> Comparison:
    """Return the comparison of branch and bound with the sampling of 2000 normals."""
    n = CUBES_A_SIDE[size]
    rng = np.random.default_rng(0)
    side = 7
    centers = np.stack(np.unravel_index(np.arange(n**3), (n, n, n)), axis=1) * float(side) + side / 2
    centers += rng.uniform(-2, 2, centers.shape)
    scores, sizes = rng.random(n**3) ** 4, rng.uniform(200, 500, n**3)
    radius = 2.5 * side

    def search(method: str) -> PlaneSuggestion:
        arguments = {"shape": (n * side,) * 3, "radius": radius, "prefer_axes": 0.0, "method": method}
        return best_planes(scores, centers, sizes, **arguments)[0]

    def check(ours: PlaneSuggestion, theirs: PlaneSuggestion) -> dict[str, float]:
        assert ours.score >= 0.99 * theirs.score, f"score {ours.score} against {theirs.score}"
        return {"score": ours.score, "score theirs": theirs.score}

    return Comparison(
        name="plane of most uncertainty",
        work=f"{n**3:,} supervoxels, 50 centres, radius {radius:g}",
        peer="2000 normals sampled with numpy, refined three times",
        ours=lambda: search("branch_and_bound"),
        theirs=lambda: search("sampling"),
        check=check,
    )
