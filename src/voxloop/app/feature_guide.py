"""Which features are worth computing: what they cost, and what they add for the labels that there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from voxloop.features.filters import scale_channels
from voxloop.project.judging import FeatureSuggestion
from voxloop.specs import FeatureSpec

if TYPE_CHECKING:
    from voxloop.app.controller import Controller

# Processor time a voxel and response: 61 responses of 3.3 million voxels took 2.5 s (docs/explanation/performance.md).
_SECONDS = 1.25e-8


class FeatureGuide:
    """Ranks the features that are computed, in the background.

    Parameters
    ----------
    controller
        The open project with its labels.

    Attributes
    ----------
    found
        The last ranking; None before there is one.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.found: FeatureSuggestion | None = None

    def suggest(self) -> None:
        """Rank them by what they add for the labels of this moment."""
        controller = self._controller
        if controller.need_result() is None:
            return

        def work() -> FeatureSuggestion:
            with controller.snapshot() as snapshot:
                return snapshot.suggest_features()

        controller.run("Suggest features", work, self._found)

    def take(self) -> None:
        """Choose those that were suggested; the others are not computed any more."""
        if self.found is not None:
            self._controller.configure(features=self.found.spec)
            self.forget()

    def forget(self) -> None:
        """Drop the ranking: it is of other features or another project."""
        self._found(None)

    # Behind the scenes

    def _found(self, found: FeatureSuggestion | None) -> None:
        self.found = found
        self._controller.changed.emit("features")


def estimate(spec: FeatureSpec, shape: Sequence[int], n_channels: int) -> str:
    """Return in one line what features of an image of `shape` (z, y, x) cost."""
    n = n_channels * sum(len(scale_channels(spec, sigma)) for sigma in spec.sigmas)
    seconds = _SECONDS * n * float(np.prod(shape))
    cost = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"{n} responses a voxel: about {cost} of processor time."
