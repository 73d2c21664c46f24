"""Features of a supervoxel by itself, against scikit-image and numpy, in blocks and in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.errors import InputError
from voxloop.features import compute_own, filter_block, own
from voxloop.kernels.own import add_coordinates, add_faces
from voxloop.specs import FeatureSpec
from voxloop.volume import Volume

SERIAL = SerialExecutor()
SPEC = FeatureSpec(own=("shape", "boundary", "position"))


def scene(shape: tuple[int, int, int] = (19, 22, 26)) -> tuple[np.ndarray, np.ndarray, int]:
    rng = np.random.default_rng(1)
    seeds = np.zeros(shape, int)
    seeds.flat[rng.permutation(seeds.size)[:30]] = np.arange(1, 31)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    labels = seeds[tuple(nearest)]
    labels[:, :3, 5:9] = 0
    ids, labels = np.unique(labels, return_inverse=True)
    return rng.integers(0, 256, shape).astype(np.uint8), labels.reshape(shape).astype(np.uint32), len(ids) - 1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 2.0)])
def test_shape_and_position_agree_with_scikit_image(spacing: tuple[float, float, float]) -> None:
    image, labels, n = scene()
    table = compute_own(Volume(image, spacing=spacing), labels, n, SPEC, executor=SERIAL)
    assert table.names == (
        "size", "axis_1", "axis_2", "axis_3", "elongation", "flatness", "boundary",
        "position_z", "position_y", "position_x",
    )  # fmt: skip
    regions = regionprops(labels.astype(int), spacing=spacing)
    steps = np.array(spacing)
    for row, region in zip(table.values, regions, strict=True):
        points = region.coords * steps
        covariance = np.cov(points.T, bias=True) + np.diag(steps**2 / 12)
        axes = np.sqrt(np.linalg.eigvalsh(covariance)[::-1])
        np.testing.assert_allclose(row[0], region.area, rtol=1e-6)
        np.testing.assert_allclose(row[1:4], axes, rtol=1e-5)
        np.testing.assert_allclose(row[4:6], 1 - axes[1:] / axes[:-1], atol=1e-5)
        np.testing.assert_allclose(row[7:], region.centroid, rtol=1e-5)


def test_boundary_is_the_mean_gradient_over_the_faces() -> None:
    image, labels, n = scene()
    spacing = (2.0, 1.0, 1.0)
    table = compute_own(Volume(image, spacing=spacing), labels, n, FeatureSpec(own=("boundary",)), executor=SERIAL)
    one = FeatureSpec(families=("gradient_magnitude",), resolution="full")
    gradient = filter_block(image, 1.0, spec=one, relative_spacing=spacing)[0].astype(np.float64)
    area, total = np.zeros(n + 1), np.zeros(n + 1)
    for axis, size in enumerate((1.0, 2.0, 2.0)):
        low, high = (np.moveaxis(labels, axis, 0)[s] for s in (slice(-1), slice(1, None)))
        between = (low != high) & (low > 0) & (high > 0)
        mean = sum(np.moveaxis(gradient, axis, 0)[s] for s in (slice(-1), slice(1, None)))[between] / 2
        for side in (low[between], high[between]):
            area += np.bincount(side, minlength=n + 1) * size
            total += np.bincount(side, size * mean, minlength=n + 1)
    np.testing.assert_allclose(table.values[:, 0], (total / np.maximum(area, 1e-9))[1:], rtol=1e-5)


@pytest.mark.parametrize("block_shape", [(7, 22, 9), (5, 5, 5)])
def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch, block_shape: tuple[int, int, int]) -> None:
    image, labels, n = scene()
    volume = Volume(np.stack([image, image[::-1]], axis=-1))
    whole = compute_own(volume, labels, n, SPEC, executor=SERIAL)
    assert whole.names[6:8] == ("channel_1 boundary", "channel_2 boundary")
    monkeypatch.setattr(own, "BLOCK_SHAPE", block_shape)
    parts = compute_own(volume, labels, n, SPEC, executor=ThreadExecutor(2))
    shape = [i for i, name in enumerate(whole.names) if "boundary" not in name]
    assert parts.values[:, shape].tobytes() == whole.values[:, shape].tobytes()
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-5)


def test_a_slice_has_two_axes() -> None:
    labels = np.ones((1, 4, 12), np.uint32)
    table = compute_own(Volume(np.zeros(labels.shape)), labels, 1, SPEC)
    assert table.names[:5] == ("size", "axis_1", "axis_2", "elongation", "boundary")
    np.testing.assert_allclose(table.values[0], [48, 12 / 12**0.5, 4 / 12**0.5, 2 / 3, 0, 0, 1.5, 5.5], rtol=1e-6)


def test_the_compiled_sums_are_those_of_the_source() -> None:
    starts, numbers = np.array([0, 2, 3, 5, 6], np.int32), np.array([1, 0, 2, 1], np.int32)
    found = []
    for kernel in (add_coordinates, add_coordinates.py_func):
        counts, moments = np.zeros(2, np.int64), np.zeros((2, 9))
        kernel(starts, numbers, (1, 2, 3), (4, 5, 6), (1, 2, 3), counts, moments)
        found.append((counts.tolist(), moments.tolist()))
    assert found[0] == found[1]
    assert found[0][0] == [3, 2]
    local = np.array([[[1, 1, 2]]], np.int32)
    gradient = np.array([[[[1, 3, 5]]]], np.float32)
    for kernel in (add_faces, add_faces.py_func):
        faces = np.zeros((2, 2))
        kernel(local, gradient, (1, 1, 3), np.array([1.0, 2.0, 4.0]), faces)
        assert faces.tolist() == [[4, 16], [4, 16]]


def test_what_does_not_fit_is_refused() -> None:
    image, labels, n = scene()
    with pytest.raises(InputError, match=f"without gaps, but {n + 1} has no voxel"):
        compute_own(Volume(image), labels, n + 1, SPEC)
    with pytest.raises(InputError, match=r"own\[0\] must be 'shape'"):
        FeatureSpec(own=("colour",))
