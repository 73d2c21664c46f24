"""From the labels of all images to one classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from voxloop.blocks import Executor
from voxloop.classify import Classifier, Forest, LabelledImage, Opinions, SupervoxelLabels, fit_classifier
from voxloop.errors import InputError
from voxloop.specs import ClassifierSpec


def fit_labels(
    labels: Sequence[SupervoxelLabels],
    image_of: Callable[[int], LabelledImage],
    class_names: Mapping[int, str],
    spec: ClassifierSpec,
    *,
    opinions_of: Callable[[int, Forest], Opinions] | None = None,
    executor: Executor | None = None,
) -> Classifier:
    """Return the classifier trained on the labelled supervoxels of several images.

    Parameters
    ----------
    labels
        The labelled supervoxels of each image.
    image_of
        Gives what is learned from an image by its index; asked for images with labels only.
    class_names
        Names of the classes by id, for messages.
    spec
        The classifier.
    opinions_of
        Gives what the first forest says of an image, by its index; see `fit_classifier`.
    executor
        Grows the trees.

    Raises
    ------
    InputError
        If there are labels of fewer than two classes.
    """
    check_labels(labels, class_names)
    labelled = [index for index, of_image in enumerate(labels) if of_image.n]
    images = [image_of(index) for index in labelled]
    asked = None if opinions_of is None else lambda position, first: opinions_of(labelled[position], first)
    return fit_classifier(images, spec, opinions_of=asked, executor=executor)


def check_labels(labels: Sequence[SupervoxelLabels], class_names: Mapping[int, str]) -> None:
    """Raise `InputError` unless there are labels of two classes at least."""
    known = {int(c) for of_image in labels for c in of_image.classes}
    if not known:
        raise InputError("there are no labels to train on")
    if len(known) == 1:
        name, n_conflicts = class_names[known.pop()], sum(len(of_image.conflicts) for of_image in labels)
        torn = f" ({n_conflicts} have strokes of several classes; most of their voxels decide)" if n_conflicts else ""
        raise InputError(f"all labels are {name!r}{torn}; training needs labels of two classes at least")
