"""A volume together with the segmentation that is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.volume import Volume


@dataclass(frozen=True)
class Sample:
    """An image with its true classes.

    Attributes
    ----------
    image
        The volume to segment.
    truth
        uint8 of shape (z, y, x): class 1..k of each voxel, 0 where nothing is known (outside `mask`).
    class_names
        Names of the classes 1..k.
    class_colors
        Colours of the classes 1..k as ``"#rrggbb"``, told apart by colour-blind readers too.
    mask
        bool of shape (z, y, x): the voxels worth segmenting; None if all are.
    """

    image: Volume
    truth: NDArray[np.uint8]
    class_names: tuple[str, ...]
    class_colors: tuple[str, ...]
    mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        _check_shape("truth", self.truth, self.image)
        if self.mask is not None:
            _check_shape("mask", self.mask, self.image)
        if len(self.class_names) != len(self.class_colors):
            raise InputError(f"class_colors has {len(self.class_colors)} entries for {len(self.class_names)} classes")


def _check_shape(name: str, array: NDArray[Any], image: Volume) -> None:
    if array.shape != image.shape:
        raise InputError(f"{name} has shape {array.shape} but the image has shape {image.shape}")
