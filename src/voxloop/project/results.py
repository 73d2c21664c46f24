"""What is known of one image once its supervoxels have a class: what exports and tables are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor, Progress
from voxloop.classify import Prediction, SupervoxelLabels
from voxloop.io import folder_of
from voxloop.project.annotations import LabelClass
from voxloop.specs import FeatureSpec, digest_of
from voxloop.supervoxels import Supervoxels
from voxloop.supervoxels.extent import Extent
from voxloop.volume import Volume

if TYPE_CHECKING:
    from voxloop.project.project import Project


class ImageResults(Protocol):
    """The results of one image, each computed when it is asked for."""

    @property
    def name(self) -> str:
        """What the image is called."""

    @property
    def dataset_dir(self) -> Path:
        """The folder that the image's file lies in."""

    @property
    def volume(self) -> Volume:
        """The image."""

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The classes, sorted by id."""

    @property
    def feature_spec(self) -> FeatureSpec:
        """How features are computed."""

    @property
    def executor(self) -> Executor:
        """Runs the blocks."""

    @property
    def progress(self) -> Progress | None:
        """Is told how far the work is."""

    @property
    def memory(self) -> int:
        """Bytes that a process may take for its blocks."""

    def digest(self) -> str | None:
        """Return the digest of all that the results follow from, or None if that is not known."""

    def supervoxels(self) -> Supervoxels:
        """Return the supervoxels."""

    def extent(self) -> Extent:
        """Return which slices the supervoxels meet."""

    def prediction(self) -> Prediction:
        """Return the class probabilities of the supervoxels."""

    def graph_cut(self, strength: float) -> NDArray[np.int32]:
        """Return the class (n,) of each supervoxel by a graph cut of that strength."""

    def refined(self) -> NDArray[np.integer]:
        """Return the class of each voxel (z, y, x), decided voxel by voxel near boundaries."""

    def uncertainty(self) -> NDArray[np.float32]:
        """Return how unsure the classifier is of each supervoxel."""

    def top_uncertain(self) -> NDArray[np.uint32]:
        """Return the supervoxels to label next."""

    def labels(self) -> SupervoxelLabels:
        """Return which supervoxels are labelled."""

    def labelled_voxels(self) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Return the sorted linear indices of the labelled voxels, and the class of each."""


@dataclass(frozen=True)
class ProjectResults:
    """The results of image number `image` of a project."""

    project: Project
    image: int

    @property
    def name(self) -> str:
        """What the image is called."""
        return self.project.images[self.image].name

    @property
    def dataset_dir(self) -> Path:
        """The folder that the image's file lies in; the project's, if the project itself keeps the voxels."""
        folder = self.project.folder.resolve()
        path = self.volume.path
        if path is None or path.resolve().is_relative_to(folder):
            return folder.parent
        return folder_of(path)

    @property
    def volume(self) -> Volume:
        """The image."""
        return self.project.volume(self.image)

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The classes, sorted by id."""
        return tuple(sorted(self.project.annotations.classes, key=lambda c: c.class_id))

    @property
    def feature_spec(self) -> FeatureSpec:
        """How features are computed."""
        return self.project.specs.features

    @property
    def executor(self) -> Executor:
        """Runs the blocks."""
        return self.project.executor

    @property
    def progress(self) -> Progress | None:
        """Is told how far the work is."""
        return self.project.progress

    @property
    def memory(self) -> int:
        """Bytes that a process may take for its blocks."""
        return self.project.memory

    def digest(self) -> str:
        """Return the digest of all that the results follow from."""
        return digest_of(self.project.inputs_digest(), self.image)

    def supervoxels(self) -> Supervoxels:
        """Return the supervoxels."""
        return self.project.supervoxels(self.image)

    def extent(self) -> Extent:
        """Return which slices the supervoxels meet."""
        return self.project.extent(self.image)

    def prediction(self) -> Prediction:
        """Return the class probabilities of the supervoxels."""
        return self.project.predict(self.image)

    def graph_cut(self, strength: float) -> NDArray[np.int32]:
        """Return the class (n,) of each supervoxel by a graph cut of that strength."""
        return self.project.graph_cut(self.image, strength=strength)

    def refined(self) -> NDArray[np.integer]:
        """Return the class of each voxel (z, y, x), decided voxel by voxel near boundaries."""
        return self.project.refine(self.image)

    def uncertainty(self) -> NDArray[np.float32]:
        """Return how unsure the classifier is of each supervoxel."""
        return self.project.uncertainty(self.image)

    def top_uncertain(self) -> NDArray[np.uint32]:
        """Return the supervoxels to label next."""
        return self.project.top_uncertain(self.image)

    def labels(self) -> SupervoxelLabels:
        """Return which supervoxels are labelled."""
        return self.project.labels(self.image)

    def labelled_voxels(self) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Return the sorted linear indices of the labelled voxels, and the class of each."""
        return self.project.annotations.labelled_voxels(self.image)
