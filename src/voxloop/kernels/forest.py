"""Growing and evaluating extremely randomised trees (Geurts, Ernst, Wehenkel, Machine Learning 63, 2006).

A tree is four arrays over its nodes, the root first: `feature` (-1 in a leaf), `threshold`, `left` (the right child
follows the left one) and `value` (class shares of the training samples in the node).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from voxloop.kernels.part import part

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]

_LEFT, _FEATURE = np.uint64(0xFFFFFFFF), np.uint64(32)  # what `way` of `sum_trees` holds where


@njit(cache=True, nogil=True)
def grow_tree(
    columns: Float32,
    classes: Int32,
    weights: Float64,
    n_classes: int,
    max_features: int,
    min_samples_leaf: int,
    seed: int,
    feature: Int32,
    threshold: Float32,
    left: Int32,
    value: Float32,
) -> int:
    """Grow one tree on `columns` (n_features, n_samples) into the node arrays; return the number of nodes.

    At each node up to `max_features` features that vary there get one random threshold each; the split with the
    lowest weighted Gini impurity wins. Node arrays need room for 2 n_samples - 1 nodes.
    """
    np.random.seed(seed)  # numba keeps one generator per thread: this leaves numpy's own alone
    n_features, n_samples = columns.shape
    order = np.arange(n_samples)
    candidates = np.arange(n_features)
    stack = np.empty((n_samples + 1, 3), np.int64)
    in_node = np.empty(n_classes, np.float64)
    in_left = np.empty(n_classes, np.float64)
    # The samples of the node at hand side by side: what is read over and over lies in order.
    class_at = np.empty(n_samples, np.int32)
    weight_at = np.empty(n_samples, np.float64)
    at = np.empty(n_samples, np.float32)
    n_nodes = 1
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, n_samples, 0
    depth = 1
    while depth > 0:
        depth -= 1
        start, stop, node = stack[depth, 0], stack[depth, 1], stack[depth, 2]
        n_here = stop - start
        in_node[:] = 0.0
        for i in range(n_here):
            sample = order[start + i]
            class_at[i], weight_at[i] = classes[sample], weights[sample]
            in_node[class_at[i]] += weight_at[i]
        weight, largest = in_node.sum(), 0.0
        for c in range(n_classes):
            value[node, c] = in_node[c] / weight
            largest = max(largest, in_node[c])
        feature[node] = -1
        threshold[node] = 0.0
        left[node] = node
        if largest >= weight or n_here < 2 * min_samples_leaf:
            continue

        best_feature, best_threshold, best_purity = -1, np.float32(0.0), -1.0
        tried, position = 0, 0
        while tried < max_features and position < n_features:
            # one step of a Fisher-Yates shuffle: each feature is drawn at most once a node
            swap = position + int(np.random.random() * (n_features - position))
            f = candidates[swap]
            candidates[swap] = candidates[position]
            candidates[position] = f
            position += 1
            column = columns[f]
            low = column[order[start]]
            high = low
            for i in range(n_here):
                x = column[order[start + i]]
                at[i] = x
                low = min(low, x)
                high = max(high, x)
            if not low < high:
                continue
            tried += 1
            cut = np.float32(low + np.float64(high - low) * np.random.random())
            if cut >= high:
                cut = low
            in_left[:] = 0.0
            n_left = 0
            for i in range(n_here):
                # A random cut splits half and half: nothing to guess for the branch predictor, so there is no branch.
                goes_left = at[i] <= cut
                in_left[class_at[i]] += weight_at[i] * goes_left
                n_left += goes_left
            if n_left < min_samples_leaf or n_here - n_left < min_samples_leaf:
                continue
            weight_left = in_left.sum()
            weight_right = weight - weight_left
            purity = 0.0
            for c in range(n_classes):
                in_right = in_node[c] - in_left[c]
                purity += in_left[c] * in_left[c] / weight_left + in_right * in_right / weight_right
            if purity > best_purity:
                best_feature, best_threshold, best_purity = f, cut, purity
        if best_feature < 0:
            continue

        column = columns[best_feature]
        low_end, high_end = start, stop - 1
        while low_end <= high_end:
            if column[order[low_end]] <= best_threshold:
                low_end += 1
            else:
                order[low_end], order[high_end] = order[high_end], order[low_end]
                high_end -= 1
        feature[node] = best_feature
        threshold[node] = best_threshold
        left[node] = n_nodes
        stack[depth, 0], stack[depth, 1], stack[depth, 2] = start, low_end, n_nodes
        stack[depth + 1, 0], stack[depth + 1, 1], stack[depth + 1, 2] = low_end, stop, n_nodes + 1
        depth += 2
        n_nodes += 2
    return n_nodes


@part()
def _next(way: UInt64, threshold: Float32, row: Float32, node: np.uint64) -> np.uint64:
    """Return where a row goes from a node."""
    ahead = way[node]
    after: np.uint64 = (ahead & _LEFT) + np.uint64(row[ahead >> _FEATURE] > threshold[node])
    return after


@njit(cache=True, nogil=True)
def sum_trees(rows: Float32, roots: Int32, way: UInt64, threshold: Float32, value: Float32, out: Float32) -> None:
    """Add the leaf values that each tree gives to each of `rows` (n, n_features) into `out` (n, n_classes).

    The nodes of all trees stand behind one another, a tree from its entry in `roots`; children count from there. `way`
    holds a node's feature in its upper half and the left child in its lower one. A leaf is its own left child, with
    feature 0 and threshold infinity: a walk that has ended goes on without moving, so that no branch has to be
    predicted. Eight rows walk side by side, two steps at a time, which hides the latency of the memory, and unsigned
    indices spare the test for negative ones. The trees add up in order, so the bits of a row do not depend on the rows
    beside it.
    """
    n_rows, n_classes = rows.shape[0], value.shape[1]
    leaf = np.empty(8, np.uint64)
    for start in range(0, n_rows, 64):  # the rows of a chunk and one tree fit the first-level cache, or nearly
        stop = min(n_rows, start + 64)
        last = stop - 1
        for tree in range(roots.size - 1):
            go, cut = way[roots[tree] : roots[tree + 1]], threshold[roots[tree] : roots[tree + 1]]
            shares = value[roots[tree] : roots[tree + 1]]
            for i in range(start, stop, 8):
                # Behind the last row, that row walks again.
                row_a, row_b = rows[i], rows[min(i + 1, last)]
                row_c, row_d = rows[min(i + 2, last)], rows[min(i + 3, last)]
                row_e, row_f = rows[min(i + 4, last)], rows[min(i + 5, last)]
                row_g, row_h = rows[min(i + 6, last)], rows[min(i + 7, last)]
                a = b = c = d = e = f = g = h = np.uint64(0)
                moved = True
                while moved:
                    p, q = _next(go, cut, row_a, a), _next(go, cut, row_b, b)
                    r, s = _next(go, cut, row_c, c), _next(go, cut, row_d, d)
                    t, u = _next(go, cut, row_e, e), _next(go, cut, row_f, f)
                    v, w = _next(go, cut, row_g, g), _next(go, cut, row_h, h)
                    a, b = _next(go, cut, row_a, p), _next(go, cut, row_b, q)
                    c, d = _next(go, cut, row_c, r), _next(go, cut, row_d, s)
                    e, f = _next(go, cut, row_e, t), _next(go, cut, row_f, u)
                    g, h = _next(go, cut, row_g, v), _next(go, cut, row_h, w)
                    moved = ((a ^ p) | (b ^ q) | (c ^ r) | (d ^ s) | (e ^ t) | (f ^ u) | (g ^ v) | (h ^ w)) != 0
                leaf[0], leaf[1], leaf[2], leaf[3] = a, b, c, d
                leaf[4], leaf[5], leaf[6], leaf[7] = e, f, g, h
                for k in range(min(8, stop - i)):
                    for y in range(n_classes):
                        out[i + k, y] += shares[leaf[k], y]
