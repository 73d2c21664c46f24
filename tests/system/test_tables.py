"""Tables against the voxels that they are about."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from scipy import ndimage

from voxloop.errors import FormatError, InputError
from voxloop.io import save_volume
from voxloop.project import Project

VOXEL = 10 * 8 * 8


@pytest.fixture
def project(cells: Path):
    with Project.open(cells / "cells.voxloop") as opened:
        yield opened


def exported(project: Project, source: str, tmp_path: Path) -> np.ndarray:
    project.export(source, tmp_path / "e.npy", overwrite=True)
    return np.load(tmp_path / "e.npy")


def test_supervoxels(project: Project, tmp_path: Path) -> None:
    table = project.table("supervoxels")
    labels, segmentation = exported(project, "supervoxels", tmp_path), exported(project, "segmentation", tmp_path)
    ids = table["id"]
    np.testing.assert_array_equal(table["voxels"], np.bincount(labels.ravel())[1:])
    np.testing.assert_allclose(table["volume_nanometer3"], table["voxels"] * VOXEL)
    centers = np.array(ndimage.center_of_mass(labels, labels, ids))
    for axis, size in zip("zyx", (10, 8, 8), strict=True):
        np.testing.assert_allclose(table[f"center_{axis}"], centers[:, "zyx".index(axis)])
        np.testing.assert_allclose(table[f"center_{axis}_nanometer"], centers[:, "zyx".index(axis)] * size)
    np.testing.assert_array_equal(table["class_id"], ndimage.maximum(segmentation, labels, ids))
    assert set(table["class"]) == {"background", "mitochondria"}
    np.testing.assert_allclose(table["p_background"] + table["p_mitochondria"], 1, atol=1e-6)
    np.testing.assert_array_equal(table["uncertainty"], project.uncertainty())
    labelled = project.labels()
    named = {int(i): project.class_names[int(c)] for i, c in zip(labelled.ids, labelled.classes, strict=True)}
    assert {int(i): name for i, name in zip(ids, table["label"], strict=True) if name} == named


def test_objects_and_classes(project: Project, tmp_path: Path) -> None:
    table, classes = project.table("objects"), project.table("classes")
    objects, segmentation = exported(project, "objects", tmp_path), exported(project, "segmentation", tmp_path)
    np.testing.assert_array_equal(table["voxels"], np.bincount(objects.ravel())[1:])
    for i, box in enumerate(ndimage.find_objects(objects)):
        assert [table[f"first_{axis}"][i] for axis in "zyx"] == [s.start for s in box]
        assert [table[f"last_{axis}"][i] for axis in "zyx"] == [s.stop - 1 for s in box]
        at_border = any(s.start == 0 or s.stop == n for s, n in zip(box, objects.shape, strict=True))
        assert table["touches_border"][i] == at_border
    for i, class_id in enumerate((1, 2)):
        assert classes["voxels"][i] == (segmentation == class_id).sum()
        assert (
            classes["objects"][i] == ndimage.label(segmentation == class_id)[1] == (table["class_id"] == class_id).sum()
        )
        assert classes["supervoxels"][i] == (project.table("supervoxels")["class_id"] == class_id).sum()
    assert classes["share"].sum() == pytest.approx(1)
    assert classes["labelled_supervoxels"].sum() == project.label_summary().n_labelled
    assert classes["color"].tolist() == [c.color for c in project.annotations.classes]


@pytest.mark.parametrize("kind", ["supervoxels", "objects", "classes"])
def test_csv_and_parquet_say_the_same(project: Project, tmp_path: Path, kind: str) -> None:
    table = project.table(kind)
    project.export_table(kind, tmp_path / "{nickname}-{result_type}.csv")
    path = project.export_table(kind, tmp_path / "{nickname}-{result_type}.parquet")
    assert path.name == f"cells-{kind}.parquet"
    stored = parquet.read_table(path)
    with (tmp_path / f"cells-{kind}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == stored.column_names == list(table)
    assert len(rows) - 1 == stored.num_rows == len(next(iter(table.values())))
    for i, (name, values) in enumerate(table.items()):
        column = np.array([row[i] for row in rows[1:]])
        parsed = column if values.dtype.kind == "U" else column.astype(float).astype(values.dtype)
        np.testing.assert_array_equal(parsed, values, err_msg=name)
        np.testing.assert_array_equal(stored[name].to_numpy(zero_copy_only=False), values, err_msg=name)


def test_a_2d_image_has_areas(tmp_path: Path) -> None:
    image = np.full((1, 40, 40), 50, np.uint8)
    image[:, 12:28, 10:30] = 200
    save_volume(tmp_path / "flat.tif", image, spacing=(10, 2, 3), unit="um")
    with Project.create(tmp_path / "flat.voxloop", tmp_path / "flat.tif", classes=["a", "b"]) as project:
        project.configure(slic={"size": 60.0}, features={"sigmas": (0.7,)}, classifier={"n_trees": 5})
        project.paint("a", image == 50)
        project.paint("b", image == 200)
        table = project.table("objects")
        np.testing.assert_allclose(table["area_micrometer2"], table["voxels"] * 6)
        assert table["touches_border"].tolist() == [True, False]
        assert table["area_micrometer2"][1] == 16 * 20 * 6


def test_what_cannot_be_written(project: Project, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(FormatError, match=r"\.csv or \.parquet"):
        project.export_table("objects", tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="expected one of supervoxels, objects, classes"):
        project.export_table("voxels", tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"expected \{dataset_dir\}"):
        project.export_table("objects", tmp_path / "{x}.csv")
    project.export_table("objects", tmp_path / "a.csv")
    with pytest.raises(InputError, match="exists"):
        project.export_table("objects", tmp_path / "a.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install \"voxloop\[tables\]\""):
        project.export_table("objects", tmp_path / "b.parquet")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["a.csv"]
