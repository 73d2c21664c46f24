"""Every source with its options, through the files that are written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from voxloop.blocks import Box
from voxloop.errors import InputError
from voxloop.features import filter_block
from voxloop.io import open_labels, open_volume
from voxloop.project import Project
from voxloop.project.objects import find_objects

PART = (slice(2, 9), slice(5, 40), slice(8, 30))


@pytest.fixture
def project(cells: Path):
    with Project.open(cells / "cells.voxloop") as opened:
        yield opened


def painted(project: Project, values: np.ndarray) -> np.ndarray:
    table = np.concatenate([np.zeros((1, *values.shape[1:]), values.dtype), values])
    return table[np.asarray(project.supervoxels().labels)]


def test_masks_are_the_segmentation_class_by_class(project: Project, tmp_path: Path) -> None:
    segmentation = painted(project, project.predict().segmentation)
    (path,) = project.export("masks", tmp_path / "m.tif")
    masks = open_volume(path)
    assert masks.channel_names == ("background", "mitochondria")
    for channel, class_id in enumerate((1, 2)):
        np.testing.assert_array_equal(masks.read()[channel], segmentation == class_id)
    files = project.export("masks", tmp_path / "{nickname}-{class}.zarr")
    assert [file.name for file in files] == ["cells-background.zarr", "cells-mitochondria.zarr"]
    np.testing.assert_array_equal(open_labels(files[1]).read()[0], segmentation == 2)
    label = json.loads((files[1] / "zarr.json").read_text())["attributes"]["ome"]["image-label"]
    assert label["properties"] == [{"label-value": 1, "class": "mitochondria"}]
    one = project.export("probabilities", tmp_path / "{class}.npy")
    assert [file.suffix for file in one] == [".npy", ".json"] * 2
    np.testing.assert_array_equal(np.load(one[2]), painted(project, project.predict().probabilities[:, 1]))


def test_top_uncertain_are_the_highlighted_supervoxels(project: Project, tmp_path: Path) -> None:
    (path,) = project.export("top_uncertain", tmp_path / "t.tif")
    inside = np.isin(np.asarray(project.supervoxels().labels), project.top_uncertain())
    np.testing.assert_array_equal(open_labels(path).read()[0], inside)
    assert 0 < inside.sum() < inside.size


def test_objects_are_the_connected_components(project: Project, tmp_path: Path) -> None:
    (path,) = project.export("objects", tmp_path / "o.tif")
    objects = open_labels(path).read()[0]
    segmentation = painted(project, project.predict().segmentation)
    found = find_objects(project.results())
    expected = np.zeros(segmentation.shape, np.int64)
    for class_id in (1, 2):
        components, _ = ndimage.label(segmentation == class_id)
        expected += np.where(components > 0, components + expected.max(), 0)
    pairs = np.unique(np.stack([objects.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == found.n == expected.max()
    ids = np.arange(1, found.n + 1)
    np.testing.assert_array_equal(found.sizes, np.bincount(objects.ravel())[1:])
    np.testing.assert_allclose(found.centers, ndimage.center_of_mass(objects > 0, objects, ids))
    for (first, last), box in zip(
        zip(found.first, found.last, strict=True), ndimage.find_objects(objects), strict=True
    ):
        assert [(s.start, s.stop - 1) for s in box] == list(zip(first, last, strict=True))
    assert [segmentation[objects == i][0] for i in ids] == found.classes.tolist()


def test_a_graph_cut_is_painted_and_follows_its_strength(project: Project, tmp_path: Path) -> None:
    likeliest, cut = project.predict().segmentation, project.graph_cut(strength=8)
    assert 0 < (cut != likeliest).sum() < 0.2 * len(cut)
    np.testing.assert_array_equal(project.graph_cut(strength=0), likeliest)
    project.export("graph_cut", tmp_path / "a.npy", strength=8)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), painted(project, cut))
    project.export("graph_cut", tmp_path / "b.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), painted(project, project.graph_cut()))


def test_features_are_the_filter_responses(project: Project, tmp_path: Path) -> None:
    (path,) = project.export("features", tmp_path / "f.h5", features=["gaussian:1.6", "hessian:0.7"], crop=PART)
    written = open_volume(path)
    assert written.channel_names[:2] == ("gaussian sigma=1.6", "hessian_1 sigma=0.7")
    volume, spec = project.volume(), project.specs.features
    responses = filter_block(volume.read()[0], 1.6, spec=spec, relative_spacing=volume.relative_spacing)
    np.testing.assert_allclose(written.read()[0], responses[0][PART], rtol=1e-5)
    assert written.n_channels == 4


@pytest.mark.parametrize(
    "name", ["c.tif", "c.zarr", "c.npy", "c.h5", "c.n5", "c.nii.gz", "c.nrrd", "{slice_index}.tif"]
)
@pytest.mark.parametrize("source", ["segmentation", "probabilities", "supervoxels", "labels"])
def test_a_part_is_the_part_of_the_whole(project: Project, tmp_path: Path, name: str, source: str) -> None:
    project.export(source, tmp_path / "whole.npy")
    project.export(source, tmp_path / name, crop=PART)
    part = open_volume(tmp_path / name, axes="zyxc" if name.endswith("npy") and source == "probabilities" else None)
    whole = np.load(tmp_path / "whole.npy")[PART]
    np.testing.assert_array_equal(np.moveaxis(part.read(), 0, -1), whole if whole.ndim == 4 else whole[..., np.newaxis])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_rescaling(project: Project, tmp_path: Path, dtype: str) -> None:
    top = np.iinfo(dtype).max if dtype != "float32" else 1
    values = painted(project, project.uncertainty()).astype(float)
    project.export("uncertainty", tmp_path / "a.npy", dtype=dtype, rescale=(0.2, 0.8))
    expected = np.clip((values - 0.2) / 0.6, 0, 1) * top
    written = np.load(tmp_path / "a.npy")
    assert written.dtype == dtype
    np.testing.assert_allclose(written, expected if dtype == "float32" else np.rint(expected), rtol=1e-6, atol=1e-6)
    project.export("uncertainty", tmp_path / "b.npy", dtype=dtype, rescale="data", crop=PART)
    written = np.load(tmp_path / "b.npy")
    assert (written.min(), written.max()) == (0, top)


def test_labels_in_other_types(project: Project, tmp_path: Path) -> None:
    expected = np.asarray(project.supervoxels().labels)
    for dtype in ("uint16", "float32"):
        project.export("supervoxels", tmp_path / f"{dtype}.npy", dtype=dtype)
        written = np.load(tmp_path / f"{dtype}.npy")
        assert written.dtype == dtype
        np.testing.assert_array_equal(written, expected)


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        *((f"a.{suffix}", axes) for suffix in ("h5", "n5", "npy") for axes in ("xyzc", "czyx", "yczx", "zyxc")),
        *(("a.tif", axes) for axes in ("czyx", "zcyx")),
        *(("a.nrrd", axes) for axes in ("czyx", "zyxc")),
    ],
)
def test_any_order_of_axes_comes_back(project: Project, tmp_path: Path, name: str, axes: str) -> None:
    project.export("probabilities", tmp_path / "plain.npy")
    (path, *_) = project.export("probabilities", tmp_path / name, axes=axes, overwrite=True)
    written = open_volume(path, axes=axes if name.endswith("npy") else None)
    assert written.axes == axes
    np.testing.assert_array_equal(np.moveaxis(written.read(), 0, -1), np.load(tmp_path / "plain.npy"))
    if not name.endswith("npy"):
        assert written.channel_names == ("background", "mitochondria")
        assert written.spacing == (10, 8, 8)


def test_ome_zarr_0_4(project: Project, tmp_path: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    for source in ("segmentation", "probabilities"):
        (path,) = project.export(source, tmp_path / f"{source}.zarr", ome_zarr="0.4")
        assert (path / ".zgroup").is_file()
        attributes = json.loads((path / ".zattrs").read_text())
        assert attributes["multiscales"][0]["version"] == "0.4"
        yaozarrs.validate_zarr_store(str(path))
        project.export(source, tmp_path / "five.zarr", overwrite=True)
        np.testing.assert_array_equal(open_volume(path).read(), open_volume(tmp_path / "five.zarr").read())


def test_what_a_format_cannot_say_is_beside_it(project: Project, tmp_path: Path) -> None:
    files = project.export("segmentation", tmp_path / "s.npy")
    assert [file.name for file in files] == ["s.npy", "s.npy.voxloop.json"]
    said = json.loads(files[1].read_text())
    assert said["voxel_size"] == {"z": 10, "y": 8, "x": 8}
    assert said["unit"] == "nanometer"
    assert [(c["value"], c["name"]) for c in said["classes"]] == [(1, "background"), (2, "mitochondria")]
    with pytest.raises(InputError, match="exists"):
        project.export("segmentation", tmp_path / "s.npy")
    project.export("uncertainty", tmp_path / "s.npy", overwrite=True)
    assert "classes" not in json.loads(files[1].read_text())
    nifti = project.export("segmentation", tmp_path / "s.nii")
    assert "voxel_size" not in json.loads(nifti[1].read_text())
    for name in ("s.tif", "s.zarr", "s.h5", "s.n5", "s.nrrd"):
        assert project.export("segmentation", tmp_path / name) == [tmp_path / name]
    stack = project.export("segmentation", tmp_path / "z_{slice_index}.png")
    assert stack[1].name == "z.png.voxloop.json"
    assert project.export("uncertainty", tmp_path / "u.nii") == [tmp_path / "u.nii"]


def test_the_folder_of_the_image(project: Project, cells: Path) -> None:
    (path,) = project.export("segmentation", "{dataset_dir}/{nickname}-{result_type}.tif")
    assert path.resolve() == (cells / "cells-segmentation.tif").resolve()


@pytest.mark.parametrize(
    ("source", "name", "options", "message"),
    [
        ("uncertainty", "a.tif", {"dtype": "uint8"}, "needs rescale"),
        ("segmentation", "a.tif", {"rescale": (0, 1)}, "its values are labels"),
        ("uncertainty", "a.tif", {"rescale": (1, 0)}, "lower one first"),
        ("uncertainty", "a.tif", {"rescale": (0, float("nan"))}, "rescale"),
        ("uncertainty", "a.tif", {"rescale": "all"}, "rescale"),
        ("uncertainty", "a.tif", {"dtype": "int3"}, "dtype"),
        ("supervoxels", "a.tif", {"dtype": "uint8"}, "which uint8 cannot hold"),
        ("segmentation", "a.tif", {"axes": "xyz"}, "expected zyx"),
        ("segmentation", "a.h5", {"axes": "zyxc"}, "letters of 'zyx'"),
        ("probabilities", "a.nii", {"axes": "zyxc"}, "NIfTI does not hold"),
        ("segmentation", "a.tif", {"crop": (slice(0, 99), slice(None), slice(None))}, "crop along z"),
        ("segmentation", "a.tif", {"features": ["hessian:1"]}, "goes with the source features"),
        ("segmentation", "a.tif", {"strength": 2.0}, "strength goes with the source graph_cut"),
        ("graph_cut", "a.tif", {"strength": -1.0}, "strength is -1.0; expected a number of at least 0"),
        ("features", "a.tif", {}, "name the features"),
        ("features", "a.tif", {"features": ["hessian:0.3"]}, "hessian:0.3"),
        ("features", "a.tif", {"features": ["edges:1"]}, "edges:1"),
        ("segmentation", "{class}.tif", {}, "probabilities and masks"),
        ("segmentation", "a.zarr", {"ome_zarr": "0.6"}, "ome_zarr"),
        ("segmentation", "a.tif", {"compression": "zip"}, "no option 'compression'"),
    ],
)
def test_options_that_cannot_be_used(project, tmp_path, source, name, options, message) -> None:
    with pytest.raises(InputError, match=message) as raised:
        project.export(source, tmp_path / name, **options)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("a*"))


def test_classes_whose_files_would_have_one_name(cells: Path, tmp_path: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        project.add_class("a/b")
        project.add_class("a:b")
        with pytest.raises(InputError, match="two results would be written to"):
            project.export("masks", tmp_path / "{class}.npy")


def test_a_box_of_a_layer_is_what_the_whole_has_there(project: Project, tmp_path: Path) -> None:
    from voxloop.project.sources import make_layer

    whole = make_layer("labels", project.results()).read(project.volume().box)
    for box in (Box((3, 0, 0), (4, 48, 48)), Box((0, 7, 9), (16, 8, 30)), Box((15, 47, 47), (16, 48, 48))):
        np.testing.assert_array_equal(make_layer("labels", project.results()).read(box), whole[box.slices])
