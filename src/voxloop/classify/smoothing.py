"""Neighbouring supervoxels tend to be of one class: probabilities averaged along the graph.

Less is averaged across edges of the image, so that thin structures keep theirs (as in anisotropic diffusion: Perona,
Malik, *Scale-space and edge detection using anisotropic diffusion*, IEEE TPAMI 12, 1990). A few strokes somewhere leave
much noise to average; where labels were asked for, a supervoxel says more of itself than its neighbours do.
docs/decisions/0025 and 0038.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.classify.labelled import LabelledImage
from voxloop.errors import FormatError
from voxloop.specs import MOST_SMOOTHING
from voxloop.supervoxels import Adjacency
from voxloop.supervoxels.contrast import alike_neighbours, squared_differences, typical_contrast


@dataclass(frozen=True)
class Smoothing:
    """Averages along the graph, across edges of the image less than within regions.

    Attributes
    ----------
    rounds
        How many times; 0 leaves probabilities as they are.
    contrast
        Squared difference of intensity that neighbours typically have; above 0.
    strength
        How much a round counts, above 0 and at most 1.
    """

    rounds: int
    contrast: float
    strength: float = 1.0

    @classmethod
    def none(cls) -> Smoothing:
        """Return what changes nothing."""
        return cls(0, 1.0)

    @classmethod
    def of(cls, images: Sequence[LabelledImage], rounds: int | None, *, fairness: float) -> Smoothing:
        """Return so many rounds, with the median contrast of touching supervoxels of the images.

        None is one round, as strong as labels are a fair sample (`voxloop.classify.calibration.fairness`).
        """
        rounds, strength = (1, fairness) if rounds is None else (rounds, 1.0)
        if rounds == 0 or strength == 0:
            return cls.none()
        contrasts = [squared_differences(image.graph, image.values, 0) for image in images]
        return cls(rounds, typical_contrast(contrasts), strength)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        return {name: np.array(getattr(self, name)) for name in ("rounds", "contrast", "strength")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Smoothing:
        """Return what arrays from a stranger hold; raises `FormatError` if they are damaged."""
        try:
            rounds, contrast, strength = int(arrays["rounds"]), float(arrays["contrast"]), float(arrays["strength"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"the smoothing is damaged: {error}") from None
        if not (0 <= rounds <= MOST_SMOOTHING and 0 < contrast < np.inf and 0 < strength <= 1):
            raise FormatError(f"the smoothing is damaged: {rounds} rounds, contrast {contrast}, strength {strength}")
        return cls(rounds, contrast, strength)

    def apply(
        self, probabilities: NDArray[np.float32], graph: Adjacency, intensity: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return probabilities (n, k) smoothed along the graph of n supervoxels, given the intensity (n,) of each.

        The intensity is the first feature, by default the image itself, smoothed least.
        """
        starts, neighbours, weights = alike_neighbours(graph, intensity[:, np.newaxis], np.array([self.contrast]))
        average = sparse.csr_array((weights, neighbours, starts), shape=(graph.n, graph.n))
        return smooth(probabilities, average, self.rounds, strength=self.strength)


def smooth(
    probabilities: NDArray[np.float32], average: sparse.csr_array, rounds: int, *, strength: float = 1.0
) -> NDArray[np.float32]:
    """Return P + s (A P - P) / 2, `rounds` times over, A the average over the neighbours and s the strength.

    Parameters
    ----------
    probabilities
        (n, k), rows sum to 1, and so do those of the result.
    average
        (n, n), rows sum to 1.
    rounds
        0 gives the probabilities themselves.
    strength
        From 0, which changes nothing, to 1.
    """
    smoothed = probabilities
    for _ in range(rounds):
        smoothed = np.asarray(smoothed + (average @ smoothed - smoothed) * (strength / 2), np.float32)
    return smoothed
