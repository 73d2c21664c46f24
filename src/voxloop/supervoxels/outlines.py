"""How supervoxels are drawn on a slice: their boundaries, a hatch over some of them, rings around few."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from voxloop.errors import InputError

_PERIOD = 8  # pixels from stripe to stripe of a hatch, along a row
_DISTANCE = 4  # pixels (Euclidean) from a piece to the ring around it


def boundaries(supervoxels: ArrayLike) -> NDArray[np.bool_]:
    """Return the pixels whose right or lower neighbour belongs to another supervoxel: lines one pixel thin.

    Parameters
    ----------
    supervoxels
        Integers of shape (rows, columns).

    Returns
    -------
    ndarray of bool
        Same shape.

    Raises
    ------
    InputError
        If the array is not 2D.
    """
    ids = _slice_of(supervoxels, "supervoxels")
    edge = np.zeros(ids.shape, bool)
    edge[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    edge[:-1] |= ids[:-1] != ids[1:]
    return edge


def hatch(region: ArrayLike) -> NDArray[np.bool_]:
    """Return the pixels of a diagonal hatch and an outline, both inside `region`.

    Stripes are one pixel wide and run on from one part of the region to the next. The outline is the pixels with one
    of their four neighbours outside; the border of the slice is not outlined.

    Parameters
    ----------
    region
        bool of shape (rows, columns), such as ``flagged[supervoxels]``.

    Returns
    -------
    ndarray of bool
        Same shape.

    Raises
    ------
    InputError
        If the array is not 2D.
    """
    inside = _slice_of(region, "region").astype(bool)
    rows, columns = np.ogrid[: inside.shape[0], : inside.shape[1]]
    framed = np.pad(inside, 1, mode="edge")
    surrounded = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    stripes = (rows + columns) % _PERIOD == 0
    drawn: NDArray[np.bool_] = inside & (stripes | ~surrounded)
    return drawn


def ring(region: ArrayLike) -> NDArray[np.bool_]:
    """Return a line one pixel thin around each connected piece of `region`, so that small ones catch the eye.

    Parameters
    ----------
    region
        bool of shape (rows, columns).

    Returns
    -------
    ndarray of bool
        Same shape.

    Raises
    ------
    InputError
        If the array is not 2D.
    """
    inside = _slice_of(region, "region").astype(bool)
    drawn = np.zeros(inside.shape, bool)
    pieces, _ = ndimage.label(inside, structure=np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        around = tuple(slice(max(0, s.start - _DISTANCE), s.stop + _DISTANCE) for s in box)
        away = ndimage.distance_transform_edt(pieces[around] != number)
        drawn[around] |= (away > _DISTANCE - 1) & (away <= _DISTANCE)
    return drawn


def _slice_of(array: ArrayLike, name: str) -> NDArray[Any]:
    values = np.asarray(array)
    if values.ndim != 2:
        raise InputError(f"{name} has shape {values.shape}; expected one slice (rows, columns)")
    return values
