from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.kernel_source import python_source
from voxloop.blocks import SerialExecutor, ThreadExecutor, partition
from voxloop.io.scratch import Folder, Memory, Scratch
from voxloop.kernels import contingency as contingency_kernel
from voxloop.kernels import fragments as kernel
from voxloop.kernels import pieces as pieces_kernel
from voxloop.kernels import tally
from voxloop.supervoxels import connectivity
from voxloop.supervoxels.arrays import Work
from voxloop.supervoxels.connectivity import Pieces, absorb_small, cut_block, gather
from voxloop.supervoxels.model import SlicReport

ISOTROPIC = (1.0, 1.0, 1.0)
HERE = Work(SerialExecutor(), None)
NO_IMAGE = np.empty((0, 1, 1, 1), np.int16)


def cut(
    labels: np.ndarray,
    image: np.ndarray | None = None,
    *,
    start=(0, 0, 0),
    shape=None,
    areas=(1, 100, 10_000),
):
    labels = np.asarray(labels, np.int32)
    image = np.empty((0, *labels.shape), np.int16) if image is None else image
    return kernel.fragments(labels, image, np.array(start), np.array(shape or labels.shape), -2, np.array(areas))


def test_fragments_by_hand() -> None:
    labels = np.array([[[5, 5, -2, 5], [7, 5, -1, 5]], [[7, 7, -1, 5], [7, 5, -2, -2]]])
    image = np.arange(16, dtype=np.int16).reshape(1, 2, 2, 4)
    numbered, values, first, sums, pairs, area = cut(labels, image, start=(10, 20, 30), shape=(40, 50, 60))
    np.testing.assert_array_equal(numbered, [[[1, 1, 0, 2], [3, 1, 4, 2]], [[3, 3, 5, 2], [3, 1, 0, 0]]])
    np.testing.assert_array_equal(values, [5, 5, 7, -1, -1])
    flat = np.ravel_multi_index(([10, 10, 10, 10, 11], [20, 20, 21, 21, 20], [30, 33, 30, 32, 32]), (40, 50, 60))
    np.testing.assert_array_equal(first, flat)
    for k in range(5):
        mine = np.argwhere(numbered == k + 1)
        expected = [len(mine), *(mine + np.array([10, 20, 30])).sum(axis=0), image[0][numbered == k + 1].sum()]
        np.testing.assert_array_equal(sums[k], expected)
    found = {tuple(p): a for p, a in zip(pairs.tolist(), area.tolist(), strict=True)}
    assert found == {(0, 2): 20_202, (0, 3): 10_000, (1, 3): 10_000, (1, 4): 10_000, (2, 4): 10_000}


def test_every_voxel_a_fragment_makes_the_hash_table_grow() -> None:
    labels = np.arange(7 * 8 * 900).reshape(7, 8, 900)  # 3 contacts a voxel
    numbered, _, _, _, pairs, area = cut(labels)
    np.testing.assert_array_equal(numbered, labels + 1)
    assert len(pairs) == 6 * 8 * 900 + 7 * 7 * 900 + 7 * 8 * 899
    assert np.unique(area, return_counts=True)[1].tolist() == [6 * 8 * 900, 7 * 7 * 900, 7 * 8 * 899]


@pytest.mark.parametrize("jitted", [True, False])
def test_sums_by_key_while_the_table_grows(jitted: bool) -> None:
    add, grown, entries = (f if jitted else python_source(f) for f in (tally.add, tally.grown, tally.entries))
    rng = np.random.default_rng(0)
    table, used, expected = tally.empty_table(1), 0, {}
    for key in rng.choice(np.concatenate([np.arange(60), 2 ** rng.integers(31, 62, 60) + 5, [2**62]]), 600).tolist():
        if 2 * used >= len(table):
            table = grown(table)
        amount = int(rng.integers(-1000, 1000))
        assert add(table, key, amount) == (key not in expected)
        used = used + (key not in expected)
        expected[key] = expected.get(key, 0) + amount
    assert len(table) == 256
    assert dict(entries(table).tolist()) == expected


