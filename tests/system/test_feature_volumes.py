"""Features of the user's own in a project: what a supervoxel is by itself, and volumes of another program."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from voxloop import Project
from voxloop.cli.main import main
from voxloop.errors import InputError, ProjectError


@pytest.fixture
def project_file(cells: Path) -> Path:
    return cells / "cells.voxloop"


def save_probabilities(path: Path, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random((*shape, 2)).astype(np.float32)
    np.save(path, values)
    return values


def test_a_volume_of_ones_own_becomes_columns(project_file: Path, cells: Path) -> None:
    with Project.open(project_file) as project:
        shape, plain = project.images[0].shape, project.features()
        before = project.predict().probabilities
        values = save_probabilities(cells / "probabilities.npy", shape)
        project.add_feature_volume(cells / "probabilities.npy")
        table = project.features()
        own = [name for name in table.names if name.startswith("probabilities")]
        assert own[:2] == ["probabilities channel_1 mean", "probabilities channel_2 mean"]
        assert len(table.names) == len(plain.names) + 2 * (2 + 1 + 2)  # its own, of neighbours, of the region
        supervoxels = project.supervoxels()
        labels = np.asarray(supervoxels.labels).ravel()
        expected = np.bincount(labels, values[..., 1].ravel())[1:] / supervoxels.sizes
        column = table.names.index("probabilities channel_2 mean")
        np.testing.assert_allclose(table.values[:, column], expected, rtol=1e-5)
        assert not project.is_current("prediction")
        assert (project.predict().probabilities != before).any()
        assert project.is_current("features")
    with Project.open(project_file) as project:
        assert project.features().names == table.names
        assert project.is_current("prediction")


def test_a_wrong_or_swapped_volume_is_refused(project_file: Path, cells: Path) -> None:
    with Project.open(project_file) as project:
        shape = project.images[0].shape
        save_probabilities(cells / "small.npy", (shape[0] - 1, *shape[1:]))
        with pytest.raises(InputError, match=r"small has shape .* but cells has shape"):
            project.add_feature_volume(cells / "small.npy")
        save_probabilities(cells / "p.npy", shape)
        project.add_feature_volume(cells / "p.npy")
        with pytest.raises(InputError, match="has a feature volume 'p' already"):
            project.add_feature_volume(cells / "p.npy")
    save_probabilities(cells / "p.npy", shape, seed=1)
    with Project.open(project_file) as project, pytest.raises(ProjectError, match=r"p\.npy has changed"):
        project.features()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e300])
def test_a_volume_that_is_not_finite_is_refused_before_it_is_in_the_project(
    project_file: Path, cells: Path, wrong: float
) -> None:
    with Project.open(project_file) as project:
        before = project.features().names
        volume = np.zeros((*project.images[0].shape, 2))
        last = tuple(n - 1 for n in project.images[0].shape)
        volume[(*last, 1)] = wrong
        np.save(cells / "wrong.npy", volume)
        with pytest.raises(
            InputError, match=rf"wrong must hold finite .* channel 1 of voxel .* = {re.escape(str(last))}"
        ):
            project.add_feature_volume(cells / "wrong.npy", axes="zyxc")
        assert project.features().names == before
        np.save(cells / "wrong.npy", np.nan_to_num(volume, posinf=1, neginf=1).clip(-1, 1))
        project.add_feature_volume(cells / "wrong.npy", axes="zyxc")
        assert len(project.features().names) > len(before)


def test_a_volume_that_was_removed_leaves_no_trace(project_file: Path, cells: Path, capsys) -> None:
    with Project.open(project_file) as project:
        before = project.features()
        save_probabilities(cells / "p.npy", project.images[0].shape)
        project.add_feature_volume(cells / "p.npy")
        assert project.features().names != before.names
        project.remove_feature_volume("p")
        assert project.features().names == before.names
        np.testing.assert_array_equal(project.features().values, before.values)
        with pytest.raises(InputError, match=r"has no feature volume 'p'; those that it has: none"):
            project.remove_feature_volume("p")
    features = ["features", str(project_file)]
    assert main([*features, "--volume", str(cells / "p.npy")]) == 0
    assert main([*features, "--drop-volume", "q"]) == 2
    assert "has no feature volume 'q'; those that it has: 'p'" in capsys.readouterr().err
    assert main([*features, "--drop-volume", "p"]) == 0
    with Project.open(project_file) as project:
        assert project.features().names == before.names


def test_a_moved_volume_is_found_again(project_file: Path, cells: Path) -> None:
    with Project.open(project_file) as project:
        save_probabilities(cells / "p.npy", project.images[0].shape)
        project.add_feature_volume(cells / "p.npy")
        names = project.features().names
        (cells / "elsewhere").mkdir()
        (cells / "p.npy").rename(cells / "elsewhere" / "p.npy")
    with Project.open(project_file) as project:
        assert project.missing_files() == [str((cells / "p.npy").resolve())]
        project.relink(project.missing_files()[0], cells / "elsewhere" / "p.npy")
        assert project.is_current("features")
        assert project.features().names == names


def test_the_command_takes_volumes_and_families(
    project_file: Path, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Project.open(project_file) as project:
        save_probabilities(cells / "p.npy", project.images[0].shape)
    arguments = ["features", str(project_file), "--own", "shape", "boundary", "--statistics", "mean", "q90"]
    assert main([*arguments, "--volume", str(cells / "p.npy")]) == 0
    capsys.readouterr()
    with Project.open(project_file) as project:
        names = project.features().names
        assert {"size", "elongation", "boundary", "p channel_2 q90"} <= set(names)
        assert project.is_current("features")
        project.configure(features={"own": ("shape",)})
        assert "boundary" not in project.features().names
    assert main([*arguments, "--volume", str(cells / "none.npy")]) == 2
    assert "none.npy" in capsys.readouterr().err
