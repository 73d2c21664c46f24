"""Volumes whose slices are files of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from voxloop.io.cache import DecodedCache

_SHARE_OF_FREE_MEMORY = 1 / 8


class SliceStack:
    """An array (z, y, x) or (z, y, x, c) whose slices are decoded when a block needs them.

    They are kept while they fit in an eighth of the memory that is free, so that a volume that fits is decoded once.
    """

    def __init__(
        self, n: int, slice_shape: tuple[int, ...], dtype: np.dtype[Any], decode: Callable[[int], NDArray[Any]]
    ) -> None:
        self.shape = (n, *slice_shape)
        self.dtype = dtype
        self._decode = decode
        self._cache = DecodedCache(int(psutil.virtual_memory().available * _SHARE_OF_FREE_MEMORY))

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        indices = range(*key[0].indices(self.shape[0]))
        parts = [self._slice(z)[key[1:]] for z in indices]
        return np.stack(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *key[1:])]

    def _slice(self, z: int) -> NDArray[Any]:
        with self._cache.lock_of(z, 0):
            image = self._cache.get((z, 0))
            if image is None:
                image = self._decode(z)
                self._cache.put((z, 0), image)
        return image
