"""The classifier's opinion of every supervoxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor
from voxloop.classify.autocontext import Classifier, Opinions
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
        ids: NDArray[np.uint32] | None = None,
        opinions: Opinions | None = None,
        executor: Executor | None = None,
        memory: int | None = None,
    ) -> Prediction:
        """Return what `classifier` says of supervoxels of an image.

        Parameters
        ----------
        classifier
            The classifier.
        values, graph
            (n, f) features of all supervoxels, and which of them touch.
        classes
            (k,) sorted ids of the classes, known to the classifier or not: the columns.
        ids
            (m,) sorted: which supervoxels, by default all. They get the bits that they would get among all.
        opinions
            What its first forest says of the image, if some of that is known already.
        executor
            Runs over the rows; the result does not depend on it.
        memory
            Bytes that it may take, as in `Classifier.predict`.

        Raises
        ------
        InputError
            If the classifier knows a class that is not among `classes`.
        """
        if missing := set(classifier.classes.tolist()) - set(classes.tolist()):
            raise InputError(f"classes must hold all that the classifier knows; {sorted(missing)} is missing")
        found = classifier.predict(values, graph, ids=ids, opinions=opinions, executor=executor, memory=memory)
        probabilities = np.zeros((len(found), len(classes)), np.float32)
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
