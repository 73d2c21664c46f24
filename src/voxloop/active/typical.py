"""Where to begin when nothing is labelled: typical supervoxels, each of another kind.

Two ways. TypiClust (`typical_rows`) has a cluster for each label, the largest first: Hacohen, Dekel, Weinshall, *Active
learning on a budget: opposite strategies suit high and low budgets*, ICML 2022. Where the paper clusters the features
of a self-supervised network, this takes the principal components of the supervoxel table. A rare class has no cluster
of its own then, unless many labels are asked for. `different_rows` has small clusters from the start and goes to those
that look least like what was asked before.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.spatial import cKDTree

from voxloop.errors import InputError

N_COMPONENTS = 15
MAX_CLUSTERS = 500  # as in the paper
SMALLEST_CLUSTER = 5  # below, a cluster is a few outliers, asked for last (the paper drops it)
N_NEIGHBOURS = 20  # as in the paper
# Of `different_rows`. Of 20, 30, 50 and 100 kinds, and powers 0, 1/8, 1/4 and 1/2 of a kind's size, these found the
# mitochondria of a hippocampus (2 % of the supervoxels) soonest.
N_KINDS = 50
SIZE_OF_KIND = 20  # supervoxels that a kind has on average at least
SMALLEST_KIND = 0.002  # share of the supervoxels
SIZE_POWER = 0.25
# Enough to describe the distribution. Of half as many, the kinds found mitochondria late in two more of 40 starts; of
# twice as many no sooner. One cluster of TypiClust may hold nearly all, and the search for neighbours in it is dear.
MAX_POINTS_OF_KINDS = 10_000
MAX_POINTS = 5_000


def embed(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the first 15 principal components of a table (n, f) whose columns were scaled to unit variance.

    Returns
    -------
    (n, min(15, f)) float64, scaled so that the squared distance of two rows is 1 on average over all pairs; all 0 if
    the rows are alike.

    Raises
    ------
    InputError
        If a feature is not finite.
    """
    table = np.asarray(features, np.float64)
    table = table - table.mean(axis=0)
    scale = table.std(axis=0)
    if not np.isfinite(scale).all():
        raise InputError(f"features must be finite; column {np.flatnonzero(~np.isfinite(scale))[0]} is not")
    # A column that is constant but for rounding has nothing to tell.
    varies = scale > 1e-6 * np.abs(features).max(axis=0)
    table = np.divide(table, scale, out=np.zeros_like(table), where=varies)
    _, directions = np.linalg.eigh(table.T @ table)
    points: NDArray[np.float64] = table @ directions[:, ::-1][:, :N_COMPONENTS]
    spread = np.sqrt(2 * points.var(axis=0).sum())
    return points / spread if spread > 0 else points


