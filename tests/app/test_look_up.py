"""Look-up layers against writing the volume out, along every axis."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from voxloop.app.look_up import HatchView, IdSlices, OutlineView, OutsideView, TableView
from voxloop.supervoxels.outlines import boundaries, hatch, ring

IDS = np.random.default_rng(0).integers(0, 5, (6, 7, 9)).astype(np.uint32)
SLICES = [
    tuple(index if a == axis else slice(None) for a in range(3)) for axis, index in itertools.product(range(3), (0, 3))
]


class Counting:
    """An array that counts how often it is read."""

    def __init__(self, array: NDArray[np.uint32]) -> None:
        self.array, self.shape, self.dtype, self.reads = array, array.shape, array.dtype, 0

    def __getitem__(self, key: object) -> NDArray[np.uint32]:
        self.reads += 1
        return self.array[key]


@pytest.mark.parametrize("key", SLICES, ids=str)
def test_a_slice_is_the_table_at_its_ids(key: tuple[int | slice, ...]) -> None:
    table = np.array([0, 10, 20, 30, 40], np.float32)
    view = TableView(IdSlices(IDS), table)
    assert (view.shape, view.ndim, view.dtype, view.size) == (IDS.shape, 3, np.dtype(np.float32), IDS.size)
    assert np.array_equal(view[key], table[IDS[key]])
    table[2] = -1
    assert np.array_equal(view[key], table[IDS[key]])


@pytest.mark.parametrize("key", SLICES, ids=str)
def test_outlines_and_hatch_are_those_of_the_slice(key: tuple[int | slice, ...]) -> None:
    ids = IdSlices(IDS)
    assert np.array_equal(OutlineView(ids)[key], boundaries(IDS[key]))
    table = np.array([0, 1, 0, 1, 2], np.uint8)
    marked = boundaries(IDS[key] == 4) | ring(IDS[key] == 4)
    expected = np.where(marked, 2, hatch(np.isin(IDS[key], (1, 3))))
    assert np.array_equal(HatchView(ids, table)[key], expected)
    assert np.array_equal(OutsideView(ids)[key], IDS[key] == 0)


def test_a_volume_is_its_slices() -> None:
    ids = IdSlices(IDS)
    table = np.array([0, 1, 0, 1, 2], np.uint8)
    for view in (TableView(ids, table), OutlineView(ids), HatchView(ids, table)):
        whole = np.asarray(view)
        assert whole.dtype == view.dtype
        assert np.array_equal(whole, np.stack([view[z, :, :] for z in range(IDS.shape[0])]))


def test_layers_that_share_ids_read_a_slice_once() -> None:
    counting = Counting(IDS)
    ids = IdSlices(counting)
    views = [TableView(ids, np.zeros(5)), OutlineView(ids), HatchView(ids, np.zeros(5, np.uint8))]
    key = (3, slice(0, 7, 1), slice(0, 9, 1))
    for view in views:
        view[key]
    assert counting.reads == 1
    views[0][4, :, :]
    assert counting.reads == 2


def test_a_single_voxel_can_be_read() -> None:
    ids = IdSlices(IDS)
    assert TableView(ids, np.arange(5))[2, 3, 4] == IDS[2, 3, 4]
    assert OutlineView(ids)[2, 3, 4] == 0
