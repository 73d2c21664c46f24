"""What surrounds a supervoxel, as further columns of its features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor, Progress, in_this_process, map_blocks
from voxloop.errors import InputError
from voxloop.features.table import FeatureTable
from voxloop.kernels.adjacency import average, average_and_spread
from voxloop.specs import Statistic
from voxloop.supervoxels import Adjacency
from voxloop.supervoxels.contrast import (
    Neighbours,
    alike_neighbours,
    column,
    squared_differences,
    typical_contrast,
)

Values = NDArray[np.float32]

_GAUSSIAN = re.compile(r"(?P<channel>.*?)gaussian sigma=(?P<sigma>[0-9.e+-]+)(?: 2d)? mean")
_ROWS = 50_000  # described at a time: with their neighbours some 100 MB of a table of 122 columns


def with_context(
    table: FeatureTable,
    graph: Adjacency,
    depth: int,
    regions: Sequence[int] = (),
    *,
    executor: Executor | None = None,
) -> FeatureTable:
    """Return the columns X and those of what lies around: [X, A M, ..., A^depth M, W^r M, S^r M, ...].

    M are the columns that say what a supervoxel is like as a whole (`typical`). A averages over the neighbours in the
    graph, weighted by contact area, so that a supervoxel is described by what lies around it as well. W weighs them by
    how alike they are, too, so that an average of many steps stays within its region and hardly crosses edges of the
    image (docs/decisions/0027); S is the standard deviation around that average: how much the region varies
    (docs/decisions/0033).

    Parameters
    ----------
    table
        (n, f) features; means of a Gaussian, one a channel, say how alike supervoxels are.
    graph
        Which of the n supervoxels touch.
    depth
        How many steps to look; 0 gives the table itself.
    regions
        How many steps within regions, ascending.
    executor
        Averages within regions; the result does not depend on it.

    Returns
    -------
    FeatureTable
        (n, f + (depth + 2 len(regions)) m) for m columns of M; names end with ``"1 step away"``, ``"2 steps away"``,
        ``"within 16 steps"``, ``"spread within 16 steps"``.
    """
    _check_size(table, graph)
    alone = typical(table)
    tables, nearer = [table], alone
    for step in range(1, depth + 1):
        values = np.empty((graph.n, len(alone.names)), np.float32)
        average_neighbours(nearer, graph, out=values, executor=executor)
        nearer = FeatureTable(values, context_names(alone.names, step))
        tables.append(nearer)
    if regions:
        walk, nearer, before = walk_within_regions(table, graph), alone, 0
        for steps in regions:
            values, spare = np.empty((2, graph.n, 2 * len(alone.names)), np.float32)
            describe_regions(nearer, walk, before, steps, out=values, spare=spare, executor=executor)
            nearer, before = FeatureTable(values, region_names(alone.names, steps)), steps
            tables.append(nearer)
    return FeatureTable.join(tables) if len(tables) > 1 else table


def typical(table: FeatureTable) -> FeatureTable:
    """Return the columns that say what a supervoxel is like as a whole: means, and those that are of no statistic.

    How much its voxels differ says little about what lies around; where there are no means, all columns count.
    """
    chosen = _typical_columns(table.names)
    if len(chosen) == len(table.names):
        return table
    names = tuple(table.names[which] for which in chosen)
    if isinstance(table.values, np.ndarray):
        return FeatureTable(np.ascontiguousarray(table.values[:, chosen]), names)
    return FeatureTable(cast(Values, _LazyColumns(table.values, np.array(chosen))), names)


def _typical_columns(names: tuple[str, ...]) -> list[int]:
    others = tuple(f" {statistic}" for statistic in get_args(Statistic) if statistic != "mean")
    chosen = [which for which, name in enumerate(names) if not name.endswith(others)]
    return chosen if any(names[which].endswith(" mean") for which in chosen) else list(range(len(names)))


def average_neighbours(
    table: FeatureTable,
    graph: Adjacency,
    *,
    out: Values,
    executor: Executor | None = None,
    progress: Progress | None = None,
    stage: str = "features of neighbours",
) -> None:
    """Write the averages of a table over the neighbours, A M, part by part.

    For tables that do not fit into memory, too. The values have the bits of `with_context`.

    Parameters
    ----------
    table
        (n, m) features, such as `typical` gives.
    graph
        Which of the n supervoxels touch.
    out
        (n, m) float32 to write to, such as a memory map.
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


def walk_within_regions(table: FeatureTable, graph: Adjacency) -> Neighbours:
    """Return W of `with_context`: the neighbours of each supervoxel and their weights."""
    _check_size(table, graph)
    columns, ids = _brightness(table.names), np.arange(1, graph.n + 1)
    contrast = [typical_contrast([squared_differences(graph, table.values, which)]) for which in columns]
    intensity = np.stack([column(table.values, which, ids) for which in columns], axis=1)
    return alike_neighbours(graph, intensity, np.array(contrast))


