from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from voxloop.blocks import SerialExecutor
from voxloop.classify.forest import fit_forest
from voxloop.errors import InputError
from voxloop.features import (
    FeatureTable,
    average_neighbours,
    context,
    context_names,
    describe_regions,
    join_lazily,
    n_columns,
    region_names,
    typical,
    walk_within_regions,
    with_context,
)
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels import Adjacency
from voxloop.supervoxels.contrast import alike_neighbours


@pytest.fixture(autouse=True, scope="module")
def _compiled():
    with_context(table_of(1), Adjacency(np.zeros((0, 2), np.int64), np.zeros(0), 1), 1, (1,))


def dense_averaging(graph: Adjacency) -> np.ndarray:
    """Return the matrix that averages over the neighbours; one without neighbours keeps its own value."""
    areas = np.zeros((graph.n, graph.n))
    for (a, b), area in zip(graph.edges, graph.area, strict=True):
        areas[a - 1, b - 1] += area
        areas[b - 1, a - 1] += area
    for i in range(graph.n):
        areas[i, i] = 1 if areas[i].sum() == 0 else 0
    return areas / areas.sum(axis=1, keepdims=True)


def dense_walk(graph: Adjacency, brightness: np.ndarray) -> np.ndarray:
    """Return the matrix that averages over alike neighbours; one without neighbours keeps its own value."""
    walk = np.zeros((graph.n, graph.n))
    a, b = graph.edges.T - 1
    squared = (brightness[a] - brightness[b]) ** 2
    contrast = np.median(squared) if a.size else 1.0
    walk[a, b] = walk[b, a] = graph.area * np.exp(-2 * squared / contrast)
    walk += np.diag(walk.sum(axis=1) == 0)
    return walk / walk.sum(axis=1, keepdims=True)


@st.composite
def graphs(draw, max_n=8):
    n = draw(st.integers(1, max_n))
    pairs = [(a, b) for a in range(1, n + 1) for b in range(a + 1, n + 1)]
    edges = sorted(draw(st.sets(st.sampled_from(pairs)))) if pairs else []
    area = draw(st.lists(st.floats(0.5, 9), min_size=len(edges), max_size=len(edges)))
    return Adjacency(np.array(edges, np.int64).reshape(-1, 2), np.array(area, np.float64), n)


def table_of(n: int, seed: int = 0) -> FeatureTable:
    return FeatureTable(np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32), ("a", "b", "c"))


@given(graphs(), st.integers(0, 4))
def test_against_dense_matrices(graph, depth):
    table, A = table_of(graph.n), dense_averaging(graph)
    got = with_context(table, graph, depth)
    expected = np.concatenate([np.linalg.matrix_power(A, step) @ table.values for step in range(depth + 1)], axis=1)
    np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=1e-6)  # float32 sums of at most 8 rows
    assert got.values.dtype == np.float32
    assert len(set(got.names)) == 3 * (depth + 1)


@given(graphs(), st.sampled_from([(1,), (4,), (1, 3, 8)]))
def test_regions_against_dense_matrices(graph, regions):
    table = table_of(graph.n)
    walk = dense_walk(graph, table.values[:, 0].astype(np.float64))
    got = with_context(table, graph, 0, regions, executor=SerialExecutor())
    expected = [table.values]
    for steps in regions:
        far = np.linalg.matrix_power(walk, steps)
        means = far @ table.values
        apart = table.values[np.newaxis].astype(np.float64) - means[:, np.newaxis]
        expected += [means, np.sqrt(np.einsum("ij,ijc->ic", far, apart**2))]
    np.testing.assert_allclose(got.values, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)  # float32
    assert got.values.dtype == np.float32
    within = f"within {regions[-1]} step{'s' if regions[-1] > 1 else ''}"
    assert got.names[-4:] == (f"c {within}", f"a spread {within}", f"b spread {within}", f"c spread {within}")


def test_the_spread_of_large_values_does_not_cancel():
    """A scanner may store intensities that are large against all that differs among them."""
    n = 30
    ids = np.arange(1, n)
    chain = Adjacency(np.stack([ids, ids + 1], axis=1), np.ones(n - 1), n)
    values = np.stack([np.ones(n), np.random.default_rng(0).integers(0, 8, n)], axis=1).astype(np.float32)
    tables = [FeatureTable(v, ("a", "b")) for v in (values, values + np.float32(2**20))]
    expected, got = (with_context(table, chain, 0, (16,)).values[:, 5] for table in tables)
    assert expected.min() > 0.5
    np.testing.assert_allclose(got, expected, rtol=0.05)


