from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import zarr
from scipy import ndimage

from tests.kernel_source import python_source
from voxloop.blocks import SerialExecutor, partition
from voxloop.errors import Cancelled, InputError
from voxloop.kernels import simd
from voxloop.kernels import slic as kernel
from voxloop.kernels.intensity import to_fixed_point
from voxloop.specs import SlicSpec
from voxloop.supervoxels import SlicReport, Supervoxels, slic
from voxloop.supervoxels.grid import seed_grid
from voxloop.supervoxels.intensity import COARSE_WEIGHT, LEVELS, Scaling, measure_intensities, scale_block
from voxloop.volume import Volume

ISOTROPIC = (1.0, 1.0, 1.0)
NO_MASK = np.empty((0, 0, 0), bool)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def nearest_by_hand(image, inside, start, centers, colours, reach, weights):
    """Return the labels of `kernel.assign`, a voxel and a cluster at a time."""
    labels = np.empty(image.shape[1:], np.int32)
    for voxel in np.ndindex(labels.shape):
        best, labels[voxel] = np.float32(np.inf), kernel.UNREACHED
        if inside.size and not inside[voxel]:
            labels[voxel] = kernel.OUTSIDE
            continue
        for k, center in enumerate(centers):
            dz, dy, dx = np.array(voxel) + start - center
            if (np.abs([dz, dy, dx]) > reach).any():
                continue
            across = np.float32(weights[0] * dz * dz + weights[1] * dy * dy)
            d = np.float32(weights[2] * dx * dx) + across
            for c, colour in enumerate(colours[k]):
                d += (np.float32(image[(c, *voxel)]) - colour) ** 2
            if d < best:
                best, labels[voxel] = d, k
    return labels


@pytest.mark.parametrize(("n_channels", "masked", "reach_x"), [(1, False, 3.0), (2, True, 3.0), (1, True, 20.0)])
@pytest.mark.parametrize("jitted", [True, False])
def test_assign_is_the_nearest_cluster_by_hand(n_channels: int, masked: bool, reach_x: float, jitted: bool) -> None:
    rng = np.random.default_rng(7)
    shape, start = (3, 6, 9), np.array([5, 0, 11])
    image = rng.integers(-900, 900, (n_channels, *shape)).astype(np.int16)
    inside = rng.random(shape) < 0.7 if masked else NO_MASK
    centers = rng.uniform(start - 2, start + np.array(shape) + 2, (6, 3))
    centers[4] = centers[1]  # an exact tie, which goes to the lower id
    colours = rng.normal(0, 900, (6, n_channels)).astype(np.float32)
    colours[4] = colours[1]
    reach, weights = np.array([2.0, 3.5, reach_x]), np.array([40.0, 30.0, 20.0]) ** 2
    labels = np.full([n + 2 for n in shape], kernel.OUTSIDE, np.int32)
    assign, add_up = (f if jitted else python_source(f) for f in (kernel.assign, kernel.add_up_nearest))
    assign(image, inside, start, centers, colours, reach, weights, labels)

    expected = nearest_by_hand(image, inside, start, centers, colours, reach, weights)
    np.testing.assert_array_equal(labels, np.pad(expected, 1, constant_values=kernel.OUTSIDE))
    assert kernel.UNREACHED in expected or reach_x == 20
    z, y, _ = np.indices(shape) + start[:, np.newaxis, np.newaxis, np.newaxis]
    for lattice, low, high in (
        ([0], (0, 0, 0), shape),
        ([0, 1], (1, 2, 3), shape),
        ([0, 2, 1, 3], (0, 1, 0), (3, 4, 5)),
        ([3, 1, 0, 2], (1, 1, 1), (2, 2, 2)),
    ):
        sums = np.zeros((8, 4 + n_channels), np.int64)
        rows, box = np.array(lattice), (np.array(low), np.array(high))
        add_up(image, inside, start, *box, centers, colours, reach, weights, rows, sums)
        counted = np.zeros(shape, bool)
        counted[tuple(map(slice, low, high))] = True
        counted &= y % len(rows) == rows[z % len(rows)]
        for k in range(6):
            mine = (expected == k) & counted
            position = np.argwhere(mine).sum(axis=0) + mine.sum() * start
            np.testing.assert_array_equal(sums[k + 2], [mine.sum(), *position, *image[:, mine].sum(axis=1, dtype=int)])


