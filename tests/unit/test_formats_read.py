"""Formats of microscopes, scanners and other programs: voxels, axes, voxel size and unit as these mean them."""

from __future__ import annotations

import bz2
import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import h5py
import imagecodecs
import mrcfile
import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK
import tensorstore
import tifffile
import z5py
from PIL import Image
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from voxloop.blocks import Box, partition
from voxloop.errors import InputError
from voxloop.io import open_labels, open_volume, source_exists

RNG = np.random.default_rng(7)
STACK = RNG.integers(0, 4000, (5, 20, 30), np.uint16)
COLOURS = RNG.integers(0, 255, (5, 20, 30, 3), np.uint8)


def same(volume, array):
    """Whether the volume holds (z, y, x) or (z, y, x, c) `array`, as a whole, block by block and in steps."""
    expected = array if array.ndim == 4 else array[..., np.newaxis]
    assert volume.dtype == array.dtype.newbyteorder("=")
    assert volume.shape == expected.shape[:3]
    for block in partition(volume.shape, (2, 13, 14)):
        np.testing.assert_array_equal(volume.read(block.inner), np.moveaxis(expected[block.inner.slices], 3, 0))
    np.testing.assert_array_equal(volume.read(), np.moveaxis(expected, 3, 0))
    for key in np.s_[::2, ::3, 5::7], np.s_[::-2, ::-1, 16:10:-4], np.s_[-1, :, 4], np.s_[:, 5:5]:
        np.testing.assert_array_equal(volume.data[key], array[key])
    return True


# HDF5


def write_hdf5(path, name="volume/data", array=STACK, **attributes):
    with h5py.File(path, "a") as file:
        file.create_dataset(name, data=array, chunks=(2, 8, 9), compression="gzip")
        file[name].attrs.update(attributes)
    return path


def test_the_sole_dataset_of_an_hdf5_file(tmp_path):
    path = write_hdf5(tmp_path / "cells.h5")
    with h5py.File(path, "a") as file:
        file["notes"] = "text is no image"
        file["volume/positions"] = np.arange(5)
    volume = open_volume(path)
    assert same(volume, STACK)
    assert (volume.spacing, volume.unit, volume.name, volume.axes) == ((1, 1, 1), "pixel", "cells", "zyx")