def typical_rows(
    features: NDArray[np.floating],
    candidates: NDArray[np.int64],
    labelled: NDArray[np.int64],
    *,
    number: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return `number` of the `candidates` that are typical of what the labelled rows don't cover, best first.

    The rows fall into as many clusters as there are labels, old and new. The next one always comes from the cluster
    with the fewest labels, the largest of equals, and is its row with the densest neighbourhood that is left.

    Parameters
    ----------
    features
        (n, f) table.
    candidates, labelled
        Rows to choose from, and rows that have a label. At least `number` candidates.
    number
        How many rows are wanted.
    rng
        Draws the rows that stand for all if there are many, and the start of k-means.
    """
    most = max(MAX_POINTS, number)
    pool = rng.choice(candidates, most, replace=False) if candidates.size > most else candidates
    rows = np.concatenate([pool, labelled])
    points, is_open = embed(features[rows]), np.arange(rows.size) < pool.size
    cluster = _cluster(points, min(labelled.size + number, MAX_CLUSTERS), rng)
    sizes = np.bincount(cluster)
    n_labels = np.bincount(cluster[pool.size :], minlength=sizes.size)
    queues = [_densest_first(points, np.flatnonzero(cluster == c), is_open) for c in range(sizes.size)]
    chosen: list[int] = []
    while len(chosen) < number:
        open_clusters = [c for c, queue in enumerate(queues) if queue]
        best = min(open_clusters, key=lambda c: (sizes[c] < SMALLEST_CLUSTER, n_labels[c], -sizes[c], c))
        n_labels[best] += 1
        chosen.append(queues[best].popleft())
    return rows[chosen]


def different_rows(
    features: NDArray[np.floating],
    candidates: NDArray[np.int64],
    labelled: NDArray[np.int64],
    *,
    number: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return `number` of the `candidates` that are typical of their kind, the kinds least like the others first.

    The rows fall into 50 clusters, the kinds, each represented by its row with the densest neighbourhood that is left.
    The first one represents the largest kind. The next one is always the one with the largest ``d s^(1/4)``, d its
    distance to the nearest row that is labelled or chosen, s the size of its cluster: a farthest-first traversal
    (Gonzalez, Theoretical Computer Science 38, 1985) that leans a little to the larger kinds. Clusters of a few
    outliers come last. Asked for one by one, with the same start of `rng`, rows come in the same order.

    Parameters
    ----------
    features
        (n, f) table.
    candidates, labelled
        Rows to choose from, and rows that have a label. At least `number` candidates.
    number
        How many rows are wanted.
    rng
        Draws the rows that stand for all if there are many, and the start of k-means.
    """
    rows = np.union1d(candidates, labelled)
    most = max(MAX_POINTS_OF_KINDS, labelled.size + number)
    if rows.size > most:
        rows = np.union1d(rng.choice(rows, most, replace=False), labelled)
    points = embed(features[rows])
    is_open = np.isin(rows, candidates)
    cluster = _cluster(points, max(1, min(N_KINDS, rows.size // SIZE_OF_KIND)), rng)
    sizes = np.bincount(cluster)
    is_small = sizes < max(SMALLEST_CLUSTER, SMALLEST_KIND * rows.size)
    queues = [_densest_first(points, np.flatnonzero(cluster == c), is_open) for c in range(sizes.size)]
    nearest = np.full(rows.size, np.inf)
    for row in np.flatnonzero(~is_open):
        _approach(nearest, points, int(row))
    chosen: list[int] = []
    while len(chosen) < number:
        best = min(
            (c for c, queue in enumerate(queues) if queue),
            key=lambda c: (is_small[c], -nearest[queues[c][0]] * sizes[c] ** SIZE_POWER, -sizes[c], c),
        )
        chosen.append(queues[best].popleft())
        _approach(nearest, points, chosen[-1])
    return rows[chosen]


def _approach(nearest: NDArray[np.float64], points: NDArray[np.float64], row: int) -> None:
    """Lower the distance of each point to the nearest one of a set, as the set gets a new one."""
    np.minimum(nearest, np.linalg.norm(points - points[row], axis=1), out=nearest)


def _cluster(points: NDArray[np.float64], number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the cluster of each point: the tightest of several runs of k-means.

    There are fewer than `number` clusters if the points don't fill as many.
    """
    number = min(number, len(np.unique(points, axis=0)))
    # Two centres that start in one cluster rarely part, which matters where there are few.
    runs = [_k_means(points, number, rng) for _ in range(max(1, min(10, 100 // number)))]
    return min(runs, key=lambda run: run[1])[0]


def _k_means(points: NDArray[np.float64], number: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], float]:
    """Return the cluster of each point, and the sum of squared distances to the clusters' centres."""
    while True:
        try:
            centers, cluster = kmeans2(points, number, minit="++", missing="raise", seed=rng)
        except ClusterError:  # one ran empty
            number -= 1
        else:
            return np.asarray(cluster, np.int64), float(((points - centers[cluster]) ** 2).sum())


def _densest_first(points: NDArray[np.float64], members: NDArray[np.int64], is_open: NDArray[np.bool_]) -> deque[int]:
    """Return the members of a cluster that are open to choice, those with the nearest neighbours first."""
    k = min(N_NEIGHBOURS + 1, members.size)  # the point itself is one of them
    distance, _ = cKDTree(points[members]).query(points[members], k=list(range(1, k + 1)))
    ranked = members[np.argsort(distance.sum(axis=1), kind="stable")]
    return deque(ranked[is_open[ranked]].tolist())
