"""How good the classifier of a project is, and which features would do, as far as its labels can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from voxloop.blocks import Executor, Progress
from voxloop.classify import Assessment, CellGain, Classifier, LabelledImage
from voxloop.classify.importance import cells_of, importances, suggest_cells
from voxloop.errors import InputError
from voxloop.specs import FAMILIES, ClassifierSpec, FeatureSpec


@dataclass(frozen=True)
class FeatureSuggestion:
    """Which features are worth computing.

    Attributes
    ----------
    cells
        Families at sigmas, in the order in which they add most to those before them.
    spec
        The smallest grid of families and sigmas that holds them; other fields are those of the project.
    """

    cells: tuple[CellGain, ...]
    spec: FeatureSpec


def assess(
    classifier: Classifier,
    images: Sequence[LabelledImage],
    names: Sequence[str],
    spec: ClassifierSpec,
    class_names: Mapping[int, str],
    *,
    executor: Executor | None = None,
) -> Assessment:
    """Return how good a classifier is; see `Project.assess`."""
    held_out = classifier.held_out
    known = [] if held_out is None else np.unique(held_out.columns).tolist()
    if held_out is None or len(known) < 2:
        alone = [class_names[int(c)] for column, c in enumerate(classifier.classes) if column not in known]
        raise InputError(
            f"accuracy can be estimated once classes are labelled in two places at least: {', '.join(alone)} is not"
        )
    found = importances(images, spec, cells_of(names), executor=executor)
    ranked = dict(sorted(found.items(), key=lambda item: -item[1]))
    return replace(Assessment.of(held_out, classifier.classes), importances=ranked)


def suggest_features(
    images: Sequence[LabelledImage],
    names: Sequence[str],
    spec: ClassifierSpec,
    features: FeatureSpec,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> FeatureSuggestion:
    """Return which features are worth computing; see `Project.suggest_features`."""
    chosen = suggest_cells(images, spec, cells_of(names), executor=executor, progress=progress)
    words = {word for gain in chosen for word in gain.cell.split()}
    families = tuple(family for family in FAMILIES if family in words)
    sigmas = tuple(sigma for sigma in features.sigmas if f"sigma={sigma:g}" in words)
    if not (families and sigmas):
        return FeatureSuggestion(tuple(chosen), features)
    planar = tuple(sigma for sigma in features.sigmas_2d if sigma in sigmas)
    return FeatureSuggestion(tuple(chosen), features.changed(families=families, sigmas=sigmas, sigmas_2d=planar))
