"""What surrounds a supervoxel, as further columns of its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor, Progress, in_this_process, map_blocks
from voxloop.errors import InputError
from voxloop.features.table import FeatureTable
from voxloop.kernels.adjacency import average
from voxloop.supervoxels import Adjacency

Values = NDArray[np.float32]

_ROWS = 50_000  # averaged at a time: with their neighbours some 100 MB of a table of 122 columns


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
    _check_size(table, graph)
    if depth == 0:
        return table
    neighbours = graph.neighbours()
    tables = [table]
    for step in range(1, depth + 1):
        values = np.empty_like(table.values)
        average(*neighbours, np.ascontiguousarray(tables[-1].values), values)
        tables.append(FeatureTable(values, context_names(table.names, step)))
    return FeatureTable.join(tables)


def average_neighbours(
    table: FeatureTable,
    graph: Adjacency,
    *,
    out: Values,
    executor: Executor | None = None,
    progress: Progress | None = None,
    stage: str = "features of neighbours",
) -> None:
    """Write the averages of a table over the neighbours, A X, part by part.

    For tables that do not fit into memory. The values have the bits of `with_context`.

    Parameters
    ----------
    table
        (n, f) features, such as `join_lazily` gives.
    graph
        Which of the n supervoxels touch.
    out
        (n, f) float32 to write to, such as a memory map.
    executor, progress, stage
        Runs the parts, is told, and what it is called there.
    """
    _check_size(table, graph)
    starts, neighbours, weights = graph.neighbours()

    def average_rows(first: int) -> None:
        last = min(first + _ROWS, graph.n)
        part = slice(starts[first], starts[last])
        needed, local = np.unique(neighbours[part], return_inverse=True)
        averages = np.empty((last - first, len(table.names)), np.float32)
        average(starts[first : last + 1], local.astype(np.int32), weights[part], table.values[needed], averages)
        out[first:last] = averages

    rows = range(0, graph.n, _ROWS)
    for _ in map_blocks(average_rows, rows, executor=in_this_process(executor), progress=progress, stage=stage):
        pass


def join_lazily(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Return the columns of several tables of the same supervoxels, put together row by row when they are asked for.

    For tables that lie on the disk and would not fit into memory side by side.

    Returns
    -------
    FeatureTable
        Its `values` know their shape and are indexed by rows, ``values[a:b]`` or ``values[indices]``; anything else
        that is done with them puts them all together.
    """
    if len({len(table.values) for table in tables}) != 1:
        raise InputError(f"tables differ in their number of rows: {[len(table.values) for table in tables]}")
    # Whoever takes rows cannot tell it from an array.
    rows = cast(Values, _LazyRows([table.values for table in tables]))
    return FeatureTable(rows, tuple(name for table in tables for name in table.names))


class _LazyRows:
    """A table (n, f) float32 of which rows are put together when they are asked for."""

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, tables: Sequence[Values]) -> None:
        self._tables = tables
        self.shape = (len(tables[0]), sum(table.shape[1] for table in tables))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: slice | NDArray[Any]) -> Values:
        return np.concatenate([table[rows] for table in self._tables], axis=1)


def _check_size(table: FeatureTable, graph: Adjacency) -> None:
    if graph.n != len(table.values):
        raise InputError(f"graph has {graph.n} supervoxels but the table has {len(table.values)} rows")


def context_names(names: tuple[str, ...], step: int) -> tuple[str, ...]:
    """Return the names of the columns that describe what lies so many steps away."""
    away = f" {step} step{'s' if step > 1 else ''} away" if step else ""
    return tuple(name + away for name in names)
