"""What one scale of the filter bank convolves with: kernels per axis, the lattice it is evaluated on, its halo.

Gaussians compose: smoothing by sqrt(sigma^2 - m^2) and then deriving at a small scale m gives the derivatives at sigma
with short kernels. Both definitions use this, each with its own m and truncation; see `scale_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.errors import InputError
from voxloop.specs import FeatureFamily, FeatureSpec

Taps = NDArray[np.float32]

# A field smoothed by sigma is evaluated on every 2^k-th voxel, as long as sigma spans so many lattice steps: its
# spectrum at the lattice's limit has then fallen below 1e-6.
COARSE_STEPS_PER_SIGMA = 1.7
# Below this a kernel sampled at sqrt(sigma^2 - 1) is too short to stand for a Gaussian; derive at sigma directly.
SMALLEST_COMPOSED_SIGMA = math.sqrt(2.0)
DOG_RATIO = 0.66  # of the narrow to the wide Gaussian


@dataclass(frozen=True)
class AxisScale:
    """Half kernels along one axis; `step` voxels lie between two points of the lattice.

    Attributes
    ----------
    presmooth, narrow
        Gaussians applied to the voxels: before deriving, and (unless `Scale.narrow_follows`) the narrow one of DoG.
    derive
        (3, r + 1): Gaussian, first and second derivative on the lattice, in the unit of the response.
    tensor
        (2, r + 1): Gaussian and first derivative whose products make the structure tensor.
    outer
        Gaussian that integrates the structure tensor on the lattice.
    """

    step: int
    presmooth: Taps
    narrow: Taps
    derive: Taps
    tensor: Taps
    outer: Taps


@dataclass(frozen=True)
class Scale:
    """One scale of the filter bank: its families, and kernels along (z, y, x).

    `narrow_follows` says that the narrow Gaussian of DoG is applied after `presmooth`, not to the voxels.
    """

    families: tuple[FeatureFamily, ...]
    planar: bool
    narrow_follows: bool
    axes: tuple[AxisScale, AxisScale, AxisScale]

    @cached_property
    def steps(self) -> Shape3:
        """Voxels between two points of the lattice along (z, y, x)."""
        z, y, x = (axis.step for axis in self.axes)
        return z, y, x

    @cached_property
    def outer_margin(self) -> Shape3:
        """Lattice points that the structure tensor's integration reaches along (z, y, x)."""
        chosen = "structure_tensor" in self.families
        z, y, x = (support(axis.outer) if chosen else 0 for axis in self.axes)
        return z, y, x

    @cached_property
    def margin(self) -> Shape3:
        """Lattice points around the inner box where the presmoothed field is needed, along (z, y, x)."""
        reach = []
        for axis, outer in zip(self.axes, self.outer_margin, strict=True):
            taps = (axis.derive, axis.narrow[np.newaxis]) if self.narrow_follows else (axis.derive,)
            inner = max(t.shape[-1] - 1 for t in taps)
            reach.append(max(inner, outer + axis.tensor.shape[-1] - 1))
        z, y, x = reach
        return z, y, x

    @cached_property
    def halo(self) -> Shape3:
        """Voxels around a block that its responses depend on, along (z, y, x)."""
        reach = []
        for axis, margin in zip(self.axes, self.margin, strict=True):
            rounding = axis.step if axis.step > 1 else 0
            narrow = 0 if self.narrow_follows else support(axis.narrow)
            reach.append(rounding + max(margin * axis.step + support(axis.presmooth), narrow))
        z, y, x = reach
        return z, y, x

    def lattice(self, inner: Box) -> Box:
        """Return the lattice points that surround a box of voxels, in lattice coordinates."""
        start = tuple(a // step for a, step in zip(inner.start, self.steps, strict=True))
        stop = tuple((b - 1) // step + (2 if step > 1 else 1) for b, step in zip(inner.stop, self.steps, strict=True))
        return Box(start, stop)  # type: ignore[arg-type]  # three of each


def scale_of(
    spec: FeatureSpec, sigma: float, *, relative_spacing: Sequence[float] = (1.0, 1.0, 1.0), planar: bool = False
) -> Scale:
    """Return the kernels of one scale.

    Parameters
    ----------
    spec
        Chooses the definition, the families and the resolution.
    sigma
        Standard deviation in voxels of the finest axis.
    relative_spacing
        Voxel size (z, y, x), smallest 1.
    planar
        Whether slices are filtered one by one.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma must be positive and finite, not {sigma}")
    build = _voxloop_axis if spec.definition == "voxloop" else _ilastik_axis
    coarse = spec.resolution == "coarse" and spec.definition == "voxloop"
    axes = [build(sigma, float(spacing), coarse) for spacing in relative_spacing]
    if planar:
        axes[0] = _identity_axis()
    z, y, x = axes
    return Scale(spec.families_at(sigma), planar, spec.definition == "ilastik", (z, y, x))


def halo(spec: FeatureSpec, sigma: float, relative_spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Shape3:
    """Return how many voxels around a block its responses at `sigma` depend on, along (z, y, x).

    The sum of the kernel radii of the longest chain: for the structure tensor, smoothing before the gradient, the
    gradient, and the integration.
    """
    return scale_of(spec, sigma, relative_spacing=relative_spacing, planar=sigma in spec.sigmas_2d).halo


def coarse_step(sigma: float) -> int:
    """Return the largest power of two that `sigma` (in voxels of this axis) spans `COARSE_STEPS_PER_SIGMA` times."""
    return 1 << max(0, math.floor(math.log2(sigma / COARSE_STEPS_PER_SIGMA)))


def _voxloop_axis(sigma: float, spacing: float, coarse: bool) -> AxisScale:
    own = sigma / spacing
    step = coarse_step(own) if coarse else 1
    inner = own / step if own / step < SMALLEST_COMPOSED_SIGMA else 1.0
    gaussian, first, second = (gaussian_taps(inner, 3.5, order) for order in range(3))
    # One lattice step is `step * spacing` voxels of the finest axis, the unit of sigma.
    per_step = 1.0 / (step * spacing)
    return AxisScale(
        step=step,
        presmooth=gaussian_taps(math.sqrt(max(0.0, own**2 - (inner * step) ** 2)), 3.5),
        narrow=gaussian_taps(DOG_RATIO * own, 3.5),
        derive=_stack(gaussian, first * (sigma * per_step), second * (sigma * per_step) ** 2),
        tensor=_stack(gaussian, first * per_step),
        outer=gaussian_taps(2.0 * own / step, 3.5),
    )


def _ilastik_axis(sigma: float, spacing: float, coarse: bool) -> AxisScale:
    """Return ilastik's kernels along one axis.

    The structure tensor takes gradients at m / 2 and integrates over m, though ilastik asks for the reverse (its
    feature operators call ``structureTensorEigenvalues(image, innerScale=m, outerScale=m / 2)``): the binding of
    fastfilters 0.3 (``src/python/core.cxx``, ``ConvolveST``) hands the two, in this order, to C functions declared as
    ``(sigma_outer, sigma_inner)``. With vigra in the place of fastfilters, ilastik would do what it asks for.
    """
    del coarse  # the definition fixes every kernel
    own = sigma / spacing
    inner = min(own, 1.0)
    gaussian, first, second = (gaussian_taps(inner, 2.0, order) for order in range(3))
    return AxisScale(
        step=1,
        presmooth=gaussian_taps(math.sqrt(own**2 - 1.0), 3.5) if own > 1.0 else np.ones(1, np.float32),
        narrow=gaussian_taps(DOG_RATIO * inner, 2.0),
        derive=_stack(gaussian, first / spacing, second / spacing**2),
        tensor=_stack(gaussian_taps(0.5 * inner, 2.0), gaussian_taps(0.5 * inner, 2.0, 1) / np.float32(spacing)),
        outer=gaussian_taps(inner, 2.0),
    )


def _identity_axis() -> AxisScale:
    one = np.ones(1, np.float32)
    derive = np.zeros((3, 1), np.float32)
    derive[0] = 1.0
    return AxisScale(1, one, one, derive, derive[:2], one)


def gaussian_taps(sigma: float, truncate: float, order: int = 0) -> Taps:
    """Return a half kernel: the sampled Gaussian of standard deviation `sigma`, or its derivative.

    The kernel reaches int(truncate * sigma + 0.5) samples, at least one. As in VIGRA, it sums to 1, and a derivative is
    made exact for the polynomial of its order: its mean is removed, its moment of that order is 1.

    Parameters
    ----------
    sigma
        In samples; 0 gives the identity.
    truncate
        Reach in units of `sigma`.
    order
        0, 1 or 2. Taps of order 1 belong to the samples after the centre; those before have the opposite sign.

    Returns
    -------
    ndarray
        (r + 1,) float32.
    """
    radius = max(1, int(truncate * sigma + 0.5))
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    # Below 0.1 all weight is on the centre; the derivatives tend to the central differences, but 1 / sigma^4 overflows.
    width = max(sigma, 0.1)
    taps: NDArray[np.float64] = np.exp(-0.5 * (x / width) ** 2)
    if order == 1:
        taps *= x
    elif order == 2:
        taps *= (x / width) ** 2 - 1.0
        taps -= taps.mean()
    taps /= (taps * x**order).sum() / math.factorial(order)
    half: Taps = taps[radius:].astype(np.float32)
    if order == 0 and half[1] < 1e-7:  # less than float32 resolves
        return np.ones(1, np.float32)
    return half


def support(taps: Taps) -> int:
    """Return the radius of a half kernel."""
    return int(taps.shape[-1]) - 1


def _stack(*kernels: Taps) -> Taps:
    """Stack half kernels as float32, the shorter ones with zeros at the end."""
    radius = max(support(k) for k in kernels)
    stacked = np.zeros((len(kernels), 1 + radius), np.float32)
    for row, kernel in zip(stacked, kernels, strict=True):
        row[: kernel.size] = kernel
    return stacked
