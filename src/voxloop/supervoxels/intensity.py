"""Intensities as SLIC sees them: unit variance, smoothed, in 16-bit fixed point.

Integers make the sums over a cluster exact: they are the same in any order, on any number of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Shape3
from voxloop.errors import InputError
from voxloop.kernels import convolve
from voxloop.volume import ArrayLike, Volume

LEVELS = 1000  # of the fixed point to a standard deviation; int16 then holds 32 standard deviations
TRUNCATE = 3.5  # reach of the Gaussian in standard deviations
SAMPLE_VOXELS = 1_000_000  # enough to know the 1st percentile to a thousandth of a standard deviation
FEWEST_INSIDE = 10_000  # sampled voxels inside a mask that are enough to go by


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each channel, and the Gaussian that smooths it.

    Attributes
    ----------
    mean, std
        float64 (c,); a standard deviation of 0 stands for a constant channel.
    taps
        Half kernels along (z, y, x), float32, of 1 + 4 k entries as `kernels.convolve` wants them.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    taps: tuple[NDArray[np.float32], ...]

    @property
    def halo(self) -> Shape3:
        """Voxels along (z, y, x) that are needed around a block."""
        z, y, x = (t.size - 1 for t in self.taps)
        return z, y, x

    def weighted(self, weights: Sequence[float] | None) -> Scaling:
        """Return the scaling with a channel's contrast multiplied by its weight; 0 leaves the channel out."""
        if weights is None:
            return self
        if len(weights) != self.std.size:
            raise InputError(f"channel_weights has {len(weights)} weights but the image has {self.std.size} channel(s)")
        factors = np.array(weights, np.float64)
        return replace(self, std=np.divide(self.std, factors, out=np.zeros_like(self.std), where=factors > 0))


def fit_scaling(volume: Volume, *, mask: ArrayLike | None, sigma: float) -> Scaling:
    """Return the scaling of a volume.

    The mean and standard deviation are those of the values between the 1st and the 99th percentile, so that a few
    saturated voxels do not squeeze the rest; of a sparse image, where these are all the same, those of all values.

    Parameters
    ----------
    volume
        The image.
    mask
        Array-like (z, y, x), or None: voxels outside do not count.
    sigma
        Standard deviation of the Gaussian in voxels of the finest axis.
    """
    step = ceil((volume.n_voxels / SAMPLE_VOXELS) ** (1 / 3))
    while True:
        sample = _lattice_sample(volume, mask, step)
        enough = len(sample) >= FEWEST_INSIDE and bool((np.ptp(sample, axis=0) > 0).all())
        if step == 1 or enough:
            break
        step = (step + 1) // 2
    mean, std = np.array([_robust_mean_std(channel) for channel in sample.T]).T
    taps = tuple(_gaussian_taps(sigma / spacing) for spacing in volume.relative_spacing)
    return Scaling(mean, std, taps)


def _lattice_sample(volume: Volume, mask: ArrayLike | None, step: int) -> NDArray[np.float64]:
    """Return the finite values (k, c) inside the mask on every `step`-th voxel along each axis."""
    lattice = (slice(None, None, step),) * 3
    values = np.asarray(volume.data[lattice], np.float64).reshape(-1, volume.n_channels)
    keep = np.isfinite(values).all(axis=1)
    if mask is not None:
        keep &= np.asarray(mask[lattice]).reshape(-1) != 0
    return values[keep]


def _robust_mean_std(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation of the values between the 1st and the 99th percentile."""
    if values.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(values, (1, 99))
    middle = values[(values >= low) & (values <= high)]
    if middle.size == 0 or np.ptp(middle) == 0:
        middle = values
    # Of a constant channel the rounding of the mean must not be taken for contrast.
    return float(middle.mean()), float(middle.std()) if np.ptp(middle) > 0 else 0.0


def _gaussian_taps(sigma: float) -> NDArray[np.float32]:
    """Return the half kernel of a Gaussian of `sigma` voxels, its radius rounded up to a multiple of 4."""
    radius = 4 * ceil(int(TRUNCATE * sigma + 0.5) / 4)
    taps = np.exp(-0.5 * (np.arange(radius + 1) / max(sigma, 1e-9)) ** 2)
    normalised: NDArray[np.float32] = (taps / (2 * taps.sum() - taps[0])).astype(np.float32)
    return normalised


def scale_block(volume: Volume, block: Block, scaling: Scaling, inside: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Return the inner box of a block scaled, smoothed and in fixed point, int16 (c, z, y, x).

    Parameters
    ----------
    volume
        The image.
    block
        A block with the halo of `scaling`.
    scaling
        From `fit_scaling`.
    inside
        bool (z, y, x), the mask on the outer box, or of size 0 if there is none. Outside, what is not
        finite counts as the mean.

    Raises
    ------
    InputError
        If a voxel inside the mask is nan or infinite.
    """
    voxels = volume.read(block.outer)
    finite = _finite(voxels, block, inside)
    before = (h - (a - b) for h, a, b in zip(scaling.halo, block.inner.start, block.outer.start, strict=True))
    after = (h - (b - a) for h, a, b in zip(scaling.halo, block.inner.stop, block.outer.stop, strict=True))
    margin = list(zip(before, after, strict=True))
    result = np.empty((volume.n_channels, *block.inner.shape), np.int16)
    for c in range(volume.n_channels):
        factor = LEVELS / scaling.std[c] if scaling.std[c] > 0 else 0.0
        field = ((voxels[c].astype(np.float64) - scaling.mean[c]) * factor).astype(np.float32)
        if finite is not None:
            field[~finite[c]] = 0
        smooth = _smooth(np.pad(field, margin, mode="reflect"), scaling.taps, block.inner.shape)
        result[c] = np.clip(np.rint(smooth), -32767, 32767)
    return result


def _finite(voxels: NDArray[np.generic], block: Block, inside: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return which voxels (c, z, y, x) are finite, None if all are; those inside have to be."""
    if voxels.dtype.kind != "f":
        return None
    finite: NDArray[np.bool_] = np.isfinite(voxels)
    if finite.all():
        return None
    missing = ~finite.all(axis=0) if inside.size == 0 else ~finite.all(axis=0) & inside
    if missing.any():
        voxel = tuple(int(i) + o for i, o in zip(np.argwhere(missing)[0], block.outer.start, strict=True))
        where = "" if inside.size == 0 else " inside the mask"
        raise InputError(f"volume holds nan or infinite values{where}, at voxel (z, y, x) = {voxel} for one")
    return finite


def _smooth(padded: NDArray[np.float32], taps: Sequence[NDArray[np.float32]], shape: Shape3) -> NDArray[np.float32]:
    """Return `padded`, which has the kernels' margin on each side, smoothed along its axes."""
    z, y, x = (np.arange(n) for n in padded.shape)
    along_z = np.empty((shape[0], *padded.shape[1:]), np.float32)
    convolve.smooth_z(padded, taps[0], z, 1, along_z)
    out = np.empty(shape, np.float32)
    convolve.smooth_yx(along_z, taps[1], y, 1, taps[2], x, 1, out)
    return out
