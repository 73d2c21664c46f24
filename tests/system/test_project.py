"""A project over its life: made, labelled, computed, closed, moved, opened again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import voxloop
from voxloop.errors import Cancelled, InputError, MissingFileError, ProjectError, ProjectInUseError, ProjectVersionError
from voxloop.io import open_volume, save_volume
from voxloop.project import Project, computed
from voxloop.project.annotations import ClassMerged, ClassRemoved
from voxloop.volume import Volume

# Brightness alone tells the halves of `blobs` apart.
FAST = {
    "slic": {"size": 100.0},
    "features": {"sigmas": (0.7,), "families": ("gaussian",), "statistics": ("mean",), "context": 0},
    "classifier": {"n_trees": 25, "smoothing": 0},
}
SHAPE = (8, 20, 24)


def blobs(shape=SHAPE, seed=0) -> np.ndarray:
    """Two halves of different brightness, and noise."""
    image = np.random.default_rng(seed).normal(100, 5, shape)
    image[..., shape[-1] // 2 :] += 80
    return image.astype(np.uint8)


def label_halves(project: Project, image: int = 0) -> None:
    z, y, x = (n // 2 for n in project.images[image].shape)
    project.paint("dark", [(z, y, 1), (z, y, x // 2)], image=image)
    project.paint("bright", [(z, y, x + x // 2), (z, y, 2 * x - 1)], image=image)


def assert_halves_found(project: Project, image: int = 0) -> None:
    """Supervoxels that do not straddle the middle are of the class of their half."""
    distance = project.supervoxels(image).centers[:, 2] - (project.images[image].shape[2] - 1) / 2
    clear = np.abs(distance) > 3
    assert clear.sum() > 6
    assert np.array_equal(project.predict(image).segmentation[clear] == 2, distance[clear] > 0)


def new_project(folder: Path, image, **options) -> Project:
    project = Project.create(folder / "p.voxloop", image, classes=["dark", "bright"], **options)
    project.configure(**FAST)
    return project


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the modification time and size of everything in a folder."""
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_everything_is_there_again_after_closing(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        before = project.predict().probabilities.copy()
        labels, classes, specs = project.labels().ids, project.annotations.classes, project.specs
    with Project.open(cells / "cells.voxloop") as project:
        assert project.class_names == {1: "background", 2: "mitochondria"}
        assert project.annotations.classes == classes
        assert project.specs == specs
        assert project.specs.slic.size == 100
        assert np.array_equal(project.labels().ids, labels)
        assert all(project.is_current(stage) for stage in ("supervoxels", "features", "prediction"))
        assert np.array_equal(project.predict().probabilities, before)
        assert project.images[0].spacing == (10.0, 8.0, 8.0)


def test_an_error_in_create_leaves_no_folder(cells: Path) -> None:
    for wrong in (
        {"image": cells / "nothing.tif"},
        {"image": cells / "cells.tif", "mask": np.ones((1, 2, 3), bool)},
        {"image": cells / "cells.tif", "crop": (slice(0, 99), slice(None), slice(None))},
        {"image": [cells / "cells.tif", cells / "nothing.tif"]},
        {"classes": ["a", "a"]},
        {"image": np.zeros((3, 3, 3))},
    ):
        with pytest.raises((InputError, MissingFileError)) as raised:
            Project.create(cells / "new.voxloop", **wrong)
        assert "\n" not in str(raised.value)
        assert not (cells / "new.voxloop").exists()
    with pytest.raises(InputError, match="exists"):
        Project.create(cells / "cells.voxloop")
    with pytest.raises(MissingFileError, match="does not exist"):
        Project.create(cells / "no" / "new.voxloop")


def test_a_failed_image_leaves_no_file_behind(tmp_path: Path) -> None:
    with new_project(tmp_path, None) as project:
        before = tree(project.folder)
        for options in ({"mask": np.ones((2, 2, 2), bool)}, {"crop": (slice(5, 2), slice(None), slice(None))}):
            with pytest.raises(InputError):
                project.add_image(Volume.from_array(blobs()), **options)
        assert tree(project.folder) == before
        assert project.images == ()


def test_images_of_a_project_train_one_classifier(tmp_path: Path) -> None:
    for index in range(2):
        np.save(tmp_path / f"{index}.npy", blobs(seed=index))
    with new_project(tmp_path, [tmp_path / "0.npy", tmp_path / "1.npy"]) as project:
        project.paint("dark", [(4, 10, 2)], image=0)
        with pytest.raises(InputError, match="all labels are 'dark'"):
            project.train()
        project.paint("bright", [(4, 10, 21)], image=1)
        summary = project.label_summary()
        assert summary.counts == {"dark": 1, "bright": 1}
        for index in range(2):
            assert_halves_found(project, index)
        one = project.train()
        project.clear_labels(image=1)
        assert project.labels(1).n == 0
        project.undo()
        assert project.train().to_arrays()["first_threshold"].tobytes() == one.to_arrays()["first_threshold"].tobytes()


def test_mask(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:, 4:16] = True
    with new_project(tmp_path, Volume.from_array(blobs()), mask=mask) as project:
        label_halves(project)
        project.paint("dark", [(0, 0, 0), (0, 0, 1)])  # outside
        assert project.labels().n_outside == 2
        assert project.label_summary().n_outside == 2
        project.export("segmentation", tmp_path / "s.npy")
        assert np.array_equal(np.load(tmp_path / "s.npy") > 0, mask)
        shares = project.class_shares()
        assert sum(shares.values()) == pytest.approx(1)
    with Project.open(tmp_path / "p.voxloop") as project:
        assert project.is_current("prediction")


def test_labels_all_outside_the_mask(tmp_path: Path) -> None:
    mask = np.ones(SHAPE, bool)
    mask[0] = False
    with new_project(tmp_path, Volume.from_array(blobs()), mask=mask) as project:
        project.paint("dark", [(0, 0, 0)])
        project.paint("bright", [(0, 0, 22)])
        with pytest.raises(InputError, match="no labels"):
            project.train()


def test_crop_is_the_same_as_a_file_of_that_part(tmp_path: Path) -> None:
    whole = blobs((12, 30, 40))
    np.save(tmp_path / "whole.npy", whole)
    np.save(tmp_path / "part.npy", whole[2:10, 5:25, 8:32])
    crop = (slice(2, 10), slice(5, 25), slice(8, 32))
    results = []
    for name, image, options in (("a", "whole.npy", {"crop": crop}), ("b", "part.npy", {})):
        (tmp_path / name).mkdir()
        with new_project(tmp_path / name, tmp_path / image, **options) as project:
            label_halves(project)
            results.append(project.predict().probabilities)
        with Project.open(tmp_path / name / "p.voxloop") as project:
            assert np.array_equal(project.volume().data[()], whole[crop])
            assert project.is_current("prediction")
    assert np.array_equal(*results)


def test_parts_and_channels_of_a_file_are_what_is_opened_again(tmp_path: Path) -> None:
    channels = np.stack([blobs(seed=0), 255 - blobs(seed=1)], axis=-1)
    np.save(tmp_path / "c.npy", channels)
    volume = open_volume(tmp_path / "c.npy", axes="zyxc")
    views = {
        "all": (volume, channels),
        "second": (volume.with_channels([1]), channels[..., 1]),
        "turned": (volume.with_channels([1, 0]), channels[..., ::-1]),
        "part": (volume.crop(voxloop.Box((1, 2, 3), (6, 15, 20))), channels[1:6, 2:15, 3:20]),
        "scaled": (volume.with_spacing((3.0, 1.0, 1.0), "nanometer"), channels),
    }
    for name, (view, expected) in views.items():
        (tmp_path / name).mkdir()
        new_project(tmp_path / name, view).close()
        with Project.open(tmp_path / name / "p.voxloop") as project:
            assert np.array_equal(project.volume().data[()], expected), name
            assert project.volume().spacing == view.spacing
            # A file that holds just these voxels is not copied.
            assert (project.folder / "images").exists() == (name not in ("all", "scaled"))


def test_channels_are_all_described(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 255, SHAPE, np.uint8)
    with new_project(tmp_path, Volume.from_array(np.stack([noise, blobs()], axis=-1))) as project:
        names = project.features().names
    (tmp_path / "one").mkdir()
    with new_project(tmp_path / "one", Volume.from_array(blobs())) as project:
        assert len(names) == 2 * len(project.features().names)
    assert len(set(names)) == len(names)


def test_unit_of_the_spacing_changes_nothing(tmp_path: Path) -> None:
    found = []
    for name, spacing, unit in (("nm", (30.0, 10.0, 10.0), "nm"), ("um", (0.03, 0.01, 0.01), "um")):
        (tmp_path / name).mkdir()
        with new_project(tmp_path / name, Volume.from_array(blobs()), spacing=spacing, unit=unit) as project:
            label_halves(project)
            found.append(project.predict().probabilities.tobytes())
    assert found[0] == found[1]
    (tmp_path / "cubes").mkdir()
    with new_project(tmp_path / "cubes", Volume.from_array(blobs())) as project:
        label_halves(project)
        assert project.predict().probabilities.tobytes() != found[0]


@pytest.mark.parametrize("shape", [(1, 20, 24), (8, 1, 24), (8, 20, 1), (1, 1, 60)])
def test_one_voxel_thick(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 50, np.uint8)
    half = tuple(slice(n // 2, None) if n == max(shape) else slice(None) for n in shape)
    image[half] = 200
    last = tuple(n - 1 for n in shape)
    with new_project(tmp_path, Volume.from_array(image)) as project:
        project.configure(slic={"size": 10.0})
        project.paint("dark", [(0, 0, 0)])
        project.paint("bright", [last])
        project.export("segmentation", tmp_path / "s.npy")
        segmentation = np.load(tmp_path / "s.npy")
        assert segmentation.shape == shape
        assert segmentation[0, 0, 0] == 1
        assert segmentation[last] == 2
        suggestion = project.suggest_slices()
        assert all(0 <= c < n for s in suggestion for c, n in zip(s.center, shape, strict=True))


def test_2d_image(tmp_path: Path) -> None:
    save_volume(tmp_path / "flat.tif", blobs((40, 40)), axes="yx")
    with new_project(tmp_path, tmp_path / "flat.tif") as project:
        assert project.images[0].shape == (1, 40, 40)
        label_halves(project)
        assert_halves_found(project)


def test_in_memory_volume_is_kept_by_the_project(tmp_path: Path) -> None:
    image = blobs()
    with new_project(tmp_path, Volume.from_array(image, spacing=(2.0, 1.0, 1.0), unit="um", name="mine")):
        pass
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "p.voxloop", tmp_path / "elsewhere" / "q.voxloop")
    with Project.open(tmp_path / "elsewhere" / "q.voxloop") as project:
        assert np.array_equal(project.volume().data[()], image)
        assert project.images[0].name == "mine"
        assert project.volume().spacing == (2.0, 1.0, 1.0)


def test_moved_folder_finds_its_image_and_keeps_its_results(cells: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    cells.rename(moved)
    with Project.open(moved / "cells.voxloop") as project:
        assert project.volume().path == moved / "cells.voxloop" / ".." / "cells.tif"
        assert project.is_current("prediction")


def test_image_left_behind_is_found_where_it_was(cells: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with new_project(cells, cells / "cells.tif") as project:
        folder = project.folder
    folder.rename(tmp_path / "p" / "far.voxloop")
    with Project.open(tmp_path / "p" / "far.voxloop") as project:
        assert project.volume().shape == (16, 48, 48)


def test_changed_missing_and_swapped_files(tmp_path: Path) -> None:
    image, mask = blobs(), np.ones(SHAPE, np.uint8)
    mask[0] = 0
    for name, array in (("image", image), ("other", blobs(seed=9)), ("mask", mask)):
        np.save(tmp_path / f"{name}.npy", array)
    with new_project(tmp_path, tmp_path / "image.npy", mask=tmp_path / "mask.npy") as project:
        project.add_image(tmp_path / "other.npy")
        label_halves(project)
        expected = project.predict().probabilities.copy()

    def error_after(**files) -> str:
        before = {name: (tmp_path / f"{name}.npy").read_bytes() for name in files}
        for name, array in files.items():
            (tmp_path / f"{name}.npy").unlink()
            if array is not None:
                np.save(tmp_path / f"{name}.npy", array)
        with Project.open(tmp_path / "p.voxloop") as project:  # opening needs no image
            with pytest.raises((ProjectError, MissingFileError)) as raised:
                project.volume()
            with pytest.raises(type(raised.value)):
                project.predict()
        for name, content in before.items():
            (tmp_path / f"{name}.npy").write_bytes(content)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    edited = image.copy()
    edited[3, 4, 5] ^= 1
    assert "its voxels differ" in error_after(image=edited)
    assert "image.npy is missing" in error_after(image=None)
    assert "has shape" in error_after(image=image[1:])
    assert "its voxels differ" in error_after(image=blobs(seed=9), other=image)
    assert "mask.npy has changed" in error_after(mask=1 - mask)
    assert "mask.npy is missing" in error_after(mask=None)
    assert "its voxels differ" in error_after(image=mask, mask=image)
    with Project.open(tmp_path / "p.voxloop") as project:
        assert np.array_equal(project.predict().probabilities, expected)


def test_undo_and_redo_across_training_give_the_same_bytes(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        first = project.predict().probabilities.tobytes()
        project.paint("background", [(3, 40, x) for x in range(5, 30)])
        second = project.predict().probabilities.tobytes()
        assert second != first
        project.undo()
        assert project.predict().probabilities.tobytes() == first
        project.redo()
        assert project.predict().probabilities.tobytes() == second
        project.undo()
    with Project.open(cells / "cells.voxloop") as project:
        assert project.predict().probabilities.tobytes() == first
        project.redo()
        assert project.predict().probabilities.tobytes() == second


def test_cancelled_work_keeps_what_was_finished(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        expected = project.predict().probabilities.tobytes()
    shutil.rmtree(cells / "cells.voxloop" / "cache")
    told = []

    def stop(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        if stage == "features sigma=1.6" and done:
            raise Cancelled("enough")

    with Project.open(cells / "cells.voxloop", progress=stop) as project:
        with pytest.raises(Cancelled):
            project.predict()
        assert project.state_of("supervoxels") == "ready"
        assert project.state_of("features") == "stale"
        assert not list(project.folder.rglob("*.partial"))
    assert all(0 <= done <= total for _, done, total in told)
    with Project.open(cells / "cells.voxloop") as project:
        assert project.predict().probabilities.tobytes() == expected


def test_two_short_strokes_are_enough_for_a_first_answer(tmp_path: Path) -> None:
    with Project.create(tmp_path / "p.voxloop", Volume.from_array(blobs()), classes=["dark", "bright"]) as project:
        project.configure(slic={"size": 60.0})  # and otherwise what users get
        label_halves(project)
        assert 2 <= project.label_summary().n_labelled <= 4
        assert_halves_found(project)
        assert np.ptp(project.uncertainty()) > 0.1


def test_conflicts_are_counted_and_the_majority_decides(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        before = project.label_summary()
        labels = np.asarray(project.supervoxels().labels)
        free = np.setdiff1d(np.arange(1, project.supervoxels().n + 1), project.labels().ids)
        one = int(free[np.argmax(project.supervoxels().sizes[free - 1])])
        voxels = np.argwhere(labels == one)
        project.paint("background", voxels[:2])
        project.paint("mitochondria", voxels[2:7])
        assert one in project.labels().conflicts
        assert project.label_summary().n_conflicts == before.n_conflicts + 1
        assert project.label_summary().counts["mitochondria"] == before.counts["mitochondria"] + 1
        at = np.flatnonzero(project.labels().ids == one)
        assert project.labels().purity[at] == pytest.approx(5 / 7)


def test_changes_of_classes(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        first = project.predict().probabilities.tobytes()
        project.add_class("nucleus")
        assert project.predict().probabilities.shape[1] == 3
        assert not project.predict().probabilities[:, 2].any()
        project.append(ClassMerged(class_id=2, into=3))
        merged = project.predict()
        assert merged.classes.tolist() == [1, 3]
        project.undo()
        project.append(ClassRemoved(class_id=2))
        with pytest.raises(InputError, match="all labels are 'background'"):
            project.predict()
        project.undo()
        project.undo()
        assert project.predict().probabilities.tobytes() == first


def test_erase_takes_labels_away(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        project.erase(np.ones((16, 48, 48), bool))
        assert project.label_summary().n_labelled == 0
        project.undo()
        assert project.label_summary().n_labelled > 0
        project.clear_labels()
        assert project.count_labelled_voxels() == {"background": 0, "mitochondria": 0}


def test_read_only_changes_nothing_and_needs_no_lock(cells: Path) -> None:
    folder = cells / "cells.voxloop"
    with Project.open(folder) as writer, Project.open(folder, read_only=True) as reader:
        assert np.array_equal(reader.predict().probabilities, writer.predict().probabilities)
    before = tree(cells)
    with Project.open(folder, read_only=True) as project:
        assert project.read_only
        project.suggest_slices()
        project.label_summary()
        assert project.state_of("prediction") == "ready"
        for change in (
            lambda: project.paint("background", [(0, 0, 0)]),
            lambda: project.add_class("new"),
            lambda: project.configure(slic={"size": 50.0}),
            lambda: project.add_image(cells / "cells.tif"),
            lambda: project.add_image(Volume.from_array(blobs())),
            project.undo,
        ):
            with pytest.raises(ProjectError):
                change()
    assert tree(cells) == before


def test_read_only_computes_what_is_missing_without_writing(cells: Path) -> None:
    folder = cells / "cells.voxloop"
    with Project.open(folder, read_only=True) as project:
        expected = project.predict().probabilities.tobytes()
    shutil.rmtree(folder / "cache")
    shutil.rmtree(folder / "models")
    before = tree(cells)
    with Project.open(folder, read_only=True) as project:
        assert project.state_of("prediction") == "missing"
        assert project.predict().probabilities.tobytes() == expected
        project.suggest_slices()
    assert tree(cells) == before


AS_NOBODY = """
import os, sys, numpy as np
from voxloop.errors import StorageError, VoxloopError
from voxloop.project import Project

def look():
    with Project.open(sys.argv[1], read_only=True) as project:
        return project.predict().probabilities.tobytes()

expected = look()  # everything is imported now, from folders that nobody else may be able to read
os.seteuid(65534)
assert look() == expected
for attempt in (lambda: Project.open(sys.argv[1]), lambda: Project.open(sys.argv[2])):
    try:
        attempt()
    except VoxloopError as error:
        print(error)
    else:
        raise AssertionError("opened")
"""


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become somebody else")
def test_folder_of_somebody_else(cells: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to other users
        Path(name).chmod(0o755)
        shutil.copytree(cells, Path(name) / "cells")
        shutil.copytree(cells / "cells.voxloop", Path(name) / "closed.voxloop")
        (Path(name) / "closed.voxloop").chmod(0o700)
        paths = (Path(name) / "cells" / "cells.voxloop", Path(name) / "closed.voxloop")
        result = subprocess.run([sys.executable, "-c", AS_NOBODY, *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.splitlines()
    assert "cannot lock" in first
    assert "none that you may read" in second


def test_second_opener_is_told_who(cells: Path) -> None:
    message = rf"cells.voxloop is in use by .*process {os.getpid()}"
    with Project.open(cells / "cells.voxloop"), pytest.raises(ProjectInUseError, match=message):
        Project.open(cells / "cells.voxloop")
    Project.open(cells / "cells.voxloop").close()


def test_newer_schema_is_refused(cells: Path) -> None:
    document = cells / "cells.voxloop" / "project.json"
    document.write_text(document.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    before = document.read_bytes()
    for read_only in (False, True):
        with pytest.raises(ProjectVersionError, match="update voxloop"):
            Project.open(cells / "cells.voxloop", read_only=read_only)
    assert document.read_bytes() == before


def test_bad_arguments(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        for call, words in (
            (lambda: project.paint("nobody", [(0, 0, 0)]), "there is no class 'nobody'"),
            (lambda: project.paint("background", [(0, 0, 48)]), "48"),
            (lambda: project.paint("background", [(-1, 0, 0)]), "at least 0"),
            (lambda: project.paint("background", []), "shape"),
            (lambda: project.paint("background", [(0.5, 0, 0)]), "integers"),
            (lambda: project.paint("background", np.ones((2, 2, 2), bool)), "where has shape"),
            (lambda: project.paint("background", np.zeros((16, 48, 48), bool)), "at least one voxel"),
            (lambda: project.predict(1), "image is 1"),
            (lambda: project.predict(-1), "image is -1"),
            (lambda: project.configure(slics={"size": 3}), "slics"),
            (lambda: project.configure(slic={"size": -3}), "size"),
            (lambda: project.suggest_slices(number=0), "number"),
            (lambda: project.suggest_slices(axes=[3]), "axes"),
            (lambda: project.export("everything", cells / "x.tif"), "source"),
            (lambda: project.import_labels(np.zeros((2, 2, 2), int)), "shape"),
            (lambda: project.import_labels(np.zeros((16, 48, 48), int)), "no value above 0"),
            (lambda: project.import_labels(np.full((16, 48, 48), 7)), "class 7"),
            (lambda: project.import_labels(np.zeros((16, 48, 48))), "dtype"),
        ):
            events = project.annotations.n_events
            with pytest.raises(InputError) as raised:
                call()
            assert words in str(raised.value)
            assert "\n" not in str(raised.value)
            assert project.annotations.n_events == events
    with pytest.raises(InputError, match="no images"), Project.create(cells / "empty.voxloop") as project:
        project.train()


def test_a_stroke_while_the_classifier_trains_does_not_end_up_in_its_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_project(tmp_path, Volume.from_array(blobs())) as project:
        label_halves(project)
        before = project.predict().probabilities
    shutil.rmtree(tmp_path / "p.voxloop" / "models")
    shutil.rmtree(tmp_path / "p.voxloop" / "cache" / "prediction-0")
    fit = computed.fit_labels
    with Project.open(tmp_path / "p.voxloop") as project:

        def fit_and_paint(*arguments, **options):
            project.paint("dark", [(1, 2, 22), (6, 15, 20)])
            return fit(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(computed, "fit_labels", fit_and_paint)
            assert project.predict().probabilities.tobytes() == before.tobytes()
        assert not project.is_current("prediction")
        assert project.predict().probabilities.tobytes() != before.tobytes()


def test_specs_that_no_image_can_follow_are_not_saved(tmp_path: Path) -> None:
    with new_project(tmp_path, Volume.from_array(blobs())) as project:
        before = project.specs
        n = int(np.prod(SHAPE))
        with pytest.raises(InputError, match=f"n_segments is {n + 1} but .* has only {n} voxels"):
            project.configure(slic={"n_segments": n + 1, "size": None})
        assert project.specs == before
    with Project.open(tmp_path / "p.voxloop") as project:
        assert project.specs == before


def test_assessment_and_suggested_features(tmp_path: Path) -> None:
    with new_project(tmp_path, Volume.from_array(blobs((8, 40, 48)))) as project:
        project.configure(features={"sigmas": (0.7, 1.6), "families": ("gaussian", "laplacian")})
        with pytest.raises(InputError, match="no labels"):
            project.assess()
        project.paint("dark", [(4, 10, 2)])
        project.paint("bright", [(4, 10, 40)])
        with pytest.raises(InputError, match="two places at least: dark, bright"):
            project.assess()
        for y, z in ((2, 1), (20, 6), (36, 1)):
            project.paint("dark", [(z, y, x) for x in range(3, 18)])
            project.paint("bright", [(z, y, x) for x in range(30, 45)])
        found = project.assess()
        assert found.n_labels > 6
        assert found.accuracy == 1
        assert 0.3 < found.low < 1 == found.high
        assert set(found.importances) == {f"{f} sigma={s}" for f in ("gaussian", "laplacian") for s in (0.7, 1.6)}
        assert project.assess() is found
        suggested = project.suggest_features()
        assert suggested.cells[0].cell.startswith("gaussian")
        assert suggested.spec.families[0] == "gaussian"
        project.configure(features=suggested.spec)
        assert_halves_found(project)
    with Project.open(tmp_path / "p.voxloop", read_only=True) as project:
        assert project.assess().accuracy == 1


def test_labels_that_cannot_teach_are_one_clear_line(tmp_path: Path) -> None:
    with new_project(tmp_path, Volume.from_array(blobs())) as project:
        z, y, x = (int(v) for v in np.argwhere(np.asarray(project.supervoxels().labels) == 1)[0])
        beside = np.argwhere(np.asarray(project.supervoxels().labels) == 1)[1]
        project.paint("dark", [(z, y, x)])
        project.paint("bright", [tuple(int(v) for v in beside)])
        with pytest.raises(InputError, match=r"all labels are 'dark' \(1 have strokes of several classes"):
            project.train()
        project.paint("bright", [(4, 10, 21)])  # one label of a class is little, but enough
        assert set(project.predict().segmentation.tolist()) == {1, 2}
        assert project.train().held_out is None
