"""What little, torn or damaged labels come to: a result where there can be one, else one clear line."""

from __future__ import annotations

import numpy as np
import pytest

from voxloop.classify import LabelledImage, SupervoxelLabels, fit_classifier, label_supervoxels
from voxloop.errors import InputError
from voxloop.project.training import check_labels, fit_labels
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency

N = 60
CHAIN = Adjacency(np.stack([np.arange(1, N), np.arange(2, N + 1)], axis=1), np.ones(N - 1), N)
NAMES = {1: "background", 2: "nucleus"}


def image_of(labels: SupervoxelLabels, values: np.ndarray) -> LabelledImage:
    positions = np.zeros((N, 3))
    positions[:, 2] = np.arange(N) * 4
    return LabelledImage(labels, values, CHAIN, positions, 4.0, 3)


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (np.arange(N)[:, np.newaxis] // (N // 2) + rng.normal(0, 0.1, (N, 4))).astype(np.float32)


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_a_class_with_a_few_labels_is_learned_and_not_calibrated_away(values: np.ndarray, rare: int) -> None:
    ids = np.r_[1:21, N - rare + 1 : N + 1]
    classifier = fit_classifier([image_of(label_supervoxels(ids, 1 + (ids > N // 2)), values)], ClassifierSpec())
    assert classifier.second is None
    P = classifier.predict(values, CHAIN)
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-5)
    assert (P.argmax(axis=1) == np.arange(N) // (N // 2)).mean() > 0.9
    if rare == 1:
        assert classifier.calibration.is_none


def test_labels_that_are_all_torn_teach_what_most_of_their_voxels_say(values: np.ndarray) -> None:
    ids = np.r_[1:11, N - 9 : N + 1]
    most, other = 1 + (ids > N // 2), 2 - (ids > N // 2)
    labels = label_supervoxels(np.repeat(ids, 3), np.stack([most, most, other], axis=1).ravel())
    assert labels.conflicts.size == labels.n == ids.size
    check_labels([labels], NAMES)
    P = fit_classifier([image_of(labels, values)], ClassifierSpec()).predict(values, CHAIN)
    assert (P.argmax(axis=1) == np.arange(N) // (N // 2)).all()


def test_torn_labels_of_one_majority_are_named() -> None:
    torn = label_supervoxels([1, 1, 1, 2, 2, 2], [1, 1, 2, 1, 1, 2])
    with pytest.raises(InputError, match=r"all labels are 'background' \(2 have strokes of several classes"):
        check_labels([torn], NAMES)


def test_features_that_are_no_numbers_are_named(values: np.ndarray) -> None:
    values[3, 2] = np.nan
    labels = label_supervoxels([2, 4, 50, 55], [1, 1, 2, 2])
    with pytest.raises(InputError, match="values must be finite; row 1, feature 2 is nan"):
        fit_labels([labels], lambda _: image_of(labels, values), NAMES, ClassifierSpec())
