"""Projects of ilastik: what comes over, wherever the images are, and files that are not to be trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from voxloop.cli.main import main
from voxloop.errors import FormatError, InputError, MissingFileError, ProjectError
from voxloop.io import open_labels, open_volume, save_volume
from voxloop.project import IlastikImport, Project, import_ilastik
from voxloop.specs import FeatureSpec

SHAPE = (7, 11, 13)  # z, y, x: no two alike
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[2, 3, 4:9] = 1
LABELS[4:6, 5, 6] = 2
IMAGE = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)


@pytest.fixture(autouse=True)
def _trusted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests the second process, but for the one that is about it."""
    if "survive" not in request.node.name:
        monkeypatch.setattr("voxloop.io.ilp.survives_reading", lambda _: True)


def blocks_of(labels: np.ndarray, axes: str, order: str) -> list[tuple[str, np.ndarray]]:
    """Cut labels (t)zyx into boxes around each class, in axes `order`, as ilastik stores them."""
    blocks = []
    for value in np.unique(labels[labels > 0]):
        tagged = {axis: axis in axes for axis in order}
        array = labels if labels.ndim == len(axes) else labels[0]
        array = np.where(array == value, array, 0)
        array = array.transpose([axes.index(a) for a in order if tagged[a]])
        array = array.reshape(
            [array.shape[[a for a in order if tagged[a]].index(a)] if tagged[a] else 1 for a in order]
        )
        where = [(int(i.min()), int(i.max()) + 1) for i in np.nonzero(array)]
        text = ",".join(f"{a}:{b}" for a, b in where)
        blocks.append((f"[{text}]", array[tuple(slice(a, b) for a, b in where)]))
    return blocks


def labels_of(folder: Path, image: int = 0) -> np.ndarray:
    with Project.open(folder, read_only=True) as project:
        shape = project.images[image].shape
        indices, classes = project.annotations.labelled_voxels(image)
    found = np.zeros(shape, np.uint8)
    found.reshape(-1)[indices] = classes
    return found


def lane(path: str, **changes) -> dict:
    return {"path": path, "shape": SHAPE, "blocks": blocks_of(LABELS, "zyx", "zyxc")} | changes


def test_everything_comes_over(tmp_path: Path, write_ilp) -> None:
    save_volume(tmp_path / "a.tif", IMAGE, spacing=(8, 4, 4), unit="nm")
    ilp = write_ilp(tmp_path / "p.ilp", [lane("a.tif", nickname="my cells")])
    made = import_ilastik(ilp, tmp_path / "p.voxloop")
    assert made == IlastikImport(
        project=tmp_path / "p.voxloop",
        workflow="Voxel Segmentation Workflow",
        version="1.4.1",
        class_names=("background", "mitochondria"),
        labelled_voxels=(7,),
        features=FeatureSpec(
            definition="ilastik",
            families=("gaussian", "laplacian", "structure_tensor"),
            sigmas=(0.3, 0.7, 1.6),
            sigmas_2d=(1.6,),
        ),
        missing=(),
        notes=made.notes[-1:],
    )
    assert np.array_equal(labels_of(made.project), LABELS)
    with Project.open(made.project) as project:
        assert project.specs.features == made.features
        assert [c.color for c in project.annotations.classes] == ["#ffe119", "#0082c8"]
        assert project.images[0].name == "my cells"
        assert project.images[0].spacing == (8, 4, 4)
        assert np.array_equal(project.volume().read()[0], IMAGE)
        assert len(project.annotations.strokes) == 2
        project.configure(slic={"size": 20.0})
        assert project.predict().probabilities.shape[1] == 2


@pytest.mark.parametrize("version", ["1.3.2", "1.3.3post3", "1.4.0b7", "1.4.0", "unknown"])
@pytest.mark.parametrize("workflow", ["Voxel Segmentation Workflow", "Pixel Classification"])
def test_axis_orders_of_labels(tmp_path: Path, write_ilp, version: str, workflow: str) -> None:
    """A cube, so that only the version tells the order; see `_label_orders`."""
    cube = np.zeros((9, 9, 9), np.uint8)
    cube[1, 2:4, 5] = 1
    np.save(tmp_path / "a.npy", cube.T.copy())  # x, y, z
    in_file_order = workflow == "Pixel Classification" and version in ("1.3.3post3", "1.4.0b7")
    blocks = blocks_of(cube, "zyx", "xyzc" if in_file_order else "zyxc")
    ilp = write_ilp(
        tmp_path / "p.ilp",
        [{"path": "a.npy", "shape": (9, 9, 9), "axes": "xyz", "blocks": blocks}],
        version=version,
        workflow=workflow,
    )
    made = import_ilastik(ilp, tmp_path / "p.voxloop")
    assert np.array_equal(labels_of(made.project), cube)
    with Project.open(made.project, read_only=True) as project:
        assert np.array_equal(project.volume().read()[0], cube)


