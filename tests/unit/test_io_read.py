"""Opening files that other programs wrote: values, axes, voxel size, unit and channel names."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr

from voxloop.blocks import Box, partition
from voxloop.errors import FormatError, InputError
from voxloop.io import create_volume, open_labels, open_volume, save_volume
from voxloop.io.units import common_spacing, stored_unit, unit_name

RNG = np.random.default_rng(7)
STACK = RNG.integers(0, 4000, (5, 70, 90), np.uint16)
BOX = Box((1, 30, 15), (4, 61, 70))


def same(volume, array):
    """Whether the volume holds (z, y, x) or (z, y, x, c) `array`, as a whole and block by block."""
    array = array if array.ndim == 4 else array[..., np.newaxis]
    np.testing.assert_array_equal(volume.read(), np.moveaxis(array, 3, 0))
    assert volume.dtype == array.dtype.newbyteorder("=")
    assert volume.dtype.isnative
    for block in partition(volume.shape, (2, 33, 40)):
        np.testing.assert_array_equal(volume.read(block.inner), np.moveaxis(array[block.inner.slices], 3, 0))
    return True


TIFF_VARIANTS = {
    "contiguous": {},
    "big-endian": {"byteorder": ">"},
    "bigtiff": {"bigtiff": True},
    "strips": {"rowsperstrip": 13, "compression": "zlib"},
    "one strip": {"compression": "lzw"},
    "predictor": {"compression": "zlib", "predictor": True, "byteorder": ">"},
    "tiles": {"tile": (32, 16)},
    "compressed tiles": {"tile": (32, 16), "compression": "zstd"},
    "volumetric tiles": {"tile": (2, 32, 16), "compression": "zlib", "volumetric": True},
}


TIFF_KINDS = [
    *(("plain", variant) for variant in TIFF_VARIANTS),
    *(("ome", variant) for variant in TIFF_VARIANTS if variant != "volumetric tiles"),  # OME-TIFF has planes only
    *(("imagej", variant) for variant in ("contiguous", "big-endian")),  # ImageJ's is contiguous and classic
]


@pytest.mark.parametrize(("flavour", "variant"), TIFF_KINDS)
def test_tiff_layouts_hold_the_same_voxels(tmp_path, flavour, variant):
    options = {"plain": {}, "ome": {"ome": True}, "imagej": {"imagej": True}}[flavour] | TIFF_VARIANTS[variant]
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX"}, photometric="minisblack", **options)
    assert same(open_volume(path), STACK)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "uint32", "float16", "float32", "float64", "uint64"]
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_dtypes(tmp_path, dtype, compression):
    array = (STACK % 2 if dtype == "bool" else STACK).astype(dtype)
    tifffile.imwrite(tmp_path / "image.tif", array, compression=compression)
    assert same(open_volume(tmp_path / "image.tif"), array)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("axes", "shape", "expected", "options"),
    [
        ("YX", (30, 40), (1, 30, 40, 1), {}),
        ("YXS", (30, 40, 3), (1, 30, 40, 3), {"photometric": "rgb"}),
        ("SYX", (3, 30, 40), (1, 30, 40, 3), {"photometric": "rgb", "planarconfig": "separate"}),
        ("YXS", (30, 40, 4), (1, 30, 40, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ("ZYXS", (5, 30, 40, 3), (5, 30, 40, 3), {"photometric": "rgb"}),
        ("CYX", (2, 30, 40), (1, 30, 40, 2), {}),
        ("ZCYX", (5, 2, 30, 40), (5, 30, 40, 2), {}),
        ("TZCYX", (1, 5, 2, 30, 40), (5, 30, 40, 2), {}),
        ("TZCYX", (1, 5, 1, 30, 40), (5, 30, 40, 1), {}),
        ("ZYX", (1, 1, 1), (1, 1, 1, 1), {}),
        ("ZYX", (3, 1, 40), (3, 1, 40, 1), {}),
        ("ZYX", (3, 40, 1), (3, 40, 1, 1), {}),
    ],
)
def test_tiff_axes(tmp_path, axes, shape, expected, options, compression):
    array = RNG.integers(0, 255, shape, np.uint8)
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": axes}, ome=True, compression=compression, **options)
    letters = [a for a in axes if a != "T"]
    order = [letters.index(a) for a in "ZYXCS" if a in letters]
    assert same(
        open_volume(tmp_path / "a.tif"),
        array.reshape([n for n, a in zip(shape, axes, strict=True) if a != "T"]).transpose(order).reshape(expected),
    )


def test_a_plain_stack_of_pages_is_a_stack_of_slices(tmp_path):
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for page in STACK:
            file.write(page, contiguous=False, metadata=None)
    assert same(open_volume(tmp_path / "pages.tif"), STACK)


def test_the_largest_image_of_a_tiff_is_opened(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(STACK[0, ::4, ::4], metadata=None)
        file.write(STACK, metadata={"axes": "ZYX"})
    assert same(open_volume(tmp_path / "a.tif"), STACK)
    with tifffile.TiffWriter(tmp_path / "two.tif", ome=True) as file:
        file.write(STACK, metadata={"axes": "ZYX"})
        file.write(STACK, metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="holds 2 images"):
        open_volume(tmp_path / "two.tif")


def test_strided_and_reversed_slices_of_a_compressed_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib", rowsperstrip=13, metadata={"axes": "ZYX"})
    data = open_volume(tmp_path / "a.tif").data
    for key in [np.s_[::2, ::3, 5::7], np.s_[::-2, ::-1, 60:10:-4], np.s_[3, :, 4], np.s_[:, 5:5]]:
        np.testing.assert_array_equal(data[key], STACK[key])


def test_ome_metadata(tmp_path):
    metadata = {
        "axes": "ZCYX",
        "PhysicalSizeX": 0.25,  # micrometre by default
        "PhysicalSizeY": 250,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 0.001,
        "PhysicalSizeZUnit": "mm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(tmp_path / "cells.ome.tif", STACK[:4].reshape(2, 2, 70, 90), metadata=metadata, ome=True)
    volume = open_volume(tmp_path / "cells.ome.tif")
    assert volume.spacing == pytest.approx((1.0, 0.25, 0.25))
    assert (volume.unit, volume.channel_names, volume.name) == ("micrometer", ("DAPI", "GFP"), "cells")
    gfp = open_volume(tmp_path / "cells.ome.tif", channels=["GFP"])
    np.testing.assert_array_equal(gfp.read()[0], STACK[1:4:2])


def test_imagej_metadata(tmp_path):
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(4, 5), metadata=metadata)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.spacing == pytest.approx((0.5, 0.2, 0.25))
    assert volume.unit == "micrometer"
    del metadata["spacing"]  # as ImageJ writes a spacing of 1
    tifffile.imwrite(tmp_path / "b.tif", STACK, imagej=True, resolution=(4, 5), metadata=metadata)
    assert open_volume(tmp_path / "b.tif").spacing == pytest.approx((1.0, 0.2, 0.25))
    tifffile.imwrite(tmp_path / "c.tif", STACK[0], imagej=True, resolution=(4, 5), metadata={"unit": "nm"})
    assert open_volume(tmp_path / "c.tif").spacing == pytest.approx((0.2, 0.2, 0.25))


def test_resolution_tags_of_a_plain_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], resolution=(20, 10), resolutionunit="CENTIMETER", metadata=None)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.spacing[1:] == pytest.approx((0.1, 0.05))
    assert volume.unit == "centimeter"


def test_a_voxel_size_known_along_some_axes_only_is_not_used(tmp_path):
    metadata = {"axes": "ZYX", "spacing": 50.0, "unit": "nm"}  # x and y only in default tags
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=metadata)
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.spacing, volume.unit) == ((1, 1, 1), "pixel")
    told = open_volume(tmp_path / "a.tif", spacing=(50, 4.6, 4.6))
    assert (told.spacing, told.unit) == ((50, 4.6, 4.6), "nanometer")


def test_arguments_override_metadata(tmp_path):
    metadata = {"axes": "TYX", "PhysicalSizeX": 2.0, "PhysicalSizeY": 3.0}
    tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, metadata=metadata)
    with pytest.raises(InputError, match=r"a\.tif: the image has 5 time points"):
        open_volume(tmp_path / "a.tif")
    volume = open_volume(tmp_path / "a.tif", axes="zxy", spacing=(3, 2, 1), unit="nm", name="mine")
    assert (volume.spacing, volume.unit, volume.name, volume.axes) == ((3, 2, 1), "nanometer", "mine", "zxy")
    assert same(volume, STACK.transpose(0, 2, 1))
    turned = open_volume(tmp_path / "a.tif", axes="cxy")
    assert turned.spacing[1:] == (2.0, 3.0)  # sizes stay with the dimensions of the array, whatever their letters


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<f4", "|b1"])
def test_npy(tmp_path, order, dtype):
    array = np.asarray(STACK % 2 if dtype == "|b1" else STACK, dtype, order=order)
    np.save(tmp_path / "image.npy", array)
    volume = open_volume(tmp_path / "image.npy")
    assert same(volume, array)
    assert (volume.spacing, volume.unit, volume.axes) == ((1, 1, 1), "pixel", "zyx")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_array(tmp_path, zarr_format):
    array = zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(2, 32, 32), zarr_format=zarr_format)
    assert same(open_volume(array.store_path.store.root), STACK)
    group = zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=zarr_format)
    group.create_array("volumes/raw", data=STACK, chunks=(5, 70, 90))
    assert same(open_volume(tmp_path / "b.zarr" / "volumes" / "raw"), STACK)


def test_dimension_names_of_a_zarr_array(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(2, 32, 32), dimension_names=("x", "y", "z"))
    assert same(open_volume(tmp_path / "a.zarr"), STACK.transpose(2, 1, 0))


def ome_zarr(path, version):
    """Write two scales of (t, c, z, y, x), with metadata as the specification of the version has them."""
    fine = STACK[np.newaxis, np.newaxis].repeat(2, 1)
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("scale/0", data=fine, chunks=(1, 1, 5, 32, 32))
    group.create_array("scale/1", data=fine[..., ::2, ::2], chunks=(1, 1, 5, 32, 32))
    axes = [{"name": "t", "type": "time", "unit": "second"}, {"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    datasets = [
        {"path": f"scale/{i}", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 0.5, s, s]}]}
        for i, s in enumerate([0.1, 0.2])
    ]
    multiscale = {
        "axes": axes,
        "datasets": datasets,
        "coordinateTransformations": [{"type": "scale", "scale": [3, 1, 2, 2, 2]}],
    }
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}]}
    if version == "0.4":
        group.attrs.put({"multiscales": [{"version": "0.4", **multiscale}], "omero": omero})
    else:
        group.attrs.put({"ome": {"version": "0.5", "multiscales": [multiscale], "omero": omero}})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    ome_zarr(tmp_path / "cells.zarr", version)
    volume = open_volume(tmp_path / "cells.zarr")
    assert same(volume, np.stack([STACK, STACK], -1))
    assert volume.spacing == pytest.approx((1.0, 0.2, 0.2))
    assert (volume.unit, volume.channel_names, volume.name) == ("micrometer", ("DAPI", "GFP"), "cells")
    coarser = open_volume(tmp_path / "cells.zarr" / "scale" / "1", channels=[1])
    assert same(coarser, STACK[:, ::2, ::2])
    assert coarser.spacing == pytest.approx((1.0, 0.4, 0.4))
    assert coarser.channel_names == ("GFP",)


def test_labels_are_integers_of_one_channel(tmp_path):
    np.save(tmp_path / "labels.npy", STACK)
    np.save(tmp_path / "mask.npy", STACK > 9)
    np.save(tmp_path / "floats.npy", STACK.astype(np.float32))
    np.save(tmp_path / "channels.npy", np.stack([STACK, STACK], -1))
    assert same(open_labels(tmp_path / "labels.npy", spacing=(2, 1, 1)), STACK)
    assert open_labels(tmp_path / "mask.npy").dtype == bool
    with pytest.raises(InputError, match=r"floats\.npy has dtype float32; expected labels"):
        open_labels(tmp_path / "floats.npy")
    with pytest.raises(InputError, match=r"channels\.npy has 2 channels; expected labels"):
        open_labels(tmp_path / "channels.npy")


def test_the_content_tells_the_format_where_the_suffix_does_not(tmp_path):
    tifffile.imwrite(tmp_path / "image.TIF", STACK)
    (tmp_path / "image.TIF").rename(tmp_path / "image.dat")
    assert same(open_volume(tmp_path / "image.dat"), STACK)
    assert open_volume(tmp_path / "image.dat").name == "image.dat"


def make(path, tmp_path):
    if path == "a.npy":
        np.save(tmp_path / path, STACK)
    elif path == "a.zarr":
        zarr.create_array(tmp_path / path, data=STACK, chunks=(2, 32, 32))
    else:
        tifffile.imwrite(tmp_path / path, STACK, compression="zlib" if path == "zlib.tif" else None)
    return tmp_path / path


@pytest.mark.parametrize("name", ["a.tif", "zlib.tif", "a.npy", "a.zarr"])
def test_a_volume_pickles_as_its_path_and_opens_in_another_process(tmp_path, monkeypatch, name):
    make(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    volume = open_volume(name, axes="zxy", spacing=(3, 2, 1), channels=[0])
    volume.read()
    pickled = pickle.dumps(volume)
    assert len(pickled) < 2000
    code = (
        "import pickle, sys; v = pickle.load(sys.stdin.buffer); "
        "print(v.shape, v.spacing, v.path.name, int(v.read().astype('i8').sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True, check=True, cwd="/")
    assert done.stdout.decode().strip() == f"{volume.shape} {volume.spacing} {name} {STACK.astype('i8').sum()}"


def test_only_what_a_block_needs_is_decoded_and_only_once(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib", tile=(32, 32), metadata={"axes": "ZYX"})
    volume = open_volume(tmp_path / "a.tif")
    segments = volume.data.array._opened
    decode, decoded = segments._decode, []

    def spy(data, index, **options):
        decoded.append(index)
        return decode(data, index, **options)

    segments._decode = spy
    volume.read(Box((1, 0, 0), (3, 32, 33)))
    assert decoded == [0, 1, 0, 1]  # two tiles on each of two pages
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(volume.read, [block.inner for block in partition(volume.shape, (1, 35, 45))] * 3))
    np.testing.assert_array_equal(parts[0][0, 0], STACK[0, :35, :45])
    assert len(decoded) == 5 * 9


def test_decoded_tiles_leave_when_memory_is_short(tmp_path, monkeypatch):
    free = 8 * 3 * 32 * 32 * 2  # an eighth of it holds three tiles
    monkeypatch.setattr("voxloop.io.tiff.psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib", tile=(32, 32), metadata={"axes": "ZYX"})
    volume = open_volume(tmp_path / "a.tif")
    assert same(volume, STACK)
    cache = volume.data.array._opened._cache
    assert len(cache._segments) == 3
    assert cache._nbytes == 3 * 32 * 32 * 2


def test_uncompressed_tiff_and_npy_are_memory_maps(tmp_path):
    for name in ("a.tif", "a.npy"):
        assert isinstance(open_volume(make(name, tmp_path)).data.array._opened, np.memmap)


def test_fingerprints_agree_across_formats_and_notice_another_file(tmp_path, monkeypatch):
    volumes = [open_volume(make(name, tmp_path), axes="zyx") for name in ("a.tif", "zlib.tif", "a.npy", "a.zarr")]
    assert len({volume.fingerprint() for volume in volumes}) == 1
    # Beyond the limit the size of the file counts: it tells of changes where no block is sampled.
    monkeypatch.setattr("voxloop.volume._HASHED_WHOLE", 1000)
    assert len({volume.fingerprint() for volume in volumes}) == 4


def test_importing_and_naming_a_format_is_cheap():
    code = (
        "import sys, voxloop.io; print(sorted({'zarr', 'tifffile', 'psutil', 'numba', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("nm", "nanometer"),
        ("NM", "nanometer"),
        ("nanometres", "nanometer"),
        ("µm", "micrometer"),
        ("μm", "micrometer"),
        ("\\u00B5m", "micrometer"),
        ("micron", "micrometer"),
        ("Å", "angstrom"),
        ("inches", "inch"),
        ("", "pixel"),
    ],
)
def test_spellings_of_units(spelling, name):
    assert unit_name(spelling) == name == stored_unit(spelling)


def test_units_that_are_not_known():
    with pytest.raises(InputError, match="unit is 'furlong'; expected one of pixel, angstrom"):
        unit_name("furlong")
    assert stored_unit("furlong") == "pixel"
    assert stored_unit(None) == "pixel"


@pytest.mark.parametrize(
    ("sizes", "lengths", "expected"),
    [
        ({}, {"y": 2, "x": 2}, None),
        ({"y": (2, "inch"), "x": (1, "inch")}, {"z": 1, "y": 2, "x": 2}, ((1, 2, 1), "inch")),
        ({"y": (2, "inch"), "x": (1, "inch")}, {"z": 2, "y": 2, "x": 2}, None),
        ({"z": (1, "pixel"), "y": (2, "nanometer"), "x": (1, "nanometer")}, {"z": 2, "y": 2, "x": 2}, None),
        ({"y": (0, "inch"), "x": (1, "inch")}, {"y": 2, "x": 2}, None),
        ({"y": (np.nan, "inch"), "x": (1, "inch")}, {"y": 2, "x": 2}, None),
    ],
)
def test_a_voxel_size_is_whole_or_unknown(sizes, lengths, expected):
    assert common_spacing(sizes, lengths) == expected


@pytest.mark.parametrize(
    ("folder", "image", "labels", "shape"),
    [
        ("epfl_hippocampus_ca1", "image.tif", "label.tif", (165, 576, 704)),
        ("vnc_drosophila_sstem", "image.tif", "label.tif", (20, 1024, 1024)),
        ("fib25_drosophila_medulla", "image.tif", "label_neurons.tif", (250, 250, 250)),
        ("mri_flair_ms_lesions", "image.tif", "label.tif", (121, 164, 127)),
        ("lm_ovule_nuclei", "image.tif", "label_instances.tif", (100, 100, 100)),
    ],
)
def test_real_volumes_open(real_data, folder, image, labels, shape):
    for path in (real_data(folder) / image, real_data(folder) / labels):
        volume = open_labels(path, spacing=(2, 1, 1), unit="nm")
        assert (volume.shape, volume.n_channels, volume.spacing) == (shape, 1, (2, 1, 1))
        box = Box((shape[0] - 3, 10, 20), (shape[0], 70, 80))
        np.testing.assert_array_equal(volume.read(box)[0], tifffile.imread(path)[box.slices])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_scale_of_a_pyramid(tmp_path, version):
    array = np.arange(20 * 130 * 140, dtype=np.uint32).reshape(20, 130, 140)
    with create_volume(
        tmp_path / "a.zarr", array.shape, array.dtype, spacing=(20, 5, 5), unit="nm", content="labels", ome_zarr=version
    ) as writer:
        writer.write(Box.of_shape(array.shape), array)
    coarse = open_volume(tmp_path / "a.zarr", scale=1)
    np.testing.assert_array_equal(coarse.read()[0], array[:, ::2, ::2])
    assert (coarse.spacing, coarse.unit, coarse.name) == ((20, 10, 10), "nanometer", "a")
    assert open_volume(coarse.path).spacing == coarse.spacing
    assert open_volume(tmp_path / "a.zarr", scale=0).shape == array.shape
    with pytest.raises(InputError, match="has 3 scales, counted from 0"):
        open_volume(tmp_path / "a.zarr", scale=3)
    with pytest.raises(InputError, match="no OME-Zarr or N5 pyramid"):
        open_volume(tmp_path / "a.zarr" / "0", scale=0)


def test_a_scale_outside_of_its_image_is_refused(tmp_path):
    save_volume(tmp_path / "a.zarr", np.zeros((3, 4, 5), np.uint8))
    zarr.save_array(tmp_path / "other", np.zeros((3, 4, 5), np.uint8))
    document = tmp_path / "a.zarr" / "zarr.json"
    for path in ("../other", str(tmp_path / "other")):
        changed = json.loads(document.read_text())
        changed["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = path
        document.write_text(json.dumps(changed))
        with pytest.raises(FormatError, match="not in it"):
            open_volume(tmp_path / "a.zarr")
