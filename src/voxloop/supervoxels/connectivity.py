"""From the fragments of the blocks to connected supervoxels: one union-find over the table.

Every block reports its fragments (6-connected pieces of one cluster), what they hold and what they touch, and the
planes of fragments at its faces. There is no further look at voxels, and what follows depends on pieces of the whole
volume only, not on the blocks they came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.kernels.fragments import fragments
from voxloop.kernels.pieces import add_rows, choose_neighbours, join, sum_contacts
from voxloop.supervoxels.arrays import Work
from voxloop.supervoxels.grid import means
from voxloop.supervoxels.model import Adjacency, SlicReport, Supervoxels
from voxloop.volume import ArrayLike, Spacing

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class BlockFragments:
    """The fragments of one block.

    Attributes
    ----------
    box
        Where the block lies.
    values
        int64 (f,), the label or cluster that a fragment is a piece of.
    first
        int64 (f,), its first voxel in the flattened volume.
    sums
        int64 (f, 4 + c), number of voxels, sums of z, y, x and of the intensities.
    pairs, faces
        int64 (m, 2) fragments that touch, counted from 0, and (m, 3) their common faces across z, y and x.
    low, high
        Fragments (0 outside, else from 1) in the first and in the last plane along z, y and x.
    """

    box: Box
    values: Ids
    first: Ids
    sums: Ids
    pairs: Ids
    faces: Ids
    low: tuple[NDArray[np.uint32], ...]
    high: tuple[NDArray[np.uint32], ...]


def cut_block(
    labels: NDArray[np.signedinteger[Any]],
    image: NDArray[np.int16],
    box: Box,
    shape: Shape3,
    out: Any,
    *,
    outside: int,
    values: Ids | None = None,
) -> BlockFragments:
    """Cut one block into fragments, write their numbers (from 1, 0 outside) to `out` and return their table.

    Parameters
    ----------
    labels
        int32 or int64 (z, y, x).
    image
        int16 (c, z, y, x), intensities to add up; c may be 0.
    box
        Where the block lies in the volume.
    shape
        Shape of the volume.
    out
        Array-like uint32 of the volume's shape.
    outside
        The label of voxels that belong to nothing.
    values
        If given, a fragment of label i is a piece of `values[i]`.
    """
    start = np.array(box.start)
    numbered, own, first, sums, pairs, faces = fragments(labels, image, start, np.array(shape), outside)
    out[box.slices] = numbered
    low, high = (tuple(np.take(numbered, i, axis) for axis in range(3)) for i in (0, -1))
    return BlockFragments(box, own if values is None else values[own], first, sums, pairs, faces, low, high)


def number_blocks(out: Any, blocks: Sequence[BlockFragments], numbers: Sequence[Ids], *, work: Work) -> None:
    """Replace each block's own numbers in `out` by those of the volume: `numbers` plus 1."""

    def number(item: tuple[Box, Ids]) -> None:
        box, new = item
        lookup = np.concatenate([[0], new + 1]).astype(np.uint32)
        out[box.slices] = lookup[np.asarray(out[box.slices])]

    items = list(zip((b.box for b in blocks), numbers, strict=True))
    for _ in work.map("numbering", number, items):
        pass


@dataclass(frozen=True)
class Pieces:
    """Pieces of the volume, in the order of their first voxels.

    Attributes
    ----------
    sums
        int64 (n, 4 + c), number of voxels, sums of z, y, x and of the intensities.
    pairs, faces
        int64 (m, 2) pieces a < b that touch, sorted, and (m, 3) their common faces across z, y and x.
    """

    sums: Ids
    pairs: Ids
    faces: Ids

    def joined(self, pairs: Ids) -> tuple[Pieces, Ids]:
        """Return the pieces after those of each pair became one, and the new number of each old piece."""
        group, n = join(len(self.sums), pairs)
        merged_pairs, faces = sum_contacts(group[self.pairs], self.faces, n)
        return Pieces(add_rows(group, self.sums, n), merged_pairs, faces), group

    def supervoxels(self, labels: ArrayLike, relative_spacing: Spacing, report: SlicReport) -> Supervoxels:
        """Return the pieces as the supervoxels 1..n of `labels`."""
        graph = Adjacency(self.pairs + 1, contact_area(self.faces, relative_spacing), len(self.sums))
        sizes, centers = self.sums[:, 0].copy(), means(self.sums)[:, :3].copy()
        return Supervoxels(labels, sizes, centers, graph, report)


