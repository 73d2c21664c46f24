"""Refinement to voxels from a project: the API, the cache, the export and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.cli.main import main
from voxloop.errors import InputError
from voxloop.io import open_volume
from voxloop.project import Project
from voxloop.project import refining as module
from voxloop.volume import Volume

SPECS = {"slic": {"size": 150.0}, "features": {"sigmas": (0.7, 1.6)}, "classifier": {"n_trees": 20}}
SHAPE = (12, 36, 40)


def sheets(seed: int) -> tuple[Volume, np.ndarray]:
    """Return bright sheets two voxels thick, thinner than supervoxels, and the class of each voxel."""
    rng = np.random.default_rng(seed)
    truth = np.ones(SHAPE, np.uint8)
    truth[:, :, 6::10] = truth[:, :, 7::10] = 2
    return Volume((truth * 60 + rng.normal(0, 15, SHAPE)).astype(np.float32), name=f"sheets {seed}"), truth


def make_project(folder: Path, executor=None) -> Project:
    project = Project.create(folder, classes=["between", "sheet"], executor=executor)
    project.configure(**SPECS)
    for seed in (0, 1):
        project.add_image(sheets(seed)[0])
    return project


def paint(project: Project, rows: slice = slice(2, 36, 6)) -> None:
    truth = sheets(0)[1]
    for class_id in (1, 2):
        shown = np.zeros(SHAPE, bool)
        shown[3:10:3, rows] = truth[3:10:3, rows] == class_id
        project.paint(class_id, np.argwhere(shown), image=0)


def test_a_project_refines_what_its_supervoxels_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = sheets(1)[1]
    with make_project(tmp_path / "a.voxloop") as project:
        with pytest.raises(InputError, match="no labels"):
            project.refine(1)
        project.paint(1, [(3, 3, 3), (3, 3, 2)], image=0)
        with pytest.raises(InputError, match="two classes"):
            project.refine_slice(0)
        paint(project)
        refined = project.refine(1)
        assert refined.shape == SHAPE
        assert refined.dtype == np.uint8
        coarse = np.concatenate([[0], project.predict(1).segmentation])[np.asarray(project.supervoxels(1).labels)]
        assert (refined != truth).sum() < 0.5 * (coarse != truth).sum()
        for axis, index in ((0, 5), (1, 20), (2, 39)):
            one = project.refine_slice(index, axis=axis, image=1)
            assert (one == np.take(refined, index, axis)).mean() > 0.999
        for bad in ({"index": 12}, {"index": -1}, {"index": 0, "axis": 3}):
            with pytest.raises(InputError, match="is not a slice"):
                project.refine_slice(**bad)
        project.export("refined", tmp_path / "refined.tif", image=1)
    np.testing.assert_array_equal(np.asarray(open_volume(tmp_path / "refined.tif").data), refined)

    assert main(["export", str(tmp_path / "a.voxloop"), "refined", str(tmp_path / "again.npy"), "--image", "1"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "again.npy"), refined)

    calls = []
    monkeypatch.setattr(module, "refine", lambda *_, **__: calls.append(1))
    with Project.open(tmp_path / "a.voxloop") as project:
        np.testing.assert_array_equal(project.refine(1), refined)
        assert not calls, "it is on the disk"
        paint(project, slice(4, 6))
        project.refine(1)
        assert calls, "strokes have changed"


def test_same_bytes_at_any_number_of_threads(tmp_path: Path) -> None:
    found = []
    for name, executor in (("a", SerialExecutor()), ("b", ThreadExecutor(2))):
        with make_project(tmp_path / name, executor) as project:
            paint(project)
            found.append(project.refine(1).tobytes())
    assert found[0] == found[1]


def test_what_the_cache_holds_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with make_project(tmp_path / "a") as project:
        paint(project)
        refined = np.array(project.refine(1))
        digest = project._cache.digest_of("refined-1")
        assert digest is not None
    with Project.open(tmp_path / "a") as project:
        project._cache.put("refined-1", digest, {"classes": np.zeros((2, 2, 2), np.uint8)})
        np.testing.assert_array_equal(project.refine(1), refined)
    assert "damaged" in caplog.text
