"""What may change about an image without changing its features, or changing them in a known way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from voxloop.blocks import SerialExecutor
from voxloop.features import compute_scale, filter_block
from voxloop.specs import FeatureSpec
from voxloop.volume import Volume

DEFINITIONS = ["voxloop", "ilastik"]
SIGMAS = [0.7, 1.6, 5.0]
ROUNDING = 1e-5  # float32 sums in another order, relative to a response's range


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def assert_same(ours: np.ndarray, expected: np.ndarray, tolerance: float = ROUNDING) -> None:
    scale = np.ptp(expected.reshape(len(expected), -1), axis=1)
    errors = abs(ours - expected).reshape(len(expected), -1).max(axis=1)
    assert (errors <= tolerance * scale + 1e-30).all(), errors / scale


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_an_offset_moves_the_gaussian_only(definition: str, sigma: float) -> None:
    image = noise((20, 22, 24))
    spec = FeatureSpec(definition=definition)
    before, after = filter_block(image, sigma, spec=spec), filter_block(image + 512.0, sigma, spec=spec)
    # White noise of range 255 leaves a Laplacian of range 1 at sigma 5, and float32 resolves 640 to 6e-5.
    tolerance = {0.7: 1e-5, 1.6: 1e-4, 5.0: 2e-3}[sigma]
    assert_same(after[0] - 512.0, before[0], tolerance=tolerance)
    assert_same(after[1:], before[1:], tolerance=tolerance)


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_factor_scales_linearly_and_the_structure_tensor_with_its_square(definition: str, sigma: float) -> None:
    image = noise((20, 22, 24))
    spec = FeatureSpec(definition=definition)
    factor = np.full((10, 1, 1, 1), 4.0, np.float32)
    factor[4:7] = 16.0
    np.testing.assert_array_equal(
        filter_block(4 * image, sigma, spec=spec), factor * filter_block(image, sigma, spec=spec)
    )


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_transposed_images_have_transposed_responses(definition: str, sigma: float, order: tuple[int, ...]) -> None:
    image = noise((18, 23, 29))
    spec = FeatureSpec(definition=definition)
    spacing = (1.5, 1.0, 1.25)
    expected = filter_block(image, sigma, spec=spec, relative_spacing=spacing)
    turned = filter_block(image.transpose(order), sigma, spec=spec, relative_spacing=[spacing[a] for a in order])
    assert_same(turned, expected.transpose(0, *(a + 1 for a in order)), tolerance=3e-4)


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_mirrored_images_have_mirrored_responses(definition: str, sigma: float) -> None:
    image = noise((18, 23, 29))
    spec = FeatureSpec(definition=definition)
    assert_same(filter_block(image[:, ::-1], sigma, spec=spec), filter_block(image, sigma, spec=spec)[:, :, ::-1])


def test_the_unit_of_spacing_changes_nothing() -> None:
    image = noise((9, 10, 11)).astype(np.uint8)
    labels = np.ones(image.shape, np.uint32)
    nanometer = compute_scale(Volume(image, spacing=(40.0, 8.0, 8.0)), labels, 1, 2.0)
    micrometer = compute_scale(Volume(image, spacing=(0.04, 0.008, 0.008)), labels, 1, 2.0)
    np.testing.assert_allclose(nanometer.values, micrometer.values, rtol=1e-5)


def test_anisotropic_voxels_agree_with_the_isotropic_image_they_were_taken_from() -> None:
    """Every second slice of a smooth image, told that its slices are twice as far apart, has the image's responses."""
    image = ndimage.gaussian_filter(noise((61, 40, 42)), 3.0)
    full = FeatureSpec(resolution="full")
    isotropic = filter_block(image, 3.0, spec=full)[:, ::2]
    anisotropic = filter_block(image[::2], 3.0, spec=full, relative_spacing=(2.0, 1.0, 1.0))
    # What remains is the sampling of the kernels along z, 1.5 voxels wide. The smallest eigenvalue of the structure
    # tensor has a tenth of the largest one's range, and the same error.
    assert_same(np.delete(anisotropic, 6, axis=0), np.delete(isotropic, 6, axis=0), tolerance=2e-2)
    assert abs(anisotropic[6] - isotropic[6]).max() < 2e-2 * np.ptp(isotropic[4])


def test_integers_and_floats_of_the_same_value_give_the_same_bits() -> None:
    image = noise((9, 20, 21))
    for dtype in (np.uint8, np.uint16, np.int32, np.float64):
        np.testing.assert_array_equal(filter_block(image.astype(dtype), 1.6), filter_block(image, 1.6))


def test_relabelled_supervoxels_keep_their_features() -> None:
    image = noise((12, 13, 14))
    rng = np.random.default_rng(3)
    labels = rng.integers(1, 31, image.shape).astype(np.uint32)
    order = rng.permutation(30)
    renamed = (order[labels - 1] + 1).astype(np.uint32)
    before = compute_scale(Volume(image), labels, 30, 1.0, executor=SerialExecutor()).values
    after = compute_scale(Volume(image), renamed, 30, 1.0, executor=SerialExecutor()).values
    np.testing.assert_array_equal(after[order], before)
