"""Suggested slices with a way back, and the queue of supervoxels to review."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from voxloop.active import SliceSuggestion
from voxloop.errors import InputError
from voxloop.project.guidance import ReviewQueue, Trail, middle_voxel, supervoxel_mask
from voxloop.project.live import LiveImage
from voxloop.supervoxels import from_labels
from voxloop.supervoxels.extent import extent


def suggestion(index: int) -> SliceSuggestion:
    return SliceSuggestion(0, index, (index, 0, 0), 1.0, np.empty(0, np.uint32), "because")


def test_next_skips_back_returns_and_next_again_repeats() -> None:
    asked: list[list[int]] = []

    def suggest(earlier: Sequence[SliceSuggestion]) -> list[SliceSuggestion]:
        asked.append([s.index for s in earlier])
        return [suggestion(10 * len(asked))] if len(asked) < 3 else []

    trail: Trail[SliceSuggestion] = Trail()
    assert trail.current is None
    assert not trail.can_go_back
    assert [trail.next(suggest).index, trail.next(suggest).index] == [10, 20]
    assert asked == [[], [10]]
    assert trail.back().index == 10
    assert trail.next(suggest).index == 20
    with pytest.raises(InputError, match="nothing further"):
        trail.next(suggest)
    assert trail.current is not None
    assert trail.current.index == 20


def test_there_is_nothing_before_the_first() -> None:
    with pytest.raises(InputError, match="no earlier"):
        Trail[SliceSuggestion]().back()


def test_a_queue_goes_through_its_supervoxels() -> None:
    queue = ReviewQueue(np.array([7, 3], np.uint32), np.array([2, 1], np.int32), np.array([0.5, 0.6], np.float32))
    seen = []
    while not queue.is_over:
        seen.append((queue.supervoxel, queue.predicted_class))
        queue = queue.advanced()
    assert seen == [(7, 2), (3, 1)]


def test_the_middle_of_a_ring_lies_on_it() -> None:
    labels = np.ones((3, 7, 7), np.uint32)
    labels[:, 1:6, 1:6] = 2
    labels[:, 2:5, 2:5] = 3
    found = from_labels(labels)
    image = LiveImage(found, np.zeros((found.n, 1), np.float32), extent(found.labels, found.n), (1.0, 1.0, 1.0))
    ring = int(np.asarray(found.labels)[0, 1, 1])
    assert np.asarray(found.labels)[middle_voxel(image, ring)] == ring
    mask, start = supervoxel_mask(image, ring)
    assert (start, mask.shape, int(mask.sum())) == ((0, 1, 1), (3, 5, 5), 3 * 16)
