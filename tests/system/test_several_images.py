"""Several images in a project: channels, colours, time points, and files that were moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from voxloop.cli.main import main
from voxloop.color import rgb_to_lab
from voxloop.errors import InputError, MissingFileError, ProjectError
from voxloop.io import count_frames, open_volume
from voxloop.project import Project
from voxloop.volume import Volume

SHAPE = (6, 20, 24)
SPECS = {"slic": {"size": 60.0, "coarse_sigma": 0.0}, "features": {"sigmas": (0.7,)}, "classifier": {"n_trees": 30}}
HALVES = {"dark": (slice(None), slice(None), slice(0, 12)), "bright": (slice(None), slice(None), slice(12, None))}


def blobs(seed: int = 0) -> np.ndarray:
    """Dark on the left, bright on the right."""
    image = np.full(SHAPE, 60.0)
    image[HALVES["bright"]] = 180
    return (image + np.random.default_rng(seed).normal(0, 10, SHAPE)).clip(0, 255).astype(np.uint8)


def paint_and_check(project: Project, painted: dict[str, int]) -> None:
    """Paint each class on one image only and see that both halves of every image are found."""
    project.configure(**SPECS)
    for name, image in painted.items():
        x = 4 if name == "dark" else 19
        project.paint(name, [(z, y, x + dx) for z in (1, 4) for y in range(20) for dx in (-3, 3)], image=image)
    for index in range(len(project.images)):
        project.export("segmentation", project.folder.parent / f"s{index}.tif", image=index, overwrite=True)
        found = np.asarray(open_volume(project.folder.parent / f"s{index}.tif").data)
        for class_id, half in enumerate(HALVES.values(), start=1):
            assert (found[half] == class_id).mean() > 0.85, index


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """Return a function that runs a command with --json and returns what it printed."""

    def run(*arguments: object) -> dict:
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
        value = json.loads(capsys.readouterr().out)
        assert isinstance(value, dict)
        return value

    return run


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_time_points_are_images_of_one_project(tmp_path: Path, cli, capsys: pytest.CaptureFixture[str]) -> None:
    film = np.stack([blobs(seed) for seed in range(4)])
    tifffile.imwrite(tmp_path / "film.tif", film, ome=True, metadata={"axes": "TZYX"})
    assert count_frames(tmp_path / "film.tif") == 4
    assert np.array_equal(open_volume(tmp_path / "film.tif", frame=2).read()[0], film[2])
    assert "4 time points" in error_of(capsys, "new", tmp_path / "p.voxloop", tmp_path / "film.tif")
    assert not (tmp_path / "p.voxloop").exists()
    classes = ["--class", "dark", "--class", "bright"]
    made = cli("new", tmp_path / "p.voxloop", tmp_path / "film.tif", "--frames", ":3", *classes)
    assert [image["name"] for image in made["images"]] == ["film-t0", "film-t1", "film-t2"]
    added = cli("add", tmp_path / "p.voxloop", tmp_path / "film.tif", "--frames", "3:")
    assert [image["frame"] for image in added["images"]] == [3]
    with Project.open(tmp_path / "p.voxloop") as project:
        for index in range(4):
            assert np.array_equal(project.volume(index).read()[0], film[index])
        paint_and_check(project, {"dark": 0, "bright": 2})
    film[1] += 1
    tifffile.imwrite(tmp_path / "film.tif", film, ome=True, metadata={"axes": "TZYX"})
    with Project.open(tmp_path / "p.voxloop") as project:
        assert project.volume(0).shape == SHAPE
        with pytest.raises(ProjectError, match="its voxels differ"):
            project.volume(1)


@pytest.mark.parametrize(("axes", "shape"), [("tyx", (3, 20, 24)), ("zytx", (2, 5, 3, 6)), ("tzcyx", (3, 2, 2, 5, 6))])
def test_a_time_point_wherever_its_axis_is(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    np.save(tmp_path / "a.npy", array)
    one = open_volume(tmp_path / "a.npy", axes=axes, frame=1)
    expected = Volume.from_array(array.take(1, axes.index("t")), axes=axes.replace("t", ""))
    assert np.array_equal(one.read(), expected.read())
    assert np.array_equal(one.data[0, 1:3, 2], expected.data[0, 1:3, 2])
    assert one.axes == axes
    for frame in (-1, 3):
        with pytest.raises(InputError, match=f"frame is {frame} but the image has 3 time points"):
            open_volume(tmp_path / "a.npy", axes=axes, frame=frame)
    with pytest.raises(InputError, match="has no time points"):
        open_volume(tmp_path / "a.npy", axes="zyxcs"[: len(shape)], frame=0)
    with Project.create(tmp_path / "p.voxloop", one) as project:  # a volume in memory is one frame of its file: stored
        assert np.array_equal(project.volume().read(), expected.read())


def test_channels_and_lab_from_input_to_export(tmp_path: Path, cli) -> None:
    noise = np.random.default_rng(3).integers(0, 255, SHAPE, np.uint8)
    for index in range(2):
        rgb = np.stack([noise, blobs(index), noise[::-1]], axis=-1)
        tifffile.imwrite(tmp_path / f"{index}.tif", rgb, photometric="rgb")
    images = [tmp_path / "0.tif", tmp_path / "1.tif"]
    classes = ["--class", "dark", "--class", "bright"]
    made = cli("new", tmp_path / "one.voxloop", *images, "--channels", 1, *classes)
    assert [image["n_channels"] for image in made["images"]] == [1, 1]
    with Project.open(tmp_path / "one.voxloop") as project:
        assert np.array_equal(project.volume(1).read()[0], blobs(1))
        paint_and_check(project, {"dark": 0, "bright": 1})
    cli("new", tmp_path / "lab.voxloop", *images, "--lab", *classes)
    with Project.open(tmp_path / "lab.voxloop") as project:
        rgb = tifffile.imread(tmp_path / "1.tif")
        assert np.array_equal(np.moveaxis(project.volume(1).read(), 0, -1), rgb_to_lab(rgb))
        assert project.volume().channel_names == ("L*", "a*", "b*")
        assert "in Lab" in project.images[0].describe()
        paint_and_check(project, {"dark": 1, "bright": 0})
        assert any(name.startswith("a*") for name in project.features().names)
    cli("supervoxels", tmp_path / "lab.voxloop", "--channel-weights", "1", "0.5", "0.5")
    with Project.open(tmp_path / "lab.voxloop", read_only=True) as project:
        assert project.specs.slic.channel_weights == (1, 0.5, 0.5)


def test_images_of_other_channels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "grey.npy", blobs())
    np.save(tmp_path / "two.npy", np.stack([blobs(), blobs()], axis=-1))
    with Project.create(tmp_path / "p.voxloop", tmp_path / "grey.npy") as project:
        with pytest.raises(InputError, match="two has 2 channels but grey has 1 channel: the images of a project need"):
            project.add_image(tmp_path / "two.npy")
        with pytest.raises(InputError, match="2 channels"):
            project.add_image(Volume.from_array(np.stack([blobs(), blobs()], axis=-1)))
        assert not (project.folder / "images").exists()
        assert project.add_image(tmp_path / "two.npy", channels=[1]) == 1
    assert "three channels" in error_of(capsys, "add", tmp_path / "p.voxloop", tmp_path / "grey.npy", "--lab")
    assert "--frames takes" in error_of(capsys, "add", tmp_path / "p.voxloop", tmp_path / "grey.npy", "--frames", "x")


def test_a_moved_folder_is_found_by_one_command(tmp_path: Path, cli, capsys: pytest.CaptureFixture[str]) -> None:
    old, project_folder = tmp_path / "scans", tmp_path / "work" / "p.voxloop"
    (old / "monday").mkdir(parents=True)
    project_folder.parent.mkdir()
    for index, name in enumerate(("monday/a", "b", "mask")):
        np.save(old / f"{name}.npy", blobs(index) if name != "mask" else np.ones(SHAPE, np.uint8))
    with Project.create(project_folder, old / "monday" / "a.npy") as project:
        project.add_image(old / "b.npy", mask=old / "mask.npy")
        expected = [project.volume(i).read() for i in range(2)]
    assert cli("relink", project_folder) == {"found": [], "missing": []}
    old.rename(tmp_path / "archive")
    missing = cli("relink", project_folder)["missing"]
    assert missing == sorted(str(old / name) for name in ("monday/a.npy", "b.npy", "mask.npy"))
    assert f"voxloop relink {project_folder} OLD NEW" in error_of(capsys, "supervoxels", project_folder)
    assert "does not exist" in error_of(capsys, "relink", project_folder, old, tmp_path / "nowhere")
    assert "was in" in error_of(capsys, "relink", project_folder, tmp_path / "other", tmp_path / "archive")
    assert "both OLD and NEW" in error_of(capsys, "relink", project_folder, old)
    done = cli("relink", project_folder, old, tmp_path / "archive")
    assert (len(done["found"]), done["missing"]) == (3, [])
    with Project.open(project_folder) as project:
        for index, voxels in enumerate(expected):
            assert np.array_equal(project.volume(index).read(), voxels)
        assert project.mask(1) is not None
    archive = tmp_path / "archive"
    (archive / "b.npy").rename(archive / "renamed.npy")
    cli("relink", project_folder, archive / "b.npy", archive / "renamed.npy")
    with Project.open(project_folder) as project:
        project.volume(1)
        before = project.images
        np.save(archive / "swapped.npy", blobs(7))
        with pytest.raises(
            ProjectError, match=r"swapped\.npy has changed since the project was made: its voxels differ"
        ):
            project.relink(archive / "renamed.npy", archive / "swapped.npy")
        np.save(archive / "empty-mask.npy", np.zeros(SHAPE, np.uint8))
        with pytest.raises(ProjectError):
            project.relink(archive / "mask.npy", archive / "empty-mask.npy")
        with pytest.raises(MissingFileError):
            project.relink(archive, tmp_path)
        assert project.images == before


def test_paths_of_windows_are_found_elsewhere(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", blobs())
    with Project.create(tmp_path / "p.voxloop", tmp_path / "a.npy") as project:
        project.volume()
    document = tmp_path / "p.voxloop" / "project.json"
    text = document.read_text()
    content = json.loads(text)
    content["images"][0]["file"] |= {"relative": "C:/scans/day 1/a.npy", "absolute": "C:\\scans\\day 1\\a.npy"}
    document.write_text(json.dumps(content))
    with Project.open(tmp_path / "p.voxloop") as project:
        assert project.missing_files() == ["C:\\scans\\day 1\\a.npy"]
        (tmp_path / "day 1").mkdir()
        (tmp_path / "a.npy").rename(tmp_path / "day 1" / "a.npy")
        assert project.relink("c:/scans", tmp_path) == [tmp_path / "day 1" / "a.npy"]
        assert project.volume().shape == SHAPE
