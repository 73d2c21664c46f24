"""Filters and pooling against bioimage-cpp with numpy, scikit-image and scipy."""

from __future__ import annotations

import math

import bioimage_cpp.filters as bic
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import multiscale_basic_features

from benchmarks.measure import Comparison, Size
from benchmarks.scenes import real_or_tissue, side_by_side, tissue
from voxloop.blocks import partition
from voxloop.features import FeatureTable, compute_features, filter_block
from voxloop.features.filters import scale_channels
from voxloop.features.pool import FilteredSource
from voxloop.features.scales import scale_of
from voxloop.specs import SIGMAS, FeatureSpec, SlicSpec
from voxloop.supervoxels import slic
from voxloop.volume import Volume

SHAPES: dict[Size, tuple[int, int, int]] = {"test": (24, 28, 32), "quick": (64, 80, 80), "full": (128, 160, 160)}
ILASTIK = FeatureSpec(definition="ilastik")
FULL = FeatureSpec(resolution="full")
COARSE = FeatureSpec(resolution="coarse")
SUPERVOXELS = SlicSpec(size=343.0)
COMPARED_SIGMA = 1.6  # at which responses are compared voxel by voxel

Field = NDArray[np.float32]


def bank_epfl(size: Size) -> Comparison:
    """Return the comparison of ilastik's 61 responses on EPFL's volume with bioimage-cpp."""
    return _bank("EPFL", "epfl_hippocampus_ca1", size)


def bank_fib25(size: Size) -> Comparison:
    """Return the comparison of ilastik's 61 responses on FIB-25 with bioimage-cpp."""
    return _bank("FIB-25", "fib25_drosophila_medulla", size)


def _bank(name: str, folder: str, size: Size) -> Comparison:
    name, volume = real_or_tissue(name, folder, SHAPES[size])
    image = volume.read()[0]
    return Comparison(
        name="ilastik's filter bank, slab by slab",
        work=f"{name}, {side_by_side(volume.shape)}, 61 responses",
        peer="bioimage-cpp, array by array",
        ours=lambda: _respond_in_slabs(volume),
        theirs=lambda: _respond_in_arrays(image),
        check=_same_responses,
    )


def _respond_in_slabs(volume: Volume) -> list[Field]:
    """Compute the responses of all scales as pooling does, and keep those of one: all are 244 times the image."""
    kept: list[Field] = []
    for sigma in SIGMAS:
        n_responses = len(scale_channels(ILASTIK, sigma))
        source = FilteredSource(volume, scale_of(ILASTIK, sigma), n_responses)
        if sigma == COMPARED_SIGMA:
            kept = [np.empty(volume.shape, np.float32) for _ in range(n_responses)]
        for block in partition(volume.shape, source.choose_blocks(), source.halo):
            for _, slab, responses in source.slabs(block):
                if sigma == COMPARED_SIGMA:
                    for whole, part in zip(kept, responses, strict=True):
                        whole[slab.slices] = part
    return kept


def _respond_in_arrays(image: NDArray[np.uint8]) -> list[Field]:
    """Compute the responses of all scales, and keep those of one."""
    kept: list[Field] = []
    for sigma in SIGMAS:
        responses = _ilastik_responses(image, sigma)
        if sigma == COMPARED_SIGMA:
            kept = responses
    return kept


def bank_pooled_epfl(size: Size) -> Comparison:
    """Return the comparison of ilastik's responses, pooled, on EPFL's volume with bioimage-cpp and `np.bincount`."""
    return _pooled_bank("EPFL", "epfl_hippocampus_ca1", size)


def bank_pooled_fib25(size: Size) -> Comparison:
    """Return the comparison of ilastik's responses, pooled, on FIB-25 with bioimage-cpp and `np.bincount`."""
    return _pooled_bank("FIB-25", "fib25_drosophila_medulla", size)


