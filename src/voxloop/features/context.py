"""What surrounds a supervoxel, as further columns of its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from voxloop.errors import InputError
from voxloop.features.table import FeatureTable
from voxloop.supervoxels import Adjacency

Values = NDArray[np.float32]


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
    _check_size([table], graph)
    average = _averaging(graph)
    tables = [table]
    for step in range(1, depth + 1):
        values = np.asarray(average @ tables[-1].values, np.float32)
        tables.append(FeatureTable(values, _context_names(table.names, step)))
    return FeatureTable.join(tables)


def join_lazily(tables: Sequence[FeatureTable], graph: Adjacency, depth: int) -> FeatureTable:
    """Return the columns of several tables with their context, put together row by row when they are asked for.

    For tables that lie on the disk and would not fit into memory side by side. The values have the bits of
    ``with_context(FeatureTable.join(tables), graph, depth)``.

    Parameters
    ----------
    tables, graph, depth
        As for `FeatureTable.join` and `with_context`.

    Returns
    -------
    FeatureTable
        Its `values` know their shape and are indexed by rows, ``values[a:b]`` or ``values[indices]``; anything else
        that is done with them puts them all together.
    """
    _check_size(tables, graph)
    names = tuple(name for table in tables for name in table.names)
    names = tuple(name for step in range(depth + 1) for name in _context_names(names, step))
    rows = _LazyRows([table.values for table in tables], _averaging(graph), depth)
    # Whoever takes rows cannot tell it from an array.
    return FeatureTable(cast(Values, rows), names)


class _LazyRows:
    """A table (n, (depth + 1) f) float32 of which rows are computed when they are asked for."""

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, tables: Sequence[Values], average: sparse.csr_array, depth: int) -> None:
        self._tables, self._average, self._depth = tables, average, depth
        self.shape = (len(tables[0]), (depth + 1) * sum(table.shape[1] for table in tables))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Values:
        wanted = np.arange(len(self))[rows]
        # What each step of the context is needed of: the rows, their neighbours, the neighbours of these.
        needed = [np.unique(wanted)]
        for _ in range(self._depth):
            near = self._average[needed[-1]].indices
            needed.append(np.unique(np.concatenate([needed[-1], near])))
        values = np.concatenate([table[needed[-1]] for table in self._tables], axis=1)
        columns = [values[np.searchsorted(needed[-1], wanted)]]
        for inner, outer in zip(needed[-2::-1], needed[:0:-1], strict=True):
            values = np.asarray(self._average[inner][:, outer] @ values, np.float32)
            columns.append(values[np.searchsorted(inner, wanted)])
        return np.concatenate(columns, axis=1)


def _check_size(tables: Sequence[FeatureTable], graph: Adjacency) -> None:
    for table in tables:
        if graph.n != len(table.values):
            raise InputError(f"graph has {graph.n} supervoxels but the table has {len(table.values)} rows")


def _averaging(graph: Adjacency) -> sparse.csr_array:
    average = graph.averaging().astype(np.float32)
    average.sort_indices()  # sums then have the same order, and bits, for some rows as for all
    return average


def _context_names(names: tuple[str, ...], step: int) -> tuple[str, ...]:
    away = f" {step} step{'s' if step > 1 else ''} away" if step else ""
    return tuple(name + away for name in names)
