"""Surfaces: closed, as large as what they enclose, where the voxels are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh

from voxloop.classify import Prediction
from voxloop.errors import FormatError, InputError
from voxloop.project import Project, meshes
from voxloop.project.sources import make_layer
from voxloop.volume import Volume

SPACING = (4.0, 2.0, 1.0)


def painted(folder: Path, mask: np.ndarray, **options) -> Project:
    """Return a project of an image that is bright in `mask`, with a label inside and one outside."""
    project = Project.create(
        folder / "p.voxloop", Volume.from_array(np.where(mask, 200, 20).astype(np.uint8)), classes=["out", "in"],
        spacing=SPACING, unit="um", **options,
    )  # fmt: skip
    project.configure(slic={"size": 8.0, "sigma": 0.0}, features={"sigmas": (0.7,)}, classifier={"n_trees": 3})
    for name, voxels in (("out", np.argwhere(~mask)), ("in", np.argwhere(mask))):
        project.paint(name, voxels[:: len(voxels) // 5])
    return project


def exact(project: Project, mask: np.ndarray, monkeypatch) -> None:
    """Make all supervoxels that `mask` touches the prediction of the second class."""
    labels = np.asarray(project.supervoxels().labels)
    inside = np.zeros(project.supervoxels().n, bool)
    inside[labels[mask] - 1] = True
    shares = np.stack([~inside, inside], axis=1).astype(np.float32)
    prediction = Prediction(shares, np.array([1, 2], np.int32))
    monkeypatch.setattr(Project, "predict", lambda _project, _image=0: prediction)


def segmentation(project: Project, tmp_path: Path) -> np.ndarray:
    project.export("segmentation", tmp_path / "s.npy", overwrite=True)
    return np.load(tmp_path / "s.npy")


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_a_ball(tmp_path: Path, suffix: str) -> None:
    z, y, x = np.ogrid[:24, :30, :40]
    mask = (((z - 12) * 4) ** 2 + ((y - 14) * 2) ** 2 + (x - 20) ** 2) < 15**2
    with painted(tmp_path, mask) as project:
        found = segmentation(project, tmp_path) == 2
        (path,) = project.export_meshes(tmp_path / f"ball{suffix}", classes=["in"])
        mesh = trimesh.load_mesh(path)
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(found.sum() * np.prod(SPACING), rel=0.05)
        centre = np.argwhere(found).mean(axis=0) * SPACING
        np.testing.assert_allclose(mesh.center_mass, centre[::-1], atol=0.3)
        if suffix != ".stl":
            colour = project.annotations.classes[1].color
            assert tuple(mesh.visual.vertex_colors[0][:3]) == tuple(bytes.fromhex(colour[1:]))
        (refined,) = project.export_meshes(tmp_path / f"refined{suffix}", classes=["in"], source="refined")
        # Specks of single voxels lose half of their volume to the surface's slanted corners.
        assert trimesh.load_mesh(refined).volume == pytest.approx((project.refine() == 2).sum() * 8, rel=0.15)
        (rough,) = project.export_meshes(tmp_path / f"rough{suffix}", classes=[2], smoothing=0)
        assert trimesh.load_mesh(rough).area > mesh.area


@pytest.mark.parametrize("slices", [1, 3, 64])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.97])
def test_noise_is_closed_however_it_is_cut(tmp_path: Path, monkeypatch, slices: int, share: float) -> None:
    """Slabs of any thickness give the surface of one piece, vertex for vertex."""
    mask = np.random.default_rng(1).random((7, 9, 8)) < share
    with painted(tmp_path, mask) as project:
        project.configure(slic={"size": 1.0, "min_size_factor": 0.0})
        exact(project, mask, monkeypatch)
        found = segmentation(project, tmp_path) == 2
        label = project.annotations.classes[1]
        layer = make_layer("segmentation", project.results())
        whole = meshes._surface(project.results(), layer, label, project.volume().box)
        monkeypatch.setattr(meshes, "_SLICES", slices)
        vertices, triangles = meshes._surface(project.results(), layer, label, project.volume().box)
        np.testing.assert_array_equal(vertices, whole[0])
        turned = [{tuple(np.roll(t, -t.argmin())) for t in part} for part in (triangles, whole[1])]
        assert turned[0] == turned[1]
        mesh = trimesh.Trimesh(vertices[:, ::-1], triangles, process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert 0 < mesh.volume <= found.sum()
        assert vertices.min() >= -0.5
        assert (vertices.max(axis=0) <= np.array(found.shape) - 0.5).all()


def test_a_part_lies_where_it_was(tmp_path: Path) -> None:
    mask = np.zeros((12, 20, 24), bool)
    mask[:, 6:14, 8:16] = True
    with painted(tmp_path, mask) as project:
        found = segmentation(project, tmp_path)[4:8] == 2
        crop = (slice(4, 8), slice(None), slice(None))
        (path,) = project.export_meshes(tmp_path / "part.stl", classes=["in"], crop=crop, smoothing=0)
        mesh = trimesh.load_mesh(path)
        assert mesh.is_watertight
        voxels = np.argwhere(found)
        voxels[:, 0] += 4
        low, high = (voxels.min(axis=0) - 0.5) * SPACING, (voxels.max(axis=0) + 0.5) * SPACING
        np.testing.assert_allclose(mesh.bounds, [low[::-1], high[::-1]])
        project.add_class("nowhere")
        files = project.export_meshes(tmp_path / "{nickname}-{class}.ply")
        assert [file.name for file in files] == ["volume-out.ply", "volume-in.ply"]


def test_what_cannot_be_written(cells: Path, tmp_path: Path, monkeypatch) -> None:
    with Project.open(cells / "cells.voxloop", memory="1MB") as project:
        project.add_class("nothing")
        for path, options, message in (
            ("a.ply", {}, r"must hold \{class\}"),
            ("a.xyz", {"classes": ["background"]}, "expected one of .stl"),
            ("a.ply", {"classes": ["nucleus"]}, "no class 'nucleus'"),
            ("a.ply", {"classes": ["nothing"]}, "has no voxel"),
            ("a.ply", {"classes": ["background"], "smoothing": -1}, "smoothing"),
            ("a.ply", {"classes": ["background"], "source": "labels"}, "expected segmentation or refined"),
            ("a.ply", {"classes": ["background"]}, "memory budget"),
        ):
            with pytest.raises((InputError, FormatError), match=message):
                project.export_meshes(tmp_path / path, **options)
        monkeypatch.setitem(sys.modules, "trimesh", None)
        with pytest.raises(InputError, match=r"pip install \"voxloop\[meshes\]\""):
            project.export_meshes(tmp_path / "a.ply", classes=["background"])
    assert not [p for p in tmp_path.iterdir() if p.name != "cells"]