@pytest.mark.parametrize(
    ("axes", "order"),
    [("zyx", "zyxc"), ("zyx", "tzyxc"), ("xyz", "xyzc"), ("zyxc", "zyxc"), ("czyx", "czyx"), ("tzyxc", "tzyxc")],
)
def test_labels_are_fitted_to_the_image(tmp_path: Path, write_ilp, axes: str, order: str) -> None:
    lengths = dict(zip("tzyxc", (1, *SHAPE, 1), strict=True))
    image = IMAGE.transpose(["zyx".index(a) for a in axes if a in "zyx"]).reshape([lengths[a] for a in axes])
    np.save(tmp_path / "a.npy", image)
    blocks = blocks_of(LABELS, "zyx", order)
    ilp = write_ilp(tmp_path / "p.ilp", [{"path": "a.npy", "shape": image.shape, "axes": axes, "blocks": blocks}])
    made = import_ilastik(ilp, tmp_path / "p.voxloop")
    assert np.array_equal(labels_of(made.project), LABELS)


def test_2d_channels_and_time(tmp_path: Path, write_ilp) -> None:
    flat = np.zeros((11, 13), np.uint8)
    flat[2:4, 5:9] = 2
    tifffile.imwrite(tmp_path / "rgb.tif", np.stack([IMAGE[0]] * 3, axis=-1), photometric="rgb")
    two_d = {"path": "rgb.tif", "shape": (11, 13, 3), "axes": "yxc", "blocks": blocks_of(flat, "yx", "yxc")}
    made = import_ilastik(write_ilp(tmp_path / "a.ilp", [two_d]), tmp_path / "a.voxloop")
    assert np.array_equal(labels_of(made.project)[0], flat)
    film, labels = np.stack([IMAGE, 255 - IMAGE]), np.stack([np.zeros_like(LABELS), LABELS])
    tifffile.imwrite(tmp_path / "film.tif", film, ome=True, metadata={"axes": "TZYX"})
    four_d = {"path": "film.tif", "shape": film.shape, "axes": "tzyx", "blocks": blocks_of(labels, "tzyx", "tzyxc")}
    made = import_ilastik(write_ilp(tmp_path / "b.ilp", [four_d]), tmp_path / "b.voxloop")
    assert made.labelled_voxels == (0, 7)
    assert np.array_equal(labels_of(made.project, 1), LABELS)
    with Project.open(made.project, read_only=True) as project:
        assert [image.name for image in project.images] == ["film-t0", "film-t1"]
        assert np.array_equal(project.volume(1).read()[0], film[1])


def test_wherever_the_images_are(tmp_path: Path, write_ilp) -> None:
    """Relative, absolute, in HDF5, in the project itself, in N5, a stack as a list of files and as a pattern."""
    data = tmp_path / "data"
    data.mkdir()
    np.save(data / "a.npy", IMAGE)
    with h5py.File(data / "b.h5", "w") as file:
        file["volume/data"] = IMAGE
    for z, plane in enumerate(IMAGE):
        tifffile.imwrite(data / f"s_{z}.tif", plane)
    stack = ":".join(str(data / f"s_{z}.tif") for z in range(SHAPE[0]))
    paths = [
        "data/a.npy",
        str(data / "a.npy"),
        "data/b.h5/volume/data",
        stack,
        "data/s_*.tif",
        "Input Data/local_data/x",
    ]
    lanes = [lane(path, nickname=str(i)) for i, path in enumerate(paths)]
    lanes[-1]["location"] = "ProjectInternal"
    ilp = write_ilp(tmp_path / "p.ilp", lanes)
    with h5py.File(ilp, "a") as file:
        file["Input Data/local_data/x"] = IMAGE
        file["Input Data/infos/lane0005/Raw Data/inner_path"] = b"Input Data/local_data/x"
    made = import_ilastik(ilp, tmp_path / "p.voxloop")
    assert made.missing == ()
    assert made.labelled_voxels == (7,) * len(paths)
    with Project.open(made.project, read_only=True) as project:
        for index in range(len(paths)):
            assert np.array_equal(project.volume(index).read()[0], IMAGE), paths[index]


