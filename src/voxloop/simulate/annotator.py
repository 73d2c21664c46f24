"""A simulated annotator: reads a ground truth and paints strokes as a careful person would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxloop.active import SliceSuggestion
from voxloop.errors import InputError

_DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))


@dataclass(frozen=True)
class SimulatedStroke:
    """One stroke: `voxels` (v, 3) as (z, y, x), painted with class `class_id`."""

    class_id: int
    voxels: NDArray[np.int64]


class SimulatedAnnotator:
    """Paints short straight strokes inside the structures of a ground truth.

    Parameters
    ----------
    truth
        (z, y, x) class of every voxel; 0 where it is unknown: there the annotator never paints.
    rng
        Seed or generator; the same seed gives the same strokes.
    stroke_length, brush_radius
        In voxels: how far a stroke goes at most, and how thick it is around its line.
    """

    def __init__(
        self,
        truth: NDArray[np.integer],
        *,
        rng: int | np.random.Generator = 0,
        stroke_length: int = 15,
        brush_radius: int = 1,
    ) -> None:
        if truth.ndim != 3 or not np.issubdtype(truth.dtype, np.integer):
            raise InputError(f"truth has shape {truth.shape} and dtype {truth.dtype}; expected (z, y, x) integers")
        self.truth = truth
        self.classes = [int(c) for c in np.flatnonzero(np.bincount(truth.ravel())) if c > 0]
        if len(self.classes) < 2:
            raise InputError(f"truth must hold two classes at least, not {len(self.classes)}")
        self._rng = np.random.default_rng(rng)
        self._length = stroke_length
        self._radius = brush_radius

    def first_strokes(self, per_class: int = 2) -> list[SimulatedStroke]:
        """Return `per_class` strokes a class at random places, in slices along z."""
        strokes = []
        for class_id in self.classes:
            slices = np.flatnonzero((self.truth == class_id).any(axis=(1, 2)))
            for index in self._rng.choice(slices, per_class, replace=len(slices) < per_class):
                region = self.truth[index] == class_id
                strokes.append(self._paint(region, self._pick(region), class_id, axis=0, index=int(index)))
        return strokes

    def answer(
        self,
        suggestion: SliceSuggestion,
        supervoxels: NDArray[np.uint32],
        segmentation: NDArray[np.integer],
        *,
        n_uncertain: int = 5,
        n_errors: int = 5,
    ) -> list[SimulatedStroke]:
        """Return strokes on the suggested slice: in highlighted supervoxels, then in the largest errors.

        Parameters
        ----------
        suggestion
            The slice and the supervoxels that are highlighted in it.
        supervoxels, segmentation
            The two-dimensional slice of supervoxel ids and of predicted classes, 0 where there is none.
        n_uncertain, n_errors
            Strokes of either kind at most.
        """
        axis, index = suggestion.axis, suggestion.index
        truth = np.take(self.truth, index, axis=axis)
        strokes: list[SimulatedStroke] = []
        for supervoxel in suggestion.supervoxels:
            region = (supervoxels == supervoxel) & (truth > 0)
            if len(strokes) == n_uncertain:
                break
            if region.any():
                class_id = int(np.bincount(truth[region]).argmax())
                region &= truth == class_id
                strokes.append(self._paint(region, _deepest(region), class_id, axis=axis, index=index))
        for region, class_id in _largest_errors(truth, segmentation, n_errors):
            strokes.append(self._paint(region, _deepest(region), class_id, axis=axis, index=index))
        return strokes

    def _pick(self, region: NDArray[np.bool_]) -> tuple[int, int]:
        """Return a random pixel of the region's inner half, away from its edge where a hand would miss."""
        depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
        inner = np.argwhere(depth >= np.median(depth[region]))
        y, x = inner[self._rng.integers(len(inner))]
        return int(y), int(x)

    def _paint(
        self, region: NDArray[np.bool_], start: tuple[int, int], class_id: int, *, axis: int, index: int
    ) -> SimulatedStroke:
        """Paint through `start` in the direction where the region is longest, without leaving it."""
        line = max((_line(region, start, step, self._length) for step in _DIRECTIONS), key=len)
        touched = np.zeros_like(region)
        touched[tuple(np.transpose(line))] = True
        if self._radius:
            touched = ndimage.binary_dilation(touched, iterations=self._radius)
        pixels = np.argwhere(touched & region)
        return SimulatedStroke(class_id, np.insert(pixels, axis, index, axis=1).astype(np.int64))


def _deepest(region: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel that is farthest from the region's edge."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y), int(x)


def _line(
    region: NDArray[np.bool_], start: tuple[int, int], step: tuple[int, int], length: int
) -> list[tuple[int, int]]:
    """Return pixels from `start` along plus and minus `step` until the region ends or `length` is reached."""
    pixels = [start]
    for sign in (1, -1):
        y, x = start
        for _ in range(length // 2):
            y, x = y + sign * step[0], x + sign * step[1]
            if not (0 <= y < region.shape[0] and 0 <= x < region.shape[1] and region[y, x]):
                break
            pixels.append((y, x))
    return pixels


def _largest_errors(
    truth: NDArray[np.integer], segmentation: NDArray[np.integer], number: int
) -> list[tuple[NDArray[np.bool_], int]]:
    """Return connected regions of one true class that were segmented as another.

    The largest of each class come first, then the second largest: a person corrects what was missed as well as what
    was found too much.
    """
    wrong = np.where((truth > 0) & (segmentation > 0) & (truth != segmentation), truth, 0)
    found = []
    for class_id in np.unique(wrong[wrong > 0]):
        pieces, n = ndimage.label(wrong == class_id)
        sizes = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
        largest = np.argsort(-sizes, kind="stable")[:number]
        found += [(rank, -int(sizes[i]), int(class_id), pieces == i + 1) for rank, i in enumerate(largest)]
    found.sort(key=lambda error: error[:3])
    return [(region, class_id) for _, _, class_id, region in found[:number]]