def contact_area(faces: Ids, relative_spacing: Spacing) -> NDArray[np.float64]:
    """Return the area of faces counted across z, y and x (m, 3)."""
    z, y, x = relative_spacing
    area: NDArray[np.float64] = faces[:, 0] * (y * x) + faces[:, 1] * (z * x) + faces[:, 2] * (z * y)
    return area


def gather(blocks: Sequence[BlockFragments], *, join_by: str) -> tuple[Pieces, list[Ids]]:
    """Put the fragments of all blocks together.

    Parameters
    ----------
    blocks
        One entry a block; blocks wholly outside may be missing.
    join_by
        ``"contact"``: fragments of one value become a piece where they touch. ``"value"``: wherever they are.

    Returns
    -------
    pieces
        Numbered in the order of their first voxels.
    numbers
        For each block the piece, from 0, of each of its fragments.
    """
    offsets = np.cumsum([0] + [len(b.values) for b in blocks])
    values, first, sums = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("values", "first", "sums"))
    across, faces_across = _contacts_across(blocks, offsets)
    same = values[across[:, 0]] == values[across[:, 1]]
    pairs = np.concatenate([b.pairs + o for b, o in zip(blocks, offsets[:-1], strict=True)] + [across[~same]])
    faces = np.concatenate([b.faces for b in blocks] + [faces_across[~same]])

    by_first = np.argsort(first)
    rank = np.empty_like(by_first)
    rank[by_first] = np.arange(len(rank))
    fragments = Pieces(sums[by_first], rank[pairs], faces)
    to_join = across[same] if join_by == "contact" else _chain_equal(values)
    pieces, group = fragments.joined(rank[to_join])
    numbers = group[rank]
    return pieces, [numbers[a:b] for a, b in pairwise(offsets)]


def _contacts_across(blocks: Sequence[BlockFragments], offsets: Ids) -> tuple[Ids, Ids]:
    """Return which fragments, numbered through all blocks from 0, touch across the faces of blocks."""
    at = {b.box.start: i for i, b in enumerate(blocks)}
    pairs, faces = [np.empty((0, 2), np.int64)], [np.empty((0, 3), np.int64)]
    for i, block in enumerate(blocks):
        for axis in range(3):
            start = list(block.box.start)
            start[axis] = block.box.stop[axis]
            j = at.get((start[0], start[1], start[2]))
            if j is None:
                continue
            a, b = block.high[axis].ravel().astype(np.int64), blocks[j].low[axis].ravel().astype(np.int64)
            touching = (a > 0) & (b > 0)
            width = len(blocks[j].values) + 1
            keys, counts = np.unique(a[touching] * width + b[touching], return_counts=True)
            pairs.append(np.stack([keys // width - 1 + offsets[i], keys % width - 1 + offsets[j]], axis=1))
            across = np.zeros((len(keys), 3), np.int64)
            across[:, axis] = counts
            faces.append(across)
    return np.concatenate(pairs), np.concatenate(faces)


def _chain_equal(values: Ids) -> Ids:
    """Return pairs of indices that link all equal values."""
    order = np.argsort(values, kind="stable")
    links = np.stack([order[:-1], order[1:]], axis=1)
    equal: Ids = links[values[links[:, 0]] == values[links[:, 1]]]
    return equal


def absorb_small(pieces: Pieces, *, min_size: float, relative_spacing: Spacing) -> tuple[Pieces, Ids]:
    """Join each piece of fewer than `min_size` voxels to the neighbour of the largest contact, until none is left.

    In a round all small pieces choose (`kernels.pieces.choose_neighbours`) and join at once. Pieces without neighbours
    stay as they are: islands of the mask.

    Returns
    -------
    pieces
        What is left, in the order of the first voxels.
    group
        int64, the new number of each old piece.
    """
    group = np.arange(len(pieces.sums))
    while True:
        small = pieces.sums[:, 0] < min_size
        colours = means(pieces.sums)[:, 3:]
        area = contact_area(pieces.faces, relative_spacing)
        chosen = choose_neighbours(pieces.pairs, area, np.ascontiguousarray(colours), small)
        joining = np.flatnonzero(chosen != np.arange(len(chosen)))
        if len(joining) == 0:
            return pieces, group
        pieces, step = pieces.joined(np.stack([joining, chosen[joining]], axis=1))
        group = step[group]
