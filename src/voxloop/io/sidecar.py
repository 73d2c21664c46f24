"""What a format cannot say of its content, in a JSON file beside it: `cells.npy` gets `cells.npy.voxloop.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxloop.io.atomic import replacing, storing
from voxloop.io.formats import Description, format_to_write
from voxloop.io.inside import is_numbered, name_of_pattern
from voxloop.volume import Spacing


def sidecar_of(path: Path) -> Path:
    """Return where the sidecar of a file lies; that of a stack has the name that its slices begin with."""
    name = f"{name_of_pattern(path)}{path.suffix}" if is_numbered(path) else path.name
    return path.with_name(f"{name}.voxloop.json")


def write_sidecar(
    path: Path,
    *,
    axes: str,
    spacing: Spacing,
    unit: str,
    channel_names: Sequence[str] = (),
    class_names: Sequence[str] = (),
    class_colors: Sequence[str] = (),
) -> Path | None:
    """Write what the format of `path` cannot hold, and return where to; None if the file says it all.

    The arguments are those of `create_volume`. What another volume of the same name left is replaced or removed.
    """
    facts: dict[Description, dict[str, Any]] = {"spacing": {}, "channels": {}, "classes": {}}
    if unit != "pixel":
        facts["spacing"] = {"voxel_size": dict(zip("zyx", spacing, strict=True)), "unit": unit}
    if channel_names:
        facts["channels"] = {"channels": list(channel_names)}
    if class_names:
        named = enumerate(zip(class_names, class_colors, strict=True), start=1)
        facts["classes"] = {"classes": [{"value": i, "name": name, "color": color} for i, (name, color) in named]}
    held = format_to_write(path).describes
    missing = {key: value for what, fact in facts.items() if what not in held for key, value in fact.items()}
    target = sidecar_of(path)
    if not missing:
        with storing(target):
            target.unlink(missing_ok=True)
        return None
    with replacing(target, overwrite=True) as temporary, storing(target):
        temporary.write_text(json.dumps({"axes": axes, **missing}, indent=2) + "\n", encoding="utf-8")
    return target
