"""Whatever is wrong with what is given: one line that says so, from Python and on the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from voxloop.cli.main import main
from voxloop.errors import (
    FormatError,
    InputError,
    MissingFileError,
    ProjectError,
    ProjectInUseError,
    ProjectVersionError,
)
from voxloop.project import Project
from voxloop.volume import Volume

FAST = {
    "slic": {"size": 40.0},
    "features": {"sigmas": (0.7,), "families": ("gaussian",)},
    "classifier": {"n_trees": 5},
}


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that runs a command which must fail, and returns the one line it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> str:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
        captured = capsys.readouterr()
        assert code == 2, captured.err
        assert captured.out == ""
        assert captured.err.startswith("voxloop")
        assert captured.err.endswith("\n")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        return captured.err

    return run


def noise(shape=(6, 12, 14)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


def raises(kind: type[Exception], words: str):
    return pytest.raises(kind, match=words)


# Images


IMAGES = {
    "missing": (lambda _: None, "a.tif", MissingFileError, "does not exist"),
    "a folder": (lambda path: path.mkdir(), "a.tif", (FormatError, MissingFileError), "a.tif"),
    "unknown format": (lambda path: path.write_bytes(b"hello"), "a.xyz", FormatError, "xyz"),
    "no suffix": (lambda path: path.write_bytes(b"hello"), "image", FormatError, "image"),
    "text called TIFF": (lambda path: path.write_bytes(b"hello"), "a.tif", FormatError, "a.tif"),
    "empty": (lambda path: path.write_bytes(b""), "a.npy", FormatError, "a.npy"),
    "cut off": (lambda path: _cut_off(path), "a.tif", FormatError, "a.tif"),
    "5D": (lambda path: np.save(path, np.ones((2, 3, 4, 5, 6), np.uint8)), "a.npy", InputError, "axes"),
    "time": (lambda path: save_time(path), "a.tif", InputError, "time points"),
    "no voxels": (lambda path: np.save(path, np.ones((0, 3, 4), np.uint8)), "a.npy", InputError, "no voxels"),
    "complex": (lambda path: np.save(path, np.ones((2, 3, 4), complex)), "a.npy", InputError, "complex"),
    "objects": (lambda path: np.save(path, np.array([[{}]]), allow_pickle=True), "a.npy", InputError, "a.npy"),
    "one dimension": (lambda path: np.save(path, np.ones(5)), "a.npy", InputError, "axes"),
}


def _cut_off(path: Path) -> None:
    tifffile.imwrite(path, noise((6, 64, 64)), compression="zlib")
    os.truncate(path, 200)


def save_time(path: Path) -> None:
    tifffile.imwrite(path, noise((3, 4, 12, 14)), ome=True, metadata={"axes": "TZYX"})


@pytest.mark.parametrize("case", IMAGES)
def test_images(tmp_path: Path, cli, case: str) -> None:
    make, name, kind, words = IMAGES[case]
    make(tmp_path / name)
    with pytest.raises(kind, match=words) as raised:
        Project.create(tmp_path / "p.voxloop", tmp_path / name)
    assert "\n" not in str(raised.value)
    assert words in cli("new", "p.voxloop", name)
    assert words in cli("info", name)
    assert not (tmp_path / "p.voxloop").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="rights are POSIX")
def test_unreadable_file(tmp_path: Path, cli) -> None:
    np.save(tmp_path / "a.npy", noise())
    (tmp_path / "a.npy").chmod(0)
    if os.access(tmp_path / "a.npy", os.R_OK):
        pytest.skip("this user may read everything")
    with raises(MissingFileError, "Permission"):
        Project.create(tmp_path / "p.voxloop", tmp_path / "a.npy")
    assert "Permission" in cli("info", "a.npy")


@pytest.mark.parametrize("axes", ["zy", "zyxcc", "abc", "zzz", "tyx", ""])
def test_wrong_axes(tmp_path: Path, cli, axes: str) -> None:
    np.save(tmp_path / "a.npy", noise())
    if axes:
        with raises(InputError, "axes|time"):
            Project.create(tmp_path / "p.voxloop", tmp_path / "a.npy", axes=axes)
        cli("new", "p.voxloop", "a.npy", "--axes", axes)
    with raises(InputError, "spacing"):
        Project.create(tmp_path / "p.voxloop", tmp_path / "a.npy", spacing=(0, 1, 1))
    assert "spacing" in cli("new", "p.voxloop", "a.npy", "--spacing", "1", "1", "nan")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path: Path, cli, value: float) -> None:
    image = noise().astype(np.float32)
    image[3, 4, 5] = value
    np.save(tmp_path / "a.npy", image)
    with Project.create(tmp_path / "p.voxloop", tmp_path / "a.npy") as project, raises(InputError, "finite|nan|inf"):
        project.supervoxels()
    cli("supervoxels", "p.voxloop")
    assert not list((tmp_path / "p.voxloop").rglob("*.partial"))


def test_constant_volume_works(tmp_path: Path) -> None:
    with Project.create(tmp_path / "p.voxloop", Volume.from_array(np.full((6, 12, 14), 7, np.uint8))) as project:
        project.configure(**FAST)
        project.add_class("a")
        project.add_class("b")
        project.paint("a", [(0, 0, 0)])
        project.paint("b", [(5, 11, 13)])
        probabilities = project.predict().probabilities
        assert np.isfinite(probabilities).all()
        assert len(project.suggest_slices()) == 1
        project.export("segmentation", tmp_path / "s.tif")


def test_number_of_supervoxels(tmp_path: Path, cli) -> None:
    np.save(tmp_path / "a.npy", noise())
    with Project.create(tmp_path / "p.voxloop", tmp_path / "a.npy") as project:
        for wrong in (0, -1, 1.5, "many"):
            with raises(InputError, "n_segments"):
                project.configure(slic={"n_segments": wrong})
        with raises(InputError, "not both"):
            project.configure(slic={"n_segments": 3, "size": 4.0})
        project.configure(slic={"n_segments": 1})
        assert project.supervoxels().n == 1
        with raises(InputError, "only 1008 voxels"):
            project.configure(slic={"n_segments": 6 * 12 * 14 + 1})
        project.configure(slic={"n_segments": 6 * 12 * 14})
        assert project.supervoxels().n <= 6 * 12 * 14
    assert "n_segments" in cli("supervoxels", "p.voxloop", "--n-segments", 0)
    assert "voxels" in cli("supervoxels", "p.voxloop", "--n-segments", 10**9)
    assert "size" in cli("supervoxels", "p.voxloop", "--size", -1)
    assert "not both" in cli("supervoxels", "p.voxloop", "--size", 3, "--n-segments", 3)
    assert main(["supervoxels", "p.voxloop", "--n-segments", "1"]) == 0


OPTIONS = {
    "features --sigmas 0": "sigmas",
    "features --context 5": "context",
    "features --regions 0": "regions",
    "features --regions 16 4": "regions must ascend",
    "features --sigmas 1 1": "twice",
    "features --sigmas 0.3 --families hessian": "no family is left",
    "features --sigmas-2d 9": "sigmas_2d",
    "features --definition own": "definition",
    "features --families sharpness": "families",
    "features --statistics mode": "statistics",
    "features --sigmas big": "invalid float",
    "train --n-trees 0": "n_trees",
    "train --smoothing 101": "smoothing",
    "train --seed -1": "seed",
    "train --min-samples-leaf 0": "min_samples_leaf",
    "suggest --number 0": "number",
    "suggest --axis q": "invalid choice",
    "suggest --image 3": "image is 3",
    "predict --threads 0": "--threads",
    "run --export everything=a.tif": "everything",
    "run --export segmentation": "KEY=VALUE",
    "label": "required",
    "label --points a.csv --undo": "not allowed",
    "label --points nothing.csv": "nothing.csv",
    "label --undo --map 1=a": "--map goes with --volume",
    "label --volume truth.tif --map a=b": "whole number",
    "label --volume truth.tif --map 77=b": "no value among",
    "label --redo": "redo",
    "nonsense": "unrecognized",
}


@pytest.mark.parametrize("line", OPTIONS)
def test_options(cells: Path, cli, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.chdir(cells)
    before = (cells / "cells.voxloop" / "project.json").read_bytes()
    command, *rest = line.split()
    if command == "nonsense":
        assert words_in(cli("info", "cells.tif", "--nonsense"), OPTIONS[line])
    else:
        assert words_in(cli(command, "cells.voxloop", *rest), OPTIONS[line])
    assert (cells / "cells.voxloop" / "project.json").read_bytes() == before
    assert main(["run", "cells.voxloop"]) == 0


def words_in(line: str, words: str) -> bool:
    return words in line


def test_new_options(tmp_path: Path, cli) -> None:
    np.save(tmp_path / "a.npy", noise())
    np.save(tmp_path / "m.npy", np.ones((2, 2, 2), np.uint8))
    np.save(tmp_path / "f.npy", np.ones((6, 12, 14)))
    for arguments, words in (
        (("--crop", "1:2"), "--crop takes"),
        (("--crop", "a:b,:,:"), "--crop takes"),
        (("--crop", "1:2:3,:,:"), "--crop takes"),
        (("--crop", "4:99,:,:"), "crop along z"),
        (("--crop", "4:4,:,:"), "crop along z"),
        (("--mask", "m.npy"), "mask has shape"),
        (("--mask", "f.npy"), "float64"),
        (("--mask", "no.npy"), "does not exist"),
        (("a.npy", "--mask", "f.npy"), "--mask goes with one image"),
        (("--class", ""), "name"),
        (("--class", "a", "--class", "a"), "another class is called so"),
        (("--unit", "smoots"), "unit"),
    ):
        assert words in cli("new", "p.voxloop", "a.npy", *arguments)
        assert not (tmp_path / "p.voxloop").exists()
    assert "does not exist" in cli("new", "no/p.voxloop", "a.npy")
    assert "exists" in cli("new", "m.npy", "a.npy")


# Masks and labels


def test_masks(tmp_path: Path, cli) -> None:
    image = Volume.from_array(noise())
    with raises(InputError, r"mask has shape \(2, 2, 2\) but the image has shape \(6, 12, 14\)"):
        Project.create(tmp_path / "p.voxloop", image, mask=np.ones((2, 2, 2), bool))
    with (
        Project.create(tmp_path / "p.voxloop", image, mask=np.zeros((6, 12, 14), bool)) as project,
        raises(InputError, "0 everywhere"),
    ):
        project.supervoxels()
    assert "0 everywhere" in cli("supervoxels", "p.voxloop")


TABLES = {
    "no such column": ("z,y,class\n0,0,a\n", "no column 'x'"),
    "no points": ("z,y,x,class\n", "no points"),
    "empty": ("", "no column"),
    "half a voxel": ("z,y,x,class\n0.5,0,0,a\n", "line 2"),
    "too few": ("z,y,x,class\n0,0\n", "line 2"),
    "no class": ("z,y,x,class\n0,0,0,\n", "class is empty"),
    "outside": ("z,y,x,class\n0,0,0,a\n0,0,48,a\n", "line 3"),
    "below 0": ("z,y,x,class\n-1,0,0,a\n", "outside"),
    "tab in a name": ("z,y,x,class\n0,0,0,a\tb\n", "name"),
    "no text": (b"\xff\xfe\x00", "UTF-8"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_points(cells: Path, cli, case: str) -> None:
    content, words = TABLES[case]
    (cells / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    before = (cells / "cells.voxloop" / "annotations.jsonl").read_bytes()
    with Project.open(cells / "cells.voxloop") as project, raises(InputError, words):
        project.import_points(cells / "t.csv")
    assert words in cli("label", cells / "cells.voxloop", "--points", cells / "t.csv")
    assert (cells / "cells.voxloop" / "annotations.jsonl").read_bytes() == before


def test_label_volumes(cells: Path, cli) -> None:
    for name, array, words in (
        ("shape", np.ones((2, 3, 4), np.uint8), "labels has shape"),
        ("floats", np.ones((16, 48, 48)), "float64"),
        ("zeros", np.zeros((16, 48, 48), np.uint8), "no value above 0"),
        ("unknown", np.full((16, 48, 48), 9, np.uint8), "there is no class 9"),
        ("channels", np.ones((16, 48, 48, 2), np.uint8), "channels"),
    ):
        np.save(cells / f"{name}.npy", array)
        with Project.open(cells / "cells.voxloop") as project, raises(InputError, words):
            project.import_labels(cells / f"{name}.npy")
        assert words in cli("label", cells / "cells.voxloop", "--volume", cells / f"{name}.npy")


def test_too_few_labels(cells: Path, cli) -> None:
    project = cells / "cells.voxloop"
    main(["new", str(cells / "p.voxloop"), str(cells / "cells.tif"), "--class", "a", "--class", "b"])
    assert main(["suggest", str(cells / "p.voxloop")]) == 0  # of what is typical
    for command in ("train", "predict", "run"):
        assert "there are no labels to train on" in cli(command, cells / "p.voxloop", "--json")
    assert "no labels" in cli("export", cells / "p.voxloop", "segmentation", cells / "s.tif")
    (cells / "one.csv").write_text("z,y,x,class\n0,0,0,a\n")
    main(["label", str(cells / "p.voxloop"), "--points", str(cells / "one.csv")])
    assert "all labels are 'a'; training needs labels of two classes" in cli("train", cells / "p.voxloop")
    assert not (cells / "s.tif").exists()
    with Project.open(project) as opened:
        opened.clear_labels()
        with raises(InputError, "no labels"):
            opened.predict()


def test_every_supervoxel_is_labelled(cells: Path, cli) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        project.import_labels(cells / "truth.tif")
        with raises(InputError, "every supervoxel is labelled"):
            project.suggest_slices()
    assert "every supervoxel is labelled" in cli("suggest", cells / "cells.voxloop")


# Projects


def test_projects(cells: Path, cli) -> None:
    project = cells / "cells.voxloop"
    assert "no voxloop project" in cli("run", cells)
    assert "no voxloop project" in cli("predict", cells / "nothing.voxloop")
    document = json.loads((project / "project.json").read_text())
    (project / "project.json").write_text(json.dumps({**document, "schema_version": 2}))
    with raises(ProjectVersionError, "update voxloop"):
        Project.open(project)
    assert "update voxloop" in cli("run", project)
    assert "update voxloop" in cli("info", project)
    (project / "project.json").write_text(json.dumps(document))
    (project / "annotations.jsonl").unlink()
    assert "lost its labels" in cli("info", project)


def test_images_of_projects(tmp_path: Path, cli) -> None:
    np.save(tmp_path / "a.npy", noise())
    main(["new", "p.voxloop", "a.npy"])
    (tmp_path / "a.npy").unlink()
    assert "a.npy is missing" in cli("supervoxels", "p.voxloop")
    np.save(tmp_path / "a.npy", 255 - noise())
    with Project.open(tmp_path / "p.voxloop") as opened, raises(ProjectError, "has changed since"):
        opened.supervoxels()
    assert "has changed since" in cli("supervoxels", "p.voxloop")
    np.save(tmp_path / "a.npy", noise())
    assert main(["supervoxels", "p.voxloop"]) == 0


def test_project_in_use(cells: Path, cli) -> None:
    hold = (
        "import sys; from voxloop.project import Project\n"
        "with Project.open(sys.argv[1]):\n    print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, cells / "cells.voxloop"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"open\n"
        with raises(ProjectInUseError, f"process {holder.pid}"):
            Project.open(cells / "cells.voxloop")
        assert f"process {holder.pid}" in cli("run", cells / "cells.voxloop")
        assert main(["info", str(cells / "cells.voxloop")]) == 0  # looking needs no lock
        holder.stdin.close()
    assert main(["run", str(cells / "cells.voxloop")]) == 0


def test_exports(cells: Path, cli) -> None:
    project = cells / "cells.voxloop"
    (cells / "there.tif").write_bytes(b"mine")
    assert "exists" in cli("export", project, "segmentation", cells / "there.tif")
    assert (cells / "there.tif").read_bytes() == b"mine"
    assert "does not exist" in cli("export", project, "segmentation", cells / "no" / "s.tif")
    assert "xyz" in cli("export", project, "segmentation", cells / "s.xyz")
    assert "invalid choice" in cli("export", project, "everything", cells / "s.tif")
    assert "image is 1" in cli("export", project, "labels", cells / "s.tif", "--image", 1)
    assert sorted(p.name for p in cells.iterdir()) == ["cells.tif", "cells.voxloop", "there.tif", "truth.tif"]
    assert main(["export", str(project), "segmentation", str(cells / "there.tif"), "--overwrite"]) == 0


# Full disks


LIMITED = """
import resource, signal, sys
from voxloop.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
@pytest.mark.parametrize("suffix", ["tif", "npy", "zarr"])
def test_full_disk(cells: Path, suffix: str) -> None:
    def run_within(n_bytes: int, *arguments: object) -> str:
        command = [sys.executable, "-c", LIMITED, str(n_bytes), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 2, result.stderr
        assert result.stderr.count("\n") == 1
        assert "cannot write" in result.stderr or "cannot be" in result.stderr
        return result.stderr

    project = cells / "cells.voxloop"
    limit = {"tif": 40_000, "npy": 40_000, "zarr": 2_000}[suffix]
    run_within(limit, "export", project, "uncertainty", cells / f"u.{suffix}")
    assert sorted(p.name for p in cells.iterdir()) == ["cells.tif", "cells.voxloop", "truth.tif"]
    if suffix == "npy":
        before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
        run_within(40_000, "supervoxels", project, "--size", 90)
        run_within(8_000, "features", project, "--sigmas", 1)
        (cells / "p.csv").write_text(
            "z,y,x,class\n" + "".join(f"{i % 16},{i % 47},{i % 43},background\n" for i in range(999))
        )
        run_within(8_000, "label", project, "--points", cells / "p.csv")
        run_within(500, "label", project, "--points", cells / "p.csv")
        assert not list(project.rglob("*.partial"))
        assert (project / "annotations.jsonl").read_bytes() == before[project / "annotations.jsonl"]
        (project / "project.json").write_bytes(before[project / "project.json"])
        assert main(["run", str(project)]) == 0
        with Project.open(project, read_only=True) as opened:
            assert opened.is_current("prediction")