def test_prediction_masks(tmp_path: Path, write_ilp) -> None:
    """A file that says which axis is which is referred to; one that does not is kept; one that cannot be is told."""
    save_volume(tmp_path / "a.tif", IMAGE)
    inside = np.zeros(SHAPE, np.uint8)
    inside[1:, 2:, :-2] = 1
    save_volume(tmp_path / "inside.tif", inside)
    np.save(tmp_path / "turned.npy", inside.transpose(2, 1, 0))
    save_volume(tmp_path / "other.tif", inside[1:])
    np.save(tmp_path / "film.npy", np.stack([IMAGE, IMAGE]))
    np.save(tmp_path / "film-inside.npy", np.stack([inside, inside[::-1]]))
    film = {"path": "film.npy", "axes": "tzyx", "shape": (2, *SHAPE)}
    lanes = [
        lane("a.tif", mask={"path": "inside.tif", "shape": SHAPE}),
        lane("a.tif", mask={"path": "turned.npy", "axes": "xyz", "shape": SHAPE[::-1]}),
        lane("a.tif", mask={"path": "other.tif", "shape": (SHAPE[0] - 1, *SHAPE[1:])}),
        lane("a.tif", mask={"path": "gone.tif", "shape": SHAPE}),
        film | {"mask": {"path": "film-inside.npy", "axes": "tzyx", "shape": (2, *SHAPE)}},
        lane("gone.tif", mask={"path": "inside.tif", "shape": SHAPE}),
    ]
    made = import_ilastik(write_ilp(tmp_path / "a.ilp", lanes), tmp_path / "a.voxloop")
    masks = [inside, inside, None, None, inside, inside[::-1], None]
    with Project.open(made.project) as project:
        for index, mask in enumerate(masks):
            record = project.images[index]
            if mask is None:
                assert record.mask is None
                continue
            kept = record.mask.find(made.project).resolve()
            assert (kept == tmp_path / "inside.tif") == (index == 0)
            np.testing.assert_array_equal(np.asarray(open_labels(kept).data) != 0, mask != 0)
        project.configure(slic={"size": 20.0})
        assert np.array_equal(np.asarray(project.supervoxels(1).labels) > 0, inside > 0)
    notes = " ".join(made.notes)
    for message in (
        "mask other.tif is left out: it has lengths",
        "mask gone.tif is left out",
        "its image was not found",
    ):
        assert message in notes


def test_missing_images_keep_their_labels_and_are_found_later(tmp_path: Path, write_ilp, capsys) -> None:
    lanes = [lane("data/a.npy"), lane("C:\\\\scans\\b.npy".replace("\\\\", "\\")), lane("https://example.org/c.h5")]
    assert main(["import-ilastik", str(write_ilp(tmp_path / "p.ilp", lanes))]) == 0
    said = capsys.readouterr().out
    assert "file missing" in said
    assert f"voxloop relink {tmp_path / 'p.voxloop'} OLD NEW" in said
    for index in range(3):
        assert np.array_equal(labels_of(tmp_path / "p.voxloop", index), LABELS)
    (tmp_path / "found").mkdir()
    with Project.open(tmp_path / "p.voxloop") as project:
        assert len(project.missing_files()) == 3
        with pytest.raises(MissingFileError, match="voxloop relink"):
            project.volume()
        np.save(tmp_path / "found" / "a.npy", IMAGE[1:])
        with pytest.raises(ProjectError, match=r"has shape \(6, 11, 13\)"):
            project.relink(tmp_path / "data", tmp_path / "found")
        np.save(tmp_path / "found" / "a.npy", IMAGE)
        np.save(tmp_path / "found" / "b.npy", IMAGE)
        project.relink(tmp_path / "data", tmp_path / "found")
        project.relink("C:\\scans", tmp_path / "found")
        for index in range(2):
            assert np.array_equal(project.volume(index).read()[0], IMAGE)
        assert project.images[0].dtype == "uint8"
    np.save(tmp_path / "found" / "a.npy", 255 - IMAGE)
    with Project.open(tmp_path / "p.voxloop") as project, pytest.raises(ProjectError, match="its voxels differ"):
        project.volume()


def test_an_image_of_another_shape_counts_as_missing(tmp_path: Path, write_ilp) -> None:
    np.save(tmp_path / "a.npy", IMAGE[:, 1:])
    made = import_ilastik(write_ilp(tmp_path / "p.ilp", [lane("a.npy")]), tmp_path / "p.voxloop")
    assert made.missing == (str(tmp_path / "a.npy"),)
    assert "in ilastik it had" in made.notes[0]
    assert np.array_equal(labels_of(made.project), LABELS)


