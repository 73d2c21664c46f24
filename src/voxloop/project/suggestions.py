"""Where to label next in one image: supervoxels, slices and planes, by the strategy that the project has chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxloop.active import (
    PlaneSuggestion,
    QueryState,
    SliceSuggestion,
    best_planes,
    slices_to_label,
    strategy_of,
)
from voxloop.classify import Forest, Prediction, SupervoxelLabels
from voxloop.project.live import LiveImage, LiveResult
from voxloop.specs import QuerySpec

if TYPE_CHECKING:
    from voxloop.project.project import Project


@dataclass(frozen=True, eq=False)
class Suggester:
    """What is known of an image at one moment, and the places where labels would help most then.

    Without a prediction, because too little is labelled, it suggests what is typical of the image.

    Attributes
    ----------
    image
        Supervoxels, features and extent.
    labels
        The labelled supervoxels: never suggested again.
    prediction
        What the classifier says; None if there is none yet.
    forest
        The classifier's first forest, for strategies that ask its trees.
    query
        The strategy and its settings.
    avoid
        Slices (axis, index) that strokes lie in: no slice near them is suggested.
    """

    image: LiveImage
    labels: SupervoxelLabels
    prediction: Prediction | None
    forest: Forest | None
    query: QuerySpec
    avoid: Collection[tuple[int, int]] = ()

    @classmethod
    def of(cls, project: Project, image: int = 0) -> Suggester:
        """Return what is known of an image of `project`; what is missing or stale is computed first."""
        labelled = np.concatenate([project.labels(index).classes for index in range(len(project.images))])
        can_learn = np.unique(labelled).size > 1
        return cls(
            LiveImage.of(project, image),
            project.labels(image),
            project.predict(image) if can_learn else None,
            project.train().first if can_learn else None,
            project.specs.query,
            project.annotations.labelled_slices(image),
        )

    @classmethod
    def of_result(cls, result: LiveResult, *, avoid: Collection[tuple[int, int]] = ()) -> Suggester:
        """Return what a live update of the whole image found."""
        request = result.request
        return cls(
            request.images[request.shown],
            result.labels.images[request.shown],
            result.prediction,
            result.classifier.first,
            request.query,
            avoid,
        )

    def supervoxels(self, number: int = 1) -> NDArray[np.uint32]:
        """Return the ids (m,) of the supervoxels to label next, best first; fewer than `number` if no more are left."""
        return strategy_of(self.query).query(self._state, number, rng=self.query.seed)

    def slices(
        self, number: int = 1, *, axes: Sequence[int] | None = None, skip: Iterable[SliceSuggestion] = ()
    ) -> list[SliceSuggestion]:
        """Return the slices to label next, best first, apart from those to `skip`; see `slices_to_label`."""
        return slices_to_label(
            strategy_of(self.query),
            self._state,
            self.image.extent,
            avoid=[*self.avoid, *((s.axis, s.index) for s in skip)],
            axes=axes,
            number=number,
            top_share=self.query.top_share,
            rng=self.query.seed,
        )

    def planes(self, number: int = 1, *, skip: Iterable[PlaneSuggestion] = ()) -> list[PlaneSuggestion]:
        """Return the patches to label next, best first, none through what those to `skip` cut; see `best_planes`."""
        supervoxels = self.image.supervoxels
        exclude = np.unique(np.concatenate([self.labels.ids, *(plane.supervoxels for plane in skip)]))
        if exclude.size == self.image.n > self.labels.n:
            return []
        return best_planes(
            strategy_of(self.query).worth(self._state, rng=self.query.seed),
            supervoxels.centers,
            supervoxels.sizes,
            shape=supervoxels.labels.shape,
            spacing=self.image.spacing,
            radius=self.query.radius,
            number=number,
            exclude=exclude,
        )

    @cached_property
    def _state(self) -> QueryState:
        return QueryState(
            features=self.image.values,
            centers=self.image.supervoxels.centers,
            graph=self.image.neighbours,
            labels=self.labels,
            prediction=self.prediction,
            forest=self.forest,
            spacing=self.image.spacing,
            progress=min(1.0, self.labels.n / self.query.budget),
        )
