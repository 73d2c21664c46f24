"""One classifier on many images: the same bits as in the project, failures aside, stopped and resumed."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from voxloop.cli.main import main
from voxloop.errors import Cancelled, InputError
from voxloop.io import open_labels, open_volume, save_volume
from voxloop.project import BatchImage, Model, Project, batch
from voxloop.samples import phantom

PATTERN = "{dataset_dir}/{nickname}-{result_type}.tif"


@pytest.fixture
def more(cells: Path) -> list[Path]:
    """Two more images like that of the project."""
    files = []
    for seed in (5, 6):
        image = phantom((12, 40, 44), seed=seed).image
        files.append(cells / f"more{seed}.tif")
        save_volume(files[-1], image.data, spacing=image.spacing, unit=image.unit)
    return files


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_projects_own_image_gets_the_same_bytes(cells: Path, tmp_path: Path) -> None:
    before = contents(cells / "cells.voxloop")
    sources = ["segmentation", "graph_cut", "probabilities", "uncertainty", "supervoxels", "objects", "masks"]
    (item,) = batch(cells / "cells.voxloop", [cells / "cells.tif"], tmp_path / "{result_type}.npy", sources=sources)
    assert item.state == "written"
    assert contents(cells / "cells.voxloop") == before
    with Project.open(cells / "cells.voxloop", read_only=True) as project:
        for source in sources:
            project.export(source, tmp_path / "own.npy", overwrite=True)
            assert (tmp_path / "own.npy").read_bytes() == (tmp_path / f"{source}.npy").read_bytes(), source


def test_a_model_file_needs_no_project(cells: Path, more: list[Path], tmp_path: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        batch(project, more, tmp_path / "{nickname}.npy", sources=["probabilities"])
        path = project.model().save(tmp_path / "cells.voxmodel")
        project.model().save(tmp_path / "again.voxmodel")
    assert (tmp_path / "again.voxmodel").read_bytes() == path.read_bytes()
    shutil.rmtree(cells / "cells.voxloop")
    (cells / "cells.tif").unlink()
    model = Model.open(path)
    assert [c.name for c in model.classes] == ["background", "mitochondria"]
    items = batch(path, more, tmp_path / "{nickname}-alone.npy", sources=["probabilities"], jobs=2)
    assert [item.state for item in items] == ["written", "written"]
    for file in more:
        one, other = (np.load(tmp_path / f"{file.stem}{end}.npy") for end in ("", "-alone"))
        assert one.tobytes() == other.tobytes()


def test_failures_do_not_stop_the_others(cells: Path, more: list[Path]) -> None:
    (cells / "broken.tif").write_bytes(more[0].read_bytes()[:5000])
    save_volume(cells / "two.tif", np.zeros((4, 20, 20, 2), np.uint8))
    save_volume(cells / "flat.tif", np.arange(900, dtype=np.uint8).reshape(30, 30), axes="yx")
    images = [cells / "broken.tif", more[0], cells / "two.tif", cells / "no.tif", cells / "flat.tif", more[1]]
    seen = []
    items = batch(cells / "cells.voxloop", images, PATTERN, jobs=2, report=seen.append)
    assert [item.image for item in items] == [str(image) for image in images]
    assert [item.state for item in items] == ["failed", "written", "failed", "failed", "failed", "written"]
    words = ["truncated", "", "2 channel", "does not exist", "single slice", ""]
    for item, word in zip(items, words, strict=True):
        assert word in item.reason
        assert "\n" not in item.reason
    assert sorted(item.image for item in seen) == sorted(item.image for item in items)
    assert sorted(p.name for p in cells.glob("*-segmentation.tif")) == [
        "more5-segmentation.tif",
        "more6-segmentation.tif",
    ]
    assert not list(cells.glob(".*"))


def test_a_stopped_batch_goes_on(cells: Path, more: list[Path]) -> None:
    def stop_in_the_second(stage: str, done: int, total: int) -> None:
        if (cells / "more5-segmentation.tif").exists():
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        batch(cells / "cells.voxloop", more, PATTERN, progress=stop_in_the_second)
    first = cells / "more5-segmentation.tif"
    assert first.exists()
    assert not (cells / "more6-segmentation.tif").exists()
    assert not list(cells.glob(".*"))
    written = first.stat().st_mtime_ns
    items = batch(cells / "cells.voxloop", more, PATTERN)
    assert [item.state for item in items] == ["there", "written"]
    assert first.stat().st_mtime_ns == written
    # A new source is added for both; the old ones stay.
    items = batch(cells / "cells.voxloop", more[:1], PATTERN, sources=["segmentation", "uncertainty"])
    assert [item.state for item in items] == ["written"]
    assert first.stat().st_mtime_ns == written
    assert (cells / "more5-uncertainty.tif").exists()
    assert batch(cells / "cells.voxloop", more[:1], PATTERN, overwrite=True)[0].state == "written"
    assert first.stat().st_mtime_ns != written


def test_files_of_classes_and_slices_are_resumed_one_by_one(cells: Path, more: list[Path], tmp_path: Path) -> None:
    for pattern, lost in (
        ("{nickname}-{class}.npy", "more5-mitochondria.npy"),
        ("s/{nickname}_{slice_index}.png", None),
    ):
        (tmp_path / "s").mkdir(exist_ok=True)
        arguments = {"sources": ["masks" if lost else "segmentation"]}
        assert batch(cells / "cells.voxloop", more, tmp_path / pattern, **arguments)[0].state == "written"
        before = contents(tmp_path)
        if lost:
            (tmp_path / lost).unlink()
        items = batch(cells / "cells.voxloop", more, tmp_path / pattern, **arguments)
        assert [item.state for item in items] == ["written" if lost else "there", "there"]
        assert contents(tmp_path) == before


def test_tables_of_each_image(cells: Path, more: list[Path], tmp_path: Path) -> None:
    tables = {"objects": tmp_path / "{nickname}.csv", "classes": tmp_path / "{nickname}-{result_type}.parquet"}
    items = batch(cells / "cells.voxloop", [cells / "cells.tif", *more], tmp_path / "{nickname}.tif", tables=tables)
    assert [len(item.files) for item in items] == [3, 3, 3]
    with Project.open(cells / "cells.voxloop", read_only=True) as project:
        own = project.export_table("objects", tmp_path / "own.csv")
    assert (tmp_path / "cells.csv").read_bytes() == own.read_bytes()
    (tmp_path / "more5.csv").unlink()
    again = batch(cells / "cells.voxloop", more, tmp_path / "{nickname}.tif", tables=tables)
    assert [item.state for item in again] == ["written", "there"]
    assert (tmp_path / "more5.csv").exists()


def test_voxels_of_another_size_are_noted(cells: Path, more: list[Path], tmp_path: Path) -> None:
    (item,) = batch(cells / "cells.voxloop", more[:1], tmp_path / "a.tif", spacing=(20, 16, 16))
    assert item.note == "its voxels are 20 x 16 x 16 nanometer, those of the training were 10 x 8 x 8"
    assert open_labels(tmp_path / "a.tif").spacing == (20, 16, 16)


def test_options_reach_the_files(cells: Path, more: list[Path], tmp_path: Path) -> None:
    options = {"dtype": "uint8", "rescale": (0, 1), "axes": "xyzc", "crop": (slice(0, 4), slice(None), slice(3, 9))}
    batch(cells / "cells.voxloop", more[:1], tmp_path / "a.h5", sources=["probabilities"], **options)
    volume = open_volume(tmp_path / "a.h5")
    assert (volume.axes, volume.shape, volume.dtype) == ("xyzc", (4, 40, 6), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": "same.tif"}, "two results would be written to same.tif"),
        ({"out": "{nickname}.tif", "sources": ["segmentation", "masks"]}, "two results"),
        ({"out": "{who}.tif"}, "expected {dataset_dir}"),
        ({"sources": ["labels"]}, "no labels"),
        ({"out": "{nickname}.docx"}, "names no known format"),
        ({"tables": {"objects": "{nickname}.xls"}}, "no format of tables"),
        ({"tables": {"voxels": "{nickname}.csv"}}, "table is 'voxels'"),
        ({"tables": {"objects": "a.csv"}}, "two results"),
        ({"sources": ["features"]}, "name the features"),
        ({"sources": []}, "no labels"),
        ({"sources": ["everything"]}, "source is 'everything'"),
        ({"images": []}, "no images"),
        ({"images": ["a.tif", "a.tif"]}, "named twice"),
        ({"jobs": 0}, "jobs"),
        ({"dtype": "int3"}, "dtype"),
        ({"color": "red"}, "no option 'color'"),
        ({"memory": "many"}, "memory"),
    ],
)
def test_arguments_that_cannot_be_used(cells, monkeypatch, arguments, message) -> None:
    monkeypatch.chdir(cells)
    chosen = {"images": ["a.tif", "b.tif"], "out": "{nickname}-{result_type}.tif", **arguments}
    with pytest.raises(InputError, match=message):
        batch("cells.voxloop", chosen.pop("images"), chosen.pop("out"), **chosen)


def test_options_of_one_source_go_beside_other_sources(cells: Path, more: list[Path], tmp_path: Path) -> None:
    out, sources = tmp_path / "{result_type}.npy", ["segmentation", "graph_cut", "features"]
    (item,) = batch(cells / "cells.voxloop", more[:1], out, sources=sources, features=["gaussian:1.6"], strength=8.0)
    assert item.state == "written", item.reason
    found = {source: np.load(tmp_path / f"{source}.npy") for source in sources}
    assert found["features"].dtype == np.float32
    assert (found["graph_cut"] != found["segmentation"]).any()


def test_feature_volumes_do_not_travel(cells: Path, tmp_path: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        project.add_feature_volume(cells / "truth.tif")
        with pytest.raises(InputError, match="feature volumes"):
            project.model()


def test_what_is_no_project_and_no_model(cells: Path) -> None:
    with pytest.raises(InputError, match="no model"):
        batch(cells / "cells.tif", [cells / "cells.tif"], "x.tif")
    with pytest.raises(FileNotFoundError):
        batch(cells / "no.voxmodel", [cells / "cells.tif"], "x.tif")


KILLED = """
import os, signal, sys
from voxloop.io.writers import RawWriter
from voxloop.project import batch

