"""Fixtures for all tests: where the real volumes are, and a machine without surprises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from voxloop.io import save_volume
from voxloop.project import Project
from voxloop.samples import Sample, phantom
from voxloop.simulate.annotator import SimulatedAnnotator

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return the folder of a real volume by name; skip the test where the volumes are not on this machine."""

    def folder(name: str) -> Path:
        root = Path(os.environ.get("VOXLOOP_DATA", REPOSITORY.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"no real volume {name!r} in {root} (set VOXLOOP_DATA)")
        return root / name

    return folder


@pytest.fixture(scope="session")
def small_sample() -> Sample:
    """A phantom of 37 thousand voxels."""
    return phantom((16, 48, 48), seed=3)


@pytest.fixture(scope="session")
def _cells_template(tmp_path_factory: pytest.TempPathFactory, small_sample: Sample) -> Path:
    folder = tmp_path_factory.mktemp("template") / "cells"
    folder.mkdir()
    image = small_sample.image
    save_volume(folder / "cells.tif", image.data, spacing=image.spacing, unit=image.unit)
    save_volume(folder / "truth.tif", small_sample.truth, spacing=image.spacing, unit=image.unit)
    names = small_sample.class_names
    with Project.create(folder / "cells.voxloop", folder / "cells.tif", classes=names) as project:
        project.configure(slic={"size": 100.0}, features={"sigmas": (0.7, 1.6)}, classifier={"n_trees": 10})
        for stroke in SimulatedAnnotator(small_sample.truth, rng=0).first_strokes():
            project.paint(stroke.class_id, stroke.voxels)
        project.suggest_slices()
    return folder


@pytest.fixture
def cells(tmp_path: Path, _cells_template: Path) -> Path:
    """A folder with ``cells.tif``, ``truth.tif`` and the project ``cells.voxloop``: labelled, everything computed."""
    folder = tmp_path / "cells"
    shutil.copytree(_cells_template, folder)
    return folder
