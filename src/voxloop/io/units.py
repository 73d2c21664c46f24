"""Units of length: the many ways in which files spell them, and a voxel size from what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from voxloop.errors import InputError
from voxloop.volume import Affine, Spacing

# Names as in OME-Zarr (UDUNITS-2), symbols as in the OME-XML schema, lengths in metres.
SYMBOLS = {
    "pixel": "pixel",
    "angstrom": "Å",
    "picometer": "pm",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
}
METRES = {
    "angstrom": 1e-10,
    "picometer": 1e-12,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
    "inch": 0.0254,
}
_SPELLINGS = {
    "": "pixel",
    "pixels": "pixel",
    "px": "pixel",
    "a": "angstrom",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "\\u00b5m": "micrometer",  # how ImageJ escapes a micro sign
    "inches": "inch",
    **{symbol.lower(): name for name, symbol in SYMBOLS.items()},
    **{name.replace("meter", "metre"): name for name in SYMBOLS},
    **{f"{name}s": name for name in SYMBOLS if name != "inch"},
    **{f"{name.replace('meter', 'metre')}s": name for name in SYMBOLS if "meter" in name},
}


def unit_name(unit: str) -> str:
    """Return the name that voxloop uses for a unit, such as ``"nanometer"`` for ``"nm"``.

    Raises
    ------
    InputError
        If the unit is not known.
    """
    # The Greek letter mu and the micro sign look alike; files hold either.
    spelling = unit.strip().strip("\0").lower().replace("μ", "µ")
    name = _SPELLINGS.get(spelling, spelling)
    if name not in SYMBOLS:
        raise InputError(f"unit is {unit!r}; expected one of {', '.join(SYMBOLS)} or their symbols")
    return name


def stored_unit(unit: object) -> str:
    """Return the name of a unit found in a file, ``"pixel"`` for none and for one that voxloop does not know."""
    try:
        return unit_name(str(unit or ""))
    except InputError:
        return "pixel"


def affine_of(matrix: ArrayLike) -> Affine | None:
    """Return the first 3 rows of an affine as a `Volume` has them, or None if some are not finite or it is flat."""
    rows = np.asarray(matrix, np.float64)[:3]
    if rows.shape != (3, 4) or not np.isfinite(rows).all() or np.linalg.det(rows[:, :3]) == 0:
        return None
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in rows)


def common_spacing(sizes: Mapping[str, tuple[float, str]], lengths: Mapping[str, int]) -> tuple[Spacing, str] | None:
    """Return the voxel size (z, y, x) and its unit, or None if it is not known along every axis that matters.

    A size that is known along some axes only is not used: relative to a guess it would be worse than none.

    Parameters
    ----------
    sizes
        Size and unit per axis, as far as a file tells them.
    lengths
        Voxels per axis; the size along an axis of one voxel may be missing.
    """
    known = {a: (float(size), unit) for a, (size, unit) in sizes.items() if isfinite(size) and size > 0}
    if not known or any(lengths.get(axis, 1) > 1 and axis not in known for axis in "zyx"):
        return None
    unit = next(known[axis][1] for axis in "xyz" if axis in known)
    if any(other != unit and not {other, unit} <= METRES.keys() for _, other in known.values()):
        return None
    scaled = {a: size if other == unit else size * METRES[other] / METRES[unit] for a, (size, other) in known.items()}
    z, y, x = (scaled.get(axis, min(scaled.values())) for axis in "zyx")
    return (z, y, x), unit
