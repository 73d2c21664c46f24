from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score

from voxloop.errors import InputError
from voxloop.simulate.score import SupervoxelTruth, score

classes = hnp.arrays(np.uint8, (4, 4, 4), elements=st.integers(1, 3))


@given(classes, classes)
def test_against_scikit_learn(segmentation, truth):
    got = score(segmentation, truth)
    labels = np.unique(truth)
    assert got.classes == tuple(labels)
    arguments = {"labels": labels, "average": None, "zero_division": 0}
    np.testing.assert_allclose(got.iou, jaccard_score(truth.ravel(), segmentation.ravel(), **arguments))
    np.testing.assert_allclose(got.dice, f1_score(truth.ravel(), segmentation.ravel(), **arguments))
    assert got.mean_iou == pytest.approx(np.mean(got.iou))


def test_unknown_truth_does_not_count():
    assert score([1, 2, 2], [1, 0, 2]).iou == (1.0, 1.0)
    assert score([0, 2], [1, 2]).iou_of(1) == 0


@given(classes, st.lists(st.integers(0, 4), min_size=8, max_size=8), st.integers(1, 3))
def test_best_iou_is_the_best_of_all_thresholds(truth, fifths, class_id):
    labels = (np.arange(64).reshape(4, 4, 4) // 8 + 1).astype(np.uint32)
    truth = np.where(labels == 8, 0, truth)  # one of them is unknown
    truth[0, 0, 0] = class_id
    probabilities = np.array(fifths) / 5
    candidates = []
    for threshold in np.unique(probabilities):
        found = (probabilities >= threshold)[labels - 1] & (truth > 0)
        candidates.append((found & (truth == class_id)).sum() / (found | (truth == class_id)).sum())
    assert SupervoxelTruth(labels, truth, 8).best_iou(probabilities, class_id) == pytest.approx(max(candidates))


def test_bad_input():
    with pytest.raises(InputError, match=r"shape \(2,\) but truth has shape \(3,\)"):
        score([1, 2], [1, 2, 2])
    with pytest.raises(InputError, match="unknown"):
        score([1, 2], [0, 0])
