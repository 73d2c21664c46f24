"""Segment 3D volumes from a few brush strokes.

The names below are imported when they are first used, so that ``import voxloop`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

_HOMES = {
    "Box": "voxloop.blocks",
    "SerialExecutor": "voxloop.blocks",
    "ThreadExecutor": "voxloop.blocks",
    "ClassifierSpec": "voxloop.specs",
    "FeatureSpec": "voxloop.specs",
    "QuerySpec": "voxloop.specs",
    "SlicSpec": "voxloop.specs",
    "Volume": "voxloop.volume",
    "VoxloopError": "voxloop.errors",
    "open_volume": "voxloop.io",
    "open_labels": "voxloop.io",
    "save_volume": "voxloop.io",
    "slic": "voxloop.supervoxels",
    "preview_supervoxels": "voxloop.supervoxels",
    "compute_features": "voxloop.features",
    "fit_forest": "voxloop.classify",
    "label_supervoxels": "voxloop.classify",
    "uncertainty": "voxloop.active",
    "top_uncertain": "voxloop.active",
    "suggest_slices": "voxloop.active",
    "Project": "voxloop.project",
    "import_ilastik": "voxloop.project",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:
    from voxloop.active import suggest_slices, top_uncertain, uncertainty
    from voxloop.blocks import Box, SerialExecutor, ThreadExecutor
    from voxloop.classify import fit_forest, label_supervoxels
    from voxloop.errors import VoxloopError
    from voxloop.features import compute_features
    from voxloop.io import open_labels, open_volume, save_volume
    from voxloop.project import Project, import_ilastik
    from voxloop.specs import ClassifierSpec, FeatureSpec, QuerySpec, SlicSpec
    from voxloop.supervoxels import preview_supervoxels, slic
    from voxloop.volume import Volume


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'voxloop' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
