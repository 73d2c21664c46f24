"""Fragments and contacts against connected-components-3d, whole volumes at once."""

from __future__ import annotations

import cc3d
import numpy as np
import pytest

from voxloop.blocks import SerialExecutor, partition
from voxloop.io.scratch import Memory
from voxloop.supervoxels import from_labels
from voxloop.supervoxels.arrays import Work
from voxloop.supervoxels.connectivity import cut_block, gather, number_blocks


@pytest.mark.parametrize("n_labels", [2, 5, 300])
@pytest.mark.parametrize("shape", [(17, 23, 31), (1, 40, 30), (30, 1, 30), (30, 40, 1), (1, 1, 50), (1, 1, 1)])
def test_pieces_are_the_connected_components(n_labels: int, shape: tuple[int, int, int]) -> None:
    labels = np.random.default_rng(n_labels).integers(0, n_labels, shape).astype(np.int64)
    out = np.zeros(shape, np.uint32)
    blocks, scratch = partition(shape, (8, 9, 10)), Memory()
    parts = [
        cut_block(
            np.ascontiguousarray(labels[b.inner.slices]),
            np.empty((0, *b.inner.shape), np.int16),
            b,
            shape,
            scratch,
            relative_spacing=(1, 1, 1),
            outside=0,
        )
        for b in blocks
    ]
    work = Work(SerialExecutor(), None)
    pieces, numbers = gather(parts, scratch, relative_spacing=(1, 1, 1), join_by="contact", work=work)
    number_blocks(blocks, numbers, scratch=scratch, out=out, work=work)
    expected, n = cc3d.connected_components(labels.astype(np.uint32), connectivity=6, return_N=True)
    assert len(pieces.sums) == n
    assert len(np.unique(np.stack([out, expected]).reshape(2, -1), axis=1).T) == n + (labels == 0).any()
    np.testing.assert_array_equal(out == 0, labels == 0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 2.0)])
def test_areas_of_contact(spacing: tuple[float, float, float]) -> None:
    labels = np.random.default_rng(1).integers(0, 30, (11, 19, 23)).astype(np.uint8).repeat(2, axis=2)
    found = from_labels(labels, spacing=spacing, block_shape=(4, 8, 16))
    assert found.labels.dtype == np.uint32
    expected = cc3d.contacts(np.asarray(found.labels), connectivity=6, anisotropy=spacing)
    assert {tuple(e): a for e, a in zip(found.graph.edges.tolist(), found.graph.area, strict=True)} == pytest.approx(
        {tuple(sorted(map(int, k))): v for k, v in expected.items()}
    )