def test_a_dataset_is_named_by_a_longer_path_or_an_argument(tmp_path):
    path = write_hdf5(write_hdf5(tmp_path / "cells.h5"), "labels/gold", STACK // 2)
    for volume in (
        open_volume(path / "labels" / "gold"),
        open_volume(f"{path}/labels/gold"),
        open_labels(path, dataset="/labels/gold"),
        open_volume(path, dataset="labels/gold"),
    ):
        assert same(volume, STACK // 2)
        assert volume.name == "cells-gold"
        assert volume.path == path / "labels" / "gold"
    assert source_exists(path / "labels" / "gold")
    assert not source_exists(tmp_path / "other.h5" / "labels")
    with pytest.raises(
        InputError, match=r"holds 2 datasets: /labels/gold \(5, 20, 30\) uint16, /volume/data .*cells\.h5/lab"
    ):
        open_volume(path)


def test_axes_and_voxel_size_of_ilastik(tmp_path):
    tags = {
        "axes": [
            {"key": k, "typeFlags": 2, "resolution": r, "description": ""}
            for k, r in zip("xyz", (2, 3, 4), strict=True)
        ]
    }
    units = json.dumps({"x": "nm", "y": "nm", "z": "µm"})
    path = write_hdf5(tmp_path / "a.h5", axistags=json.dumps(tags), axis_units=units)
    volume = open_volume(path)
    assert same(volume, STACK.transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((4000, 3, 2))
    assert volume.unit == "nanometer"
    five = STACK.reshape(1, 5, 20, 30, 1)
    tags = {"axes": [{"key": key, "typeFlags": 2, "resolution": 0, "description": ""} for key in "tzyxc"]}
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["exported_data"] = five
        file["exported_data"].attrs["axistags"] = json.dumps(tags)
    assert same(open_volume(tmp_path / "b.h5"), STACK)


@pytest.mark.parametrize(
    ("attributes", "spacing", "unit"),
    [
        ({"element_size_um": [0.5, 0.1, 0.2]}, (0.5, 0.1, 0.2), "micrometer"),
        ({"resolution": [40.0, 4.0, 4.0]}, (40, 4, 4), "nanometer"),
        ({"resolution": [40.0, 4.0, 4.0], "unit": "um"}, (40, 4, 4), "micrometer"),
        ({"resolution": [40.0, 4.0]}, (1, 1, 1), "pixel"),
    ],
)
def test_voxel_size_of_other_writers_of_hdf5(tmp_path, attributes, spacing, unit):
    volume = open_volume(write_hdf5(tmp_path / "a.h5", **attributes))
    assert (volume.spacing, volume.unit) == (spacing, unit)


def test_dimension_labels_and_byte_order_of_hdf5(tmp_path):
    with h5py.File(tmp_path / "data.bin", "w") as file:  # known by its content
        file["a"] = STACK.astype(">u2")
        for dimension, label in zip(file["a"].dims, "yxz", strict=True):
            dimension.label = label
    assert same(open_volume(tmp_path / "data.bin"), STACK.transpose(2, 0, 1))
    assert same(open_volume(tmp_path / "data.bin", axes="zyx"), STACK)


def test_links_within_an_hdf5_file_and_to_files_beside_it(tmp_path):
    write_hdf5(tmp_path / "raw.h5")
    layout = h5py.VirtualLayout(STACK.shape, STACK.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "raw.h5"), "volume/data", STACK.shape)
    with h5py.File(tmp_path / "index.h5", "w") as file:
        file["outside"] = h5py.ExternalLink("raw.h5", "/volume/data")
        file["inside"] = h5py.SoftLink("/outside")
        file.create_virtual_dataset("virtual", layout)
    for name in ("outside", "inside", "virtual"):
        assert same(open_volume(tmp_path / "index.h5" / name), STACK)


# N5


def write_n5(folder, array=STACK, compression="gzip", **attributes):
    options = {"gzip": {"level": 5}, "blosc": {"cname": "lz4", "clevel": 5, "shuffle": 1}, "zstd": {"level": 3}}
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "metadata": {
            "dimensions": array.shape[::-1],
            "blockSize": [7, 8, 2][: array.ndim] + [1] * (array.ndim - 3),
            "dataType": array.dtype.name,
            "compression": {"type": compression, **options.get(compression, {})},
        },
    }
    tensorstore.open(spec, create=True).result().T[...].write(array).result()
    root = next(parent for parent in folder.parents if parent.suffix == ".n5")
    (root / "attributes.json").write_text('{"n5": "2.5.1"}')
    stored = json.loads((folder / "attributes.json").read_text())
    (folder / "attributes.json").write_text(json.dumps({**stored, **attributes}))
    return folder


@pytest.mark.parametrize("compression", ["raw", "gzip", "bzip2", "xz", "blosc", "zstd"])
def test_n5(tmp_path, compression):
    write_n5(tmp_path / "cells.n5" / "volumes" / "raw", compression=compression)
    assert same(open_volume(tmp_path / "cells.n5" / "volumes" / "raw"), STACK)
    volume = open_volume(tmp_path / "cells.n5")
    assert same(volume, STACK)
    assert (volume.spacing, volume.unit, volume.name) == ((1, 1, 1), "pixel", "cells")


def test_an_n5_with_blosc_as_java_and_ilastik_write_it(tmp_path):
    file = z5py.N5File(tmp_path / "a.n5", mode="w")
    file.create_dataset("raw", data=STACK, chunks=(2, 8, 9), compression="blosc")
    assert same(open_volume(tmp_path / "a.n5"), STACK)


@pytest.mark.parametrize(
    ("attributes", "spacing", "unit"),
    [
        ({"resolution": [4, 5, 40], "units": ["nm", "nm", "nm"]}, (40, 5, 4), "nanometer"),
        ({"pixelResolution": {"unit": "um", "dimensions": [0.4, 0.5, 2]}}, (2, 0.5, 0.4), "micrometer"),
        ({"axes": ["z", "y", "x"], "resolution": [4, 5, 40], "units": ["nm"] * 3}, (4, 5, 40), "nanometer"),
    ],
)
def test_voxel_size_and_axes_of_n5(tmp_path, attributes, spacing, unit):
    volume = open_volume(write_n5(tmp_path / "a.n5" / "raw", **attributes))
    assert (volume.spacing, volume.unit) == (spacing, unit)
    assert same(volume, STACK.transpose(2, 1, 0) if attributes.get("axes") else STACK)


def test_the_finest_scale_of_an_n5_pyramid(tmp_path):
    pyramid = tmp_path / "a.n5" / "setup0"
    write_n5(pyramid / "s1", STACK[:, ::2, ::2], downsamplingFactors=[2, 2, 1])
    write_n5(pyramid / "s0")
    (pyramid / "attributes.json").write_text(json.dumps({"pixelResolution": {"unit": "nm", "dimensions": [4, 4, 40]}}))
    volume = open_volume(tmp_path / "a.n5")
    assert same(volume, STACK)
    assert volume.spacing == (40, 4, 4)
    assert open_volume(pyramid / "s1").spacing == (40, 8, 8)
    assert same(open_volume(tmp_path / "a.n5", scale=1), STACK[:, ::2, ::2])
    assert open_volume(tmp_path / "a.n5", scale=1).name == "a"
    with pytest.raises(InputError, match="has 2 scales"):
        open_volume(pyramid, scale=2)
    write_n5(tmp_path / "a.n5" / "labels")
    with pytest.raises(InputError, match="holds 3 datasets: labels, setup0/s0, setup0/s1; choose one, such as"):
        open_volume(tmp_path / "a.n5")


# Images and stacks of them


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.png", STACK[0]),
        ("a.png", STACK[0].astype(np.uint8)),
        ("a.png", STACK[0] > 2000),
        ("a.png", COLOURS[0]),
        ("a.png", COLOURS[0].astype(np.uint16) * 257 - 3),  # which Pillow cuts to 8 bits
        ("a.bmp", STACK[0].astype(np.uint8)),
        ("a.bmp", COLOURS[0]),
        ("a.tif", STACK[0]),
        ("a.tif", COLOURS[0]),
    ],
)
def test_images_of_one_slice_and_stacks_of_them(tmp_path, name, array):
    file = tmp_path / name
    if array.dtype == np.uint16 and array.ndim == 3:
        file.write_bytes(imagecodecs.png_encode(array))
    elif file.suffix == ".tif":
        tifffile.imwrite(file, array)
    else:
        Image.fromarray(array).save(file)
    assert same(open_volume(file), array[np.newaxis])
    assert same(open_volume(tmp_path / f"*{file.suffix}"), array[np.newaxis])
    assert same(open_volume(tmp_path), array[np.newaxis])


