"""Statistics of the responses inside supervoxels: collected block by block, merged, and finished as columns.

A supervoxel is finished as soon as all of its voxels have been seen. Only those cut by the borders of blocks are kept
until then, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.io.scratch import Arrays
from voxloop.kernels import pooling
from voxloop.specs import Statistic

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

QUANTILES: dict[Statistic, float] = {"q10": 0.1, "q50": 0.5, "q90": 0.9}
N_BINS = 64


@dataclass(frozen=True)
class Bins:
    """Histogram bins of k responses: 64 of equal width from `low` (k,) float32 on, the first and the last are open."""

    low: Float32
    width: Float32

    @classmethod
    def between(cls, low: Float32, high: Float32) -> Bins:
        """Return bins of which all but the open ones lie between `low` and `high`."""
        span = np.where(high > low, high - low, np.float32(1))
        width = (span / (N_BINS - 2)).astype(np.float32)
        return cls((low - width).astype(np.float32), width)


@dataclass
class Collected:
    """What is known of k responses in each of r supervoxels; what no statistic asks for has no columns.

    Attributes
    ----------
    sums, squares
        (r, k) float64.
    lowest, highest
        (r, k) float32.
    histogram
        (r, k, 64) uint32.
    """

    sums: Float64
    squares: Float64
    lowest: Float32
    highest: Float32
    histogram: NDArray[np.uint32]

    @classmethod
    def nothing(cls, n_rows: int, n_responses: int, statistics: Sequence[Statistic]) -> Collected:
        """Return what is known before the first voxel."""
        quantiles = n_responses if set(statistics) & set(QUANTILES) else 0
        moments = n_responses if {"mean", "std"} & set(statistics) else 0
        extremes = max(quantiles, n_responses if {"min", "max"} & set(statistics) else 0)
        return cls(
            np.zeros((n_rows, moments)),
            np.zeros((n_rows, moments)),
            np.full((n_rows, extremes), np.inf, np.float32),
            np.full((n_rows, extremes), -np.inf, np.float32),
            np.zeros((n_rows, quantiles, N_BINS), np.uint32),
        )

    def observe(self, responses: Float32, starts: NDArray[np.int32], numbers: NDArray[np.int32], bins: Bins) -> None:
        """Take in the voxels of some runs; `responses` (k, v), runs as for `pooling.add_moments`."""
        if self.sums.shape[1]:
            pooling.add_moments(responses, starts, numbers, self.sums, self.squares)
        if self.lowest.shape[1]:
            pooling.add_extremes(responses, starts, numbers, self.lowest, self.highest)
        if self.histogram.shape[1]:
            pooling.add_histogram(responses, starts, numbers, bins.low, np.float32(1) / bins.width, self.histogram)

    def of(self, rows: Int64) -> Collected:
        """Return what is known of the supervoxels in `rows`."""
        return Collected(**{name: array.take(rows, axis=0) for name, array in vars(self).items()})

    def merge(self, rows: Int64, other: Collected) -> None:
        """Add what is known of other voxels of the supervoxels in `rows`, each named once."""
        self.sums[rows] += other.sums
        self.squares[rows] += other.squares
        self.lowest[rows] = np.minimum(self.lowest[rows], other.lowest)
        self.highest[rows] = np.maximum(self.highest[rows], other.highest)
        self.histogram[rows] += other.histogram

    def forget(self, rows: Int64) -> None:
        """Set rows back to nothing."""
        self.sums[rows] = self.squares[rows] = self.histogram[rows] = 0
        self.lowest[rows], self.highest[rows] = np.inf, -np.inf

    def extended(self, n_rows: int) -> Collected:
        """Return it with rows of nothing up to `n_rows`."""
        more = n_rows - len(self.sums)
        parts: dict[str, NDArray[Any]] = {
            name: np.concatenate([array, np.full((more, *array.shape[1:]), fill, array.dtype)])
            for (name, array), fill in zip(vars(self).items(), (0, 0, np.inf, -np.inf, 0), strict=True)
        }
        return Collected(**parts)

    def columns(self, counts: Int64, statistics: Sequence[Statistic], bins: Bins) -> Float32:
        """Return the statistics (r, s * k) of supervoxels that have `counts` (r,) voxels."""
        counts = counts[:, np.newaxis]
        mean = self.sums / counts
        out = np.empty((len(counts), len(statistics), len(bins.low)), np.float32)
        for i, statistic in enumerate(statistics):
            out[:, i] = mean if statistic == "mean" else self._column(statistic, counts, mean, bins)
        return out.reshape(len(counts), out.shape[1] * out.shape[2])

    def _column(self, statistic: Statistic, counts: Int64, mean: Float64, bins: Bins) -> Float32 | Float64:
        if statistic == "min":
            return self.lowest
        if statistic == "max":
            return self.highest
        if statistic in QUANTILES:
            return self._quantile(QUANTILES[statistic], counts, bins)
        variance = self.squares / counts
        variance -= mean * mean
        return np.sqrt(np.maximum(variance, 0.0, out=variance), out=variance)

    def _quantile(self, share: float, counts: Int64, bins: Bins) -> Float32:
        """Return a quantile, interpolated in the bin that holds it: off by less than a bin's width within the bins."""
        up_to = self.histogram.cumsum(axis=2, dtype=np.int64)
        wanted = share * counts
        index = (up_to < wanted[:, :, np.newaxis]).sum(axis=2)
        after = np.take_along_axis(up_to, index[:, :, np.newaxis], axis=2)[:, :, 0]
        before = np.where(
            index > 0, np.take_along_axis(up_to, np.maximum(index - 1, 0)[:, :, np.newaxis], 2)[:, :, 0], 0
        )
        low, high = self.lowest, self.highest
        # An open bin ends where the supervoxel does.
        left = np.where(index == 0, low, bins.low + index * bins.width)
        right = np.where(index == N_BINS - 1, high, bins.low + (index + 1) * bins.width)
        value = left + (right - left) * ((wanted - before) / np.maximum(after - before, 1))
        clipped: Float32 = np.clip(value, low, high).astype(np.float32)
        return clipped


