from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.errors import InputError
from voxloop.kernels.extent import measure_extent
from voxloop.supervoxels import extent as module
from voxloop.supervoxels.extent import extent

shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)


def numbered(array: np.ndarray) -> np.ndarray:
    """Return the array with its values above 0 numbered 1..n without gaps."""
    values = np.unique(np.append(array, 0))
    return np.searchsorted(values, array).astype(np.uint32)


label_volumes = shapes.flatmap(lambda s: hnp.arrays(np.uint8, s, elements=st.integers(0, 6))).map(numbered)


@settings(deadline=None)
@given(label_volumes)
def test_against_find_objects(labels):
    n = int(labels.max())
    got = extent(labels, n, executor=SerialExecutor())
    boxes = ndimage.find_objects(labels.astype(np.int32))
    assert got.first.tolist() == [[s.start for s in box] for box in boxes]
    assert got.last.tolist() == [[s.stop - 1 for s in box] for box in boxes]
    for axis, counts in enumerate(got.voxels_per_slice):
        others = tuple(a for a in range(3) if a != axis)
        assert counts.tolist() == np.count_nonzero(labels, axis=others).tolist()


@pytest.mark.parametrize("block_shape", [(1, 1, 1), (2, 5, 3), (4, 4, 4), (100, 100, 100)])
@pytest.mark.parametrize("workers", [1, 2])
def test_blocks_and_threads_do_not_show(monkeypatch, block_shape, workers):
    labels = numbered(np.random.default_rng(0).integers(0, 12, (7, 8, 9)))
    expected = extent(labels, 11, executor=SerialExecutor())
    monkeypatch.setattr(module, "_BLOCK_SHAPE", block_shape)
    got = extent(labels, 11, executor=ThreadExecutor(workers))
    for a, b in zip((got.first, got.last, *got.voxels_per_slice), (expected.first, expected.last,
                    *expected.voxels_per_slice), strict=True):  # fmt: skip
        assert a.tobytes() == b.tobytes()
        assert a.dtype == b.dtype


def test_kernel_against_its_source():
    local = np.random.default_rng(1).integers(0, 4, (3, 4, 5)).astype(np.int32)
    results = []
    for function in (measure_extent, measure_extent.py_func):
        first, last = np.full((3, 3), 99, np.int32), np.full((3, 3), -1, np.int32)
        counts = [np.zeros(n, np.int64) for n in local.shape]
        function(local, first, last, *counts)
        results.append([first, last, *counts])
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_labels_that_do_not_fit_n_are_refused():
    with pytest.raises(InputError, match="labels hold 7 but n is 6"):
        extent(np.full((2, 3, 4), 7, np.uint32), 6)
    with pytest.raises(InputError, match="2 of them have no voxel"):
        extent(np.full((2, 3, 4), 3, np.uint32), 3)
