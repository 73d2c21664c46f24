"""Filter responses against scipy (definition "voxloop") and bioimage-cpp (definition "ilastik")."""

from __future__ import annotations

import math

import bioimage_cpp.filters as bic
import numpy as np
import pytest
from scipy import ndimage

from voxloop.features import filter_block
from voxloop.specs import FeatureSpec

# Channels in the order of the responses. Gaussian and DoG differ from scipy's by truncation alone. Derivatives: scipy
# samples the Gaussian's derivative and cuts it at 3.5 sigma without restoring its moments, which leaves up to 3 % of a
# Laplacian's scale at sigma 0.7 (5 taps) and a leak of the mean intensity at larger ones.
TOLERANCE_SCALAR = 2e-3
TOLERANCE_GRADIENT = {0.7: 1e-2, 1.0: 1e-3, 1.6: 3e-3, 3.5: 1e-2}
TOLERANCE_SECOND = {0.7: 4e-2, 1.0: 3e-3, 1.6: 1.5e-2, 3.5: 4e-2}


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return blobs with noise, 0..255, as in electron microscopy."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    image = 128 + 40 * smooth / smooth.std() + 10 * rng.normal(size=shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def eigenvalues(components: dict[tuple[int, int], np.ndarray], axes: tuple[int, ...]) -> list[np.ndarray]:
    rows = [[components[min(a, b), max(a, b)] for b in axes] for a in axes]
    matrices = np.moveaxis(np.array(rows), (0, 1), (-2, -1))
    return list(np.moveaxis(np.linalg.eigvalsh(matrices)[..., ::-1], -1, 0))


def scipy_responses(
    image: np.ndarray, sigma: float, spacing: tuple[float, ...], axes: tuple[int, ...]
) -> list[np.ndarray]:
    """Return the definition "voxloop" from scipy in float64; `axes` are those that are filtered."""
    image = image.astype(np.float64)
    widths = np.array([sigma / s if a in axes else 0.0 for a, s in enumerate(spacing)])

    def gauss(field: np.ndarray, factor: float, *derived: int) -> np.ndarray:
        order = [derived.count(a) for a in range(3)]
        unit = math.prod(spacing[a] for a in derived)
        return ndimage.gaussian_filter(field, widths * factor, order=order, mode="mirror", truncate=3.5) / unit

    pairs = [(a, b) for a in axes for b in axes if a <= b]
    hessian = {(a, b): gauss(image, 1.0, a, b) * sigma**2 for a, b in pairs}
    gradient = {a: gauss(image, 1.0, a) for a in axes}
    tensor = {(a, b): gauss(gradient[a] * gradient[b], 2.0) for a, b in pairs}
    return [
        gauss(image, 1.0),
        sum(hessian[a, a] for a in axes),
        sigma * np.sqrt(sum(gradient[a] ** 2 for a in axes)),
        gauss(image, 1.0) - gauss(image, 0.66),
        *eigenvalues(tensor, axes),
        *eigenvalues(hessian, axes),
    ]


def relative_errors(ours: np.ndarray, reference: list[np.ndarray]) -> np.ndarray:
    assert len(ours) == len(reference)
    return np.array([abs(a - b).max() / np.ptp(b) for a, b in zip(ours, reference, strict=True)])


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6, 3.5])
@pytest.mark.parametrize("planar", [False, True], ids=["3d", "2d"])
def test_voxloop_agrees_with_scipy(sigma: float, planar: bool) -> None:
    image = noise((24, 33, 40))
    ours = filter_block(image, sigma, spec=FeatureSpec(resolution="full"), planar=planar)
    axes = (1, 2) if planar else (0, 1, 2)
    errors = relative_errors(ours, scipy_responses(image, sigma, (1.0, 1.0, 1.0), axes))
    assert (errors[[0, 3]] < TOLERANCE_SCALAR).all(), errors
    assert (errors[[2, *range(4, 4 + len(axes))]] < TOLERANCE_GRADIENT[sigma]).all(), errors
    assert (errors[[1, *range(-len(axes), 0)]] < TOLERANCE_SECOND[sigma]).all(), errors