def test_classes_without_names_and_with_strange_ones(tmp_path: Path, write_ilp) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    made = import_ilastik(write_ilp(tmp_path / "a.ilp", [lane("a.npy")], names=()), tmp_path / "a.voxloop")
    assert made.class_names == ("Label 1", "Label 2")
    names = ("same", "same", " \n")
    made = import_ilastik(write_ilp(tmp_path / "b.ilp", [lane("a.npy")], names=names), tmp_path / "b.voxloop")
    assert made.class_names == ("same", "same 2", "Label 3")


def test_features_that_are_no_table(tmp_path: Path, write_ilp) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    ilp = write_ilp(
        tmp_path / "a.ilp",
        [lane("a.npy")],
        filters=("GaussianSmoothing", "HessianOfGaussianEigenvalues", "Vesselness"),
        selected=((1, 0, 0), (1, 0, 1), (0, 1, 0)),
    )
    made = import_ilastik(ilp, tmp_path / "a.voxloop")
    assert made.features is not None
    assert made.features.sigmas == (0.3, 1.6)
    assert made.features.left_out == (("gaussian", 1.6),)
    assert made.notes[:2] == ("filter 'Vesselness' is not known", "not computed at so small a sigma: hessian at 0.3")
    with Project.open(made.project) as project:
        assert project.specs.features == made.features
        project.configure(slic={"size": 20.0}, features={"statistics": ("mean",), "context": 0, "regions": ()})
        assert project.features().names == (
            "gaussian sigma=0.3 mean", "hessian_1 sigma=1.6 2d mean", "hessian_2 sigma=1.6 2d mean"
        )  # fmt: skip
    ilp = write_ilp(tmp_path / "b.ilp", [lane("a.npy")], selected=np.zeros((3, 3)))
    made = import_ilastik(ilp, tmp_path / "b.voxloop")
    assert made.features is None
    assert "no features were chosen" in made.notes[0]


