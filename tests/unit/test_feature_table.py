"""The table of supervoxel features: values, names, joins, and what is refused."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from voxloop.blocks import Box, SerialExecutor, partition
from voxloop.errors import InputError
from voxloop.features import FeatureTable, compute_features, compute_scale, filter_block, preview_feature
from voxloop.features.pool import choose_block_shape
from voxloop.features.scales import scale_of
from voxloop.specs import FeatureSpec
from voxloop.volume import Volume

SMALL = FeatureSpec(sigmas=(0.3, 1.0))


def cubes(shape: tuple[int, int, int], side: int) -> tuple[np.ndarray, int]:
    """Return labels 1..n in cubes of `side`."""
    z, y, x = np.indices(shape) // side
    _, labels = np.unique((z * 1000 + y) * 1000 + x, return_inverse=True)
    labels = labels.reshape(shape).astype(np.uint32) + 1
    return labels, int(labels.max())


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_values_are_mean_and_standard_deviation_of_the_responses() -> None:
    image = noise((11, 13, 17))
    labels, n = cubes(image.shape, 4)
    labels[3, :5] = 0
    table = compute_scale(Volume(image), labels, n, 1.0, executor=SerialExecutor())
    assert table.values.shape == (n, 20)
    assert table.values.dtype == np.float32
    assert table.names[0] == "gaussian sigma=1 mean"
    assert table.names[-1] == "hessian_3 sigma=1 std"
    responses = filter_block(image, 1.0).astype(np.float64)
    for i in (1, 17, n):
        inside = responses[:, labels == i]
        np.testing.assert_allclose(table.values[i - 1, :10], inside.mean(axis=1), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(table.values[i - 1, 10:], inside.std(axis=1), rtol=1e-4, atol=1e-4)


def test_all_scales_are_the_single_scales_side_by_side() -> None:
    image = noise((9, 10, 11))
    labels, n = cubes(image.shape, 5)
    whole = compute_features(Volume(image), labels, n, SMALL, executor=SerialExecutor())
    parts = [compute_scale(Volume(image), labels, n, s, SMALL, executor=SerialExecutor()) for s in SMALL.sigmas]
    joined = FeatureTable.join(parts)
    assert whole.names == joined.names
    assert len(set(whole.names)) == len(whole.names) == 22
    np.testing.assert_array_equal(whole.values, joined.values)


def test_channels_are_described_one_by_one_and_named() -> None:
    image = noise((6, 8, 9, 2))
    labels, n = cubes(image.shape[:3], 4)
    both = compute_scale(Volume(image, channel_names=("actin", "dapi")), labels, n, 1.0, executor=SerialExecutor())
    assert both.names[0] == "actin gaussian sigma=1 mean"
    assert both.names[20] == "dapi gaussian sigma=1 mean"
    single = compute_scale(Volume(image[..., 1]), labels, n, 1.0, executor=SerialExecutor())
    np.testing.assert_array_equal(both.values[:, 20:], single.values)
    assert compute_scale(Volume(image), labels, n, 1.0).names[0] == "channel_1 gaussian sigma=1 mean"


def test_one_slice_is_filtered_in_2d() -> None:
    image = noise((1, 20, 22))
    labels, n = cubes(image.shape, 6)
    flat = compute_scale(Volume(image), labels, n, 1.6, executor=SerialExecutor())
    assert len(flat.names) == 16
    assert flat.names[-1] == "hessian_2 sigma=1.6 2d std"
    thick = np.repeat(image, 3, axis=0)
    planar = FeatureSpec(sigmas_2d=(1.6,))
    np.testing.assert_array_equal(filter_block(thick, 1.6, spec=planar)[:, 1], filter_block(image, 1.6)[:, 0])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (2, 1, 3), (1, 4, 4)])
@pytest.mark.parametrize("definition", ["voxloop", "ilastik"])
def test_tiny_volumes_give_finite_features(shape: tuple[int, int, int], definition: str) -> None:
    labels = np.ones(shape, np.uint32)
    table = compute_features(Volume(noise(shape)), labels, 1, FeatureSpec(definition=definition))
    assert np.isfinite(table.values).all()


def test_a_constant_volume_has_no_derivatives_and_no_spread() -> None:
    image = np.full((12, 13, 14), 30_000, np.uint16)
    labels, n = cubes(image.shape, 5)
    table = compute_features(Volume(image), labels, n, executor=SerialExecutor())
    of_image = np.array(["gaussian" in name and "mean" in name and "difference" not in name for name in table.names])
    np.testing.assert_allclose(table.values[:, of_image], 30_000, rtol=1e-5)
    # float32 kernels sum to zero within 1e-7 times the intensity and sigma^2 <= 100
    assert abs(table.values[:, ~of_image]).max() < 30_000 * 1e-7 * 100


@pytest.mark.parametrize("sigma", [1.6, 5.0])
@pytest.mark.parametrize("family", ["gaussian", "difference_of_gaussians", "structure_tensor", "hessian", "laplacian"])
def test_preview_equals_the_volume(family: str, sigma: float) -> None:
    image = noise((30, 34, 38))
    box = Box((3, 5, 0), (4, 20, 38))
    volume = Volume(image, spacing=(2.0, 1.0, 1.0))
    one = FeatureSpec(families=(family,))
    part = preview_feature(volume, family, sigma, box)
    whole = filter_block(image, sigma, spec=one, relative_spacing=(2.0, 1.0, 1.0))[(slice(None), *box.slices)]
    np.testing.assert_allclose(part, whole, atol=1e-5 * float(np.ptp(whole)), rtol=0)
    everything = filter_block(image, sigma, relative_spacing=(2.0, 1.0, 1.0))[(slice(None), *box.slices)]
    first = ["gaussian", "laplacian", "", "difference_of_gaussians", "structure_tensor", "", "", "hessian"].index(
        family
    )
    np.testing.assert_allclose(part[0], everything[first], atol=1e-5 * float(np.ptp(whole)), rtol=0)


def test_what_does_not_fit_is_refused() -> None:
    image = noise((4, 5, 6))
    volume, ones = Volume(image), np.ones(image.shape, np.uint32)
    with pytest.raises(InputError, match=r"labels has shape \(4, 5, 5\) but volume has shape \(4, 5, 6\)"):
        compute_scale(volume, ones[:, :, 1:], 1, 1.0)
    with pytest.raises(InputError, match="labels has dtype float32"):
        compute_scale(volume, ones.astype(np.float32), 1, 1.0)
    with pytest.raises(InputError, match=r"labels must lie in 0\.\.1, but range from 2 to 2"):
        compute_scale(volume, 2 * ones, 1, 1.0)
    with pytest.raises(InputError, match=r"labels must hold the supervoxels 1\.\.3 without gaps, but 2 has no voxel"):
        compute_scale(volume, ones, 3, 1.0)
    with pytest.raises(InputError, match="n must be at least 1"):
        compute_scale(volume, ones, 0, 1.0)
    with pytest.raises(InputError, match=r"spec has no family at sigma=0\.3"):
        compute_scale(volume, ones, 1, 0.3, FeatureSpec(families=("hessian",)))
    with pytest.raises(InputError, match="expected \\(z, y, x\\)"):
        filter_block(image[0], 1.0)
    with pytest.raises(InputError, match="is not inside the volume"):
        preview_feature(volume, "gaussian", 1.0, Box((0, 0, 0), (5, 5, 6)))
    with pytest.raises(InputError, match="differ in their number of rows"):
        FeatureTable.join([FeatureTable(np.zeros((2, 1), np.float32), ("a",)), FeatureTable(np.zeros((3, 0)), ())])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_voxels_that_are_no_numbers_are_refused(value: float) -> None:
    image = np.zeros((4, 5, 6))
    image[1, 2, 3] = value
    with pytest.raises(InputError, match="voxels must be finite"):
        compute_scale(Volume(image), np.ones(image.shape, np.uint32), 1, 1.0)


@pytest.mark.parametrize("sigma", [0.7, 1.6, 5.0, 10.0])
@pytest.mark.parametrize("definition", ["voxloop", "ilastik"])
def test_a_volume_is_cut_into_work_for_several_threads(definition: Literal["voxloop", "ilastik"], sigma: float) -> None:
    """As far as halos allow: sigma 10 of the one definition depends on 124 voxels around, that of the other on 38."""
    scale = scale_of(FeatureSpec(definition=definition), sigma)
    n_blocks = [
        len(partition(shape, choose_block_shape(shape, scale, 1)))
        for shape in ((60, 60, 60), (64, 96, 96), (100, 100, 100), (128, 160, 160), (256, 512, 512))
    ]
    assert n_blocks[0] == 1
    assert min(n_blocks[1:]) >= 2
    assert n_blocks[-1] >= 8
    assert n_blocks == sorted(n_blocks)
    if scale.halo[0] < 10:
        assert n_blocks[:4] == [1, 2, 4, 8]


def test_what_is_left_out_changes_nothing_else() -> None:
    image = noise((14, 15, 16))
    labels, n = cubes(image.shape, 5)
    spec = FeatureSpec(families=("gaussian", "hessian"), sigmas=(0.3, 1.0, 1.6), context=0)
    fewer = spec.changed(left_out=(("hessian", 1.0), ("gaussian", 1.6)))
    whole, part = (compute_features(Volume(image), labels, n, s, executor=SerialExecutor()) for s in (spec, fewer))
    kept = [name for name in whole.names if not (("hessian" in name and "=1 " in name) or "gaussian sigma=1.6" in name)]
    assert list(part.names) == kept
    np.testing.assert_allclose(part.values, whole.values[:, [whole.names.index(k) for k in kept]], rtol=1e-6)
    assert spec.changed(left_out=()).digest == spec.digest != fewer.digest
    assert len({s.digest for s in (spec, spec.changed(regions=(4,)), spec.changed(regions=(4, 16)))}) == 3
    assert fewer.changed(families=("gaussian",)).left_out == (("gaussian", 1.6),)
    for left_out, message in [
        ((("laplacian", 1.0),), "laplacian:1, which is not among families and sigmas"),
        ((("hessian", 1.0), ("hessian", 1.0)), "left_out names something twice"),
        (tuple((f, s) for f in spec.families for s in spec.sigmas), "no family is left"),
    ]:
        with pytest.raises(InputError, match=message):
            spec.changed(left_out=left_out)
