"""Where to label next: suggested places one after another, and a queue of supervoxels to confirm or correct."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from voxloop.active import PlaneSuggestion, SliceSuggestion
from voxloop.active.diverse import diverse_queue
from voxloop.errors import InputError
from voxloop.project.live import LiveImage, LiveResult
from voxloop.volume import relative_spacing

Suggestion = TypeVar("Suggestion", SliceSuggestion, PlaneSuggestion)

# Two supervoxels to review lie some 15 voxels of the finest axis apart, as for the strategy "diverse".
_REVIEW_RADIUS = 15.0


@dataclass
class Trail(Generic[Suggestion]):
    """The slices or planes suggested so far, with a way back; one that was passed over is not suggested again.

    Attributes
    ----------
    suggestions
        In the order in which they came.
    position
        Which of them is looked at; -1 before the first.
    """

    suggestions: list[Suggestion] = field(default_factory=list)
    position: int = -1

    @property
    def current(self) -> Suggestion | None:
        """The suggestion that is looked at."""
        return self.suggestions[self.position] if self.position >= 0 else None

    @property
    def is_at_end(self) -> bool:
        """Whether the next suggestion is still to be found."""
        return self.position == len(self.suggestions) - 1

    @property
    def can_go_back(self) -> bool:
        """Whether there is an earlier suggestion."""
        return self.position > 0

    def next(self, suggest: Callable[[Sequence[Suggestion]], list[Suggestion]]) -> Suggestion:
        """Return the suggestion after the current one; `suggest` is called with those to skip if it is new.

        Raises
        ------
        InputError
            If nothing is left.
        """
        if self.is_at_end:
            found = suggest(self.suggestions)
            if not found:
                raise InputError("there is nothing further to suggest: all was labelled or skipped")
            self.suggestions.append(found[0])
        self.position += 1
        return self.suggestions[self.position]

    def back(self) -> Suggestion:
        """Return to the suggestion before.

        Raises
        ------
        InputError
            If there is none.
        """
        if not self.can_go_back:
            raise InputError("there is no earlier suggestion")
        self.position -= 1
        return self.suggestions[self.position]


@dataclass(frozen=True)
class ReviewQueue:
    """Supervoxels to confirm or correct one by one, most uncertain first and apart from each other.

    Attributes
    ----------
    ids
        (m,) uint32.
    predicted
        (m,) int32, the class that each was predicted to be when the queue was made.
    confidence
        (m,) float32, the probability of that class.
    position
        How many were answered or skipped.
    """

    ids: NDArray[np.uint32]
    predicted: NDArray[np.int32]
    confidence: NDArray[np.float32]
    position: int = 0

    @classmethod
    def of(cls, result: LiveResult, image: LiveImage, *, number: int = 20) -> ReviewQueue:
        """Return the queue that a prediction of the whole image suggests; labelled supervoxels are not in it."""
        points = image.supervoxels.centers * relative_spacing(image.spacing)
        done = result.labels.images[result.request.shown].ids
        ids = diverse_queue(result.uncertainty, points, number=number, radius=_REVIEW_RADIUS, exclude=done)
        rows = ids.astype(np.int64) - 1
        return cls(
            ids, result.prediction.segmentation[rows], result.prediction.probabilities[rows].max(axis=1, initial=0)
        )

    @property
    def is_over(self) -> bool:
        """Whether all were answered."""
        return self.position >= len(self.ids)

    @property
    def supervoxel(self) -> int:
        """The supervoxel that is asked about."""
        return int(self.ids[self.position])

    @property
    def predicted_class(self) -> int:
        """The class that it is predicted to be."""
        return int(self.predicted[self.position])

    def advanced(self) -> ReviewQueue:
        """Return the queue with the next supervoxel in front."""
        return ReviewQueue(self.ids, self.predicted, self.confidence, self.position + 1)


def supervoxel_mask(image: LiveImage, supervoxel: int) -> tuple[NDArray[np.bool_], tuple[int, int, int]]:
    """Return the voxels of a supervoxel in its bounding box, and where the box starts (z, y, x)."""
    first, last = image.extent.first[supervoxel - 1], image.extent.last[supervoxel - 1]
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    z, y, x = (int(a) for a in first)
    return np.asarray(image.supervoxels.labels[box]) == supervoxel, (z, y, x)


def middle_voxel(image: LiveImage, supervoxel: int) -> tuple[int, int, int]:
    """Return the voxel (z, y, x) of a supervoxel that is nearest to its centre, which may lie outside of it."""
    mask, start = supervoxel_mask(image, supervoxel)
    voxels = np.argwhere(mask) + start
    steps = (voxels - image.supervoxels.centers[supervoxel - 1]) * relative_spacing(image.spacing)
    z, y, x = (int(v) for v in voxels[np.einsum("ij,ij->i", steps, steps).argmin()])
    return z, y, x
