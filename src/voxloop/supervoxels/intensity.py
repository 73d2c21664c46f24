"""Intensities as SLIC sees them: unit variance, finely and coarsely smoothed, in 16-bit fixed point.

Thin structures and sharp edges ask for little smoothing, noise and texture for much. So each channel is there twice:
the fine copy places the boundaries, the coarse one says which side is which where noise hides it.

Integers make the sums over a cluster exact: they are the same in any order, on any number of blocks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, Shape3
from voxloop.errors import InputError
from voxloop.kernels import convolve
from voxloop.kernels.intensity import to_fixed_point
from voxloop.specs import SlicSpec
from voxloop.supervoxels.arrays import inside_box
from voxloop.volume import ArrayLike, Spacing, Volume

# Of the coarse copy against the fine one: by a sigma of 3 to 4 voxels, smoothing takes a quarter to a third of the
# standard deviation of electron and light micrographs and MRI, so that with this weight the two copies vary alike.
COARSE_WEIGHT = 1.5
LEVELS = 1000  # of the fixed point to a standard deviation; int16 then holds 32 standard deviations
TRUNCATE = 3.5  # reach of the Gaussian in standard deviations
SAMPLE_VOXELS = 1_000_000  # at most, where the mask leaves enough of them
SAMPLE_BOXES = 6  # along each axis
SMALLEST_BOX = 16  # voxels along each axis; a box that small lies in one chunk of most files
FEWEST_INSIDE = 10_000  # sampled voxels inside a mask that are enough to go by


@dataclass(frozen=True)
class Intensities:
    """What is to be known of a volume's intensities before any part of it can be cut into supervoxels.

    Attributes
    ----------
    mean, std
        float64 (c,), of the values between the 1st and the 99th percentile of each channel; a standard deviation of 0
        stands for a constant channel.
    share_inside
        Share of the voxels that lie inside the mask.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    share_inside: float


@dataclass(frozen=True)
class Copy:
    """A smoothed copy of a channel.

    Attributes
    ----------
    taps
        Half kernels along (z, y, x), float32.
    weight
        What the copy is multiplied with.
    """

    taps: tuple[NDArray[np.float32], ...]
    weight: float

    @classmethod
    def of(cls, sigma: float, relative_spacing: Spacing, weight: float) -> Copy:
        """Return the copy smoothed by `sigma` voxels of the finest axis."""
        return cls(tuple(_gaussian_taps(sigma / size) for size in relative_spacing), weight)

    @property
    def reach(self) -> Shape3:
        """Voxels along (z, y, x) that are needed around a block."""
        z, y, x = (t.size - 1 for t in self.taps)
        return z, y, x


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of each channel, and the Gaussians that smooth it.

    Attributes
    ----------
    mean, std
        As in `Intensities`.
    copies
        The Gaussians of the smoothed copies of each channel, least smoothing first.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    copies: tuple[Copy, ...]

    @classmethod
    def of(cls, intensities: Intensities, spec: SlicSpec, relative_spacing: Spacing) -> Scaling:
        """Return the scaling under a spec: a channel's contrast is multiplied by its weight; 0 leaves it out.

        Raises
        ------
        InputError
            If there are not as many weights as channels.
        """
        copies = [Copy.of(spec.sigma, relative_spacing, 1.0)]
        if spec.coarse_sigma:
            copies.append(Copy.of(spec.coarse_sigma, relative_spacing, COARSE_WEIGHT))
        std = intensities.std
        if spec.channel_weights is not None:
            weights = np.array(spec.channel_weights, np.float64)
            if weights.size != std.size:
                raise InputError(f"channel_weights has {weights.size} weights but the image has {std.size} channel(s)")
            std = np.divide(std, weights, out=np.zeros_like(std), where=weights > 0)
        return cls(intensities.mean, std, tuple(copies))

    @property
    def halo(self) -> Shape3:
        """Voxels along (z, y, x) that are needed around a block."""
        z, y, x = np.max([copy.reach for copy in self.copies], axis=0).tolist()
        return z, y, x


def measure_intensities(volume: Volume, *, mask: ArrayLike | None = None) -> Intensities:
    """Return mean and standard deviation of a volume's channels, and the share of it that a mask leaves.

    The mean and standard deviation are those of the values between the 1st and the 99th percentile, so that a few
    saturated voxels do not squeeze the rest; of a sparse image, where these are all the same, those of all values.
    Of a volume above a million voxels 6 x 6 x 6 boxes are read, more if the mask leaves little of them: a volume that
    is much larger than the memory is not read twice.

    Parameters
    ----------
    volume
        The image.
    mask
        Array-like (z, y, x): voxels where it is 0 do not count.
    """

    def n_sampled(side: int) -> int:
        return prod(min(n, SAMPLE_BOXES * side) for n in volume.shape)

    side = SMALLEST_BOX
    while n_sampled(side) < n_sampled(2 * side) <= SAMPLE_VOXELS:
        side *= 2
    while True:
        sample, share_inside = _sample(volume, mask, side)
        is_enough = sample.shape[1] >= FEWEST_INSIDE and bool((np.ptp(sample, axis=1) > 0).all())
        if n_sampled(side) == volume.n_voxels or is_enough:
            break
        side *= 2
    mean, std = np.array([_robust_mean_std(channel) for channel in sample]).T
    return Intensities(mean, std, share_inside)