def test_a_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    volume = open_volume(tmp_path / "a.jpg")
    assert (volume.shape, volume.dtype, volume.n_channels) == ((1, 40, 50), np.uint8, 1)
    np.testing.assert_allclose(volume.read()[0, 0].astype(int), smooth, atol=3)


def test_a_palette_gives_its_indices(tmp_path):
    image = Image.fromarray((STACK[0] % 3).astype(np.uint8), mode=None).convert("L")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "labels.png")
    assert same(open_labels(tmp_path / "labels.png"), (STACK[:1] % 3).astype(np.uint8))


def write_slices(folder, suffix=".png", numbers=(9, 10, 11, 100, 8)):
    folder.mkdir(exist_ok=True)
    for number, image in zip(numbers, STACK, strict=True):
        if suffix == ".tif":
            options = {"resolution": (20, 10), "resolutionunit": "CENTIMETER", "compression": "zlib", "tile": (16, 16)}
            tifffile.imwrite(folder / f"s{number}.tif", image, metadata=None, **options)
        else:
            Image.fromarray(image).save(folder / f"s{number}{suffix}")
    return folder


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("pattern", ["", "*{}", "s*{}", "s{{slice_index}}{}", "s{{slice_index:04d}}{}"])
def test_a_stack_is_sorted_by_the_numbers_in_its_names(tmp_path, suffix, pattern):
    folder = write_slices(tmp_path / "brain", suffix)
    (folder / "notes.txt").write_text("not a slice")
    (folder / ".hidden.png").write_text("nor this")
    path = folder / pattern.format(suffix) if pattern else folder
    volume = open_volume(path, spacing=(3, 2, 1), unit="nm")
    assert same(volume, STACK[[4, 0, 1, 2, 3]])
    assert volume.name == ("s" if pattern.startswith("s") else "brain")
    assert source_exists(path)


