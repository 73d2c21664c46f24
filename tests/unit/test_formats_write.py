"""Writing the formats of other programs: their own readers see the same volume; files appear whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK
import tensorstore
import tifffile
from PIL import Image

from voxloop.blocks import Box, partition
from voxloop.errors import FormatError, InputError, MissingFileError, StorageError
from voxloop.io import create_volume, open_labels, open_volume, save_volume

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 4000, (9, 40, 50), np.uint16)
CHANNELS = RNG.normal(size=(3, 40, 50, 2)).astype(np.float32)
LABELS = RNG.integers(0, 3, (9, 40, 50)).astype(np.uint8)
WITH_SIZE = [".h5", ".n5", ".nii", ".nii.gz", ".nrrd", ".mrc"]
NAMES = [*(f"cells{suffix}" for suffix in WITH_SIZE), "cells_{slice_index}.png", "cells{slice_index:03d}.tif"]
CLASSES = {"class_names": ["mitochondria & co", "Zelle µ"], "class_colors": ["#ff8800", "#0000ff"]}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("array", [IMAGE, CHANNELS, IMAGE[:1], IMAGE[:, :1, :1], IMAGE[:1, :1, :1], CHANNELS[..., :1]])
def test_a_volume_comes_back_as_it_was(tmp_path, name, array):
    if array.ndim == 4 and ("png" in name or ("mrc" in name and array.shape[3] > 1)):
        with pytest.raises(InputError, match="cannot hold float32"):
            save_volume(tmp_path / name, array)
        assert not names_in(tmp_path)
        return
    channel_names = [f"channel {i}" for i in range(array.shape[3])] if array.ndim == 4 else ()
    save_volume(tmp_path / name, array, spacing=(50, 4.6, 5.2), unit="nm", channel_names=channel_names)
    volume = open_volume(tmp_path / name)
    expected = array if array.ndim == 4 else array[..., np.newaxis]
    np.testing.assert_array_equal(volume.read(), np.moveaxis(expected, 3, 0))
    assert volume.dtype == array.dtype
    assert volume.name == "cells"
    if "{" not in name:
        factor = {"nanometer": 1, "micrometer": 1000}[volume.unit]
        assert np.multiply(volume.spacing, factor) == pytest.approx((50, 4.6, 5.2))
        assert names_in(tmp_path) == [name]


@pytest.mark.parametrize(
    ("suffix", "dtypes"),
    [
        (".h5", "u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8"),
        (".n5", "u1 i1 u2 i2 u4 i4 u8 i8 f4 f8"),
        (".nii", "u1 i1 u2 i2 u4 i4 u8 i8 f4 f8"),
        (".nrrd", "u1 i1 u2 i2 u4 i4 u8 i8 f4 f8"),
        (".mrc", "i1 u2 i2 f2 f4"),
        ("_{slice_index}.png", "u1 u2"),
        ("_{slice_index}.bmp", "u1"),
        ("_{slice_index}.tif", "u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8"),
    ],
)
def test_dtypes_are_kept_or_refused(tmp_path, suffix, dtypes):
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"):
        path = tmp_path / f"{dtype}{suffix}"
        array = (IMAGE % 100).astype(dtype)
        if dtype in dtypes.split() or (suffix, dtype) == (".mrc", "u1"):
            save_volume(path, array)
            assert open_volume(path).dtype == ("u2" if suffix == ".mrc" and dtype == "u1" else dtype)
            np.testing.assert_array_equal(open_volume(path).read()[0], array)
        else:
            with pytest.raises(InputError, match=f"cannot hold {np.dtype(dtype)}"):
                save_volume(path, array)


def test_hdf5_for_ilastik_and_fiji(tmp_path):
    array = CHANNELS.astype(np.float32)
    save_volume(tmp_path / "a.h5", array, spacing=(50, 4, 5), unit="nm", channel_names=["u", "v"])
    with h5py.File(tmp_path / "a.h5") as file:
        dataset = file["exported_data"]
        np.testing.assert_array_equal(dataset, array)
        tags = json.loads(dataset.attrs["axistags"])["axes"]
        assert [(tag["key"], tag["typeFlags"], tag["resolution"]) for tag in tags] == [
            ("z", 2, 50),
            ("y", 2, 4),
            ("x", 2, 5),
            ("c", 1, 0),
        ]
        assert json.loads(dataset.attrs["axis_units"]) == {"z": "nm", "y": "nm", "x": "nm", "c": ""}
        assert list(dataset.attrs["element_size_um"]) == pytest.approx([0.05, 0.004, 0.005])
        assert [dimension.label for dimension in dataset.dims] == list("zyxc")
        assert dataset.chunks == (3, 40, 50, 2)


def test_n5_for_tensorstore_and_ilastik(tmp_path):
    save_volume(tmp_path / "a.n5", IMAGE, spacing=(50, 4, 5), unit="nm")
    folder = tmp_path / "a.n5" / "exported_data"
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{folder}/"}}
    store = tensorstore.open(spec).result()
    np.testing.assert_array_equal(store.read().result(), IMAGE.T)
    assert store.domain.labels == ("x", "y", "z")
    assert [(unit.multiplier, unit.base_unit) for unit in store.dimension_units] == [(5, "nm"), (4, "nm"), (50, "nm")]
    attributes = json.loads((folder / "attributes.json").read_text())
    assert [tag["key"] for tag in json.loads(attributes["axistags"])["axes"]] == ["z", "y", "x"]
    assert attributes["pixelResolution"] == {"dimensions": [5, 4, 50], "unit": "nm"}


@pytest.mark.parametrize("suffix", [".h5", ".n5"])
def test_classes_are_named_in_the_attributes(tmp_path, suffix):
    save_volume(tmp_path / f"a{suffix}", LABELS, content="labels", **CLASSES)
    if suffix == ".h5":
        with h5py.File(tmp_path / "a.h5") as file:
            stored = {key: json.loads(file["exported_data"].attrs[key]) for key in CLASSES}
    else:
        stored = json.loads((tmp_path / "a.n5" / "exported_data" / "attributes.json").read_text())
    assert {key: stored[key] for key in CLASSES} == CLASSES


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
@pytest.mark.parametrize(("unit", "metres"), [("nm", 1e-9), ("Å", 1e-10), ("um", 1e-6), ("mm", 1e-3), ("m", 1)])
def test_itk_and_nibabel_read_what_was_written(tmp_path, suffix, unit, metres):
    save_volume(tmp_path / f"a{suffix}", IMAGE, spacing=(3, 0.5, 0.25), unit=unit, content="labels")
    itk = SimpleITK.ReadImage(str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), IMAGE)
    assert np.array(itk.GetSpacing()) / itk.GetSpacing()[0] == pytest.approx((1, 2, 12))
    volume = open_volume(tmp_path / f"a{suffix}", unit=None)
    in_metres = {"nanometer": 1e-9, "angstrom": 1e-10, "micrometer": 1e-6, "millimeter": 1e-3, "meter": 1}[volume.unit]
    assert np.multiply(volume.spacing, in_metres / metres) == pytest.approx((3, 0.5, 0.25))
    if suffix != ".nrrd":
        image = nibabel.load(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, IMAGE)
        unit_metres = {"micron": 1e-6, "mm": 1e-3, "meter": 1}[image.header.get_xyzt_units()[0]]
        assert np.multiply(image.header.get_zooms(), unit_metres / metres) == pytest.approx((0.25, 0.5, 3))
        assert np.diag(image.affine)[:3] == pytest.approx(image.header.get_zooms())
        assert image.header.get_intent()[0] == "label"


def test_channels_for_itk(tmp_path):
    for suffix in (".nii", ".nii.gz", ".nrrd"):
        save_volume(tmp_path / f"a{suffix}", CHANNELS, spacing=(3, 2, 1), unit="mm")
        itk = SimpleITK.ReadImage(str(tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), CHANNELS)
        assert itk.GetSpacing() == (1, 2, 3)


def test_a_nifti_beyond_the_lengths_of_version_1(tmp_path):
    row = np.arange(40_000, dtype=np.uint16).reshape(1, 1, -1)
    for suffix in (".nii", ".nii.gz"):
        save_volume(tmp_path / f"a{suffix}", row)
        image = nibabel.load(tmp_path / f"a{suffix}")
        assert isinstance(image, nibabel.Nifti2Image)
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, row)
        np.testing.assert_array_equal(open_volume(tmp_path / f"a{suffix}").read()[0], row)


def test_mrcfile_finds_nothing_wrong(tmp_path, capsys):
    save_volume(tmp_path / "a.mrc", IMAGE, spacing=(3, 0.5, 0.25), unit="um")
    assert mrcfile.validate(tmp_path / "a.mrc"), capsys.readouterr().out
    with mrcfile.open(tmp_path / "a.mrc") as mrc:
        np.testing.assert_array_equal(mrc.data, IMAGE)
        assert mrc.is_volume()
        assert mrc.voxel_size.tolist() == pytest.approx((2500, 5000, 30000))
        assert not mrc.header.dmax > mrc.header.dmin  # which says that they are not known
    save_volume(tmp_path / "b.mrc", IMAGE)
    assert mrcfile.validate(tmp_path / "b.mrc"), capsys.readouterr().out
    assert (open_volume(tmp_path / "b.mrc").spacing, open_volume(tmp_path / "b.mrc").unit) == ((1, 1, 1), "pixel")


def test_an_nrrd_names_its_classes_as_slicer_does(tmp_path):
    save_volume(tmp_path / "a.nrrd", LABELS, unit="um", content="labels", **CLASSES)
    voxels, header = nrrd.read(str(tmp_path / "a.nrrd"), index_order="C")
    np.testing.assert_array_equal(voxels, LABELS)
    assert header["space units"] == ["um"] * 3
    assert header["Segment0_Name"] == "mitochondria & co"
    assert (header["Segment1_LabelValue"], header["Segment1_Color"]) == ("2", "0.000000 0.000000 1.000000")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_slices_are_numbered_and_hold_what_other_programs_read(tmp_path, suffix):
    array = (np.concatenate([IMAGE, IMAGE[:2]]) % 256).astype(np.uint8)
    save_volume(tmp_path / f"s{{slice_index}}{suffix}", array)
    assert names_in(tmp_path) == [f"s{i:02d}{suffix}" for i in range(11)]
    save_volume(tmp_path / f"t_{{slice_index:04d}}_e{suffix}", array[:1])
    assert (tmp_path / f"t_0000_e{suffix}").is_file()
    for i, expected in enumerate(array):
        file = tmp_path / f"s{i:02d}{suffix}"
        read = tifffile.imread(file) if suffix == ".tif" else np.asarray(Image.open(file))
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("n_channels", [2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_slices_of_several_channels(tmp_path, dtype, n_channels, suffix):
    array = RNG.integers(0, 255, (3, 20, 30, n_channels)).astype(dtype)
    array = array * 257 - 5 if dtype == np.uint16 else array
    save_volume(tmp_path / f"{{slice_index}}{suffix}", array.astype(dtype))
    volume = open_volume(tmp_path / f"{{slice_index}}{suffix}")
    np.testing.assert_array_equal(volume.read(), np.moveaxis(array.astype(dtype), 3, 0))


def test_a_single_image(tmp_path):
    save_volume(tmp_path / "a.png", IMAGE[:1])
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), IMAGE[0])
    with pytest.raises(
        InputError, match=r"b\.png holds one slice, not 9; name a file per slice, such as b_\{slice_index\}"
    ):
        save_volume(tmp_path / "b.png", IMAGE)
    assert names_in(tmp_path) == ["a.png"]


def test_a_shorter_stack_replaces_a_longer_one_and_nothing_else(tmp_path):
    pattern = tmp_path / "s_{slice_index}.png"
    save_volume(pattern, np.concatenate([IMAGE, IMAGE]))
    for other in ("s_final.png", "t_01.png", "s_01.tif"):
        (tmp_path / other).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"s_00\.png exists; choose another name or allow overwriting"):
        save_volume(pattern, IMAGE[:3])
    with pytest.raises(KeyboardInterrupt), create_volume(pattern, IMAGE.shape, np.uint8, overwrite=True):
        raise KeyboardInterrupt
    assert contents(tmp_path) == before
    save_volume(pattern, IMAGE[:3], overwrite=True)
    assert names_in(tmp_path) == ["s_0.png", "s_01.tif", "s_1.png", "s_2.png", "s_final.png", "t_01.png"]
    np.testing.assert_array_equal(open_volume(pattern).read()[0], IMAGE[:3])


def test_a_stack_that_cannot_be_moved_into_place_leaves_the_old_one(tmp_path, monkeypatch):
    pattern = tmp_path / "s_{slice_index}.png"
    save_volume(pattern, IMAGE)
    before = contents(tmp_path)
    rename = Path.rename

    def refuse(self, target):
        if ".partial" in str(self) and self.name == "s_4.png":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*s_\{slice_index\}\.png: Permission denied"):
        save_volume(pattern, IMAGE + 1, overwrite=True)
    assert contents(tmp_path) == before
    assert names_in(tmp_path) == [f"s_{i}.png" for i in range(9)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("block_shape", [(64, 64, 64), (7, 40, 50), (2, 13, 50), (3, 11, 17)])
def test_blocks_from_many_threads_give_the_same_file_as_one_array(tmp_path, name, block_shape):
    for folder in ("whole", "blocks"):
        (tmp_path / folder).mkdir()
    save_volume(tmp_path / "whole" / name, IMAGE)
    with create_volume(tmp_path / "blocks" / name, IMAGE.shape, IMAGE.dtype) as writer:
        boxes = [block.inner for block in partition(IMAGE.shape, block_shape)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda box: writer.write(box, IMAGE[box.slices]), reversed(boxes)))
    np.testing.assert_array_equal(open_volume(tmp_path / "blocks" / name).read()[0], IMAGE)
    if not name.endswith((".mrc", ".h5")):  # whose labels hold the time, and whose chunks lie as they came
        assert contents(tmp_path / "blocks") == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", NAMES)
def test_voxels_never_written_are_zero(tmp_path, name):
    with create_volume(tmp_path / name, IMAGE.shape, np.uint16) as writer:
        writer.write(Box((8, 0, 0), (9, 40, 50)), IMAGE[:1])
    written = open_volume(tmp_path / name).read()[0]
    np.testing.assert_array_equal(written[8], IMAGE[0])
    assert not written[:8].any()


@pytest.mark.parametrize("suffix", WITH_SIZE)
def test_what_exists_is_replaced_only_if_asked_and_only_on_success(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_volume(path, IMAGE)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"a{suffix} exists"):
        save_volume(path, LABELS)

    def fail_halfway():
        with create_volume(path, IMAGE.shape, np.uint16, overwrite=True) as writer:
            writer.write(Box((0, 0, 0), (1, 40, 50)), IMAGE[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert contents(tmp_path) == before
    save_volume(path, IMAGE + 1, overwrite=True)
    np.testing.assert_array_equal(open_volume(path).read()[0], IMAGE + 1)
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_folder_and_one_that_is_in_the_way(tmp_path, name):
    with pytest.raises(MissingFileError, match=r"cannot write .*: the folder .*nowhere does not exist"):
        save_volume(tmp_path / "nowhere" / name, IMAGE)
    if "{" not in name:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
        with pytest.raises(InputError, match="is a folder, which is not replaced"):
            save_volume(tmp_path / name, IMAGE, overwrite=True)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from voxloop.errors import StorageError
from voxloop.io import save_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
array = np.random.default_rng(0).integers(0, 255, (64, 64, 200), np.uint8)
try:
    save_volume(sys.argv[1], array, overwrite=True)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_the_system_refuses_to_let_grow(tmp_path, name):
    save_volume(tmp_path / name, LABELS[:, :4, :4])
    before = contents(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / name], capture_output=True, text=True, check=True
    )
    assert "cannot write " in done.stdout
    assert "File too large" in done.stdout or "failed to write chunk file" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a.mha", FormatError, r"a\.mha names no known format; expected TIFF"),
        ("a.dcm", FormatError, r"a\.dcm names no known format"),
        ("a.nhdr", FormatError, r"a\.nhdr names no known format"),
        ("a_{slice_index}.jpg", FormatError, "names no known format"),
        ("{slice_index}/a.png", InputError, "must hold {slice_index} once|holds one slice"),
        ("a{slice_index}{slice_index}.png", InputError, "must hold {slice_index} once"),
        ("a{slice_index:0999d}.png", InputError, "asks for 999 digits; expected at most 20"),
        ("x/../a{slice_index}.png", InputError, r"holds '\.\.'; expected a path without it"),
    ],
)
def test_paths_that_cannot_be_written(tmp_path, name, error, message):
    (tmp_path / "x").mkdir()
    (tmp_path / "{slice_index}").mkdir()
    with pytest.raises(error, match=message):
        save_volume(tmp_path / name, IMAGE)
    assert names_in(tmp_path) == ["x", "{slice_index}"]
    assert not names_in(tmp_path / "x")


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_stored_as_bytes(tmp_path, name):
    save_volume(tmp_path / name, LABELS > 1, content="labels")
    np.testing.assert_array_equal(open_labels(tmp_path / name).read()[0], LABELS > 1)


def test_wildcards_in_a_name_to_write_are_letters(tmp_path):
    save_volume(tmp_path / "cell[1].nrrd", IMAGE)
    assert names_in(tmp_path) == ["cell[1].nrrd"]
    assert open_volume(tmp_path / "cell[1].nrrd").name == "cell[1]"


OBLIQUE = np.array([[-0.96, 0.28, 0.0, 12.5], [0.7, 2.4, 0.0, -30.25], [0.0, 0.0, 5.0, 7.0]])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_voxels_keep_their_place_in_space(tmp_path, suffix):
    """A file with an orientation is read, cut, written; nibabel and ITK see its voxels where they were."""
    turned = np.diag([-1.0, 1, 1]) @ OBLIQUE[:, :3]
    affine = np.vstack([np.column_stack([turned, OBLIQUE[:, 3]]), [0, 0, 0, 1]])
    sizes = np.linalg.norm(turned, axis=0)
    image = nibabel.Nifti1Image(IMAGE.T.astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "in.nii")
    volume = open_volume(tmp_path / "in.nii")
    np.testing.assert_allclose(volume.affine, affine[:3], rtol=1e-6)
    part = volume.crop(Box((2, 5, 7), (9, 30, 40)))
    save_volume(tmp_path / f"out{suffix}", part.data, spacing=part.spacing, unit=part.unit, affine=part.affine)
    expected = affine.copy()
    expected[:3, 3] = (affine @ [7, 5, 2, 1])[:3]
    back = open_volume(tmp_path / f"out{suffix}")
    np.testing.assert_allclose(back.affine, expected[:3], rtol=1e-6)
    if suffix != ".nrrd":
        np.testing.assert_allclose(nibabel.load(tmp_path / f"out{suffix}").affine, expected, rtol=1e-6)
    if suffix == ".nrrd":  # ITK knows rotations only where it reads a NIfTI
        itk = SimpleITK.ReadImage(str(tmp_path / f"out{suffix}"))
        assert itk.GetOrigin() == pytest.approx(tuple(expected[:3, 3] * [-1, -1, 1]))
        directions = np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
        np.testing.assert_allclose(directions * [[-1], [-1], [1]], expected[:3, :3], rtol=1e-6, atol=1e-9)
        assert itk.GetSpacing() == pytest.approx(tuple(sizes))


def test_the_place_in_space_goes_with_the_voxel_size(tmp_path):
    affine = ((2.0, 0, 0, 10), (0, 3.0, 0, 20), (0, 0, 4.0, 30))
    save_volume(tmp_path / "a.nii", IMAGE, spacing=(4, 3, 2), unit="mm", affine=affine)
    assert open_volume(tmp_path / "a.nii").affine == affine
    larger = open_volume(tmp_path / "a.nii", spacing=(8, 3, 2))
    assert larger.affine == ((2, 0, 0, 10), (0, 3, 0, 20), (0, 0, 8, 30))
    assert open_volume(tmp_path / "a.nii", unit="um").affine is None
    assert open_volume(tmp_path / "a.nii", axes="yzx").affine is None
    save_volume(tmp_path / "b.nii", IMAGE, spacing=(4000, 3000, 2000), unit="um", affine=np.multiply(affine, 1000))
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine[:3], np.multiply(affine, 1000))
    assert nibabel.load(tmp_path / "b.nii").header.get_xyzt_units()[0] == "micron"