def _sample(volume: Volume, mask: ArrayLike | None, side: int) -> tuple[NDArray[np.float64], float]:
    """Return the finite values (c, k) inside the mask of evenly spread boxes, and the share of their voxels inside."""
    values, n_inside, n_read = [], 0, 0
    for box in _spread_boxes(volume.shape, side):
        voxels = volume.read(box).reshape(volume.n_channels, -1)
        n_read += voxels.shape[1]
        if mask is not None:
            voxels = voxels[:, inside_box(mask, box).reshape(-1)]
        n_inside += voxels.shape[1]
        values.append(voxels if voxels.dtype.kind in "biu" else voxels[:, np.isfinite(voxels).all(axis=0)])
    return np.concatenate(values, axis=1).astype(np.float64), n_inside / n_read


def _spread_boxes(shape: Shape3, side: int) -> list[Box]:
    """Return boxes of `side` voxels, at most `SAMPLE_BOXES` along an axis, spread from end to end."""
    along = []
    for n in shape:
        if n <= SAMPLE_BOXES * side:
            starts = list(range(0, n, side))
        else:
            starts = [i * (n - side) // (SAMPLE_BOXES - 1) for i in range(SAMPLE_BOXES)]
            starts = [a - a % SMALLEST_BOX for a in starts]
        along.append([(a, min(a + side, n)) for a in starts])
    return [Box((z[0], y[0], x[0]), (z[1], y[1], x[1])) for z, y, x in itertools.product(*along)]


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
    """Return the inner box of a block scaled, smoothed and in fixed point, int16 (c * copies, z, y, x).

    Voxels outside the mask count as the mean, so that what is there does not matter.

    Parameters
    ----------
    volume
        The image.
    block
        A block with the halo of `scaling`.
    scaling
        From the intensities of the whole volume.
    inside
        bool (z, y, x), the mask on the outer box, or of size 0 if there is none.

    Raises
    ------
    InputError
        If a voxel inside the mask is nan or infinite.
    """
    voxels = volume.read(block.outer)
    _check_finite(voxels, block, inside)
    result = np.empty((volume.n_channels, len(scaling.copies), *block.inner.shape), np.int16)
    for c in range(volume.n_channels):
        field = _standardised(voxels[c], scaling.mean[c], LEVELS / scaling.std[c] if scaling.std[c] > 0 else 0.0)
        if inside.size:
            field[~inside] = 0
        for copy, out in zip(scaling.copies, result[c], strict=True):
            smooth = _smooth(field, copy, block, volume.shape)
            to_fixed_point(smooth, np.float32(copy.weight), out)
    return result.reshape(-1, *block.inner.shape)


def _standardised(voxels: NDArray[np.generic], mean: float, factor: float) -> NDArray[np.float32]:
    """Return (voxels - mean) * factor, computed in float64: of a plane at a time, as memory is slow to come by."""
    field, plane = np.empty(voxels.shape, np.float32), np.empty(voxels.shape[1:])
    for z in range(len(voxels)):
        np.subtract(voxels[z], mean, out=plane, dtype=np.float64)
        np.multiply(plane, factor, out=plane)
        field[z] = plane
    return field


def _check_finite(voxels: NDArray[np.generic], block: Block, inside: NDArray[np.bool_]) -> None:
    """Raise `InputError` if a voxel inside the mask is not finite."""
    if voxels.dtype.kind != "f":
        return
    missing = ~np.isfinite(voxels).all(axis=0)
    if inside.size:
        missing &= inside
    if missing.any():
        voxel = tuple(int(i) + o for i, o in zip(np.argwhere(missing)[0], block.outer.start, strict=True))
        where = "" if inside.size == 0 else " inside the mask"
        raise InputError(f"volume holds nan or infinite values{where}, at voxel (z, y, x) = {voxel} for one")


def _smooth(field: NDArray[np.float32], copy: Copy, block: Block, shape: Shape3) -> NDArray[np.float32]:
    """Return the inner box of a block smoothed, given its outer box; the volume is mirrored at its border."""
    inner, outer = block.inner, block.outer
    z, y, x = (
        convolve.mirrored(np.arange(inner.start[a] - reach, inner.stop[a] + reach), shape[a]) - outer.start[a]
        for a, reach in enumerate(copy.reach)
    )
    along_z = np.empty((inner.shape[0], *field.shape[1:]), np.float32)
    convolve.smooth_z(field, copy.taps[0], z, 1, along_z, 0)
    out = np.empty(inner.shape, np.float32)
    convolve.smooth_yx(along_z, copy.taps[1], y, 1, copy.taps[2], x, 1, out)
    return out
