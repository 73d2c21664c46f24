from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxloop.classify import label_supervoxels
from voxloop.errors import InputError

voxels = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4)), max_size=60)


@given(voxels)
def test_majority_against_counting(pairs):
    got = label_supervoxels([s for s, _ in pairs], [c for _, c in pairs])
    votes: dict[int, Counter[int]] = {}
    for supervoxel, class_id in pairs:
        if supervoxel:
            votes.setdefault(supervoxel, Counter())[class_id] += 1
    assert got.ids.tolist() == sorted(votes)
    for supervoxel, class_id, purity in zip(got.ids, got.classes, got.purity, strict=True):
        counts = votes[int(supervoxel)]
        most = max(counts.values())
        assert class_id == min(c for c, n in counts.items() if n == most)
        assert purity == most / counts.total()
    assert got.conflicts.tolist() == sorted(s for s, counts in votes.items() if len(counts) > 1)
    assert got.n_outside == sum(s == 0 for s, _ in pairs)
    assert sum(got.count(c) for c in range(1, 5)) == got.n


def test_no_labels():
    assert label_supervoxels([], []).n == 0


def test_bad_input():
    with pytest.raises(InputError, match="voxel_classes has 1 entries but voxel_supervoxels has 2"):
        label_supervoxels([1, 2], [1])
    with pytest.raises(InputError, match="must be 1 or more, not 0"):
        label_supervoxels([1], [0])
