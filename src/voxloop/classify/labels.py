"""From labelled voxels to labelled supervoxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.errors import InputError


@dataclass(frozen=True)
class SupervoxelLabels:
    """The class of each labelled supervoxel.

    Attributes
    ----------
    ids
        (m,) uint32, sorted: the labelled supervoxels.
    classes
        (m,) int32: the class that most of a supervoxel's labelled voxels have; the lower one of equals.
    purity
        (m,) float64: the share of its labelled voxels that have that class, 1 without a conflict.
    n_outside
        Labelled voxels that lie in no supervoxel: outside the mask.
    n_voxels
        (m,) int64: how many of each supervoxel's voxels are labelled; None where that is not known.
    """

    ids: NDArray[np.uint32]
    classes: NDArray[np.int32]
    purity: NDArray[np.float64]
    n_outside: int = 0
    n_voxels: NDArray[np.int64] | None = None

    @property
    def n(self) -> int:
        """Number of labelled supervoxels."""
        return int(self.ids.size)

    @property
    def conflicts(self) -> NDArray[np.uint32]:
        """Supervoxels with strokes of two or more classes."""
        return self.ids[self.purity < 1]

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """All that is known of the labelled supervoxels."""
        known = (self.ids, self.classes, self.purity)
        return known if self.n_voxels is None else (*known, self.n_voxels)

    def take(self, kept: NDArray[np.bool_]) -> SupervoxelLabels:
        """Return the labels where `kept` (m,) is true."""
        n_voxels = None if self.n_voxels is None else self.n_voxels[kept]
        return SupervoxelLabels(self.ids[kept], self.classes[kept], self.purity[kept], self.n_outside, n_voxels)

    def count(self, class_id: int) -> int:
        """Return the number of supervoxels labelled as `class_id`."""
        return int(np.count_nonzero(self.classes == class_id))


def label_supervoxels(voxel_supervoxels: ArrayLike, voxel_classes: ArrayLike) -> SupervoxelLabels:
    """Give each supervoxel the class of most of its labelled voxels.

    Parameters
    ----------
    voxel_supervoxels
        (v,) supervoxel of each labelled voxel, 0 outside the mask.
    voxel_classes
        (v,) class of each labelled voxel, 1 or more.

    Raises
    ------
    InputError
        If the two differ in length or a class is below 1.
    """
    supervoxels = np.asarray(voxel_supervoxels).ravel().astype(np.int64)
    classes = np.asarray(voxel_classes).ravel().astype(np.int64)
    if supervoxels.size != classes.size:
        raise InputError(f"voxel_classes has {classes.size} entries but voxel_supervoxels has {supervoxels.size}")
    if classes.size and classes.min() < 1:
        raise InputError(f"voxel_classes must be 1 or more, not {classes.min()}")
    inside = supervoxels > 0
    n_outside = int(classes.size - np.count_nonzero(inside))
    n_classes = int(classes.max(initial=0)) + 1
    pairs, votes = np.unique(supervoxels[inside] * n_classes + classes[inside], return_counts=True)
    ids, first = np.unique(pairs // n_classes, return_index=True)
    totals = np.add.reduceat(votes, first) if ids.size else votes
    # Sorted by supervoxel, then votes (most first), then class: the first of each supervoxel is its majority.
    order = np.lexsort((pairs % n_classes, -votes, pairs // n_classes))
    winners = order[first]
    return SupervoxelLabels(
        ids=ids.astype(np.uint32),
        classes=(pairs[winners] % n_classes).astype(np.int32),
        purity=votes[winners] / totals,
        n_outside=n_outside,
        n_voxels=totals.astype(np.int64),
    )
