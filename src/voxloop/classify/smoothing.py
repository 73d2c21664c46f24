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

from voxloop.classify.labelled import LabelledImage
from voxloop.errors import FormatError, InputError
from voxloop.specs import MOST_SMOOTHING
from voxloop.supervoxels import Adjacency

# Neighbours that differ as much as most do weigh exp(-2), an eighth of those that are alike.
_SHARPNESS = 2.0
_CONTACTS = 100_000  # that tell how much neighbours differ


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
        found = []
        for image in images:
            some = image.graph.edges[:: 1 + len(image.graph.edges) // _CONTACTS]
            ids, place = np.unique(some, return_inverse=True)
            of_contact = intensities(image.values, ids)[place.reshape(some.shape)]
            found.append((of_contact[:, 0] - of_contact[:, 1]) ** 2)
        squared = np.concatenate(found)
        # Where most neighbours are alike, such as in a constant image, by the mean; where all are, by anything.
        typical = (float(np.median(squared)) or float(squared.mean())) if squared.size else 0.0
        return cls(rounds, typical or 1.0)

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
        """Return probabilities (n, k) smoothed along the graph of n supervoxels, given the intensity (n,) of each."""
        a, b = graph.edges.T - 1
        alike = np.exp(-_SHARPNESS * (intensity[a] - intensity[b]) ** 2 / self.contrast)
        return smooth(probabilities, Adjacency(graph.edges, graph.area * alike, graph.n), self.rounds)


def intensities(values: NDArray[np.float32], ids: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the first feature (m,) of supervoxels (m,): by default the image itself, smoothed least."""
    rows = ids.astype(np.int64) - 1
    # A table larger than memory gives whole rows only.
    column = values[:, 0][rows] if isinstance(values, np.ndarray) else values[rows][:, 0]
    return np.asarray(column, np.float64)


def smooth(probabilities: NDArray[np.float32], graph: Adjacency, rounds: int) -> NDArray[np.float32]:
    """Return (P + A P) / 2, `rounds` times over; A averages over the neighbours, weighted by contact area.

    Parameters
    ----------
    probabilities
        (n, k), rows sum to 1, and so do those of the result.
    graph
        Which of the n supervoxels touch.
    rounds
        0 gives the probabilities themselves.
    """
    if graph.n != len(probabilities):
        raise InputError(f"graph has {graph.n} supervoxels but probabilities has {len(probabilities)} rows")
    average = graph.averaging()
    smoothed = probabilities
    for _ in range(rounds):
        smoothed = np.asarray((smoothed + average @ smoothed) / 2, np.float32)
    return smoothed
