"""A patch of an oblique plane as a picture, and the answer that two clicks in it give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from voxloop.active.planes import PlaneSuggestion
from voxloop.blocks import Box
from voxloop.errors import InputError
from voxloop.volume import ArrayLike, Spacing, Volume, check_spacing, relative_spacing

_MAX_PIXELS = 4096  # along a side: a picture beyond is a step in the wrong unit


@dataclass(frozen=True)
class Patch:
    """The picture of a patch: h x w pixels, rows down and columns right along `PlaneSuggestion.directions`.

    Attributes
    ----------
    plane
        What is shown; its centre is the middle of the middle pixel.
    step
        Size of a pixel in relative space.
    image
        float32 (h, w) or (h, w, c), linear interpolation of the voxels; 0 outside the volume.
    supervoxels
        uint32 (h, w), supervoxel of the nearest voxel; 0 outside the mask and outside the volume.
    coordinates
        float64 (h, w, 3), voxel coordinates (z, y, x) of each pixel.
    inside
        bool (h, w), whether the pixel lies in the circle and in the volume.
    """

    plane: PlaneSuggestion
    step: float
    image: NDArray[np.float32]
    supervoxels: NDArray[np.uint32]
    coordinates: NDArray[np.float64]
    inside: NDArray[np.bool_]

    @property
    def voxels(self) -> NDArray[np.int64]:
        """(h, w, 3) nearest voxel (z, y, x) of each pixel; where `inside` is false it may lie outside the volume."""
        return _nearest(self.coordinates)

    def offsets(self, pixels: npt.ArrayLike) -> NDArray[np.float64]:
        """Return how far pixels (row, column) (n, 2) lie from the centre, down and right, in relative space."""
        middle = (np.array(self.inside.shape) - 1) / 2
        return (np.asarray(pixels, np.float64) - middle) * self.step


def resample_plane(
    volume: Volume,
    labels: ArrayLike,
    plane: PlaneSuggestion,
    *,
    step: float = 1.0,
    half_width: float | None = None,
) -> Patch:
    """Return the picture of a patch; of the volume and the labels only the box around it is read.

    Parameters
    ----------
    volume
        The image.
    labels
        Array-like (z, y, x) of supervoxel ids.
    plane
        What to show.
    step
        Size of a pixel in relative space; 1 shows the finest voxels one to one.
    half_width
        From the centre to the middle of the last pixel, in relative space; by default the radius of the patch. It is
        rounded up to a whole number of steps.

    Raises
    ------
    InputError
        If the volume is a single slice, the labels have another shape, the centre lies outside the volume, or the
        picture would have no or too many pixels.
    """
    if min(volume.shape) < 2:
        raise InputError(f"planes need a 3D volume, not one of shape {volume.shape}")
    if tuple(labels.shape) != volume.shape:
        raise InputError(f"labels has shape {tuple(labels.shape)} but the volume has shape {volume.shape}")
    if not _in_volume(np.array(plane.center), volume):
        raise InputError(f"plane has its center at {plane.center} but the volume has shape {volume.shape}")
    half_width = plane.radius if half_width is None else half_width
    if not (0 < step < inf and 0 < half_width <= step * (_MAX_PIXELS // 2 - 1)):
        raise InputError(
            f"step must be positive and give at most {_MAX_PIXELS} pixels a side; "
            f"step is {step} for a half_width of {half_width}"
        )

    offsets = np.arange(-ceil(half_width / step), ceil(half_width / step) + 1) * step
    down, right = plane.directions / np.array(volume.relative_spacing)
    coordinates = np.array(plane.center) + offsets[:, None, None] * down + offsets[None, :, None] * right
    in_volume = _in_volume(coordinates, volume)
    shown = coordinates[in_volume]
    box = Box(_corner(np.floor(shown.min(axis=0)), volume), _corner(np.floor(shown.max(axis=0)) + 2, volume))

    channels = volume.read(box)
    image = np.zeros((*in_volume.shape, len(channels)), np.float32)
    local = (shown - box.start).T
    for c, channel in enumerate(channels):
        # Half a voxel of the volume lies beyond the middles of its first and last voxels: there the border goes on.
        image[in_volume, c] = map_coordinates(channel, local, np.float32, order=1, mode="nearest")
    supervoxels = np.zeros(in_volume.shape, np.uint32)
    supervoxels[in_volume] = np.asarray(labels[box.slices])[tuple((_nearest(shown) - box.start).T)]
    circle = np.hypot(offsets[:, None], offsets[None, :]) <= plane.radius
    picture: NDArray[Any] = image[..., 0] if len(channels) == 1 else image
    return Patch(plane, step, picture, supervoxels, coordinates, circle & in_volume)


def label_patch(
    plane: PlaneSuggestion,
    centers: npt.ArrayLike,
    *,
    classes: int | tuple[int, int],
    line: npt.ArrayLike | None = None,
    supervoxels: Sequence[int] | NDArray[Any] | None = None,
    spacing: Spacing = (1.0, 1.0, 1.0),
) -> dict[int, int]:
    """Return the class of each supervoxel that a patch cuts, from a straight line drawn in its picture.

    A supervoxel takes the class of the side on which its centre projects (Konyushkova, Sznitman, Fua, ICCV 2015).

    Parameters
    ----------
    plane
        The patch.
    centers
        (n, 3) centres of all supervoxels in voxel coordinates (z, y, x).
    classes
        The class left of the line and the class right of it, as seen in the picture by someone who walks from the
        first point to the second; a centre on the line is left of it. Without a line one class for all.
    line
        (2, 2) two points, each (down, right) from the centre in relative space: `Patch.offsets` makes them of pixels.
    supervoxels
        Ids to answer for; by default those of the suggestion, which are not labelled. `cut_supervoxels` has the
        labelled ones too, and the ids in a `Patch` are those that can be seen.
    spacing
        Size of a voxel (z, y, x).

    Raises
    ------
    InputError
        If two classes come without a line or one class with a line, the points of the line are the same, or an id or
        a class does not exist.
    """
    points = np.asarray(centers, np.float64)
    ids = np.asarray(plane.supervoxels if supervoxels is None else supervoxels, np.int64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"centers has shape {points.shape}; expected (n, 3)")
    if ids.size and not (ids.min() >= 1 and ids.max() <= len(points)):
        raise InputError(f"supervoxels must hold ids from 1 to {len(points)}, not {ids.min()} to {ids.max()}")
    sides = (classes,) if isinstance(classes, int) else tuple(classes)
    if len(sides) != (1 if line is None else 2):
        raise InputError(f"classes must be two with a line and one without, not {classes}")
    if min(sides) < 1:
        raise InputError(f"classes must be 1 or more, not {classes}")
    if line is None:
        return dict.fromkeys(ids.tolist(), sides[0])

    ends = np.asarray(line, np.float64)
    if ends.shape != (2, 2) or not np.isfinite(ends).all() or (ends[0] == ends[1]).all():
        raise InputError(f"line must be two different points (down, right), not {line}")
    steps = np.array(relative_spacing(check_spacing(spacing)))
    projected = (points[ids - 1] - plane.center) * steps @ plane.directions.T
    (down, right), (from_down, from_right) = ends[1] - ends[0], (projected - ends[0]).T
    is_right = from_down * right - from_right * down > 0
    return {int(i): sides[int(side)] for i, side in zip(ids, is_right, strict=True)}


def _nearest(coordinates: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(coordinates + 0.5).astype(np.int64)


def _in_volume(coordinates: NDArray[np.float64], volume: Volume) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.all((coordinates >= -0.5) & (coordinates < np.array(volume.shape) - 0.5), axis=-1)
    return inside


def _corner(coordinates: NDArray[np.float64], volume: Volume) -> tuple[int, int, int]:
    z, y, x = (int(c) for c in np.clip(coordinates, 0, volume.shape))
    return z, y, x