def test_regions_follow_the_steps_away():
    graph = Adjacency(np.array([[1, 2], [2, 3]]), np.array([1.0, 2.0]), 3)
    got = with_context(table_of(3), graph, 2, (2, 5), executor=SerialExecutor())
    assert len(set(got.names)) == got.values.shape[1] == n_columns(("a", "b", "c"), 2, (2, 5)) == 21
    assert got.values[:, :9].tobytes() == with_context(table_of(3), graph, 2).values.tobytes()
    assert got.values[:, 9:].tobytes() == with_context(table_of(3), graph, 0, (2, 5)).values[:, 3:].tobytes()


def test_what_voxels_differ_by_is_not_averaged():
    names = ("blue gaussian sigma=1 mean", "blue gaussian sigma=1 std", "size", "mine q10", "mine mean", "boundary")
    graph = Adjacency(np.array([[1, 2], [2, 3]]), np.array([1.0, 2.0]), 3)
    table = FeatureTable(np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32), names)
    kept = [0, 2, 4, 5]
    assert typical(table).names == tuple(names[i] for i in kept)
    assert np.array_equal(typical(table).values, table.values[:, kept])
    assert np.array_equal(typical(join_lazily([table])).values[np.array([2, 0])], table.values[[2, 0]][:, kept])
    whole = with_context(table, graph, 1, (4,))
    assert whole.names[6:10] == tuple(f"{names[i]} 1 step away" for i in kept)
    assert whole.values.shape[1] == n_columns(names, 1, (4,)) == 6 + 3 * 4


def test_without_means_all_columns_count():
    table = FeatureTable(np.zeros((3, 2), np.float32), ("a std", "size"))
    assert typical(table).names == ("a std", "size")


