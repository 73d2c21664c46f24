"""Colour images as CIE L*a*b*, in which equal distances look equally different."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.volume import ArrayLike, ArrayView, Volume

# Linear RGB to XYZ, IEC 61966-2-1, divided by the white point D65 of the CIE's 2 degree observer.
_WHITE = np.array([0.95047, 1.0, 1.08883])
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_FROM_RGB = (_TO_XYZ / _WHITE[:, np.newaxis]).astype(np.float32)


def as_lab(volume: Volume) -> Volume:
    """Return an RGB volume as CIE L*a*b* under D65, float32; voxels are converted as they are read.

    Parameters
    ----------
    volume
        Three channels of sRGB, unsigned integers over their full range or floats from 0 to 1; of four channels the
        last one (alpha) is left out.

    Raises
    ------
    InputError
        If the volume has other than three or four channels, or signed integers.
    """
    if volume.n_channels not in (3, 4):
        raise InputError(f"Lab needs three channels (red, green, blue), but the volume has {volume.n_channels}")
    if volume.dtype.kind not in "uf":
        raise InputError(f"Lab needs unsigned integers, or floats from 0 to 1, but the volume has dtype {volume.dtype}")
    return replace(volume, data=LabView(volume.with_channels([0, 1, 2]).data), channel_names=("L*", "a*", "b*"))


@dataclass(frozen=True)
class LabView(ArrayView):
    """An array (z, y, x, 3) of sRGB seen as CIE L*a*b*."""

    array: ArrayLike

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x, 3)."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32."""
        return np.dtype(np.float32)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = self._checked_keys(key)
        lab = rgb_to_lab(np.asarray(self.array[keys[:3]]))
        return lab[(..., *keys[3:])]


def rgb_to_lab(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """Return sRGB (..., 3), unsigned integers or floats from 0 to 1, as CIE 1976 L*a*b* under D65, float32."""
    scale = np.float32(1 / np.iinfo(rgb.dtype).max) if rgb.dtype.kind == "u" else np.float32(1)
    gamma = np.clip(rgb.astype(np.float32) * scale, 0, 1)
    linear = np.where(gamma > 0.04045, ((gamma + 0.055) / 1.055) ** 2.4, gamma / 12.92)  # IEC 61966-2-1
    xyz = linear.astype(np.float32) @ _FROM_RGB.T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)  # CIE 15:2004, 8.2.1
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    lab: NDArray[np.float32] = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)
    return lab
