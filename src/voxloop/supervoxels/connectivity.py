"""From the fragments of the blocks to connected supervoxels: one union-find over the table.

Every block reports its fragments (6-connected pieces of one cluster) and the planes of them at its faces. Once it is
known what belongs together, what the fragments hold and touch is read block by block from where the block has put it:
all at once that is several times what the supervoxels themselves take. There is no further look at voxels, and what
follows depends on pieces of the whole volume only, not on the blocks they came in.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Executor, Progress, Shape3, in_this_process
from voxloop.errors import InputError
from voxloop.io.mapped import unmapped
from voxloop.io.scratch import Scratch
from voxloop.kernels.fragments import count_touching, fragments
from voxloop.kernels.pieces import add_rows, choose_neighbours, count_contacts, join, merge_contacts, place_contacts
from voxloop.supervoxels.arrays import Work
from voxloop.supervoxels.grid import means
from voxloop.supervoxels.model import ROWS, Adjacency, SlicReport, Supervoxels
from voxloop.volume import ArrayLike, Spacing

Ids = NDArray[np.int64]
Int32 = NDArray[np.int32]
MOST_FRAGMENTS = 2**31 - 1  # numbers of 32 bits halve the tables
LEAST_ROWS = 10_000  # pieces that are worth a thread of their own
AREA_UNITS = 2**16  # to a face between two voxels of the finest spacing: areas are summed up as integers, in any order


@dataclass(frozen=True)
class BlockFragments:
    """The fragments of one block, without what they hold and touch, which is kept for `gather` in the scratch space.

    Attributes
    ----------
    block
        Which block.
    values
        int64 (f,), the label or cluster that a fragment is a piece of.
    first
        int64 (f,), its first voxel in the flattened volume.
    low_z, low_y, low_x, high_z, high_y, high_x
        Fragments (0 outside, else from 1) in the first and in the last plane along each axis.
    """

    block: Block
    values: Ids
    first: Ids
    low_z: NDArray[Any]
    low_y: NDArray[Any]
    low_x: NDArray[Any]
    high_z: NDArray[Any]
    high_y: NDArray[Any]
    high_x: NDArray[Any]

    @property
    def low(self) -> tuple[NDArray[Any], ...]:
        """The first planes along z, y and x."""
        return self.low_z, self.low_y, self.low_x

    @property
    def high(self) -> tuple[NDArray[Any], ...]:
        """The last planes along z, y and x."""
        return self.high_z, self.high_y, self.high_x

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the table by the names of its fields, without the block."""
        return {field.name: getattr(self, field.name) for field in fields(self)[1:]}

    @classmethod
    def of(cls, block: Block, scratch: Scratch) -> Self:
        """Return the fragments of a block that has been cut."""
        return cls(block, **scratch.get(table_name(block.index), *(field.name for field in fields(cls)[1:])))


def cut_block(
    labels: NDArray[np.signedinteger[Any]],
    image: NDArray[np.int16],
    block: Block,
    shape: Shape3,
    scratch: Scratch,
    *,
    relative_spacing: Spacing,
    outside: int,
    values: Ids | None = None,
) -> BlockFragments:
    """Cut one block into fragments.

    Their numbers (from 1, 0 outside) are put into the scratch space for `NumberBlock`, and after them all about them
    for `gather`: values, first, sums, pairs and area as in `kernels.fragments.fragments`, and the planes at the faces.

    Parameters
    ----------
    labels
        int32 or int64 (z, y, x).
    image
        int16 (c, z, y, x), intensities to add up; c may be 0.
    block
        Where the block lies in the volume.
    shape
        Shape of the volume.
    scratch
        Where all of that goes.
    relative_spacing
        Of a voxel (z, y, x), for the areas of contact.
    outside
        The label of voxels that belong to nothing.
    values
        If given, a fragment of label i is a piece of `values[i]`.
    """
    start, areas = np.array(block.inner.start), face_areas(relative_spacing)
    numbered, own, first, sums, pairs, area = fragments(labels, image, start, np.array(shape), outside, areas)
    compact = numbered.astype(np.uint16) if len(own) < 2**16 else numbered
    scratch.put(_fragments_name(block), {"fragments": compact})
    planes = [np.take(compact, i, axis) for i in (0, -1) for axis in range(3)]
    found = BlockFragments(block, own if values is None else values[own], first, *planes)
    scratch.put(table_name(block.index), {**found.to_arrays(), "sums": sums, "pairs": pairs, "area": area})
    return found