def test_a_stack_of_tiffs_knows_the_size_of_a_pixel_but_not_of_a_slice(tmp_path):
    folder = write_slices(tmp_path / "brain", ".tif")
    assert (open_volume(folder).spacing, open_volume(folder).unit) == ((1, 1, 1), "pixel")
    assert open_volume(folder, spacing=(3, 2, 1)).unit == "centimeter"


def test_a_file_with_wildcards_in_its_name_is_a_file(tmp_path):
    tifffile.imwrite(tmp_path / "cell[1].tif", STACK)
    volume = open_volume(tmp_path / "cell[1].tif")
    assert same(volume, STACK)
    assert volume.name == "cell[1]"


def test_a_slice_is_decoded_once(tmp_path, monkeypatch):
    volume = open_volume(write_slices(tmp_path / "brain"))
    stack = volume.data.array._opened
    decode, decoded = stack._decode, []
    monkeypatch.setattr(stack, "_decode", lambda z: decoded.append(z) or decode(z))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(volume.read, [block.inner for block in partition(volume.shape, (2, 7, 9))]))
    assert sorted(decoded) == [0, 1, 2, 3, 4]


# NIfTI


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">f4", "u1", "<f8", ">u4"])
def test_nifti_as_nibabel_and_itk_see_it(tmp_path, suffix, kind, dtype):
    path = tmp_path / f"brain{suffix}"
    image = kind((STACK % 200).astype(dtype).T, np.diag([2, 3, 4, 1]), dtype=dtype)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(path)
    volume = open_volume(path)
    assert same(volume, (STACK % 200).astype(dtype))
    np.testing.assert_array_equal(volume.read()[0], np.asarray(nibabel.load(path).dataobj).T)
    assert (volume.spacing, volume.unit, volume.name) == ((4, 3, 2), "millimeter", "brain")
    if kind is nibabel.Nifti1Image:
        itk = SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), volume.read()[0])
        assert itk.GetSpacing() == volume.spacing[::-1]


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, np.int32), (2, 0, np.int32), (0.1, 5, np.float32), (np.nan, 0, np.int16)],
)
def test_nifti_values_are_scaled(tmp_path, slope, intercept, dtype):
    image = nibabel.Nifti1Image((STACK - 2000).astype(np.int16).T, np.eye(4))
    image.to_filename(tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())  # nibabel divides by the slope when it writes
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    volume = open_volume(tmp_path / "a.nii")
    assert volume.dtype == dtype
    np.testing.assert_allclose(volume.read()[0], nibabel.load(tmp_path / "a.nii").get_fdata().T, rtol=1e-6)