def _pooled_bank(name: str, folder: str, size: Size) -> Comparison:
    name, volume = real_or_tissue(name, folder, SHAPES[size])
    cut = slic(volume, SUPERVOXELS)
    image, labels = volume.read()[0], np.asarray(cut.labels)
    return Comparison(
        name="ilastik's filter bank, pooled",
        work=f"{name}, {side_by_side(volume.shape)}, 61 responses, mean and deviation of {cut.n:,} supervoxels",
        peer="bioimage-cpp + np.bincount",
        ours=lambda: compute_features(volume, labels, cut.n, ILASTIK),
        theirs=lambda: _bioimage_cpp_table(image, labels, cut.n),
        check=_same_table,
    )


def bank_coarse(size: Size) -> Comparison:
    """Return the comparison of the default bank with itself at full resolution."""
    volume = tissue(SHAPES[size])
    cut = slic(volume, SUPERVOXELS)
    return Comparison(
        name="default filter bank, pooled",
        work=f"{side_by_side(volume.shape)}, 61 responses, mean and deviation of {cut.n:,} supervoxels",
        peer="the same at full resolution",
        ours=lambda: compute_features(volume, cut.labels, cut.n, COARSE),
        theirs=lambda: compute_features(volume, cut.labels, cut.n, FULL),
        check=_alike,
    )


def _bioimage_cpp_table(image: NDArray[np.uint8], labels: NDArray[np.uint32], n: int) -> NDArray[np.float64]:
    """Return means and deviations (n, 122) in the order of our columns: sigma by sigma, means first."""
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=n + 1)[1:]
    columns = []
    for sigma in SIGMAS:
        means, deviations = [], []
        for response in _ilastik_responses(image, sigma):
            values = response.ravel().astype(np.float64)
            mean = np.bincount(flat, values, n + 1)[1:] / counts
            square = np.bincount(flat, values * values, n + 1)[1:] / counts
            means.append(mean)
            deviations.append(np.sqrt(np.maximum(square - mean * mean, 0)))
        columns += means + deviations
    return np.stack(columns, axis=1)


def _ilastik_responses(image: NDArray[np.uint8], sigma: float) -> list[Field]:
    """Return ilastik's responses at one sigma; bioimage-cpp's radius is ceil(window_size * sigma)."""

    def window(truncate: float, width: float) -> float:
        return (max(1, int(truncate * width + 0.5)) - 1e-4) / width

    field = image.astype(np.float32)
    if sigma > 1:
        before = math.sqrt(sigma**2 - 1)
        field = bic.gaussian_smoothing(field, before, window_size=window(3.5, before))
    m = min(sigma, 1.0)
    w = window(2.0, m)
    gauss = bic.gaussian_smoothing(field, m, window_size=w)
    if sigma < 0.5:
        return [gauss]
    return [
        gauss,
        bic.laplacian_of_gaussian(field, m, window_size=w),
        bic.gaussian_gradient_magnitude(field, m, window_size=w),
        gauss - bic.gaussian_smoothing(field, 0.66 * m, window_size=window(2.0, 0.66 * m)),
        *np.moveaxis(bic.structure_tensor_eigenvalues(field, 0.5 * m, m, window_size=w), -1, 0),
        *np.moveaxis(bic.hessian_of_gaussian_eigenvalues(field, m, window_size=w), -1, 0),
    ]


def _same_table(ours: FeatureTable, theirs: NDArray[np.float64]) -> dict[str, float]:
    errors = abs(ours.values - theirs).max(axis=0) / np.maximum(np.ptp(theirs, axis=0), 1e-6)
    # Its float32 eigenvalues of structure tensors, which are nearly of rank 1, are off by some percent; ours are not.
    exact = np.array(["structure_tensor" not in name for name in ours.names])
    assert errors[exact].max() < 2e-3, dict(zip(ours.names, errors, strict=True))
    assert errors.max() < 0.2, dict(zip(ours.names, errors, strict=True))
    return {"largest difference (share of range)": float(errors[exact].max())}