def face_areas(relative_spacing: Spacing) -> Ids:
    """Return the area of one face across z, y and x, int64 (3,), in `AREA_UNITS`."""
    z, y, x = relative_spacing
    areas: Ids = np.rint(AREA_UNITS * np.array([y * x, z * x, z * y])).astype(np.int64)
    return areas


def _fragments_name(block: Block) -> str:
    return f"fragments-{block.index}"


def table_name(index: int) -> str:
    """Return the name in the scratch space of what is known of the fragments of a block; there once it is cut."""
    return f"table-{index}"


@dataclass(frozen=True)
class NumberBlock:
    """Writes fragments to `out` under the numbers of their pieces in the volume."""

    scratch: Scratch
    out: Any

    def __call__(self, item: tuple[Block, Int32 | None]) -> None:
        """Write one block, given the piece, from 0, of each fragment; None: it lies wholly outside."""
        block, numbers = item
        if numbers is None:
            self.out[block.inner.slices] = 0
            return
        lookup = np.concatenate([[0], numbers.astype(np.int64) + 1]).astype(np.uint32)
        self.out[block.inner.slices] = lookup[self.scratch.get(_fragments_name(block))["fragments"]]


class Contacts(NamedTuple):
    """Things that touch.

    Attributes
    ----------
    pairs
        int32 (m, 2), two of them.
    area
        int64 (m,), in `AREA_UNITS`.
    group
        int32, the piece of each thing.
    """

    pairs: Int32
    area: Ids
    group: Int32


@dataclass(frozen=True)
class ContactRows:
    """What consecutive pieces touch.

    Attributes
    ----------
    first
        The first of these pieces.
    starts, higher, area
        int64 (r + 1,), int32 (m,) and int64 (m,): where the contacts of each piece with higher ones start, these
        others, ascending, and the areas in `AREA_UNITS`.
    """

    first: int
    starts: Ids
    higher: Int32
    area: Ids

    def pairs(self) -> Iterator[tuple[Int32, Ids]]:
        """Yield pieces a < b that touch, sorted, int32 (m, 2), and the areas, some at a time."""
        for row in range(0, len(self.starts) - 1, ROWS):
            starts = self.starts[row : row + ROWS + 1]
            part = slice(starts[0], starts[-1])
            first = self.first + row
            low = np.repeat(np.arange(first, first + len(starts) - 1, dtype=np.int32), np.diff(starts))
            yield np.stack([low, self.higher[part]], axis=1), self.area[part]