@pytest.mark.parametrize("jitted", [True, False])
def test_rows_are_added_where_their_ids_say(jitted: bool) -> None:
    sums = np.full((3, 2), 2**60)
    (kernel.add_at if jitted else python_source(kernel.add_at))(
        np.array([2, 0, 2]), np.array([[1, 2], [3, 4], [5, 6]]), sums
    )
    np.testing.assert_array_equal(sums - 2**60, [[3, 4], [0, 0], [6, 8]])


@pytest.mark.parametrize("jitted", [True, False])
def test_fixed_point_is_rounded_to_even_and_clipped(jitted: bool) -> None:
    values = np.array([[[-1e30, -40_000.0, -1.5, 0.25, 0.75, 1.25, 32_766.75, np.inf]]], np.float32)
    fixed = np.empty(values.shape, np.int16)
    (to_fixed_point if jitted else python_source(to_fixed_point))(values, np.float32(2), fixed)
    np.testing.assert_array_equal(fixed, np.clip(np.rint(values * 2.0), -32767, 32767))


def test_lanes_are_what_kernels_pad_to() -> None:
    assert simd.LANES == kernel.LANES


@pytest.mark.parametrize("jitted", [True, False])
def test_clusters_in_reach_by_hand(jitted: bool) -> None:
    rng = np.random.default_rng(3)
    shape, block = np.array([20, 9, 13]), np.array([8, 4, 5])
    centers, reach = rng.uniform(0, shape - 1, (30, 3)), np.array([2.5, 1.0, 4.0])
    grid = -(-shape // block)
    find = kernel.clusters_in_reach if jitted else python_source(kernel.clusters_in_reach)
    offsets, ids = find(centers, reach, block, grid)
    for i, corner in enumerate(product(*(range(n) for n in grid))):
        low = np.array(corner) * block
        high = np.minimum(low + block, shape) - 1
        expected = np.flatnonzero(((centers + reach >= low) & (centers - reach <= high)).all(axis=1))
        # A cluster may reach into the gap between two voxels of neighbouring blocks: listing it costs time only.
        listed = ids[offsets[i] : offsets[i + 1]]
        assert set(expected) <= set(listed)
        assert (np.diff(listed) > 0).all()
        assert len(listed) <= len(expected) + 6


@pytest.mark.parametrize("jitted", [True, False])
def test_cells_by_hand(jitted: bool) -> None:
    rng = np.random.default_rng(2)
    image, inside = rng.integers(-9, 9, (2, 3, 4, 5)).astype(np.int16), rng.random((3, 4, 5)) < 0.5
    z, y, x = np.array([0, 0, 1]), np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2, 2])
    sums = np.zeros((2, 2, 3, 6), np.int64)
    add_up = kernel.add_up_cells if jitted else python_source(kernel.add_up_cells)
    box, low = np.s_[1:, 2:, 1:], np.array([1, 2, 1])
    wide, wide_inside = np.zeros((2, 4, 6, 6), np.int16), np.ones((4, 6, 6), bool)
    wide[:, *box], wide_inside[box] = image, inside
    add_up(wide, wide_inside, np.array([10, 20, 30]) - low, low, z, y, x, sums)
    expected = np.zeros_like(sums)
    for i, j, k in np.argwhere(inside):
        expected[z[i], y[j], x[k]] += [1, i + 10, j + 20, k + 30, *image[:, i, j, k]]
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize(
    ("shape", "n", "spacing", "cells"),
    [
        ((40, 40, 40), 64, ISOTROPIC, (4, 4, 4)),
        ((1, 60, 60), 36, ISOTROPIC, (1, 6, 6)),
        ((3, 60, 60), 36, ISOTROPIC, (1, 6, 6)),  # thinner than S: one cell, the others share
        ((10, 100, 100), 1000, (10.0, 1.0, 1.0), (10, 10, 10)),
        ((4, 100, 100), 1600, (50.0, 1.0, 1.0), (4, 20, 20)),  # voxels longer than S: a cell a voxel
        ((5, 6, 7), 1, ISOTROPIC, (1, 1, 1)),
        ((5, 6, 7), 210, ISOTROPIC, (5, 6, 7)),
        ((1, 1, 30), 10, ISOTROPIC, (1, 1, 10)),
    ],
)
def test_seed_grid(shape: tuple[int, int, int], n: int, spacing: tuple[float, float, float], cells: object) -> None:
    grid = seed_grid(shape, n, spacing)
    assert grid.cells == cells
    for axis in range(3):
        cell = shape[axis] / grid.cells[axis]
        assert grid.reach[axis] > cell / 2 - 0.5  # from the centre to the last voxel of its own cell
        assert grid.cells[axis] > 1 or grid.reach[axis] >= shape[axis] - 1


