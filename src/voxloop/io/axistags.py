"""The axes of an array as ilastik (vigra) stores them: JSON in the attributes `axistags` and `axis_units`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from voxloop.io.units import SYMBOLS, stored_unit
from voxloop.io.writers import Header

_TYPE_FLAGS = {"c": 1, "z": 2, "y": 2, "x": 2, "t": 8}  # vigra.AxisType


def axistags_attributes(header: Header) -> dict[str, str]:
    """Return the attributes of an array with the axes of `header`."""
    resolution = dict(zip("zyx", header.spacing, strict=True)) if header.unit != "pixel" else {}
    tags = [
        {"key": a, "typeFlags": _TYPE_FLAGS[a], "resolution": resolution.get(a, 0), "description": ""}
        for a in header.axes
    ]
    units = {a: SYMBOLS[header.unit] if a in resolution else "" for a in header.axes}
    return {"axistags": json.dumps({"axes": tags}), "axis_units": json.dumps(units)}


def axes_of_axistags(attributes: Mapping[str, Any]) -> tuple[str | None, dict[str, tuple[float, str]]]:
    """Return the axes and the voxel size that the attributes tell, None for axes that they do not name."""
    if "axistags" not in attributes:
        return None, {}
    tags = json.loads(attributes["axistags"])["axes"]
    units = json.loads(attributes.get("axis_units", "{}"))
    axes = "".join(str(tag["key"]) for tag in tags).lower()
    sizes = {
        str(tag["key"]): (float(tag.get("resolution", 0)), stored_unit(units.get(tag["key"])))
        for tag in tags
        if tag["key"] in ("z", "y", "x")
    }
    return (axes if len(axes) == len(tags) and "?" not in axes else None), sizes
