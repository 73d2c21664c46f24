"""What a simulation needs of one image: computed once, then only looked up, round after round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.active import neighbour_graph
from voxloop.classify import LabelledImage, SupervoxelLabels
from voxloop.errors import InputError
from voxloop.project import Project
from voxloop.simulate.score import SupervoxelTruth
from voxloop.supervoxels import Supervoxels
from voxloop.supervoxels.extent import Extent
from voxloop.volume import Spacing


@dataclass(frozen=True, eq=False)
class ImageTables:
    """The supervoxels of an image, their features and their truth.

    Attributes
    ----------
    supervoxels
        With the labels in memory.
    values
        (n, f) float32 features.
    walk
        (n, n) from `neighbour_graph`.
    extent
        Which slices each supervoxel meets.
    spacing
        Size of a voxel (z, y, x).
    truth
        (z, y, x) class of each voxel, 0 where it is unknown.
    truth_table
        The truth by supervoxel.
    majority
        (n,) class of most of each supervoxel's voxels; 0 where none of them is known.
    """

    supervoxels: Supervoxels
    values: NDArray[np.float32]
    walk: sparse.csr_array
    extent: Extent
    spacing: Spacing
    truth: NDArray[np.integer]
    truth_table: SupervoxelTruth
    majority: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        supervoxels: Supervoxels,
        values: NDArray[np.float32],
        extent: Extent,
        truth: NDArray[np.integer],
        *,
        spacing: Spacing = (1.0, 1.0, 1.0),
    ) -> ImageTables:
        """Return the tables of an image.

        Raises
        ------
        InputError
            If the features or the truth do not fit the supervoxels.
        """
        n = supervoxels.n
        if values.ndim != 2 or len(values) != n:
            raise InputError(f"values has shape {values.shape} for {n} supervoxels")
        table = SupervoxelTruth(supervoxels.labels, truth, n)
        walk = neighbour_graph(supervoxels.centers, spacing=spacing)
        return cls(supervoxels, values, walk, extent, spacing, truth, table, table.majority)

    @classmethod
    def of_project(cls, project: Project, image: int, truth: NDArray[np.integer]) -> ImageTables:
        """Return the tables of an image of a project; what the project has computed before is not computed again."""
        stored = project.supervoxels(image)
        in_memory = Supervoxels(np.asarray(stored.labels[:]), stored.sizes, stored.centers, stored.graph, stored.report)
        spacing = project.images[image].spacing
        return cls.of(in_memory, project.features(image).values, project.extent(image), truth, spacing=spacing)

    @property
    def labels(self) -> NDArray[np.uint32]:
        """(z, y, x) supervoxel of each voxel."""
        return np.asarray(self.supervoxels.labels)

    @property
    def known_ids(self) -> NDArray[np.uint32]:
        """Ids of the supervoxels that an annotator can name the class of."""
        return (np.flatnonzero(self.majority) + 1).astype(np.uint32)

    def labelled(self, labels: SupervoxelLabels) -> LabelledImage:
        """Return what is learned from the image with these labels."""
        return LabelledImage.of(labels, self.values, self.supervoxels, self.spacing)