@pytest.mark.parametrize("jitted", [True, False])
def test_join_numbers_groups_by_their_lowest_members(jitted: bool) -> None:
    join = pieces_kernel.join if jitted else python_source(pieces_kernel.join)
    group, n = join(7, np.array([[6, 2], [4, 1], [2, 4]], np.int32))
    np.testing.assert_array_equal(group, [0, 1, 1, 2, 1, 3, 1])
    assert n == 4


@pytest.mark.parametrize("jitted", [True, False])
def test_faces_between_two_planes(jitted: bool) -> None:
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 9, 400), rng.integers(0, 12, 400).repeat(2)[:400]
    count = kernel.count_touching if jitted else python_source(kernel.count_touching)
    found = {(int(key) // 12, int(key) % 12): int(faces) for key, faces in count(before, after, 12)}
    touching = [pair for pair in zip(before.tolist(), after.tolist(), strict=True) if all(pair)]
    assert found == Counter(touching)
    assert len(found) > 64 / 2  # the table has grown
    assert len(count(np.zeros(3, np.int64), np.arange(3), 3)) == 0


@pytest.mark.parametrize("jitted", [True, False])
def test_sums_over_groups(jitted: bool) -> None:
    add_rows = pieces_kernel.add_rows if jitted else python_source(pieces_kernel.add_rows)
    big = 2**60
    sums = np.array([[0, 0], [0, 10]])
    add_rows(np.array([1, 0, 1], np.int32), np.array([[big, 1], [2, 3], [1, 4]]), sums)
    np.testing.assert_array_equal(sums, [[2, 3], [big + 1, 15]])


@pytest.mark.parametrize("jitted", [True, False])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("cut", [0, 2])
def test_choice_of_a_neighbour(jitted: bool, order: int, cut: int) -> None:
    choose = pieces_kernel.choose_neighbours if jitted else python_source(pieces_kernel.choose_neighbours)
    sums = np.array([[n, 0, 0, 0, n * colour] for n, colour in ((2, 0), (1, 5), (4, 3), (1, 3), (9, 9))])
    new = np.arange(5)[::order]  # the lowest piece chooses, or the highest
    moved = sums[new]

    def chosen(areas: dict[tuple[int, int], int]) -> int:
        contacts = sorted((*sorted((int(new[a]), int(new[b]))), area) for (a, b), area in areas.items())
        low, higher, area = np.array(contacts).T
        result, largest = np.arange(5, dtype=np.int32), np.zeros(5, np.int64)
        for first, stop in ((0, cut), (cut, 5)):
            starts, part = np.searchsorted(low, np.arange(first, stop + 1)), (low >= first) & (low < stop)
            others, areas_there = higher[part].astype(np.int32), area[part]
            choose(first, starts - starts[0], others, areas_there, moved, new == 0, result, largest)
        assert (np.delete(result, new[0]) == np.delete(np.arange(5), new[0])).all()
        return int(new[result[new[0]]])

    assert chosen({(0, 1): 1, (0, 4): 2}) == 4  # the largest contact
    assert chosen({(0, 1): 2, (0, 2): 2, (0, 4): 2}) == 2  # the closest intensity
    assert chosen({(0, 2): 2, (0, 3): 2}) == (2 if order == 1 else 3)  # the lower id
    assert chosen({(1, 2): 2}) == 0  # no neighbour


def pieces_of(labels: np.ndarray, spacing=ISOTROPIC) -> Pieces:
    image = np.zeros((1, *labels.shape), np.int16)
    (whole,) = partition(labels.shape, labels.shape)
    scratch = Memory()
    block = cut_block(
        labels.astype(np.int32), image, whole, labels.shape, scratch, relative_spacing=spacing, outside=-2
    )
    return gather([block], scratch, relative_spacing=spacing, join_by="contact", work=HERE)[0]


def test_small_pieces_join_in_rounds_until_none_is_left() -> None:
    row = np.repeat(np.arange(9), [2, 1, 1, 1, 1, 9, 1, 2, 2])[np.newaxis, np.newaxis]
    left, group = absorb_small(pieces_of(row), min_size=5)
    assert left.sums[:, 0].min() >= 5
    assert left.sums[:, 0].sum() == row.size
    assert (np.diff(group) >= 0).all()  # along a line pieces stay in order


def joined_in(scratch: Scratch, labels: np.ndarray, work: Work = HERE) -> tuple[Pieces, np.ndarray, int]:
    """Return pieces, groups, and the most bytes that numpy takes while they are joined."""
    blocks = [
        cut_block(
            np.ascontiguousarray(labels[block.inner.slices]), np.zeros((2, *block.inner.shape), np.int16), block,
            labels.shape, scratch, relative_spacing=ISOTROPIC, outside=-2,
        )
        for block in partition(labels.shape, (16, 32, 32))
    ]  # fmt: skip
    tracemalloc.start()
    pieces, _ = gather(blocks, scratch, relative_spacing=ISOTROPIC, join_by="contact", work=work)
    pieces, group = absorb_small(pieces, min_size=4)
    n_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return pieces, group, n_bytes


def test_tables_in_a_folder_take_little_memory(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (48, 64, 64)).astype(np.int32)
    labels[::2, ::2, ::2] = np.arange(labels.size // 8).reshape(24, 32, 32)  # pieces of one voxel, six contacts each
    in_memory, expected, much = joined_in(Memory(), labels)
    in_files, group, little = joined_in(Folder(tmp_path), labels)
    np.testing.assert_array_equal(group, expected)
    np.testing.assert_array_equal(in_files.sums, in_memory.sums)
    for name in ("starts", "higher", "area"):
        np.testing.assert_array_equal(getattr(in_files.contacts[0], name), getattr(in_memory.contacts[0], name))
    assert little < 120 * len(group) < much


@pytest.mark.parametrize("n_threads", [2, 3])
@pytest.mark.parametrize("in_files", [False, True])
def test_ranges_of_pieces_put_together_by_threads(
    n_threads: int, in_files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.random.default_rng(1).integers(0, 9, (24, 40, 40)).astype(np.int32)
    whole, expected, _ = joined_in(Memory(), labels)
    monkeypatch.setattr(connectivity, "LEAST_ROWS", 100)
    scratch = Folder(tmp_path) if in_files else Memory()
    parted, group, _ = joined_in(scratch, labels, Work(ThreadExecutor(n_threads), None))
    assert [len(p.contacts) for p in (whole, parted)] == [1, n_threads]
    np.testing.assert_array_equal(group, expected)
    np.testing.assert_array_equal(parted.sums, whole.sums)
    tables = [p.supervoxels(labels, SlicReport(1, 1, 1, True)).graph for p in (whole, parted)]
    np.testing.assert_array_equal(tables[0].edges, tables[1].edges)
    np.testing.assert_array_equal(tables[0].area, tables[1].area)


def test_a_piece_without_neighbours_stays_and_zero_keeps_all() -> None:
    row = np.array([[[1, -2, 2, 2, 2, 2, 3]]])
    left, group = absorb_small(pieces_of(row), min_size=3)
    np.testing.assert_array_equal(group, [0, 1, 1])
    np.testing.assert_array_equal(left.sums[:, 0], [1, 5])
    assert len(absorb_small(pieces_of(row), min_size=0)[0].sums) == 3


@pytest.mark.parametrize(("spacing", "joins"), [(ISOTROPIC, "left and right"), ((1.0, 1.0, 9.0), "below")])
def test_contact_counts_by_physical_area(spacing: tuple[float, float, float], joins: str) -> None:
    labels = np.array([[[0, 1, 0]], [[2, 2, 2]]])  # two faces of y * z at the sides, one of x * y below
    _, group = absorb_small(pieces_of(labels, spacing), min_size=1.5)
    assert (group[1] == group[3]) == (joins == "below")


@pytest.mark.parametrize("jitted", [True, False])
def test_contingency_by_hand(jitted: bool) -> None:
    count = contingency_kernel.contingency if jitted else python_source(contingency_kernel.contingency)
    a = np.array([[[2**32 - 1, 1, 1, -1], [1, 1, 2**32 - 1, 2]]])
    b = np.array([[[2**31 - 1, 0, 0, 0], [0, 4, 2**31 - 1, -1]]])
    keys, counts = count(a, b)
    found = dict(zip(keys.tolist(), counts.tolist(), strict=True))
    assert found == {(2**32 - 1 << 31) + 2**31 - 1: 2, (1 << 31): 3, (1 << 31) + 4: 1}