def test_json(tmp_path: Path, write_ilp, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    write_ilp(tmp_path / "a.ilp", [lane("a.npy")])
    assert main(["import-ilastik", str(tmp_path / "a.ilp"), "--out", str(tmp_path / "b.voxloop"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["class_names"] == ["background", "mitochondria"]
    assert said["features"]["definition"] == "ilastik"


def hostile(file: h5py.File, trick: str, elsewhere: Path) -> None:
    block = "VoxelSegmentation/LabelSets/labels000/block0000"
    if trick == "other workflow":
        del file["VoxelSegmentation"]
    elif trick == "soft link":
        del file["Input Data/infos"]
        file["Input Data/infos"] = h5py.SoftLink("/VoxelSegmentation")
    elif trick == "external link":
        del file["VoxelSegmentation/LabelNames"]
        file["VoxelSegmentation/LabelNames"] = h5py.ExternalLink(str(elsewhere), "/secret")
    elif trick == "external storage":
        del file["VoxelSegmentation/LabelColors"]
        where = [(str(elsewhere), 0, 48)]
        file.create_dataset("VoxelSegmentation/LabelColors", (2, 3), "i8", external=where)
    elif trick == "virtual":
        del file["FeatureSelections/Scales"]
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(elsewhere), "secret", (3,))
        file.create_virtual_dataset("FeatureSelections/Scales", layout)
    elif trick == "bomb":
        del file[block]
        file.create_dataset(block, (2**20,) * 3 + (1,), "u1", chunks=(64, 64, 64, 1), compression="gzip")
        file[block].attrs["blockSlice"] = b"[0:1048576,0:1048576,0:1048576,0:1]"
    elif trick == "code in the slice":
        file[block].attrs["blockSlice"] = b"[__import__('os').system('true'):1]"
    elif trick == "slice of another shape":
        file[block].attrs["blockSlice"] = b"[0:5,0:5,0:5,0:1]"
    elif trick == "empty slice":
        file[block].attrs["blockSlice"] = b"[5:5,0:5,0:5,0:1]"
    elif trick == "slice of text":
        file[block].attrs["blockSlice"] = 7
    elif trick == "table of another shape":
        del file["FeatureSelections/Scales"]
        file["FeatureSelections/Scales"] = [1.0]
    elif trick == "negative sigma":
        file["FeatureSelections/Scales"][...] = [-1.0, 0, np.nan]
    elif trick == "colours in one row":
        del file["VoxelSegmentation/LabelColors"]
        file["VoxelSegmentation/LabelColors"] = [1, 2, 3]
    elif trick == "no lanes":
        del file["Input Data/infos/lane0000"]
    elif trick == "many names":
        del file["VoxelSegmentation/LabelNames"]
        file.create_dataset("VoxelSegmentation/LabelNames", (2**40,), "S8", chunks=(64,))


TRICKS = (
    "other workflow", "soft link", "external link", "external storage", "virtual", "bomb", "code in the slice",
    "slice of another shape", "empty slice", "slice of text", "table of another shape", "negative sigma",
    "colours in one row", "no lanes", "many names",
)  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_a_file_not_to_be_trusted_is_one_clear_line(tmp_path: Path, write_ilp, capsys, trick: str) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["secret"] = np.arange(3.0)
    ilp = write_ilp(tmp_path / "p.ilp", [lane("a.npy")])
    with h5py.File(ilp, "a") as file:
        hostile(file, trick, tmp_path / "elsewhere.h5")
    with pytest.raises(FormatError) as raised:
        import_ilastik(ilp, tmp_path / "p.voxloop")
    assert str(ilp) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert not (tmp_path / "p.voxloop").exists()
    assert main(["import-ilastik", str(ilp)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_damage_that_hdf5_does_not_survive(tmp_path: Path, write_ilp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free space of no size in a heap of strings: HDF5 2.0 reads on for ever."""
    np.save(tmp_path / "a.npy", IMAGE)
    ilp = write_ilp(tmp_path / "p.ilp", [lane("a.npy")])
    content = bytearray(ilp.read_bytes())
    heap = content.index(b"GCOL\x01")
    content[heap + 16 : heap + 32] = bytes(16)
    ilp.write_bytes(content)
    with pytest.raises(FormatError, match=r"its strings at byte [0-9]+ have no end"):
        import_ilastik(ilp, tmp_path / "p.voxloop")
    shutil.copy(ilp, tmp_path / "a.h5")
    with pytest.raises(FormatError, match="have no end"):
        open_volume(tmp_path / "a.h5")
    # What nobody knows beforehand is tried in another process.
    write_ilp(ilp, [lane("a.npy")])
    slow = "import time; time.sleep(60)"
    for script in (slow, "import os; os.kill(os.getpid(), 11)"):
        monkeypatch.setattr("voxloop.io.ilp._SCRIPT", script)
        monkeypatch.setattr("voxloop.io.ilp._SECONDS", 1)
        with pytest.raises(FormatError, match="the HDF5 library fails"):
            import_ilastik(ilp, tmp_path / "p.voxloop")


def test_labels_that_cannot_be_right_are_left_out(tmp_path: Path, write_ilp) -> None:
    np.save(tmp_path / "a.npy", IMAGE)
    box = ("[0:1,0:2,0:3,0:1]", np.ones((1, 2, 3, 1)))
    for blocks in ([("[0:1,0:2,11:14,0:1]", box[1])], [box] * 200, [("[0:2,0:3]", np.ones((2, 3)))]):
        ilp = write_ilp(tmp_path / "p.ilp", [lane("a.npy", blocks=blocks)])
        made = import_ilastik(ilp, tmp_path / f"{len(list(tmp_path.iterdir()))}.voxloop")
        assert made.labelled_voxels == (0,)
        assert "are left out: they are not inside it, or overlap" in made.notes[0]


def test_what_is_no_project(tmp_path: Path, write_ilp) -> None:
    with pytest.raises(MissingFileError, match="No such file"):
        import_ilastik(tmp_path / "none.ilp", tmp_path / "p.voxloop")
    (tmp_path / "text.ilp").write_text("no")
    with h5py.File(tmp_path / "other.ilp", "w") as file:
        file["volume"] = IMAGE
    for name in ("text.ilp", "other.ilp"):
        with pytest.raises(FormatError, match="an ilastik project"):
            import_ilastik(tmp_path / name, tmp_path / "p.voxloop")
    np.save(tmp_path / "a.npy", IMAGE)
    ilp = write_ilp(tmp_path / "p.ilp", [lane("a.npy")])
    (tmp_path / "p.voxloop").mkdir()
    (tmp_path / "p.voxloop" / "mine").touch()
    with pytest.raises(InputError, match="exists"):
        import_ilastik(ilp, tmp_path / "p.voxloop")
    assert (tmp_path / "p.voxloop" / "mine").exists()