def test_regions_end_at_edges_of_the_image():
    """A chain of dark ones and then bright ones: the averages of either hold nothing of the other."""
    n = 40
    ids = np.arange(1, n)
    chain = Adjacency(np.stack([ids, ids + 1], axis=1), np.ones(n - 1), n)
    side = (np.arange(n) >= n // 2).astype(np.float32)
    values = np.stack([100 * side + np.random.default_rng(0).normal(size=n), side], axis=1).astype(np.float32)
    got = with_context(FeatureTable(values, ("a", "b")), chain, 0, (16,)).values
    np.testing.assert_allclose(got[:, 3], side, atol=1e-4)
    values[:, 0] = 1
    blurred = with_context(FeatureTable(values, ("a", "b")), chain, 0, (16,)).values[:, 3]
    assert 0.1 < blurred[n // 2] < 0.9


def test_brightness_and_contrast_of_the_image_do_not_matter():
    graph = Adjacency(np.array([[1, 2], [1, 3], [2, 4], [3, 4]]), np.array([1.0, 2.0, 3.0, 1.0]), 4)
    table = table_of(4)
    brighter = FeatureTable(4 * table.values + 2, table.names)
    plain = with_context(table, graph, 0, (1, 4))
    expected = 4 * plain.values + [0 if "spread" in name else 2 for name in plain.names]
    np.testing.assert_allclose(with_context(brighter, graph, 0, (1, 4)).values, expected, rtol=1e-4, atol=1e-4)


def test_how_alike_is_told_by_one_gaussian_of_each_channel():
    names = ("red gaussian sigma=0.3 mean", "red gaussian sigma=0.7 mean", "red gaussian sigma=1.6 mean",
             "red gaussian sigma=0.7 std", "blue gaussian sigma=5 2d mean", "size",
             "red difference_of_gaussians sigma=1 mean")  # fmt: skip
    n = 30
    rng = np.random.default_rng(0)
    ids = np.arange(1, n)
    chain = Adjacency(np.stack([ids, ids + 1], axis=1), np.ones(n - 1), n)
    values = rng.normal(size=(n, len(names))).astype(np.float32)
    got = walk_within_regions(FeatureTable(values, names), chain)[2]
    for which in range(len(names)):
        changed = values.copy()
        changed[:, which] = rng.normal(size=n)
        walk = walk_within_regions(FeatureTable(changed, names), chain)[2]
        assert np.array_equal(walk, got) == (which not in (1, 4)), names[which]


def test_one_unlike_all_its_neighbours_sees_the_one_most_like_it():
    graph = Adjacency(np.array([[1, 2], [2, 3], [3, 4], [4, 5]]), np.ones(4), 5)
    starts, neighbours, weights = alike_neighbours(graph, np.array([[0.0], [1e6], [1.0], [1.5], [2.0]]), np.ones(1))
    assert np.isfinite(weights).all()
    assert neighbours[starts[1] : starts[2]][weights[starts[1] : starts[2]].argmax()] == 2
    np.testing.assert_allclose(np.add.reduceat(weights, starts[:-1]), 1, rtol=1e-6)


def test_names_and_depth_0():
    table = table_of(2)
    graph = Adjacency(np.array([[1, 2]]), np.array([1.0]), 2)
    assert np.array_equal(with_context(table, graph, 0).values, table.values)
    assert with_context(table, graph, 2).names[3::3] == ("a 1 step away", "a 2 steps away")


def test_isolated_supervoxel_sees_itself():
    graph = Adjacency(np.array([[1, 2]]), np.array([5.0]), 3)
    got = with_context(table_of(3), graph, 2).values
    assert np.array_equal(got[2], np.tile(table_of(3).values[2], 3))
    assert np.array_equal(got[0, 3:6], table_of(3).values[1])


def test_renumbering_turns_the_rows():
    graph = Adjacency(np.array([[1, 2], [1, 3], [2, 4]]), np.array([1.0, 2.0, 3.0]), 4)
    new = np.array([3, 1, 4, 2])
    edges = np.sort(new[graph.edges - 1], axis=1)
    order = np.lexsort(edges.T[::-1])
    renumbered = Adjacency(edges[order], graph.area[order], 4)
    table = table_of(4)
    back = FeatureTable(table.values[np.argsort(new)], table.names)
    got = with_context(back, renumbered, 3).values[new - 1]
    np.testing.assert_allclose(got, with_context(table, graph, 3).values, rtol=1e-6)


def test_bad_input():
    with pytest.raises(InputError, match="graph has 3 supervoxels but the table has 2 rows"):
        with_context(table_of(2), Adjacency(np.zeros((0, 2), np.int64), np.zeros(0), 3), 1)


@given(graphs(), st.data())
def test_parts_have_the_same_bytes(graph, data):
    tables = [table_of(graph.n, 1), FeatureTable(table_of(graph.n, 2).values[:, :2].copy(), ("d", "e"))]
    whole, lazy = with_context(FeatureTable.join(tables), graph, 2, (1, 4)), join_lazily(tables)
    steps = [lazy]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "_ROWS", data.draw(st.integers(1, 8)))
        for step in (1, 2):
            values = np.empty((graph.n, 5), np.float32)
            average_neighbours(steps[-1], graph, out=values)
            steps.append(FeatureTable(values, context_names(lazy.names, step)))
        walk, nearer = walk_within_regions(lazy, graph), lazy
        for before, reach in ((0, 1), (1, 4)):
            values, spare = np.empty((2, graph.n, 10), np.float32)
            describe_regions(nearer, walk, before, reach, out=values, spare=spare, executor=SerialExecutor())
            nearer = FeatureTable(values, region_names(lazy.names, reach))
            steps.append(nearer)
    found = join_lazily(steps)
    rows = np.array(data.draw(st.lists(st.integers(0, graph.n - 1), max_size=10)), np.int64)
    assert found.names == whole.names
    assert found.values.shape == whole.values.shape
    assert found.values[rows].tobytes() == whole.values[rows].tobytes()
    assert found.values[2:5].tobytes() == whole.values[2:5].tobytes()
    assert np.asarray(found.values).tobytes() == whole.values.tobytes()


@given(graphs())
def test_the_averaging_matrix_has_the_bits_of_scipys(graph):
    areas = graph.matrix()
    total = np.asarray(areas.sum(axis=1)).ravel()
    alone = sparse.diags_array((total == 0).astype(np.float64))
    expected = (sparse.diags_array(1 / np.where(total > 0, total, 1)) @ areas + alone).tocsr().astype(np.float32)
    found = graph.averaging()
    assert found.has_sorted_indices
    assert found.dtype == np.float32
    assert found.toarray().tobytes() == expected.toarray().tobytes()


def test_a_forest_takes_lazy_rows():
    rng = np.random.default_rng(0)
    table = FeatureTable(rng.normal(size=(9000, 4)).astype(np.float32), tuple("abcd"))
    edges = np.stack([np.arange(1, 9000), np.arange(2, 9001)], axis=1)
    graph = Adjacency(edges, np.ones(8999), 9000)
    whole = with_context(table, graph, 2).values
    lazy = join_lazily(
        [FeatureTable(whole[:, :4], tuple("abcd")), FeatureTable(whole[:, 4:], tuple("efghijkl"))]
    ).values
    rows = np.arange(0, 9000, 30)
    forest = fit_forest(whole[rows], (whole[rows, 0] > 0) + 1, ClassifierSpec(n_trees=5))
    assert forest.predict(lazy).tobytes() == forest.predict(whole).tobytes()
