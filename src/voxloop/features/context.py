"""What surrounds a supervoxel, as further columns of its features."""

from __future__ import annotations

import numpy as np

from voxloop.errors import InputError
from voxloop.features.table import FeatureTable
from voxloop.supervoxels import Adjacency


def with_context(table: FeatureTable, graph: Adjacency, depth: int) -> FeatureTable:
    """Return the columns X and those of its neighbourhoods: [X, A X, ..., A^depth X].

    A averages over the neighbours in the graph, weighted by contact area, so that a supervoxel is described by what
    lies around it as well.

    Parameters
    ----------
    table
        (n, f) features.
    graph
        Which of the n supervoxels touch.
    depth
        How many steps to look; 0 gives the table itself.

    Returns
    -------
    FeatureTable
        (n, (depth + 1) f); names end with ``"1 step away"``, ``"2 steps away"``.
    """
    if graph.n != len(table.values):
        raise InputError(f"graph has {graph.n} supervoxels but the table has {len(table.values)} rows")
    average = graph.averaging().astype(np.float32)
    tables = [table]
    for step in range(1, depth + 1):
        away = f"{step} step{'s' if step > 1 else ''} away"
        values = np.asarray(average @ tables[-1].values, np.float32)
        tables.append(FeatureTable(values, tuple(f"{name} {away}" for name in table.names)))
    return FeatureTable.join(tables)