@dataclass(frozen=True)
class BlockStatistics:
    """What one block knows of its supervoxels `ids` (m,): their voxels, and a `Collected` for each group."""

    ids: Int64
    counts: Int64
    groups: list[Collected]

    def to_arrays(self) -> Arrays:
        """Return all of it as arrays by name."""
        groups = {f"{k}_{name}": array for k, group in enumerate(self.groups) for name, array in vars(group).items()}
        return {"ids": self.ids, "counts": self.counts, **groups}

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Return what `to_arrays` took apart."""
        names = [field.name for field in fields(Collected)]
        n_groups = (len(arrays) - 2) // len(names)
        groups = [Collected(**{name: arrays[f"{k}_{name}"] for name in names}) for k in range(n_groups)]
        return cls(arrays["ids"], arrays["counts"], groups)


class Table:
    """The rows of a feature table, written when their supervoxels are complete.

    Blocks are added in their order, so that sums have the same bits every time.
    """

    def __init__(self, out: Float32, sizes: Int64, statistics: Sequence[Statistic], bins: Sequence[Bins]) -> None:
        self._out, self._sizes, self._statistics, self._bins = out, sizes, statistics, bins
        self._slots = np.full(len(sizes), -1, np.int32)  # where an incomplete supervoxel is kept
        self._free = np.zeros(0, np.int64)
        self._counts = np.zeros(0, np.int64)
        self._kept: list[Collected] = [Collected.nothing(0, len(b.low), statistics) for b in bins]

    def add(self, part: BlockStatistics) -> None:
        """Merge what a block knows, and write the rows of supervoxels that are complete with it."""
        # Most supervoxels lie in one block: they need not be kept and merged.
        whole = part.counts == self._sizes[part.ids - 1]
        self._write(part.ids[whole] - 1, part.groups, np.flatnonzero(whole), part.counts[whole])
        cut = np.flatnonzero(~whole)
        indices = part.ids[cut] - 1
        slots = self._take_slots(indices)
        self._counts[slots] += part.counts[cut]
        for kept, new in zip(self._kept, part.groups, strict=True):
            kept.merge(slots, new.of(cut))
        complete = self._counts[slots] == self._sizes[indices]
        done = slots[complete]
        self._write(indices[complete], self._kept, done, self._counts[done])
        for kept in self._kept:
            kept.forget(done)
        self._counts[done] = 0
        self._slots[indices[complete]] = -1
        self._free = np.concatenate([self._free, done])

    def _write(self, indices: Int64, groups: Sequence[Collected], rows: Int64, counts: Int64) -> None:
        """Write the supervoxels that lie in `rows` of each group."""
        columns = [
            group.of(rows).columns(counts, self._statistics, bins)
            for group, bins in zip(groups, self._bins, strict=True)
        ]
        self._out[indices] = columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)

    def close(self) -> None:
        """Raise `InputError` if a supervoxel has another number of voxels than was said."""
        if len(self._free) < len(self._counts):
            open_one = int(np.flatnonzero(self._slots >= 0)[0])
            found = int(self._counts[self._slots[open_one]])
            raise InputError(
                f"sizes says that supervoxel {open_one + 1} has {self._sizes[open_one]} voxels, not {found}"
            )

    def _take_slots(self, indices: Int64) -> Int64:
        slots = self._slots[indices].astype(np.int64)
        new = np.flatnonzero(slots < 0)
        lacking = len(new) - len(self._free)
        if lacking > 0:
            before = len(self._counts)
            after = before + max(lacking, before)
            self._counts = np.concatenate([self._counts, np.zeros(after - before, np.int64)])
            self._kept = [kept.extended(after) for kept in self._kept]
            self._free = np.concatenate([self._free, np.arange(before, after)])
        slots[new] = self._free[: len(new)]
        self._free = self._free[len(new) :]
        self._slots[indices[new]] = slots[new]
        return slots