def test_anisotropic_voxels_agree_with_scipy() -> None:
    image = noise((20, 30, 34))
    spacing = (2.0, 1.0, 1.0)
    ours = filter_block(image, 2.0, spec=FeatureSpec(resolution="full"), relative_spacing=spacing)
    errors = relative_errors(ours, scipy_responses(image, 2.0, spacing, (0, 1, 2)))
    assert errors.max() < TOLERANCE_SECOND[1.6], errors


@pytest.mark.parametrize("sigma", [3.5, 10.0])
def test_axes_shorter_than_the_kernels_are_mirrored_again_and_again(sigma: float) -> None:
    # Without an offset: the leak of scipy's truncated derivatives would be all there is along the short axes.
    image = noise((3, 5, 41)).astype(np.float32)
    image -= image.mean()
    ours = filter_block(image, sigma, spec=FeatureSpec(resolution="full"))
    reference = scipy_responses(image, sigma, (1.0, 1.0, 1.0), (0, 1, 2))
    # Hardly anything is left of the variation along the short axes: compare with the largest eigenvalue's range.
    scale = np.array([np.ptp(r) for r in reference])
    scale[4:7], scale[7:10], scale[1] = scale[4:7].max(), scale[7:10].max(), scale[7:10].max()
    errors = [abs(a - b).max() / s for a, b, s in zip(ours, reference, scale, strict=True)]
    assert max(errors) < 4e-2, errors  # the kernels' tails beyond 3.5 sigma


def ilastik_responses(image: np.ndarray, sigma: float) -> list[np.ndarray]:
    """Return the definition "ilastik" from bioimage-cpp, whose radius is ceil(window_size * sigma)."""

    def window(truncate: float, width: float) -> float:
        return (max(1, int(truncate * width + 0.5)) - 1e-4) / width

    field = image.astype(np.float32)
    if sigma > 1:
        before = math.sqrt(sigma**2 - 1)
        field = bic.gaussian_smoothing(field, before, window_size=window(3.5, before))
    m = min(sigma, 1.0)
    w = window(2.0, m)
    tensor = bic.structure_tensor(field, 0.5 * m, m, window_size=w).astype(np.float64)
    keys = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)] if image.ndim == 3 else [(0, 0), (0, 1), (1, 1)]
    gauss = bic.gaussian_smoothing(field, m, window_size=w)
    return [
        gauss,
        bic.laplacian_of_gaussian(field, m, window_size=w),
        bic.gaussian_gradient_magnitude(field, m, window_size=w),
        gauss - bic.gaussian_smoothing(field, 0.66 * m, window_size=window(2.0, 0.66 * m)),
        # Its own closed form in float32 is off by up to 3 % of a small eigenvalue's range; its components are not.
        *eigenvalues(dict(zip(keys, tensor, strict=True)), tuple(range(image.ndim))),
        *np.moveaxis(bic.hessian_of_gaussian_eigenvalues(field, m, window_size=w), -1, 0),
    ]


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.6, 3.5, 10.0])
def test_ilastik_agrees_with_bioimage_cpp(sigma: float) -> None:
    image = noise((44, 48, 52))
    ours = filter_block(image, sigma, spec=FeatureSpec(definition="ilastik"))
    errors = relative_errors(ours, ilastik_responses(image, sigma))
    assert errors.max() < 1e-3, errors  # float32 sums in another order


@pytest.mark.parametrize("sigma", [0.7, 1.6, 5.0])
def test_ilastik_in_2d_agrees_with_bioimage_cpp(sigma: float) -> None:
    image = noise((48, 52))
    ours = filter_block(image[np.newaxis], sigma, spec=FeatureSpec(definition="ilastik"))[:, 0]
    errors = relative_errors(ours, ilastik_responses(image, sigma))
    assert errors.max() < 1e-3, errors


def test_ilastik_at_the_smallest_sigma_is_one_gaussian() -> None:
    image = noise((20, 21, 22))
    ours = filter_block(image, 0.3, spec=FeatureSpec(definition="ilastik"))
    exact = bic.gaussian_smoothing(image.astype(np.float32), 0.3, window_size=(1 - 1e-4) / 0.3)
    assert ours.shape == (1, *image.shape)
    np.testing.assert_allclose(ours[0], exact, rtol=1e-5)
