"""The classifier's opinion of every supervoxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor
from voxloop.classify.autocontext import Classifier
from voxloop.classify.smoothing import smooth
from voxloop.errors import InputError
from voxloop.supervoxels import Adjacency


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of the supervoxels of one image.

    Attributes
    ----------
    probabilities
        (n, k) float32; row i is supervoxel i + 1, column j is `classes[j]`; rows sum to 1.
    classes
        (k,) int32, sorted class ids; one that had no labels has probability 0 everywhere.
    """

    probabilities: NDArray[np.float32]
    classes: NDArray[np.int32]

    @property
    def segmentation(self) -> NDArray[np.int32]:
        """(n,) the most probable class of each supervoxel; the lower id of equals."""
        best: NDArray[np.int32] = self.classes[self.probabilities.argmax(axis=1)]
        return best

    @classmethod
    def by(
        cls,
        classifier: Classifier,
        values: NDArray[np.float32],
        graph: Adjacency,
        classes: NDArray[np.int32],
        *,
        smoothing: int = 0,
        opinion: NDArray[np.float32] | None = None,
        executor: Executor | None = None,
    ) -> Prediction:
        """Return what `classifier` says of a table (n, f), smoothed along the graph.

        There is a column for each of `classes` (k,), known to the classifier or not. `opinion` is what its first
        forest says of the table, if that is known already.
        """
        if missing := set(classifier.classes.tolist()) - set(classes.tolist()):
            raise InputError(f"classes must hold all that the classifier knows; {sorted(missing)} is missing")
        probabilities = np.zeros((len(values), len(classes)), np.float32)
        found = smooth(classifier.predict(values, graph, opinion=opinion, executor=executor), graph, smoothing)
        probabilities[:, np.searchsorted(classes, classifier.classes)] = found
        return cls(probabilities, classes)


def look_up(labels: NDArray[np.uint32], values: NDArray[np.generic], *, outside: float = 0) -> NDArray[np.generic]:
    """Return for each voxel of a block of supervoxel ids the value of its supervoxel.

    Parameters
    ----------
    labels
        Supervoxel ids of any shape; 0 is outside.
    values
        (n, ...) value of supervoxel 1..n.
    outside
        The value of voxels outside.

    Returns
    -------
    Array of shape ``labels.shape + values.shape[1:]``.
    """
    table = np.concatenate([np.full((1, *values.shape[1:]), outside, values.dtype), values])
    found: NDArray[np.generic] = table[labels]
    return found