def test_scaling_ignores_a_few_bright_voxels() -> None:
    voxels = noise(20, 20, 20) * 5 + 100
    voxels[0, 0, :5] = 1e6
    intensities = measure_intensities(Volume(voxels))
    assert intensities.mean[0] == pytest.approx(100, abs=0.5)
    assert intensities.std[0] == pytest.approx(5, rel=0.1)
    scaling = Scaling.of(intensities, SlicSpec(sigma=1, coarse_sigma=0), ISOTROPIC)
    assert scaling.halo == (4, 4, 4)


def test_scaling_of_a_sparse_image_and_of_a_constant_one() -> None:
    voxels = np.zeros((30, 30, 30), np.uint8)
    assert measure_intensities(Volume(voxels)).std[0] == 0
    voxels[4, 4, 4] = 200
    assert measure_intensities(Volume(voxels)).std[0] == voxels.std()
    assert LEVELS * 32 < 2**15


@pytest.mark.parametrize("spacing", [ISOTROPIC, (3.0, 1.0, 1.0)])
def test_scaled_block_is_a_fine_and_a_coarse_gaussian(spacing: tuple[float, float, float]) -> None:
    voxels = noise(20, 24, 28) * 5 + 100
    volume = Volume(voxels, spacing=spacing)
    scaling = Scaling.of(measure_intensities(volume), SlicSpec(sigma=0.7, coarse_sigma=3), volume.relative_spacing)
    (block,) = partition(volume.shape, volume.shape)
    found = scale_block(volume, block, scaling, NO_MASK)
    assert found.shape == (2, *volume.shape)
    for copy, sigma, weight in zip(found, (0.7, 3), (1, COARSE_WEIGHT), strict=True):
        unit = (voxels - scaling.mean[0]) / scaling.std[0]
        # Truncated at 3.5 sigma rounded up to whole taps: what lies beyond weighs less than a thousandth.
        wanted = ndimage.gaussian_filter(unit, [sigma / s for s in spacing], mode="mirror", truncate=5)
        np.testing.assert_allclose(copy / LEVELS, weight * wanted, atol=3e-3)


def test_what_is_outside_the_mask_does_not_matter() -> None:
    mask = np.zeros((14, 20, 24), bool)
    mask[2:12, 3:17, 5:20] = True
    voxels = noise(*mask.shape)
    otherwise = np.where(mask, voxels, 1e9)
    one, other = (slic(Volume(v), SlicSpec(size=60), mask=mask) for v in (voxels, otherwise))
    np.testing.assert_array_equal(one.labels, other.labels)


def test_the_regular_grid_comes_back_for_a_constant_volume() -> None:
    found = slic(Volume(np.full((12, 12, 12), 7, np.uint8)), SlicSpec(n_segments=27))
    blocks = np.arange(12) // 4
    np.testing.assert_array_equal(found.labels, 1 + blocks[:, None, None] * 9 + blocks[:, None] * 3 + blocks)
    np.testing.assert_array_equal(found.sizes, np.full(27, 64))
    np.testing.assert_array_equal(found.centers[1], [1.5, 1.5, 5.5])
    assert len(found.graph.edges) == 54
    assert (found.graph.area == 16).all()
    assert found.report == SlicReport(27, 27, 2, True)
    assert found.report.message == ""


