"""From the labels of all images to one forest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor
from voxloop.classify import Forest, SupervoxelLabels, fit_forest
from voxloop.errors import InputError
from voxloop.specs import ClassifierSpec


def fit_labels(
    labels: Sequence[SupervoxelLabels],
    values_of: Callable[[int], NDArray[np.float32]],
    class_names: Mapping[int, str],
    spec: ClassifierSpec,
    *,
    executor: Executor | None = None,
) -> Forest:
    """Return the forest trained on the labelled supervoxels of several images.

    Parameters
    ----------
    labels
        The labelled supervoxels of each image.
    values_of
        Gives the table (n, f) of an image by its index; asked for images with labels only.
    class_names
        Names of the classes by id, for messages.
    spec
        The forest.
    executor
        Grows the trees.

    Raises
    ------
    InputError
        If there are labels of fewer than two classes.
    """
    labelled = [(index, of_image) for index, of_image in enumerate(labels) if of_image.n]
    if not labelled:
        raise InputError("there are no labels to train on")
    known = {int(c) for _, of_image in labelled for c in of_image.classes}
    if len(known) == 1:
        name = class_names[known.pop()]
        raise InputError(f"all labels are {name!r}; training needs labels of two classes at least")
    rows = np.concatenate([values_of(index)[of_image.ids.astype(np.int64) - 1] for index, of_image in labelled])
    classes = np.concatenate([of_image.classes for _, of_image in labelled])
    weights = np.concatenate([of_image.purity for _, of_image in labelled])
    return fit_forest(rows, classes, spec, weights=weights, executor=executor)
