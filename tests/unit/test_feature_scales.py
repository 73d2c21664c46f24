"""Kernels, halos and names of the filter bank's scales."""

from __future__ import annotations

import math

import numpy as np
import pytest

from voxloop.errors import InputError
from voxloop.features import halo, scale_channels
from voxloop.features.scales import coarse_step, gaussian_taps, scale_of
from voxloop.specs import SIGMAS, FeatureSpec


def count_channels(spec: FeatureSpec) -> int:
    return sum(len(scale_channels(spec, sigma)) for sigma in spec.sigmas)


def test_the_default_bank_has_61_channels_in_3d_and_49_in_2d() -> None:
    assert count_channels(FeatureSpec()) == 61
    assert count_channels(FeatureSpec(sigmas_2d=SIGMAS)) == 49


def test_names_say_family_rank_and_scale() -> None:
    names = scale_channels(FeatureSpec(), 1.6)
    assert names[0] == "gaussian sigma=1.6"
    assert names[-3:] == ("hessian_1 sigma=1.6", "hessian_2 sigma=1.6", "hessian_3 sigma=1.6")
    assert scale_channels(FeatureSpec(sigmas_2d=(1.6,)), 1.6)[-1] == "hessian_2 sigma=1.6 2d"


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.7, 1.0, 2.5])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_kernels_are_exact_for_polynomials_of_their_order(sigma: float, order: int) -> None:
    half = gaussian_taps(sigma, 3.5, order).astype(np.float64)
    sign = -1.0 if order == 1 else 1.0
    taps = np.concatenate([sign * half[:0:-1], half])
    x = np.arange(taps.size) - half.size + 1.0
    for power in range(order + 1):
        expected = math.factorial(order) if power == order else 0.0
        assert (taps * x**power).sum() == pytest.approx(expected, abs=2e-6)


def test_halo_is_the_sum_of_the_radii() -> None:
    full = FeatureSpec(resolution="full")
    # sigma 1: gradient kernels of radius int(3.5 + 0.5) = 4, integration over 2 sigma of radius int(7.5) = 7
    assert halo(full, 1.0) == (11, 11, 11)
    assert halo(full.changed(families=("hessian",)), 1.0) == (4, 4, 4)
    # ilastik at 5: presmoothing int(3.5 sqrt(24) + 0.5) = 17; gradient at 0.5 (1) + integration at 1 (2)
    assert halo(FeatureSpec(definition="ilastik"), 5.0) == (20, 20, 20)
    # Along an axis of twice the voxel size sigma is half as many voxels.
    assert halo(full, 2.0, (2.0, 1.0, 1.0)) == (11, *halo(full, 2.0)[1:])
    assert halo(full.changed(sigmas_2d=(1.0,)), 1.0) == (0, 11, 11)


@pytest.mark.parametrize(("sigma", "step"), [(0.7, 1), (1.6, 1), (3.39, 1), (3.4, 2), (5.0, 2), (6.8, 4), (10.0, 4)])
def test_coarse_step_leaves_1_7_steps_per_sigma(sigma: float, step: int) -> None:
    assert coarse_step(sigma) == step


def test_coarse_applies_per_axis_and_to_voxloop_only() -> None:
    assert scale_of(FeatureSpec(resolution="coarse"), 5.0, relative_spacing=(4.0, 1.0, 1.0)).steps == (1, 2, 2)
    assert scale_of(FeatureSpec(resolution="coarse", definition="ilastik"), 10.0).steps == (1, 1, 1)
    assert scale_of(FeatureSpec(resolution="full"), 10.0).steps == (1, 1, 1)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_sigma_that_is_no_width_is_refused(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma must be positive and finite"):
        scale_of(FeatureSpec(), sigma)
