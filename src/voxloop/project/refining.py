"""Refinement of a project's images to voxels: what is learned from the strokes of all of them, and where it is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.blocks import Shape3
from voxloop.classify import LabelledImage, label_supervoxels
from voxloop.classify.refinement import (
    Refinement,
    Refiner,
    VoxelLabels,
    describe_voxels,
    fit_refinement,
    refine,
    smoothing_weights,
    undecided,
)
from voxloop.errors import InputError, StorageError
from voxloop.project.cache import ArrayCache, Entry
from voxloop.project.stages import read_entry
from voxloop.specs import digest_of

if TYPE_CHECKING:
    from voxloop.project.project import Project

_VERSION = 4  # raised when refining gives other bits for the same labels and specs


@dataclass(frozen=True)
class Refining:
    """Refines the images of a project under the labels that it had when this was made.

    Attributes
    ----------
    project
        With labels of two classes at least.
    voxels
        The labelled voxels of each image, inside its mask.
    """

    project: Project
    voxels: tuple[VoxelLabels, ...]

    @classmethod
    def of(cls, project: Project) -> Refining:
        """Return the refining of a project as it is now."""
        return cls(project, tuple(_voxel_labels(project, image) for image in range(len(project.images))))

    def digest(self, prediction_digest: str) -> str:
        """Return the digest of the classes of an image's voxels, whose supervoxels' prediction has that digest."""
        return digest_of("refined", _VERSION, prediction_digest, [_hash(voxels) for voxels in self.voxels])

    def refiner(self, image: int) -> Refiner:
        """Return what refines an image."""
        project, prediction = self.project, self.project.predict(image)
        supervoxels = project.supervoxels(image)
        return Refiner(
            project.volume(image),
            supervoxels.labels,
            prediction,
            undecided(prediction, supervoxels.graph),
            self._fit(),
            project.specs.features,
        )

    def _fit(self) -> Refinement:
        """Return what the strokes of all images teach."""
        project, specs = self.project, self.project.specs
        labelled = [image for image, voxels in enumerate(self.voxels) if voxels.indices.size]

        def describe(position: int, voxels: VoxelLabels) -> NDArray[np.float32]:
            return describe_voxels(
                project.volume(labelled[position]),
                voxels,
                specs.features,
                executor=project.executor,
                progress=project.progress,
                memory=project.memory,
            )

        def surround(position: int, voxels: VoxelLabels) -> sparse.csr_array:
            supervoxels = project.supervoxels(labelled[position])
            spacing = project.volume(labelled[position]).relative_spacing
            return smoothing_weights(supervoxels.labels, voxels, n=supervoxels.n, relative_spacing=spacing)

        images = [self._learned_from(image) for image in labelled]
        voxels = [self.voxels[image] for image in labelled]
        return fit_refinement(
            images,
            voxels,
            project.train(),
            specs.classifier,
            describe=describe,
            surround=surround,
            executor=project.executor,
        )

    def _learned_from(self, image: int) -> LabelledImage:
        project, voxels = self.project, self.voxels[image]
        labels = label_supervoxels(voxels.supervoxels, voxels.classes)
        values, supervoxels = project.features(image).values, project.supervoxels(image)
        return LabelledImage.of(labels, values, supervoxels, project.images[image].spacing)


def read_refined(cache: ArrayCache, name: str, digest: str, shape: Shape3) -> NDArray[np.integer] | None:
    """Return what was refined before, or None."""

    def read(entry: Entry) -> NDArray[np.integer]:
        classes = np.asarray(entry.arrays["classes"])
        if classes.shape != shape or classes.dtype.kind != "u":
            raise InputError(f"classes are {classes.dtype} of shape {classes.shape}; expected whole numbers, {shape}")
        return classes

    return read_entry(cache, name, digest, read)


def compute_refined(
    project: Project, refiner: Refiner, cache: ArrayCache, name: str, digest: str
) -> NDArray[np.integer]:
    """Refine an image and return the class of each voxel (z, y, x), in the cache unless the project is read-only."""
    shape = refiner.volume.shape
    dtype = np.dtype(np.uint8 if refiner.prediction.classes.max() < 256 else np.uint16)
    run = partial(refine, refiner, executor=project.executor, progress=project.progress, memory=project.memory)
    if project.read_only:
        out = np.empty(shape, dtype)
        run(out)
        return out
    with cache.create(name, digest, {"classes": (shape, dtype)}) as draft:
        run(draft.arrays["classes"])
    stored = read_refined(cache, name, digest, shape)
    if stored is None:
        raise StorageError(f"{name} cannot be read again from the cache of {project.folder}")
    return stored


def _voxel_labels(project: Project, image: int) -> VoxelLabels:
    """Return the labelled voxels of an image that lie in a supervoxel."""
    indices, classes = project.annotations.labelled_voxels(image)
    if indices.size == 0:
        none = np.empty(0, np.int64)
        return VoxelLabels(none, none.astype(np.int32), none)
    labels = np.asarray(project.supervoxels(image).labels)
    supervoxels = labels.reshape(-1)[indices].astype(np.int64)
    inside = supervoxels > 0
    return VoxelLabels(indices[inside], classes[inside].astype(np.int32), supervoxels[inside])


def _hash(voxels: VoxelLabels) -> str:
    digest = hashlib.sha256(voxels.indices.tobytes())
    digest.update(voxels.classes.tobytes())
    return digest.hexdigest()