def test_nifti_layouts(tmp_path):
    colours = np.empty(COLOURS.shape[:3], [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for i, name in enumerate("RGB"):
        colours[name] = COLOURS[..., i]
    nibabel.Nifti1Image(colours.T, np.eye(4)).to_filename(tmp_path / "rgb.nii")
    assert same(open_volume(tmp_path / "rgb.nii"), COLOURS)
    vectors = np.moveaxis(COLOURS, 3, 0)[:, np.newaxis]
    nibabel.Nifti1Image(vectors.T, np.eye(4)).to_filename(tmp_path / "vectors.nii")
    assert same(open_volume(tmp_path / "vectors.nii"), COLOURS)
    nibabel.Nifti1Image(vectors[:, 0].T, np.eye(4)).to_filename(tmp_path / "frames.nii")
    with pytest.raises(InputError, match="the image has 3 time points"):
        open_volume(tmp_path / "frames.nii")
    assert same(open_volume(tmp_path / "frames.nii", axes="czyx"), COLOURS)
    nibabel.Nifti1Image(STACK[0].T, np.eye(4)).to_filename(tmp_path / "flat.nii")
    assert same(open_volume(tmp_path / "flat.nii"), STACK[:1])
    nibabel.Nifti1Image(STACK.T[..., np.newaxis], np.eye(4)).to_filename(tmp_path / "four.nii")
    assert same(open_volume(tmp_path / "four.nii"), STACK)


def test_nifti_keeps_the_order_of_its_voxels_whatever_the_orientation(tmp_path):
    affine = np.array([[0, 0, 2, 5], [-3, 0, 0, 6], [0, 4, 0, 7], [0, 0, 0, 1.0]])
    nibabel.Nifti1Image(STACK.T, affine).to_filename(tmp_path / "sagittal.nii")
    volume = open_volume(tmp_path / "sagittal.nii", unit="mm")
    assert same(volume, STACK)
    assert volume.spacing == (2, 4, 3)


# MRC


@pytest.mark.parametrize("dtype", ["i1", "<i2", ">i2", "<u2", ">f4", "<f2"])
@pytest.mark.parametrize("suffix", [".mrc", ".rec", ".map"])
def test_mrc(tmp_path, dtype, suffix):
    array = (STACK % 120).astype(dtype)
    path = tmp_path / f"tomogram{suffix}"
    with mrcfile.new(path) as mrc:
        mrc.set_data(array)
        mrc.voxel_size = (10.0, 20.0, 30.0)
    volume = open_volume(path)
    assert same(volume, array)
    assert volume.spacing == pytest.approx((3, 2, 1))
    assert volume.unit == "nanometer"


def test_bytes_of_imod_are_unsigned_unless_it_says_otherwise(tmp_path):
    array = (STACK % 256).astype(np.uint8)
    for flags, expected in ((0, array), (1, array.view(np.int8))):
        with mrcfile.new(tmp_path / "a.rec", overwrite=True) as mrc:
            mrc.set_data(array.view(np.int8))
        content = bytearray((tmp_path / "a.rec").read_bytes())
        content[152:160] = np.array([1146047817, flags], "<i4").tobytes()
        (tmp_path / "a.rec").write_bytes(content)
        assert same(open_volume(tmp_path / "a.rec"), expected)


def test_axes_single_images_stacks_and_extended_headers_of_mrc(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(STACK)
        mrc.set_extended_header(np.zeros(100, "V13"))
        mrc.voxel_size = (10.0, 20.0, 30.0)
        mrc.header.mapc, mrc.header.maps = 3, 1
    volume = open_volume(tmp_path / "a.mrc")
    assert same(volume, STACK.transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((3, 2, 1))
    for name, array in (("image", STACK[0]), ("volumes", STACK[np.newaxis])):
        with mrcfile.new(tmp_path / f"{name}.mrc") as mrc:
            mrc.set_data(array)
    assert same(open_volume(tmp_path / "image.mrc"), STACK[:1])
    assert same(open_volume(tmp_path / "volumes.mrc"), STACK)


def test_an_old_mrc_without_its_mark(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as mrc:
        mrc.set_data(STACK)
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[208:216] = bytes(8)
    (tmp_path / "a.mrc").write_bytes(content)
    assert same(open_volume(tmp_path / "a.mrc"), STACK)


# NRRD and MetaImage


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64, np.int64])
def test_what_itk_writes(tmp_path, suffix, compressed, dtype):
    array = (STACK % 200).astype(dtype)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((0.25, 0.5, 3))
    SimpleITK.WriteImage(image, str(tmp_path / f"ct{suffix}"), compressed)
    volume = open_volume(tmp_path / f"ct{suffix}")
    assert same(volume, array)
    assert (volume.spacing, volume.unit, volume.name) == ((3, 0.5, 0.25), "millimeter", "ct")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_channels_and_single_slices_that_itk_writes(tmp_path, suffix):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(COLOURS, isVector=True), str(tmp_path / f"a{suffix}"))
    assert same(open_volume(tmp_path / f"a{suffix}"), COLOURS)
    flat = SimpleITK.GetImageFromArray(STACK[0])
    flat.SetSpacing((0.25, 0.5))
    SimpleITK.WriteImage(flat, str(tmp_path / f"b{suffix}"))
    assert same(open_volume(tmp_path / f"b{suffix}"), STACK[:1])
    assert open_volume(tmp_path / f"b{suffix}").spacing[1:] == (0.5, 0.25)


# It asks the time as Python 3.12 would rather not have it asked.
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("detached", [False, True])
def test_what_pynrrd_writes(tmp_path, encoding, detached):
    header = {"encoding": encoding, "spacings": [2, 3, 4], "units": ["um"] * 3, "endian": "big"}
    path = tmp_path / ("a.nhdr" if detached else "a.nrrd")
    nrrd.write(str(path), STACK.astype(">u2"), header, index_order="C", detached_header=detached)
    volume = open_volume(path)
    assert same(volume, STACK)
    assert (volume.spacing, volume.unit) == ((4, 3, 2), "micrometer")


def test_skips_and_leading_channels_of_nrrd(tmp_path):
    header = "NRRD0004\n# with a comment\ntype: uchar\ndimension: 4\nsizes: 3 30 20 5\n"
    header += (
        "kinds: RGB-color domain domain domain\nspacings: nan 1 2 3\nencoding: bzip2\nline skip: 1\nbyte skip: 4\n\n"
    )
    content = header.encode() + b"a line to skip\n" + bz2.compress(b"skip" + COLOURS.tobytes())
    (tmp_path / "a.nrrd").write_bytes(content)
    volume = open_volume(tmp_path / "a.nrrd")
    assert same(volume, COLOURS)
    assert volume.spacing == (3, 2, 1)
    raw = header.replace("bzip2", "raw").replace("line skip: 1\nbyte skip: 4", "byte skip: -1")
    (tmp_path / "b.nrrd").write_bytes(raw.encode() + b"anything" + COLOURS.tobytes())
    assert same(open_volume(tmp_path / "b.nrrd"), COLOURS)


def test_a_metaimage_with_units_and_a_skipped_header(tmp_path):
    header = "NDims = 3\nDimSize = 30 20 5\nElementType = MET_USHORT\nElementSpacing = 1 2 3\nDistanceUnits = um\n"
    header += "BinaryDataByteOrderMSB = True\nHeaderSize = -1\nElementDataFile = a.raw\n"
    (tmp_path / "a.mhd").write_text(header)
    (tmp_path / "a.raw").write_bytes(b"a header" + STACK.astype(">u2").tobytes())
    volume = open_volume(tmp_path / "a.mhd")
    assert same(volume, STACK)
    assert (volume.spacing, volume.unit) == ((3, 2, 1), "micrometer")


# DICOM


def write_dicom(file, image, *, position, number=1, syntax=ExplicitVRLittleEndian, frame=None, **fields):
    """Write a slice as a CT scanner does; `fields` replace or, where None, remove what it says."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = pydicom.dataset.FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    bits = fields.pop("bits", image.dtype.itemsize * 8)
    told = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "SeriesDescription": "thorax",
        "Modality": "CT",
        "Rows": image.shape[0],
        "Columns": image.shape[1],
        "SamplesPerPixel": 1 if image.ndim == 2 else 3,
        "PlanarConfiguration": None if image.ndim == 2 else 0,
        "PhotometricInterpretation": "MONOCHROME2" if image.ndim == 2 else "RGB",
        "BitsAllocated": image.dtype.itemsize * 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(image.dtype.kind == "i"),
        "PixelSpacing": [0.5, 0.25],
        "ImagePositionPatient": [7, 8, position],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "InstanceNumber": number,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": pydicom.encaps.encapsulate([frame]) if frame else image.tobytes(),
        **fields,
    }
    for name, value in told.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.save_as(file, enforce_file_format=True)


def write_series(folder, array=STACK, encode=None, **fields):
    """Write a series whose file names say nothing about the order."""
    folder.mkdir(exist_ok=True)
    for number, z in enumerate([3, 1, 4, 0, 2]):
        frame = encode(array[z]) if encode else None
        write_dicom(folder / f"IM{number}", array[z], position=3 * z - 5, number=z, frame=frame, **fields)
    return folder


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (ExplicitVRLittleEndian, None),
        (ImplicitVRLittleEndian, None),
        (JPEGLosslessSV1, lambda image: imagecodecs.ljpeg_encode(image.view(np.uint16), bitspersample=16)),
        (JPEGLSLossless, lambda image: imagecodecs.jpegls_encode(image.view(np.uint16))),
        (JPEG2000Lossless, lambda image: imagecodecs.jpeg2k_encode(image, reversible=True, level=0, codecformat="j2k")),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_a_dicom_series_as_itk_sees_it(tmp_path, syntax, encode, signed):
    array = (STACK.astype(np.int16) - 2000) if signed else STACK
    folder = write_series(tmp_path / "series", array, encode, syntax=syntax, bits=16 if signed or encode else 12)
    volume = open_volume(folder)
    np.testing.assert_array_equal(volume.read()[0], array.astype(np.int32) - 1024)
    assert (volume.spacing, volume.unit, volume.name) == ((3, 0.5, 0.25), "millimeter", "series")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    itk = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), volume.read()[0])
    assert itk.GetSpacing() == volume.spacing[::-1]


def test_twelve_bits_stay_in_sixteen_and_other_bits_do_not_count(tmp_path):
    folder = write_series(tmp_path / "series", STACK | 0xF000, bits=12)
    assert same(open_volume(folder), STACK.astype(np.int16) - 1024)


def test_dicom_run_lengths_colours_and_fractional_slopes(tmp_path):
    write_series(tmp_path / "pet", RescaleSlope=0.5, RescaleIntercept=None)
    assert same(open_volume(tmp_path / "pet"), STACK.astype(np.float32) / 2)
    write_series(tmp_path / "rgb", COLOURS, RescaleSlope=None, RescaleIntercept=None)
    assert same(open_volume(tmp_path / "rgb"), COLOURS)
    folder = write_series(tmp_path / "rle", RescaleIntercept=None)
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless)
        dataset.save_as(file)
    assert same(open_volume(folder), STACK)


def test_an_oblique_series_and_one_without_positions(tmp_path):
    tilted = [1, 0, 0, 0, 0.6, 0.8]
    folder = tmp_path / "tilted"
    folder.mkdir()
    for z in range(5):
        place = [0, -0.8 * 2 * z, 0.6 * 2 * z]  # along the normal, 2 mm apart
        write_dicom(
            folder / f"{9 - z}", STACK[z], position=0, ImagePositionPatient=place, ImageOrientationPatient=tilted
        )
    volume = open_volume(folder)
    np.testing.assert_array_equal(volume.read()[0], STACK.astype(np.int32) - 1024)
    assert volume.spacing == pytest.approx((2, 0.5, 0.25))
    write_series(tmp_path / "scans", ImagePositionPatient=None, SliceThickness=4, RescaleIntercept=None)
    volume = open_volume(tmp_path / "scans")
    assert same(volume, STACK)
    assert volume.spacing == (4, 0.5, 0.25)


def test_several_series_in_a_folder(tmp_path):
    folder = write_series(tmp_path / "study", RescaleIntercept=None)
    write_dicom(folder / "scout", STACK[0], position=0, SeriesInstanceUID="1.2.4", SeriesDescription="scout")
    (folder / "readme.txt").write_text("no image")
    with pytest.raises(InputError, match=r"holds 2 series: 1\.2\.3 \(thorax, 5 images\), 1\.2\.4 \(scout, 1 images\)"):
        open_volume(folder)
    assert same(open_volume(folder / "1.2.3"), STACK)
    assert open_volume(folder, dataset="1.2.4").shape == (1, 20, 30)
    assert open_volume(folder / "scout").shape == (1, 20, 30)


# npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz", raw=STACK)
    save(tmp_path / "b.npz", raw=STACK, labels=np.asfortranarray(STACK // 2))
    assert same(open_volume(tmp_path / "a.npz"), STACK)
    assert same(open_volume(tmp_path / "b.npz" / "labels"), STACK // 2)
    assert same(open_volume(tmp_path / "b.npz", dataset="raw"), STACK)
    with pytest.raises(InputError, match=r"holds 2 arrays \(raw, labels\); choose one, such as .*b\.npz/"):
        open_volume(tmp_path / "b.npz")


# All


@pytest.mark.parametrize(
    "name", ["a.h5", "a.h5/volume/data", "a.n5", "a.nii.gz", "a.mrc", "a.mha", "a.npz/b", "s", "s/*.png"]
)
def test_a_volume_pickles_as_its_path_and_opens_in_another_process(tmp_path, name):
    kind = name.split("/")[0]
    {
        "a.h5": lambda: write_hdf5(tmp_path / "a.h5"),
        "a.n5": lambda: write_n5(tmp_path / "a.n5" / "b"),
        "a.nii.gz": lambda: nibabel.Nifti1Image(STACK.T, np.eye(4)).to_filename(tmp_path / "a.nii.gz"),
        "a.mrc": lambda: mrcfile.write(tmp_path / "a.mrc", STACK),
        "a.mha": lambda: SimpleITK.WriteImage(SimpleITK.GetImageFromArray(STACK), str(tmp_path / "a.mha"), True),
        "a.npz": lambda: np.savez_compressed(tmp_path / "a.npz", b=STACK),
        "s": lambda: write_slices(tmp_path / "s", numbers=range(5)),
    }[kind]()
    volume = open_volume(tmp_path / name)
    volume.read(Box((0, 0, 0), (1, 1, 1)))
    pickled = pickle.dumps(volume)
    assert len(pickled) < 2000
    code = "import pickle, sys; v = pickle.load(sys.stdin.buffer); print(v.shape, int(v.read().astype('i8').sum()))"
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"(5, 20, 30) {STACK.astype('i8').sum()}"
    assert volume.data.stored_size > 0


@pytest.mark.parametrize(("folder", "image"), [("mri_flair_ms_lesions", "image.tif"), ("lm_ovule_nuclei", "image.tif")])
def test_real_volumes_through_other_formats(real_data, tmp_path, folder, image):
    array = tifffile.imread(real_data(folder) / image)
    nibabel.Nifti1Image(array.T, np.eye(4)).to_filename(tmp_path / "a.nii.gz")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / "a.mha"), True)
    for name in ("a.nii.gz", "a.mha"):
        np.testing.assert_array_equal(open_volume(tmp_path / name).read()[0], array)


# Where the voxels lie in space: to the right, to the front, to the head; ITK's space goes to the left and to the back


def itk_affine(image):
    columns = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return np.column_stack([columns, image.GetOrigin()]) * [[-1], [-1], [1]]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_the_place_in_space_of_what_itk_writes(tmp_path, suffix):
    image = SimpleITK.GetImageFromArray(STACK.astype(np.int16))
    image.SetSpacing((0.25, 0.5, 3))
    image.SetOrigin((10, -20, 30.5))
    image.SetDirection((0, 1, 0, 0.6, 0, 0.8, 0.8, 0, -0.6))
    SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))
    np.testing.assert_allclose(open_volume(tmp_path / f"a{suffix}").affine, itk_affine(image), rtol=1e-5, atol=1e-5)


def test_the_place_in_space_of_a_dicom_series(tmp_path):
    folder = write_series(tmp_path / "series")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_allclose(open_volume(folder).affine, itk_affine(reader.Execute()), rtol=1e-6, atol=1e-9)
    write_series(tmp_path / "scans", ImagePositionPatient=None, SliceThickness=4)
    assert open_volume(tmp_path / "scans").affine is None


def test_a_damaged_place_in_space_is_none(tmp_path):
    image = nibabel.Nifti1Image(STACK.T.astype(np.int16), np.diag([2.0, 3, 4, 1]))
    image.header["sform_code"] = 0
    image.header["qform_code"] = 1
    for field in ("quatern_b", "quatern_c"):
        image.header[field] = 3.0
    (tmp_path / "a.nii").write_bytes(bytes(image.header.binaryblock) + bytes(4) + STACK.tobytes())
    volume = open_volume(tmp_path / "a.nii")
    assert volume.affine is None
    assert volume.spacing == (4, 3, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_threads_and_forked_processes_read_an_hdf5_file_that_is_open(tmp_path):
    """Of many chunks, read by threads in the parent while children that inherited the open file read it, too."""
    array = np.random.default_rng(0).integers(0, 60_000, (40, 64, 64), np.uint16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=array, chunks=(4, 16, 16), compression="gzip")
    code = """
import os, sys, threading
import numpy as np
from voxloop.io import open_volume
volume, expected = open_volume(sys.argv[1]), np.load(sys.argv[2])
assert (volume.data[:5] == expected[:5]).all()
failures = []

def read(seed):
    order = np.random.default_rng(seed).permutation(40)
    if not all((volume.data[z] == expected[z]).all() for z in order):
        failures.append(seed)

children = []
for seed in range(4):
    child = os.fork()
    if child == 0:
        handle = volume.data.array._opened._read.__self__
        inherited = handle.dataset
        read(seed)
        os._exit(1 if failures or handle.dataset is inherited else 0)
    children.append(child)
# Not before: no program may fork while its threads hold locks of C libraries.
threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], failures)
"""
    np.save(tmp_path / "a.npy", array)
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "a.h5"), str(tmp_path / "a.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0] []\n", "")