@dataclass(frozen=True)
class Pieces:
    """Pieces of the volume, in the order of their first voxels.

    Attributes
    ----------
    sums
        int64 (n, 4 + c), number of voxels, sums of z, y, x and of the intensities.
    contacts
        What the pieces touch: all of them, cut into ranges.
    scratch
        Where such tables are kept.
    executor
        Threads that work on a range each.
    """

    sums: Ids
    contacts: tuple[ContactRows, ...]
    scratch: Scratch
    executor: Executor

    @classmethod
    def joining(
        cls, sums: Ids, contacts: Callable[[int, int], Iterable[Contacts]], scratch: Scratch, executor: Executor
    ) -> Self:
        """Return the pieces that hold `sums`.

        Each range looks for its own contacts, to count and to place them, among `contacts(first, stop)`, which may give
        others as well. So nothing is handed from one thread to another, for a little reading of what belongs elsewhere.
        """

        def rows(bounds: tuple[int, int]) -> ContactRows:
            first, stop = bounds
            ends = np.zeros(stop - first + 1, np.int64)
            for part in contacts(first, stop):
                count_contacts(part.pairs, part.group, first, ends)
            np.cumsum(ends, out=ends)
            higher, area = scratch.zeros((ends[-1],), np.int32), scratch.zeros((ends[-1],), np.int64)
            for part in contacts(first, stop):
                place_contacts(part.pairs, part.area, part.group, first, ends[:-1], higher, area)
            starts = merge_contacts(ends[:-1], higher, area)
            return ContactRows(first, starts, higher[: starts[-1]], area[: starts[-1]])

        n = min(executor.n_workers, 1 + len(sums) // LEAST_ROWS)
        bounds = [len(sums) * i // n for i in range(n + 1)]
        return cls(sums, tuple(executor.map(rows, itertools.pairwise(bounds))), scratch, executor)

    def joined(self, pairs: Int32) -> tuple[Pieces, Int32]:
        """Return the pieces after those of each pair became one, and the new number of each old piece."""
        group, n = join(len(self.sums), pairs)
        sums = self.scratch.zeros((n, self.sums.shape[1]), np.int64)
        add_rows(group, self.sums, sums)

        def contacts(first: int, stop: int) -> Iterator[Contacts]:
            del first, stop  # which of them lie there, only looking at all tells
            for rows in self.contacts:
                for touching, area in rows.pairs():
                    yield Contacts(touching, area, group)

        return Pieces.joining(sums, contacts, self.scratch, self.executor), group

    def neighbours_to_join(self, small: NDArray[np.bool_]) -> Int32:
        """Return for each small piece, bool (n,), the neighbour to join, for each other itself."""
        chosen, largest = np.arange(len(small), dtype=np.int32), np.zeros(len(small), np.int64)
        for rows in self.contacts:
            choose_neighbours(rows.first, rows.starts, rows.higher, rows.area, self.sums, small, chosen, largest)
        return chosen

    def supervoxels(self, labels: ArrayLike, report: SlicReport) -> Supervoxels:
        """Return the pieces as the supervoxels 1..n of `labels`."""
        n = sum(len(rows.higher) for rows in self.contacts)
        edges, area = np.empty((n, 2), np.int32), np.empty(n, np.float64)
        end = 0
        for rows in self.contacts:
            for pairs, units in rows.pairs():
                start, end = end, end + len(pairs)
                np.add(pairs, 1, out=edges[start:end])
                np.divide(units, AREA_UNITS, out=area[start:end])
        graph = Adjacency(edges, area, len(self.sums))
        return Supervoxels(labels, np.array(self.sums[:, 0]), means(self.sums[:, :4]), graph, report)


@dataclass(frozen=True)
class FragmentNumbers:
    """The piece, from 0, of each fragment of each block."""

    numbers: Int32
    offsets: dict[int, tuple[int, int]]

    def of(self, block: Block) -> Int32 | None:
        """Return the pieces of a block's fragments, or None if it lies wholly outside."""
        if block.index not in self.offsets:
            return None
        start, stop = self.offsets[block.index]
        return self.numbers[start:stop]

    def by_block(self) -> Iterator[tuple[int, Int32]]:
        """Yield the index of each block that does not lie wholly outside, and the pieces of its fragments."""
        for index, (start, stop) in self.offsets.items():
            yield index, self.numbers[start:stop]

    def joined(self, group: Int32) -> FragmentNumbers:
        """Return the numbers after piece i became `group[i]`."""
        return FragmentNumbers(group[self.numbers], self.offsets)


@dataclass(frozen=True)
class _Face:
    """The last plane of a block along an axis: its fragments, where their numbers start, and their values."""

    plane: NDArray[Any]
    offset: int
    values: Ids


class _Table:
    """The fragments of all blocks, numbered through."""

    def __init__(self, relative_spacing: Spacing) -> None:
        self._face_areas = face_areas(relative_spacing)
        self.n = 0
        self.offsets: dict[int, tuple[int, int]] = {}
        self.first: list[Ids] = []
        self.values: list[Ids] = []
        self.across: list[tuple[Int32, Ids]] = []  # what touches across a face of two blocks, and the areas
        self.same: list[Int32] = [np.empty((0, 2), np.int32)]
        self._waiting: dict[tuple[int, Shape3], _Face] = {}  # by axis and where the next block starts

    def add(self, part: BlockFragments, *, keep_values: bool) -> None:
        """Append the fragments of a block; blocks come in the order of the partition."""
        if self.n + len(part.values) > MOST_FRAGMENTS:
            raise InputError("the volume falls into too many fragments: ask for larger supervoxels or smooth more")
        box = part.block.inner
        for axis in range(3):
            before = self._waiting.pop((axis, box.start), None)
            if before is not None:
                self._add_contacts(axis, before, _Face(part.low[axis], self.n, part.values))
            z, y, x = (box.stop[a] if a == axis else box.start[a] for a in range(3))
            self._waiting[axis, (z, y, x)] = _Face(part.high[axis], self.n, part.values)
        self.first.append(part.first)
        if keep_values:
            self.values.append(part.values)
        self.offsets[part.block.index] = (self.n, self.n + len(part.values))
        self.n += len(part.values)

    def _add_contacts(self, axis: int, before: _Face, after: _Face) -> None:
        """Note which fragments touch across the face of two blocks."""
        a, b = before.plane.ravel().astype(np.int64), after.plane.ravel().astype(np.int64)
        width = len(after.values) + 1
        keys, counts = count_touching(a, b, width).T
        a, b = keys // width - 1, keys % width - 1
        pairs = np.stack([a + before.offset, b + after.offset], axis=1).astype(np.int32)
        same = before.values[a] == after.values[b]
        self.same.append(pairs[same])
        self.across.append((pairs[~same], counts[~same] * self._face_areas[axis]))


def gather(
    blocks: Iterable[BlockFragments],
    scratch: Scratch,
    *,
    relative_spacing: Spacing,
    join_by: Literal["contact", "value"],
    work: Work,
) -> tuple[Pieces, FragmentNumbers]:
    """Put the fragments of all blocks together.

    Parameters
    ----------
    blocks
        One entry a block, in the order of the partition; blocks wholly outside may be missing.
    scratch
        Where `cut_block` has put what the fragments hold and touch, and where the tables of the pieces go. A folder
        keeps the former for another run, memory does not.
    relative_spacing
        Of a voxel (z, y, x), for the areas of contact.
    join_by
        ``"contact"``: fragments of one value become a piece where they touch. ``"value"``: wherever they are.
    work
        Who is told between the steps, when all blocks are there, and whose threads the tables are put together by.

    Returns
    -------
    pieces
        Numbered in the order of their first voxels.
    numbers
        For each block the piece, from 0, of each of its fragments.

    Raises
    ------
    InputError
        If there are more than 2^31 - 1 fragments.
    """
    table = _Table(relative_spacing)
    for part in blocks:
        table.add(part, keep_values=join_by == "value")
    tell = work.progress or _no_progress
    tell("joining", 0, 3)
    by_first = np.argsort(_concatenated(table.first)) if table.n else np.empty(0, np.int64)
    rank = np.empty(table.n, np.int32)
    rank[by_first] = np.arange(table.n, dtype=np.int32)
    del by_first
    tell("joining", 1, 3)
    if join_by == "value" and table.n:
        table.same.append(_chain_equal(_concatenated(table.values)))
    group, n = join(table.n, rank[_concatenated(table.same)])
    numbers = group[rank]
    del group, rank
    tell("joining", 2, 3)
    found = FragmentNumbers(numbers, table.offsets)
    pieces = _collect(found, n, table.across, scratch, in_this_process(work.executor))
    tell("joining", 3, 3)
    return pieces, found


def _collect(
    numbers: FragmentNumbers, n: int, across: list[tuple[Int32, Ids]], scratch: Scratch, executor: Executor
) -> Pieces:
    """Return the `n` pieces that hold and touch what the fragments of all blocks do, and those across the faces."""
    sums: Ids = np.zeros((0, 4), np.int64)
    for index, group in numbers.by_block():
        rows = scratch.get(table_name(index), "sums")["sums"]
        sums = sums if len(sums) else scratch.zeros((n, rows.shape[1]), np.int64)
        add_rows(group, rows, sums)

    def contacts(first: int, stop: int) -> Iterator[Contacts]:
        for index, group in numbers.by_block():
            if not len(group) or group.max() < first or group.min() >= stop:
                continue
            stored = scratch.get(table_name(index), "pairs", "area")
            yield Contacts(stored["pairs"], stored["area"], group)
        for pairs, area in across:
            yield Contacts(pairs, area, numbers.numbers)

    pieces = Pieces.joining(sums, contacts, scratch, executor)
    if not scratch.outlives_process:
        for index, _ in numbers.by_block():
            scratch.drop(table_name(index))
    return pieces


def _no_progress(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def _concatenated(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays put together, and let go of each as soon as it is copied."""
    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    end = len(whole)
    while parts:
        part = parts.pop()
        whole[end - len(part) : end] = part
        end -= len(part)
    return whole


def number_blocks(blocks: Sequence[Block], numbers: FragmentNumbers, *, scratch: Scratch, out: Any, work: Work) -> None:
    """Write the pieces of all blocks to `out`, counted from 1; 0 outside.

    Other processes write to chunks only. Blocks in one file share pages of it, and on a file system of several machines
    the one that writes its copy of a page last undoes what the other wrote there.
    """
    target = unmapped(out)
    if not hasattr(target, "chunks"):
        work = Work(in_this_process(work.executor), work.progress)
    for _ in work.map("numbering", NumberBlock(scratch, target), _NumbersByBlock(blocks, numbers)):
        pass


class _NumbersByBlock(Sequence[tuple[Block, Int32 | None]]):
    """Each block with its numbers."""

    def __init__(self, blocks: Sequence[Block], numbers: FragmentNumbers) -> None:
        self._blocks, self._numbers = blocks, numbers

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: Any) -> Any:
        block = self._blocks[index]
        return block, self._numbers.of(block)


def _chain_equal(values: Ids) -> Int32:
    """Return pairs of indices that link all equal values."""
    order = np.argsort(values, kind="stable")
    links = np.stack([order[:-1], order[1:]], axis=1).astype(np.int32)
    equal: Int32 = links[values[links[:, 0]] == values[links[:, 1]]]
    return equal


def absorb_small(pieces: Pieces, *, min_size: float, progress: Progress | None = None) -> tuple[Pieces, Int32]:
    """Join each piece of fewer than `min_size` voxels to the neighbour of the largest contact, until none is left.

    In a round all small pieces choose (`kernels.pieces.choose_neighbours`) and join at once. Pieces without neighbours
    stay as they are: islands of the mask. `progress` is told before each round how many pieces are no longer small.

    Returns
    -------
    pieces
        What is left, in the order of the first voxels.
    group
        int32, the new number of each old piece.
    """
    group = np.arange(len(pieces.sums), dtype=np.int32)
    tell = progress or _no_progress
    n_small = int((pieces.sums[:, 0] < min_size).sum())
    while True:
        small = pieces.sums[:, 0] < min_size
        tell("absorbing", n_small - int(small.sum()), n_small)
        chosen = pieces.neighbours_to_join(small)
        joining = np.flatnonzero(chosen != np.arange(len(chosen), dtype=np.int32)).astype(np.int32)
        if len(joining) == 0:
            return pieces, group
        pieces, step = pieces.joined(np.stack([joining, chosen[joining]], axis=1))
        group = step[group]