def _same_responses(ours: list[Field], theirs: list[Field]) -> dict[str, float]:
    inner = (slice(8, -8),) * 3  # beyond the border the two continue structure tensors differently
    pairs = [(a[inner], b[inner]) for a, b in zip(ours, theirs, strict=True)]
    errors = np.array([abs(a - b).max() / max(np.ptp(b), 1e-6) for a, b in pairs])
    tensor = slice(4, 7)  # as below
    assert errors[tensor].max() < 0.2, errors
    errors[tensor] = 0
    assert errors.max() < 2e-3, errors
    return {"largest difference (share of range)": float(errors.max())}


def _alike(ours: FeatureTable, theirs: FeatureTable) -> dict[str, float]:
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.values.T, theirs.values.T, strict=True)]
    means = [r for r, name in zip(correlations, ours.names, strict=True) if name.endswith("mean")]
    assert min(means) > 0.99, dict(zip(ours.names, correlations, strict=True))
    return {"lowest correlation of means": float(min(means))}


def voxels_scikit_image(size: Size) -> Comparison:
    """Return the comparison of responses per voxel with `multiscale_basic_features`, 15 channels each."""
    image = tissue(SHAPES[size]).read()[0]
    sigmas = (1.0, 2.0, 4.0)
    spec = FeatureSpec(families=("gaussian", "gradient_magnitude", "hessian"), sigmas=sigmas)

    def check(ours: Field, theirs: Field) -> dict[str, float]:
        assert len(ours) == theirs.shape[-1] == 15
        inner = (slice(8, -8),) * 3  # beyond the border the two continue the image differently
        lowest = min(_correlation(ours[5 * i][inner], theirs[..., 5 * i][inner]) for i in range(3))
        assert lowest > 0.99, lowest
        return {"lowest correlation of Gaussians": lowest}

    return Comparison(
        name="filters, 15 channels",
        work=f"{side_by_side(image.shape)}, sigmas 1, 2, 4",
        peer="scikit-image multiscale_basic_features",
        ours=lambda: np.concatenate([filter_block(image, sigma, spec=spec) for sigma in sigmas]),
        theirs=lambda: multiscale_basic_features(image, sigma_min=1, sigma_max=4, num_sigma=3),
        check=check,
    )


def voxels_scipy(size: Size) -> Comparison:
    """Return the comparison of Gaussian, Laplacian and gradient magnitude with `scipy.ndimage`."""
    image = tissue(SHAPES[size]).read()[0]
    sigmas = (1.6, 3.5)
    spec = FeatureSpec(families=("gaussian", "laplacian", "gradient_magnitude"), sigmas=sigmas, resolution="full")

    def theirs() -> Field:
        field, settings = image.astype(np.float32), {"mode": "mirror", "truncate": 3.5}
        return np.stack(
            [
                response
                for sigma in sigmas
                for response in (
                    ndimage.gaussian_filter(field, sigma, **settings),
                    sigma**2 * ndimage.gaussian_laplace(field, sigma, **settings),
                    sigma * ndimage.gaussian_gradient_magnitude(field, sigma, **settings),
                )
            ]
        )

    def check(ours: Field, theirs: Field) -> dict[str, float]:
        lowest = min(_correlation(a, b) for a, b in zip(ours, theirs, strict=True))
        assert lowest > 0.999, lowest
        return {"lowest correlation": lowest}

    return Comparison(
        name="filters, Gaussian, Laplacian, gradient",
        work=f"{side_by_side(image.shape)}, sigmas 1.6, 3.5",
        peer="scipy.ndimage",
        ours=lambda: np.concatenate([filter_block(image, sigma, spec=spec) for sigma in sigmas]),
        theirs=theirs,
        check=check,
    )


def _correlation(a: Field, b: Field) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
