"""The connected objects of each class, found on the graph of the supervoxels: no voxel is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxloop.project.results import ImageResults
from voxloop.supervoxels.neighbourhood import pieces_of_a_class


@dataclass(frozen=True)
class Objects:
    """Connected pieces of one class each, numbered 1..m in the order of their first supervoxel.

    Attributes
    ----------
    of_supervoxel
        (n,) uint32: which object each supervoxel belongs to.
    classes
        (m,) int32: the class of each.
    sizes
        (m,) int64: voxels of each.
    centers
        (m, 3) float64: centre of mass (z, y, x) in voxels.
    first, last
        (m, 3) int32: the bounding box, both ends in it.
    """

    of_supervoxel: NDArray[np.uint32]
    classes: NDArray[np.int32]
    sizes: NDArray[np.int64]
    centers: NDArray[np.float64]
    first: NDArray[np.int32]
    last: NDArray[np.int32]

    @property
    def n(self) -> int:
        """Number of objects."""
        return len(self.sizes)


def find_objects(results: ImageResults) -> Objects:
    """Return the objects of an image: supervoxels of one class that touch, directly or through others of it.

    Supervoxels are connected by faces, and the graph holds every pair that shares a face, so these are the 6-connected
    components of the segmentation (4-connected in 2D), whatever their number of voxels.
    """
    supervoxels, segmentation, extent = results.supervoxels(), results.prediction().segmentation, results.extent()
    piece, n = pieces_of_a_class(supervoxels.graph, segmentation)
    sizes = np.bincount(piece, weights=supervoxels.sizes, minlength=n).astype(np.int64)
    moments = [np.bincount(piece, weights=supervoxels.sizes * along, minlength=n) for along in supervoxels.centers.T]
    first, last = np.full((n, 3), np.iinfo(np.int32).max, np.int32), np.full((n, 3), -1, np.int32)
    np.minimum.at(first, piece, extent.first)
    np.maximum.at(last, piece, extent.last)
    classes = np.zeros(n, np.int32)
    classes[piece] = segmentation
    centers = np.stack(moments, axis=1) / sizes[:, np.newaxis]
    return Objects((piece + 1).astype(np.uint32), classes, sizes, centers, first, last)
