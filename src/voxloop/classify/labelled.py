"""What is learned from an image: which of its labels can be relied on, and which belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from voxloop.classify.labels import SupervoxelLabels
from voxloop.supervoxels import Adjacency, Supervoxels
from voxloop.volume import Spacing, relative_spacing

# Sides of cubes in supervoxel diameters. Labels in a small cube belong together, whatever their class; so do labels of
# one class that touch, as those of a stroke do, within a large cube: else one label would follow from another.
SMALL_CUBE = 3
LARGE_CUBE = 12


@dataclass(frozen=True)
class LabelledImage:
    """What is learned from one image.

    Attributes
    ----------
    labels
        Its labelled supervoxels.
    values
        (n, f) features of all its supervoxels.
    graph
        Which of them touch.
    positions
        (n, 3) centres in supervoxel diameters.
    diameter
        Side of a cube as large as the mean supervoxel, of a square in 2D, in voxels of the finest axis.
    ndim
        2 or 3.
    """

    labels: SupervoxelLabels
    values: NDArray[np.float32]
    graph: Adjacency
    positions: NDArray[np.float64]
    diameter: float
    ndim: int

    @classmethod
    def of(
        cls, labels: SupervoxelLabels, values: NDArray[np.float32], supervoxels: Supervoxels, spacing: Spacing
    ) -> LabelledImage:
        """Return what is learned from an image with these supervoxels and voxel size (z, y, x).

        Supervoxels that a stroke only grazed are left out; see `without_grazed`.
        """
        steps = np.array(relative_spacing(spacing))
        flat = supervoxels.labels.shape[0] == 1
        mean_volume = supervoxels.sizes.mean() * (steps[1:] if flat else steps).prod()
        ndim = 2 if flat else 3
        diameter = float(mean_volume ** (1 / ndim))
        kept = without_grazed(labels, supervoxels.graph, supervoxels.sizes)
        return cls(kept, values, supervoxels.graph, supervoxels.centers * steps / diameter, diameter, ndim)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the labelled supervoxels."""
        return self.labels.ids.astype(np.int64) - 1


def spacing_of_labels(images: Sequence[LabelledImage], m: int) -> float:
    """Return how many voxels of the finest axis would lie between neighbours of m labels that are spread evenly."""
    ndim = max(image.ndim for image in images)
    volume = sum(image.graph.n * image.diameter**image.ndim for image in images)
    return float((volume / m) ** (1 / ndim))


def without_grazed(labels: SupervoxelLabels, graph: Adjacency, sizes: NDArray[np.integer]) -> SupervoxelLabels:
    """Return the labels without those of supervoxels that a stroke only grazed.

    A stroke that follows a structure runs through the middle of some supervoxels and touches others, which may belong
    to something else for the larger part. A supervoxel is grazed if a touching one of the same class has more than
    twice as many labelled voxels and less than half of its own voxels are labelled. docs/decisions/0013 says what this
    is worth.

    Parameters
    ----------
    labels
        The labelled supervoxels; where `n_voxels` is not known, none is grazed.
    graph
        Which supervoxels touch.
    sizes
        (n,) voxels of each supervoxel.
    """
    if labels.n_voxels is None or labels.n == 0:
        return labels
    a, b = _touching_of_one_class(labels, graph)
    most = labels.n_voxels.copy()
    np.maximum.at(most, a, labels.n_voxels[b])
    np.maximum.at(most, b, labels.n_voxels[a])
    half_full = 2 * labels.n_voxels >= sizes[labels.ids.astype(np.int64) - 1]
    return labels.take(half_full | (2 * labels.n_voxels >= most))


def group_labels(images: Sequence[LabelledImage]) -> NDArray[np.int64]:
    """Return a number for each label of all images, the same for labels that belong together; 0, 1, ... without gaps.

    Labels in one cube of 3 supervoxel diameters belong together, and labels of one class that touch within one of 12:
    those of a stroke. Who asks how good a classifier is must leave out all of them at a time. Where labels are so dense
    that a class would be a single group, the small cubes alone decide.
    """
    classes = np.concatenate([image.labels.classes for image in images])
    starts = np.cumsum([0, *(image.labels.n for image in images)])
    cube = _small_cubes(images)
    first_in_cube = np.unique(cube, return_index=True)[1]
    pairs = [np.stack([np.arange(classes.size), first_in_cube[cube]])]
    for image, start in zip(images, starts, strict=False):
        a, b = _touching_of_one_class(image.labels, image.graph)
        large = np.floor(image.positions[image.rows] / LARGE_CUBE)
        near = (large[a] == large[b]).all(axis=1)
        pairs.append(np.stack([a[near], b[near]]) + start)
    rows, columns = np.concatenate(pairs, axis=1)
    links = sparse.coo_array((np.ones(rows.size, bool), (rows, columns)), shape=(classes.size, classes.size))
    groups: NDArray[np.int64] = connected_components(links, directed=False)[1].astype(np.int64)
    in_one_group = [np.unique(groups[classes == c]).size == 1 for c in np.unique(classes)]
    return cube if any(in_one_group) else groups


def _small_cubes(images: Sequence[LabelledImage]) -> NDArray[np.int64]:
    """Return the number of the small cube that each label of all images lies in; 0, 1, ... without gaps."""
    cubes = [np.floor(image.positions[image.rows] / SMALL_CUBE).astype(np.int64) for image in images]
    cubes = [np.column_stack([np.full(len(c), which), c]) for which, c in enumerate(cubes)]
    numbers: NDArray[np.int64] = np.unique(np.concatenate(cubes), axis=0, return_inverse=True)[1].ravel()
    return numbers


def deal_folds(
    groups: NDArray[np.int64], classes: NDArray[np.int32], *, n_folds: int, rng: int | np.random.Generator
) -> NDArray[np.int64]:
    """Return the fold 0..n_folds - 1 of each label, the same for a group's; -1 for labels that are never left out.

    The groups are shuffled and dealt class by class, so that a class with labels in two groups is in two folds. Where
    a fold would take all labels of a class, those stay in.

    Parameters
    ----------
    groups, classes
        (m,) group and class of each label.
    n_folds
        How many at most.
    rng
        Shuffles the groups.
    """
    n_groups = int(groups.max()) + 1
    votes = np.zeros((n_groups, int(classes.max()) + 1), np.int64)
    np.add.at(votes, (groups, classes), 1)
    shuffled = np.random.default_rng(rng).permutation(n_groups)
    order = shuffled[np.argsort(votes.argmax(axis=1)[shuffled], kind="stable")]
    fold_of_group = np.empty(n_groups, np.int64)
    fold_of_group[order] = np.arange(n_groups) % n_folds
    folds: NDArray[np.int64] = fold_of_group[groups]
    for class_id in np.unique(classes):
        own = classes == class_id
        if (folds[own] == folds[own][0]).all():
            folds[own] = -1
    return folds


def _touching_of_one_class(labels: SupervoxelLabels, graph: Adjacency) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of labels, by their place, whose supervoxels touch and have one class."""
    place = np.full(graph.n + 1, -1, np.int64)
    place[labels.ids] = np.arange(labels.n)
    is_labelled = place >= 0
    found = [np.empty((0, 2), np.int64)]
    for edges, _ in graph.parts():
        # Few contacts have labels on both sides: to look up the places of all of them takes three times as long.
        found.append(place[edges[is_labelled[edges[:, 0]] & is_labelled[edges[:, 1]]]])
    a, b = np.concatenate(found).T
    same = labels.classes[a] == labels.classes[b]
    return a[same], b[same]