def test_two_halves_are_told_apart() -> None:
    voxels = np.zeros((10, 20, 24), np.float32)
    voxels[:, :, 11:] = 1  # not where the grid cuts
    found = slic(Volume(voxels), SlicSpec(n_segments=8, sigma=0, compactness=0.05))
    left, right = np.unique(found.labels[:, :, :11]), np.unique(found.labels[:, :, 11:])
    assert not set(left) & set(right)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (9, 1, 1), (1, 30, 40), (2, 30, 3)])
def test_thin_shapes(shape: tuple[int, int, int]) -> None:
    found = slic(Volume(noise(*shape)), SlicSpec(size=8))
    assert found.sizes.sum() == np.prod(shape)
    np.testing.assert_array_equal(np.unique(found.labels), np.arange(1, found.n + 1))


def test_one_segment() -> None:
    found = slic(Volume(noise(6, 7, 8)), SlicSpec(n_segments=1))
    assert (np.asarray(found.labels) == 1).all()
    assert found.graph.edges.shape == (0, 2)
    np.testing.assert_allclose(found.centers, [[2.5, 3, 3.5]])


def test_mask_limits_everything_and_an_island_stays() -> None:
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[2:9, 2:9, 2:9] = 255
    mask[11, 11, 11] = 1
    voxels = noise(12, 12, 12)
    voxels[0] = np.nan  # outside: does not matter
    found = slic(Volume(voxels), SlicSpec(size=40, sigma=1, coarse_sigma=0), mask=mask)
    np.testing.assert_array_equal(np.asarray(found.labels) > 0, mask > 0)
    assert found.labels[11, 11, 11] == found.n
    assert found.sizes[-1] == 1
    assert (found.sizes[:-1] >= 10).all()


def test_voxels_out_of_reach_are_pieces_of_their_own() -> None:
    mask = np.zeros((3, 3, 60), bool)
    mask[:, :, :30] = mask[1, 1, 55:58] = True
    found = slic(Volume(np.zeros(mask.shape)), SlicSpec(size=27, sigma=0), mask=mask)
    assert len(np.unique(found.labels[1, 1, 55:58])) == 1
    assert found.sizes[found.labels[1, 1, 56] - 1] == 3


def test_small_pieces_are_gone() -> None:
    found = slic(Volume(noise(24, 24, 24)), SlicSpec(size=100, compactness=0.01, sigma=0, min_size_factor=0.5))
    n_seeds = np.prod(seed_grid((24, 24, 24), 24**3 / 100, ISOTROPIC).cells)
    assert found.sizes.min() >= 0.5 * 24**3 / n_seeds


def test_out_is_written_by_block(tmp_path) -> None:
    volume, spec = Volume(noise(20, 18, 16)), SlicSpec(size=60)
    out = zarr.create_array(tmp_path / "out.zarr", shape=volume.shape, chunks=(8, 8, 8), dtype=np.uint32)
    found = slic(volume, spec, out=out, block_shape=(8, 8, 8))
    assert found.labels is out
    np.testing.assert_array_equal(out[:], slic(volume, spec).labels)
    with pytest.raises(InputError, match=r"stored in pieces of \(8, 8, 8\); block_shape must be a multiple"):
        slic(volume, spec, out=out, block_shape=(8, 8, 12))


def test_iterations_end_when_centres_stand_still() -> None:
    smooth = np.add.outer(np.arange(16.0), np.zeros((16, 16)))
    report = slic(Volume(smooth), SlicSpec(size=64, compactness=10, max_num_iter=50)).report
    assert report.converged
    assert report.iterations < 50
    assert slic(Volume(noise(9, 9, 9)), SlicSpec(size=64, compactness=0.1, max_num_iter=1)).report.iterations == 1


