"""Neighbouring supervoxels tend to be of one class: probabilities averaged along the graph.

Less is averaged across edges of the image, so that thin structures keep theirs (as in anisotropic diffusion: Perona,
Malik, *Scale-space and edge detection using anisotropic diffusion*, IEEE TPAMI 12, 1990). docs/decisions/0025.
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
    """

    rounds: int
    contrast: float

    @classmethod
    def none(cls) -> Smoothing:
        """Return what changes nothing."""
        return cls(0, 1.0)

    @classmethod
    def of(cls, images: Sequence[LabelledImage], rounds: int) -> Smoothing:
        """Return so many rounds, with the median contrast of touching supervoxels of the images."""
        if rounds == 0:
            return cls.none()
        return cls(rounds, typical_contrast([squared_differences(image.graph, image.values, 0) for image in images]))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        return {"rounds": np.array(self.rounds), "contrast": np.array(self.contrast)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Smoothing:
        """Return what arrays from a stranger hold; raises `FormatError` if they are damaged."""
        try:
            rounds, contrast = int(arrays["rounds"]), float(arrays["contrast"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FormatError(f"the smoothing is damaged: {error}") from None
        if not (0 <= rounds <= MOST_SMOOTHING and 0 < contrast < np.inf):
            raise FormatError(f"the smoothing is damaged: {rounds} rounds, contrast {contrast}")
        return cls(rounds, contrast)

    def apply(
        self, probabilities: NDArray[np.float32], graph: Adjacency, intensity: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return probabilities (n, k) smoothed along the graph of n supervoxels, given the intensity (n,) of each.

        The intensity is the first feature, by default the image itself, smoothed least.
        """
        starts, neighbours, weights = alike_neighbours(graph, intensity[:, np.newaxis], np.array([self.contrast]))
        average = sparse.csr_array((weights, neighbours, starts), shape=(graph.n, graph.n))
        return smooth(probabilities, average, self.rounds)


def smooth(probabilities: NDArray[np.float32], average: sparse.csr_array, rounds: int) -> NDArray[np.float32]:
    """Return (P + A P) / 2, `rounds` times over, A the average over the neighbours.

    Parameters
    ----------
    probabilities
        (n, k), rows sum to 1, and so do those of the result.
    average
        (n, n), rows sum to 1.
    rounds
        0 gives the probabilities themselves.
    """
    smoothed = probabilities
    for _ in range(rounds):
        smoothed = np.asarray((smoothed + average @ smoothed) / 2, np.float32)
    return smoothed
