"""What is computed from, as it was at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from voxloop.classify import SupervoxelLabels
from voxloop.project import models
from voxloop.project.record import Specs
from voxloop.specs import digest_of


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Labels, classes and specs as they were at one moment: another thread may paint while something is computed.

    Attributes
    ----------
    labels
        The labelled supervoxels of each image.
    class_names
        Names of the classes by id.
    specs
        What was chosen for each stage.
    features
        Digest of each image's feature table.
    """

    labels: tuple[SupervoxelLabels, ...]
    class_names: dict[int, str]
    specs: Specs
    features: tuple[str, ...]

    @property
    def classes(self) -> NDArray[np.int32]:
        """(k,) sorted ids of the classes."""
        return np.array(sorted(self.class_names), np.int32)

    @cached_property
    def classifier_digest(self) -> str:
        """Digest of all that the classifier depends on."""
        parts = [
            [features, *(array.tolist() for array in of_image.arrays)]
            for features, of_image in zip(self.features, self.labels, strict=True)
            if of_image.n
        ]
        return digest_of("classifier", models.VERSION, self.specs.classifier.digest, parts)

    def prediction_digest(self, image: int) -> str:
        """Digest of all that the prediction of an image depends on."""
        return digest_of("prediction", self.classifier_digest, self.features[image], sorted(self.class_names))