@pytest.mark.parametrize(("asked", "got", "says"), [(100, 131, "raise compactness"), (100, 69, "lower compactness")])
def test_report_says_when_the_number_is_off(asked: int, got: int, says: str) -> None:
    message = SlicReport(asked, got, 10, False).message
    assert says in message
    assert str(got) in message
    assert SlicReport(100, 130, 10, False).message == SlicReport(100, 70, 10, False).message == ""


def test_tables_survive_the_way_to_disk() -> None:
    found = slic(Volume(noise(9, 9, 9)), SlicSpec(size=30))
    tables, meta = found.to_arrays()
    again = Supervoxels.from_arrays(tables | {"labels": found.labels}, meta)
    assert again.report == found.report
    assert again.n == found.n
    np.testing.assert_array_equal(again.graph.matrix().toarray(), found.graph.matrix().toarray())
    np.testing.assert_array_equal(again.centers, found.centers)


def test_cancelling_from_progress_raises() -> None:
    stages = []

    def stop(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        if stage == "iteration 2":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        slic(Volume(noise(9, 9, 9)), SlicSpec(size=30), progress=stop, executor=SerialExecutor())
    assert list(dict.fromkeys(stages)) == ["scaling", "seeding", "iteration 1", "iteration 2"]


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        ({"n_segments": 1000}, {}, "n_segments is 1000 but there are only 729 voxels"),
        ({}, {"mask": np.ones((9, 9, 8))}, r"mask has shape \(9, 9, 8\) but the volume has shape \(9, 9, 9\)"),
        ({}, {"mask": np.zeros((9, 9, 9))}, "mask has no voxel inside"),
        ({}, {"out": np.zeros((9, 9, 9), np.int32)}, "out has dtype int32; expected uint32"),
        ({}, {"out": np.zeros((9, 9, 8), np.uint32)}, r"out has shape \(9, 9, 8\)"),
        ({}, {"block_shape": (0, 4, 4)}, "block_shape must be at least 1"),
    ],
)
def test_bad_input(fields: dict, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        slic(Volume(noise(9, 9, 9)), SlicSpec(**fields), **arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_have_to_be_finite(value: float) -> None:
    voxels = noise(9, 9, 9)
    voxels[3, 4, 5] = value
    with pytest.raises(InputError, match=r"nan or infinite values, at voxel \(z, y, x\) = \(3, 4, 5\)"):
        slic(Volume(voxels), SlicSpec(size=30))
    with pytest.raises(InputError, match="inside the mask"):
        slic(Volume(voxels), SlicSpec(size=30), mask=np.ones(voxels.shape))


def test_channel_weights_choose_what_cuts() -> None:
    """An edge in one channel, noise in the other: each alone is the image of that channel."""
    edge = np.zeros((8, 16, 16))
    edge[:, :, 8:] = 100
    both = np.stack([edge + noise(8, 16, 16), 100 * noise(8, 16, 16, seed=1)], axis=-1)
    spec = SlicSpec(size=64, channel_weights=(1, 0))
    alone = slic(Volume.from_array(both[..., 0]), SlicSpec(size=64)).labels
    assert np.array_equal(slic(Volume.from_array(both), spec).labels, alone)
    assert not np.array_equal(slic(Volume.from_array(both), SlicSpec(size=64)).labels, alone)
    ones, threes = (
        slic(Volume.from_array(both), SlicSpec(size=64, channel_weights=w)).labels for w in ((1, 1), (3, 3))
    )
    assert np.array_equal(ones, slic(Volume.from_array(both), SlicSpec(size=64)).labels)
    assert not np.array_equal(ones, threes)  # three times the contrast is a third of the compactness
    with pytest.raises(InputError, match=r"channel_weights has 2 weights but the image has 1 channel\(s\)"):
        slic(Volume.from_array(edge), spec)
    with pytest.raises(InputError, match="channel_weights must have one above 0"):
        SlicSpec(channel_weights=(0, 0))