def _brightness(names: tuple[str, ...]) -> list[int]:
    """Return the columns that say how bright a supervoxel is, one a channel: smoothed, but by little.

    Means of the Gaussian whose sigma is nearest to 1; without one, the first column.
    """
    nearest: dict[str, tuple[float, int]] = {}
    for which, name in enumerate(names):
        if found := _GAUSSIAN.fullmatch(name):
            candidate = (abs(log(float(found["sigma"]))), which)
            nearest[found["channel"]] = min(candidate, nearest.get(found["channel"], candidate))
    return [which for _, which in nearest.values()] or [0]


def describe_regions(
    nearer: FeatureTable,
    walk: Neighbours,
    before: int,
    steps: int,
    *,
    out: Values,
    spare: Values,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the averages within so many steps and how much is around them, W^steps M and S^steps M, part by part.

    For tables that do not fit into memory, too. The values have the bits of `with_context`.

    Parameters
    ----------
    nearer
        (n, 2 m) those of `before` steps; for 0 the features themselves (n, m), such as `typical` gives.
    walk
        From `walk_within_regions`.
    before, steps
        How many steps there are already, and are to be.
    out, spare
        (n, 2 m) float32 to write to, such as memory maps; what is in `spare` afterwards is of no use.
    executor, progress
        Runs the parts, and is told of them.
    """
    starts, neighbours, weights = walk
    m = out.shape[1] // 2

    def variances(values: Values) -> Values:
        """Return means and variances, of what `nearer` says."""
        if before == 0:
            return np.concatenate([values, np.zeros_like(values)], axis=1)
        return np.concatenate([values[:, :m], values[:, m:] ** 2], axis=1)

    def step(number: int, source: Values, target: Values) -> None:
        def describe_rows(first: int) -> None:
            last = min(first + _ROWS, len(out))
            part = slice(starts[first], starts[last])
            rows, values = neighbours[part], source
            if number == 0:  # of what may give rows only when they are asked for
                needed, local = np.unique(rows, return_inverse=True)
                rows, values = local.astype(np.int32), variances(source[needed])
            average_and_spread(starts[first : last + 1], rows, weights[part], values, target[first:last])
            if number + 1 == steps - before:
                np.sqrt(target[first:last, m:], out=target[first:last, m:])

        def tell(stage: str, done: int, total: int) -> None:
            if progress is not None:
                progress(stage, number * total + done, (steps - before) * total)

        stage, parts = f"features of the region, within {steps} steps", range(0, len(out), _ROWS)
        for _ in map_blocks(describe_rows, parts, executor=in_this_process(executor), progress=tell, stage=stage):
            pass

    source = nearer.values
    for number in range(steps - before):
        # They take turns, so that the last step is written to `out`.
        target = spare if (steps - before - number) % 2 == 0 else out
        step(number, source, target)
        source = target


def join_lazily(tables: Sequence[FeatureTable]) -> FeatureTable:
    """Return the columns of several tables of the same supervoxels, put together row by row when they are asked for.

    For tables that lie on the disk and would not fit into memory side by side.

    Returns
    -------
    FeatureTable
        Its `values` know their shape and are indexed by rows, ``values[a:b]`` or ``values[indices]``, and one column
        of some rows is ``values[indices, column]``; anything else that is done with them puts them all together.
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

    def __getitem__(self, rows: slice | NDArray[Any] | tuple[NDArray[Any], int]) -> Values:
        if isinstance(rows, tuple):
            some, which = rows
            for table in self._tables:
                if which < table.shape[1]:
                    values: Values = table[some, which]
                    return values
                which -= table.shape[1]
            raise IndexError(f"there are {self.shape[1]} columns")
        return np.concatenate([table[rows] for table in self._tables], axis=1)


class _LazyColumns:
    """Some columns of a table of which rows are put together when they are asked for."""

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, table: Values, columns: NDArray[np.intp]) -> None:
        self._table, self._columns = table, columns
        self.shape = (len(table), columns.size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.integer]) -> Values:
        return np.ascontiguousarray(self._table[rows][:, self._columns])


def _check_size(table: FeatureTable, graph: Adjacency) -> None:
    if graph.n != len(table.values):
        raise InputError(f"graph has {graph.n} supervoxels but the table has {len(table.values)} rows")


def context_names(names: tuple[str, ...], step: int) -> tuple[str, ...]:
    """Return the names of the columns that describe what lies so many steps away."""
    away = f" {step} step{'s' if step > 1 else ''} away" if step else ""
    return tuple(name + away for name in names)


def region_names(names: tuple[str, ...], steps: int) -> tuple[str, ...]:
    """Return the names of the columns that describe the region within so many steps: averages, then their spread."""
    within = f"within {steps} step{'s' if steps > 1 else ''}"
    return tuple(f"{name} {kind}{within}" for kind in ("", "spread ") for name in names)


def n_columns(names: tuple[str, ...], depth: int, regions: Sequence[int]) -> int:
    """Return how many columns `with_context` makes of those."""
    return len(names) + len(_typical_columns(names)) * (depth + 2 * len(regions))