blocks = []
write = RawWriter.write

def kill_in_the_second_file(self, box, block):
    write(self, box, block)
    blocks.append(self.header.path)
    if len(set(blocks)) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

RawWriter.write = kill_in_the_second_file
batch("cells.voxloop", sys.argv[1:], "{nickname}-{result_type}.tif")
"""


@pytest.mark.slow
def test_a_killed_batch_goes_on(cells: Path, more: list[Path]) -> None:
    names = [file.name for file in more]
    killed = subprocess.run([sys.executable, "-c", KILLED, *names], cwd=cells, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (cells / "more5-segmentation.tif").exists()
    assert not (cells / "more6-segmentation.tif").exists()
    items = batch(cells / "cells.voxloop", more, PATTERN)
    assert [item.state for item in items] == ["there", "written"]
    batch(cells / "cells.voxloop", more, cells / "whole-{nickname}.tif")
    for file in more:
        resumed, whole = open_labels(cells / f"{file.stem}-segmentation.tif"), open_labels(cells / f"whole-{file.name}")
        np.testing.assert_array_equal(resumed.read(), whole.read())


def test_masks_parts_and_time_points(cells: Path, more: list[Path], tmp_path: Path) -> None:
    """Each gives the bytes that a file of just that part, or of that time point, gives."""
    first, second = (np.asarray(open_volume(file).data) for file in more)
    about = {"spacing": open_volume(more[0]).spacing, "unit": open_volume(more[0]).unit}
    crop = (slice(2, 10), slice(None), slice(5, 40))
    inside = np.zeros(first.shape, np.uint8)
    inside[3:9, 5:30, 8:36] = 1
    save_volume(cells / "inside.tif", inside)
    save_volume(cells / "part.tif", first[crop], **about)
    save_volume(cells / "part-inside.tif", inside[crop])
    tifffile.imwrite(cells / "film.tif", np.stack([first, second]), ome=True, metadata={"axes": "TZYX"})
    items = batch(
        cells / "cells.voxloop",
        [
            BatchImage(more[0], crop=crop, name="cropped"),
            BatchImage(more[0], crop=crop, mask=cells / "inside.tif", name="both"),
            BatchImage(cells / "part.tif", mask=cells / "part-inside.tif"),
            BatchImage(cells / "part.tif", name="plain"),
            cells / "film.tif",
            more[1],
            cells / "no.tif",
        ],
        tmp_path / "{nickname}.npy",
        sources=["probabilities"],
        frames=slice(None),
        spacing=about["spacing"],
        unit=about["unit"],
    )
    assert [(Path(item.image).name, item.frame, item.state) for item in items] == [
        ("more5.tif", None, "written"),
        ("more5.tif", None, "written"),
        ("part.tif", None, "written"),
        ("part.tif", None, "written"),
        ("film.tif", 0, "written"),
        ("film.tif", 1, "written"),
        ("more6.tif", None, "written"),
        ("no.tif", None, "failed"),
    ]
    found = {file.stem: np.load(file) for file in tmp_path.glob("*.npy")}
    assert found["cropped"].tobytes() == found["plain"].tobytes()
    assert found["both"].tobytes() == found["part"].tobytes()
    assert not found["both"][inside[crop] == 0].any()
    assert found["both"][inside[crop] == 1].all()
    assert found["film-t1"].tobytes() == found["more6"].tobytes()
    assert found["film-t0"].tobytes() != found["film-t1"].tobytes()


def test_a_mask_beside_each_image(cells: Path, more: list[Path], tmp_path: Path) -> None:
    save_volume(cells / "more5-mask.tif", np.ones((12, 40, 44), np.uint8))
    save_volume(cells / "more6-mask.tif", np.ones((12, 40, 45), np.uint8))
    images = [more[0], more[1], cells / "cells.tif"]
    items = batch(
        cells / "cells.voxloop", images, tmp_path / "{nickname}.npy", mask="{dataset_dir}/{nickname}-mask.tif"
    )
    assert [item.state for item in items] == ["written", "failed", "failed"]
    assert "mask-tif" not in items[1].reason
    assert "more6-mask.tif has shape (12, 40, 45)" in items[1].reason
    assert "cells-mask.tif does not exist" in items[2].reason


def test_a_table_of_images(cells: Path, more: list[Path], tmp_path: Path, monkeypatch, capsys) -> None:
    save_volume(cells / "inside.tif", np.ones((12, 40, 44), np.uint8))
    (cells / "images.csv").write_text(
        "Image, name, mask, crop, frame\n"
        'more5.tif,left,,":,:,0:22",\n'
        'more5.tif,right,inside.tif,":,:,22:",\n'
        "more6.tif,,,,\n"
    )
    (cells / "elsewhere").mkdir()
    monkeypatch.chdir(cells / "elsewhere")
    command = ["batch", "../cells.voxloop"]
    assert main([*command, "--list", "../images.csv", "--out", "{nickname}.npy"]) == 0
    assert {file.stem: np.load(file).shape for file in Path().glob("*.npy")} == {
        "left": (12, 40, 22),
        "right": (12, 40, 22),
        "more6": (12, 40, 44),
    }
    for text, message in [
        ("image,colour\nmore5.tif,red\n", "images.csv, line 2: column 'colour' is not known"),
        ("image,frame\nmore5.tif,first\n", "images.csv, line 2: expected the path of an image, and a time point"),
        ("image,crop\nmore5.tif,0:3\n", "images.csv, line 2: crop takes Z0:Z1,Y0:Y1,X0:X1"),
        ("file\nmore5.tif\n", "has no column 'image'; its first line must name image"),
        ("image\n", "there are no images to segment"),
        ("image\nmore5.tif\nmore5.tif\n", "more5.tif is named twice"),
    ]:
        (cells / "images.csv").write_text(text)
        capsys.readouterr()
        assert main([*command, "--list", "../images.csv", "--out", "{nickname}-2.npy"]) == 2
        assert message in capsys.readouterr().err
    assert main([*command, "--out", "a.npy"]) == 2
