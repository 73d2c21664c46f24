"""The graph cut against all segmentations of small graphs, and what it does to specks and edges."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from voxloop.classify import Prediction, cut
from voxloop.classify.cut import LEAST, cut_graph
from voxloop.errors import InputError
from voxloop.features import FeatureTable
from voxloop.features.context import join_lazily
from voxloop.supervoxels import Adjacency


def random_case(seed: int, k: int) -> tuple[Prediction, Adjacency, np.ndarray]:
    """Return a prediction of 1 to 8 supervoxels, of which about half of all pairs touch, and their features."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9 if k == 2 else 7))
    pairs = [(a, b) for a in range(1, n + 1) for b in range(a + 1, n + 1) if rng.random() < 0.5]
    graph = Adjacency(np.array(pairs, np.int32).reshape(-1, 2), rng.random(len(pairs)) + 0.1, n)
    said = Prediction(rng.dirichlet(np.ones(k), n).astype(np.float32), np.arange(3, 3 + k, dtype=np.int32))
    return said, graph, rng.random((n, 2)).astype(np.float32)


def energy(classes: np.ndarray, said: Prediction, graph: Adjacency, values: np.ndarray, strength: float) -> float:
    """Return the energy as the docstring has it, contact by contact."""
    columns = np.searchsorted(said.classes, classes)
    total = sum(-np.log(max(said.probabilities[i, c], LEAST)) for i, c in enumerate(columns))
    squared = [float(values[a - 1, 0] - values[b - 1, 0]) ** 2 for a, b in graph.edges]
    for (a, b), area, d in zip(graph.edges, graph.area, squared, strict=True):
        if classes[a - 1] != classes[b - 1]:
            total += strength * area / (2 * graph.area.sum() / graph.n) * np.exp(-2 * d / np.median(squared))
    return float(total)


ROUNDING = 1e-6


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("seed", range(12))
def test_of_two_classes_no_segmentation_has_less_energy(seed, strength):
    said, graph, values = random_case(seed, 2)
    found = energy(cut_graph(said, graph, values, strength=strength), said, graph, values, strength)
    least = min(
        energy(np.array(every), said, graph, values, strength) for every in product(said.classes, repeat=graph.n)
    )
    assert found <= least + ROUNDING


@pytest.mark.parametrize("strength", [0.5, 2.0, 6.0])
@pytest.mark.parametrize("seed", range(12))
def test_of_more_classes_no_move_to_one_of_them_lowers_the_energy(seed, strength):
    said, graph, values = random_case(seed, 4)
    classes = cut_graph(said, graph, values, strength=strength)
    found = energy(classes, said, graph, values, strength)
    assert found <= energy(said.segmentation, said, graph, values, strength) + ROUNDING
    for target in said.classes:
        for moves in product((False, True), repeat=graph.n):
            moved = np.where(moves, target, classes)
            assert found <= energy(moved, said, graph, values, strength) + ROUNDING


@pytest.mark.parametrize("k", [1, 2, 5])
def test_without_strength_each_has_its_likeliest_class(k):
    said, graph, values = random_case(5, k)
    assert np.array_equal(cut_graph(said, graph, values, strength=0), said.segmentation)


def chain(n: int) -> Adjacency:
    ids = np.arange(1, n + 1)
    return Adjacency(np.stack([ids[:-1], ids[1:]], 1), np.ones(n - 1), n)


def test_specks_go_and_what_the_image_shows_stays():
    n = 41
    foreground = np.zeros(n, bool)
    foreground[[10, 30]] = True  # a speck in even surroundings, and a bright one
    p = np.where(foreground, 0.6, 0.4)
    said = Prediction(np.stack([1 - p, p], 1).astype(np.float32), np.array([1, 2], np.int32))
    values = np.linspace(0, 1, n, dtype=np.float32)[:, np.newaxis].copy()
    values[30] += 5
    found = cut_graph(said, chain(n), values)
    assert np.flatnonzero(found == 2).tolist() == [30]


def test_the_order_of_two_classes_does_not_matter():
    for seed in range(8):
        said, graph, values = random_case(seed, 2)
        turned = Prediction(np.ascontiguousarray(said.probabilities[:, ::-1]), said.classes)
        swapped = cut_graph(turned, graph, values)
        assert np.array_equal(said.classes.sum() - swapped, cut_graph(said, graph, values))


def test_a_flow_that_would_not_fit_is_counted_in_larger_steps(monkeypatch):
    rng = np.random.default_rng(0)
    n = 2000
    p = rng.random(n)
    said = Prediction(np.stack([1 - p, p], 1).astype(np.float32), np.array([1, 2], np.int32))
    values = rng.random((n, 1)).astype(np.float32)
    exact = cut_graph(said, chain(n), values, strength=20)
    monkeypatch.setattr(cut, "MOST_FLOW", 100 * n)
    assert 0.95 < (cut_graph(said, chain(n), values, strength=20) == exact).mean() < 1


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_class_without_labels_is_never_chosen(missing):
    for seed in range(8):
        said, graph, values = random_case(seed, 2)
        classes = np.array([1, 2, 3], np.int32)
        wider = Prediction(np.insert(said.probabilities, missing, 0, axis=1), classes)
        known = np.delete(classes, missing)
        expected = known[np.searchsorted(said.classes, cut_graph(said, graph, values))]
        assert np.array_equal(cut_graph(wider, graph, values), expected)


@pytest.mark.parametrize("strength", [np.float32(2), np.int64(2), 2])
def test_any_number_is_a_strength(strength):
    said, graph, values = random_case(0, 2)
    assert np.array_equal(
        cut_graph(said, graph, values, strength=strength), cut_graph(said, graph, values, strength=2.0)
    )


def test_tables_on_the_disk_will_do():
    said, graph, values = random_case(3, 2)
    lazy = join_lazily([FeatureTable(values[:, :1], ("a",)), FeatureTable(values[:, 1:], ("b",))]).values
    assert np.array_equal(cut_graph(said, graph, lazy), cut_graph(said, graph, values))


@pytest.mark.parametrize("strength", [-1, np.nan, np.inf, "4", None, True])
def test_bad_strength(strength):
    said, graph, values = random_case(0, 2)
    with pytest.raises(InputError, match=r"strength is .*; expected a number of at least 0"):
        cut_graph(said, graph, values, strength=strength)
