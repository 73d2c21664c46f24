from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from voxloop.errors import InputError
from voxloop.supervoxels import Adjacency, from_labels, model
from voxloop.supervoxels.neighbourhood import pieces_of_a_class


def test_matrix_is_symmetric_and_in_order() -> None:
    graph = Adjacency(np.array([[1, 2], [1, 4]]), np.array([3.0, 0.5]), 4)
    matrix = graph.matrix()
    assert matrix.format == "csr"
    np.testing.assert_array_equal(matrix.toarray(), [[0, 3, 0, 0.5], [3, 0, 0, 0], [0, 0, 0, 0], [0.5, 0, 0, 0]])
    assert Adjacency(np.empty((0, 2), np.int64), np.empty(0), 2).matrix().nnz == 0


@pytest.mark.parametrize("n_edges", [0, 30, 300])
def test_pieces_of_a_class_are_the_connected_components(n_edges: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "ROWS", 7)
    rng = np.random.default_rng(n_edges)
    pairs = np.unique(np.sort(rng.integers(1, 101, (n_edges, 2))), axis=0)
    graph = Adjacency(pairs[pairs[:, 0] < pairs[:, 1]], np.ones((pairs[:, 0] < pairs[:, 1]).sum()), 100)
    classes = rng.integers(1, 4, 100)
    piece, n = pieces_of_a_class(graph, classes)
    a, b = graph.edges.T - 1
    alike = classes[a] == classes[b]
    links = sparse.coo_array((np.ones(alike.sum()), (a[alike], b[alike])), shape=(100, 100))
    expected = connected_components(links, directed=False)
    assert n == expected[0]
    np.testing.assert_array_equal(piece, expected[1])


def test_labels_of_ones_own_by_hand() -> None:
    labels = np.array([[[0, 900, 900], [7, 7, 900]], [[0, 7, 7], [0, 900, 7]]])
    found = from_labels(labels, spacing=(2.0, 1.0, 1.0))
    np.testing.assert_array_equal(found.labels, [[[0, 1, 1], [2, 2, 1]], [[0, 2, 2], [0, 1, 2]]])
    np.testing.assert_array_equal(found.sizes, [4, 5])
    np.testing.assert_allclose(found.centers[0], [0.25, 0.5, 1.5])
    # z: 4 faces of 1; y: 2 faces of 2; x: 2 faces of 2
    np.testing.assert_array_equal(found.graph.edges, [[1, 2]])
    np.testing.assert_array_equal(found.graph.area, [4 * 1 + 2 * 2 + 2 * 2])
    assert found.report.message == ""


def test_a_label_is_one_supervoxel_wherever_it_is() -> None:
    labels = np.zeros((1, 1, 40), np.uint64)
    labels[..., [0, 20, 39]] = 2**62
    labels[..., 5] = 3
    found = from_labels(labels, block_shape=(1, 1, 7))
    np.testing.assert_array_equal(np.unique(found.labels[..., [0, 20, 39]]), [1])
    np.testing.assert_array_equal(found.sizes, [3, 1])


def test_a_mask_cuts_labels_and_out_may_be_the_labels() -> None:
    labels = np.arange(1, 28, dtype=np.uint32).reshape(3, 3, 3)
    mask = labels % 2
    found = from_labels(labels, mask=mask, out=labels)
    assert found.labels is labels
    np.testing.assert_array_equal(labels, np.where(mask, (np.arange(27).reshape(3, 3, 3) + 2) // 2, 0))


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        (np.ones((3, 3, 3)), {}, "labels has shape .* and dtype float64; expected integers"),
        (np.ones((3, 3), int), {}, r"labels has shape \(3, 3\)"),
        (np.full((3, 3, 3), -4), {}, "labels holds -4"),
        (np.full((3, 3, 3), 2**63, np.uint64), {}, "below 2\\^63"),
        (np.zeros((3, 3, 3), int), {}, "labels is 0 everywhere"),
        (np.ones((3, 3, 3), int), {"mask": np.zeros((3, 3, 3))}, "labels is 0 everywhere inside the mask"),
        (np.ones((3, 3, 3), int), {"mask": np.ones((3, 3, 4))}, "mask has shape"),
        (np.ones((3, 3, 3), int), {"spacing": (1.0, 0.0, 1.0)}, "spacing must be"),
    ],
)
def test_bad_labels(labels: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_labels(labels, **arguments)
