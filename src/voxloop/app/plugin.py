"""What the manifest `napari.yaml` names: the dock, a reader for projects, sample volumes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from voxloop.app import napari_adapter as adapter
from voxloop.app.layers import LoadedImage
from voxloop.project import Project, is_project
from voxloop.samples import Sample, mni, phantom

LayerData = tuple[Any, dict[str, Any], str]


def show_dock() -> None:
    """Show the dock in the window on screen."""
    viewer = adapter.current_viewer()
    if viewer is not None:
        adapter.add_dock(viewer)


def get_reader(path: str | list[str]) -> Callable[[str], list[Any]] | None:
    """Return the reader of a project folder; None for anything else."""
    return read_project if isinstance(path, str | os.PathLike) and is_project(path) else None


def read_project(path: str) -> list[Any]:
    """Open a project in the dock of the window on screen; without a window, return its first image and labels."""
    viewer = adapter.current_viewer()
    if viewer is not None:
        adapter.add_dock(viewer).open_path(path)
        return [(None,)]  # napari's way to say: nothing to add
    with Project.open(path, read_only=True) as project:
        image = LoadedImage.of(project, 0)
        place = {"scale": image.record.spacing, "units": (image.record.unit,) * 3}
        return [(channel, {"name": image.record.name, **place}, "image") for channel in image.channels]


def sample_electron() -> list[LayerData]:
    """Return an EM-like volume with mitochondria."""
    return _layers(phantom())


def sample_brain() -> list[LayerData]:
    """Return the MNI152 brain template."""
    return _layers(mni())


def _layers(sample: Sample) -> list[LayerData]:
    volume = sample.image
    place = {"scale": volume.spacing, "units": (volume.unit,) * 3}
    return [(volume.read()[0], {"name": volume.name, **place}, "image")]
