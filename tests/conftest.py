"""Fixtures for all tests: where the real volumes are, and a machine without surprises."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
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


@pytest.fixture(scope="session")
def write_ilp() -> Callable[..., Path]:
    """Return a function that writes an ilastik project, in the layout of ilastik's serializers.

    `lanes` are dicts: `path`, `axes` and `shape` of an image, and `blocks`, pairs of a block slice and its labels; a
    `mask` is such a dict without labels.
    """

    def describe(info: h5py.Group, image: dict[str, Any]) -> None:
        info["allowLabels"] = True
        tags = [{"key": a, "typeFlags": 2, "resolution": 0, "description": ""} for a in image.get("axes", "zyx")]
        info["axistags"] = json.dumps({"axes": tags}).encode()
        info["shape"] = np.array(image["shape"])
        info["filePath"] = image["path"].encode()
        info["location"] = image.get("location", "FileSystem").encode()
        info["nickname"] = image.get("nickname", Path(image["path"]).stem).encode()
        info["display_mode"] = b"default"
        info["datasetId"] = b"0ab1c2d3-0000-11ee-8000-000000000000"
        info["__class__"] = b"RelativeFilesystemDatasetInfo"

    def write(
        path: Path,
        lanes: list[dict[str, Any]],
        *,
        workflow: str = "Voxel Segmentation Workflow",
        version: str = "1.4.1",
        names: tuple[str, ...] = ("background", "mitochondria"),
        filters: tuple[str, ...] = ("GaussianSmoothing", "LaplacianOfGaussian", "StructureTensorEigenvalues"),
        sigmas: tuple[float, ...] = (0.3, 0.7, 1.6),
        selected: Any = ((1, 1, 1), (0, 1, 1), (0, 1, 1)),
        planar: tuple[bool, ...] = (False, False, True),
    ) -> Path:
        with h5py.File(path, "w") as file:
            file["ilastikVersion"] = version.encode()
            file["workflowName"] = workflow.encode()
            file["currentApplet"] = 3
            file.create_group("Input Data/local_data")
            file["Input Data/Role Names"] = [b"Raw Data", b"Prediction Mask"]
            file["Input Data/StorageVersion"] = b"0.2"
            labels = file.create_group("VoxelSegmentation" if workflow.startswith("Voxel") else "PixelClassification")
            for index, lane in enumerate(lanes):
                roles = file.create_group(f"Input Data/infos/lane{index:04d}")
                describe(roles.create_group("Raw Data"), lane)
                mask = roles.create_group("Prediction Mask")
                if "mask" in lane:
                    describe(mask, lane["mask"])
                of_lane = labels.create_group(f"LabelSets/labels{index:03d}")
                for number, (where, block) in enumerate(lane.get("blocks", ())):
                    of_lane[f"block{number:04d}"] = np.asarray(block, np.uint8)
                    of_lane[f"block{number:04d}"].attrs["blockSlice"] = where.encode()
            labels["LabelNames"] = [name.encode() for name in names]
            labels["LabelNames"].attrs["isEmpty"] = not names
            labels["LabelColors"] = np.array([(255, 225, 25), (0, 130, 200), (230, 25, 75)][: len(names)])
            labels["PmapColors"] = labels["LabelColors"][()]
            labels.create_group("Bookmarks")["0000"] = np.void(b"\x80\x04]\x94.")  # a pickle, as ilastik writes it
            labels["ClassifierFactory"] = np.void(b"\x80\x04cos\nsystem\n.")
            chosen = file.create_group("FeatureSelections")
            chosen["FeatureIds"] = [name.encode() for name in filters]
            chosen["Scales"] = np.array(sigmas)
            chosen["SelectionMatrix"] = np.array(selected, np.bool_)
            chosen["ComputeIn2d"] = np.array(planar)
        return path

    return write
