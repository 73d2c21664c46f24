"""Neighbouring supervoxels tend to be of one class: a graph cut, which decides about all of an image at once.

An energy of the segmentation is made as small as can be: what its class costs each supervoxel, and a price for each
contact of two classes, lower where the image has an edge. Of two classes the least is found exactly (Greig, Porteous,
Seheult, *Exact maximum a posteriori estimation for binary images*, JRSS B 51, 1989); of more one that no move of any
supervoxels to one class makes less (Boykov, Veksler, Zabih, *Fast approximate energy minimization via graph cuts*, IEEE
TPAMI 23, 2001). docs/decisions/0035.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from voxloop.classify.prediction import Prediction
from voxloop.errors import InputError
from voxloop.supervoxels import Adjacency
from voxloop.supervoxels.contrast import SHARPNESS, column, squared_differences, typical_contrast

STRENGTH = 4.0  # docs/decisions/0035
LEAST = np.exp(-6)  # probability that no class falls below: what surrounds a supervoxel can overrule the classifier
MOST_FLOW = 2**30  # steps that all costs and prices together are cut into: flows are whole numbers, int32

Contacts = tuple[NDArray[np.int64], NDArray[np.float64]]  # rows (m, 2) that touch, price (m,) if their classes differ


def cut_graph(
    prediction: Prediction, graph: Adjacency, values: NDArray[np.float32], *, strength: float = STRENGTH
) -> NDArray[np.int32]:
    """Return the class (n,) of each supervoxel in the segmentation of least energy.

    The energy is the sum of -log p over the supervoxels and of strength * area * exp(-2 d² / median d²) over the
    contacts of two classes. Areas are such that the contacts of a supervoxel have area 1 together on average; d is the
    difference in the first feature, by default the image itself, smoothed least.

    Parameters
    ----------
    prediction
        What the classifier says of the n supervoxels.
    graph
        Which of them touch.
    values
        (n, f) their features.
    strength
        0 or more; 0 takes the likeliest class of each.

    Raises
    ------
    InputError
        If the strength is negative or not finite.
    """
    check_strength(strength)
    costs = -np.log(np.maximum(prediction.probabilities, LEAST, dtype=np.float64))
    found, free, (edges, prices) = _settle(costs, partial(_priced, graph, values, strength))
    numbers = np.cumsum(free) - 1
    found[free] = _expand(*_in_steps(costs[free], prices), numbers[edges])
    return prediction.classes[found]


def check_strength(strength: object) -> None:
    """Raise `InputError` unless it is a finite number of at least 0."""
    if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 <= float(strength) < np.inf:
        raise InputError(f"strength is {strength!r}; expected a number of at least 0")


def _priced(graph: Adjacency, values: NDArray[np.float32], strength: float) -> Iterator[Contacts]:
    """Yield all contacts, some at a time."""
    intensity = column(values, 0, np.arange(1, graph.n + 1))
    contrast = typical_contrast([squared_differences(graph, values, 0)])
    whole = 2 * float(np.sum(graph.area)) / graph.n
    for ids, area in graph.parts():
        edges = ids.astype(np.int64) - 1
        squared = (intensity[edges[:, 0]] - intensity[edges[:, 1]]) ** 2
        yield edges, strength / whole * area * np.exp(-SHARPNESS * squared / contrast)


def _settle(
    costs: NDArray[np.float64], contacts: Callable[[], Iterable[Contacts]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], Contacts]:
    """Decide where all neighbours together cannot overrule a supervoxel; what is left is a small graph.

    Neighbours of a supervoxel that is decided pay less for its class: `costs` (n, k) are changed in place.

    Returns
    -------
    Columns (n,), which supervoxels are still free (n,), and the contacts among those.
    """
    found, free = np.zeros(len(costs), np.int64), np.ones(len(costs), np.bool_)
    while True:
        at_stake = np.zeros(len(costs))
        for edges, prices in contacts():
            at_stake += np.bincount(edges.reshape(-1), np.repeat(prices, 2), minlength=len(costs))
        best = costs.argmin(axis=1)
        others = np.where(np.arange(costs.shape[1]) == best[:, np.newaxis], np.inf, costs).min(axis=1)
        sure = free & (others - costs.min(axis=1) > at_stake)
        found[sure] = best[sure]
        free &= ~sure
        left = []
        for edges, prices in contacts():
            for here, there in (edges.T, edges.T[::-1]):
                paid = sure[here] & free[there]
                np.subtract.at(costs, (there[paid], found[here[paid]]), prices[paid])
            inner = free[edges].all(axis=1)
            left.append((edges[inner], prices[inner]))
        contacts = partial(iter, left)
        if not sure.any():
            pairs = np.concatenate([np.empty((0, 2), np.int64), *(edges for edges, _ in left)])
            return found, free, (pairs, np.concatenate([np.empty(0), *(prices for _, prices in left)]))


def _in_steps(costs: NDArray[np.float64], prices: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return costs and prices as whole numbers whose sum is no more than a flow may be."""
    costs = costs - costs.min(axis=1, keepdims=True)
    most = float(costs.max(axis=1, initial=0).sum() + prices.sum())
    steps = MOST_FLOW / max(1.0, most)
    return np.rint(costs * steps).astype(np.int64), np.rint(prices * steps).astype(np.int64)


def _expand(costs: NDArray[np.int64], prices: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return columns (n,) of which no move of any supervoxels to one class lowers the energy."""
    n_classes = costs.shape[1]
    columns = np.zeros(len(costs), np.int64)
    target = failures = 0
    while failures < n_classes - 1 and len(costs):  # of two classes the first move gives the least energy of all
        target = (target + 1) % n_classes
        moved = _move(columns, target, costs, prices, edges)
        failures = 0 if (moved != columns).any() else failures + 1
        columns = moved
    return columns


def _move(
    columns: NDArray[np.int64],
    target: int,
    costs: NDArray[np.int64],
    prices: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the columns after the best move of supervoxels to one class; nobody moves for nothing.

    The graph is that of Kolmogorov, Zabih, *What energy functions can be minimized via graph cuts?* (IEEE TPAMI 26,
    2004): on the source's side are those that stay.
    """
    n = len(costs)
    movable = columns != target
    stay, go = costs[np.arange(n), columns], costs[:, target].copy()
    a, b = edges.T
    for here, there in ((a, b), (b, a)):  # who stays beside the class pays
        at_target = movable[here] & ~movable[there]
        np.add.at(stay, here[at_target], prices[at_target])
    both = movable[a] & movable[b]
    a, b, price = a[both], b[both], prices[both]
    differ = columns[a] != columns[b]
    np.subtract.at(go, b[differ], price[differ])  # they differ already: no more is paid if one of them goes
    least = np.minimum(stay, go)
    source, sink, rows = n, n + 1, np.flatnonzero(movable)
    heads = np.concatenate([a, b[~differ], np.full(len(rows), source), rows])
    tails = np.concatenate([b, a[~differ], rows, np.full(len(rows), sink)])
    capacity = np.concatenate([price, price[~differ], (go - least)[rows], (stay - least)[rows]]).astype(np.int32)
    network = sparse.csr_array((capacity, (heads, tails)), shape=(n + 2, n + 2))
    left = network - maximum_flow(network, source, sink).flow
    left.eliminate_zeros()
    reach_sink = breadth_first_order(left.T.tocsr(), sink, return_predecessors=False)
    moved = columns.copy()
    moved[reach_sink[reach_sink < n]] = target
    return moved
