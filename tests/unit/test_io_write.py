"""Writing: other readers see the same volume; files appear whole or not at all."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import ome_types
import pytest
import tifffile
import yaozarrs
import zarr

from voxloop.blocks import Box, partition
from voxloop.errors import FormatError, InputError, MissingFileError, StorageError
from voxloop.io import create_volume, open_labels, open_volume, save_volume
from voxloop.io.pyramid import downsample, pyramid_factors
from voxloop.volume import Volume

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 4000, (9, 70, 90), np.uint16)
CHANNELS = RNG.normal(size=(3, 70, 90, 2)).astype(np.float32)
LABELS = RNG.integers(0, 3, (9, 70, 90)).astype(np.uint32)
SUFFIXES = [".tif", ".tiff", ".ome.tif", ".npy", ".zarr"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("array", [IMAGE, CHANNELS, IMAGE[:1], IMAGE[:, :1, :1], IMAGE[:1, :1, :1]])
def test_a_volume_comes_back_as_it_was(tmp_path, suffix, array):
    path = tmp_path / f"cells{suffix}"
    names = ("first", "second") if array.ndim == 4 else ()
    save_volume(path, array, spacing=(50, 4.6, 5.2), unit="nm", channel_names=names)
    volume = open_volume(path)
    expected = array if array.ndim == 4 else array[..., np.newaxis]
    np.testing.assert_array_equal(volume.read(), np.moveaxis(expected, 3, 0))
    assert volume.dtype == array.dtype
    assert volume.name == "cells"
    if suffix != ".npy":
        assert volume.spacing == pytest.approx((50, 4.6, 5.2))
        assert (volume.unit, volume.channel_names) == ("nanometer", names)
    assert names_in(tmp_path) == [path.name]


def test_an_image_with_other_axes_is_written_as_zyx(tmp_path):
    save_volume(tmp_path / "a.npy", CHANNELS, axes="xyzc")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), CHANNELS.transpose(2, 1, 0, 3))
    save_volume(tmp_path / "slice.npy", IMAGE[0])
    np.testing.assert_array_equal(np.load(tmp_path / "slice.npy"), IMAGE[:1])


def test_a_tiff_for_other_readers(tmp_path):
    save_volume(tmp_path / "a.tif", CHANNELS, spacing=(2, 0.5, 0.25), unit="um", channel_names=["u", "v"], name="n")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "CZYX"
        np.testing.assert_array_equal(tif.asarray(), CHANNELS.transpose(3, 0, 1, 2))
        assert tif.pages[0].get_resolution("micrometer") == pytest.approx((4, 2))  # pixels per unit (x, y)
    image = ome_types.from_tiff(tmp_path / "a.tif").images[0]
    pixels = image.pixels
    assert image.name == "n"
    assert (pixels.size_x, pixels.size_y, pixels.size_z, pixels.size_c) == (90, 70, 3, 2)
    assert (pixels.physical_size_x, pixels.physical_size_y, pixels.physical_size_z) == (0.25, 0.5, 2)
    assert pixels.physical_size_z_unit.value == "µm"
    assert [channel.name for channel in pixels.channels] == ["u", "v"]


def test_a_tiff_of_labels_names_its_classes(tmp_path):
    names, colors = ["mitochondria & co", "<other>"], ["#ff8800", "#0000ff"]
    save_volume(tmp_path / "a.tif", LABELS, content="labels", class_names=names, class_colors=colors, unit="Å")
    ome = ome_types.from_tiff(tmp_path / "a.tif")
    classes = dict(ome.structured_annotations.map_annotations[0].value)
    assert json.loads(classes["1"]) == {"name": "mitochondria & co", "color": "#ff8800"}
    assert json.loads(classes["2"]) == {"name": "<other>", "color": "#0000ff"}
    assert ome.images[0].pixels.physical_size_x_unit.value == "Å"


def test_a_tiff_beyond_2_gb_is_a_bigtiff(tmp_path):
    with create_volume(tmp_path / "a.tif", (3, 30_000, 30_000), np.uint8) as writer:  # sparse: hardly a byte on disk
        writer.write(Box((2, 29_999, 29_990), (3, 30_000, 30_000)), np.full((1, 1, 10), 7, np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
    volume = open_volume(tmp_path / "a.tif")
    assert volume.shape == (3, 30_000, 30_000)
    assert volume.read(Box((2, 29_999, 29_980), (3, 30_000, 30_000))).ravel().tolist() == [0] * 10 + [7] * 10


@pytest.mark.parametrize("dtype", ["int64", "uint64", "float16"])
def test_what_ome_tiff_cannot_hold_is_refused(tmp_path, dtype):
    with pytest.raises(InputError, match=f"a TIFF cannot hold {dtype}"):
        save_volume(tmp_path / "a.tif", IMAGE.astype(dtype))
    assert not names_in(tmp_path)
    save_volume(tmp_path / "a.zarr", IMAGE.astype(dtype))
    assert open_volume(tmp_path / "a.zarr").dtype == dtype


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_masks_are_stored_as_bytes(tmp_path, suffix):
    save_volume(tmp_path / f"mask{suffix}", LABELS > 1, content="labels")
    mask = open_labels(tmp_path / f"mask{suffix}")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask.read()[0], LABELS > 1)


def test_an_ome_zarr_follows_the_specification(tmp_path):
    array = RNG.integers(0, 255, (20, 300, 200, 2), np.uint8)
    save_volume(tmp_path / "a.zarr", array, spacing=(30, 10, 10), unit="nm", channel_names=["u", "v"])
    document = yaozarrs.validate_ome_json((tmp_path / "a.zarr" / "zarr.json").read_text())
    ome = document.attributes.ome
    multiscale = ome.multiscales[0]
    assert ome.version == "0.5"
    assert [axis.name for axis in multiscale.axes] == ["c", "z", "y", "x"]
    assert [axis.unit for axis in multiscale.axes[1:]] == ["nanometer"] * 3
    assert [channel.label for channel in ome.omero.channels] == ["u", "v"]
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    shapes = [group[dataset.path].shape for dataset in multiscale.datasets]
    assert shapes == [(2, 20, 300, 200), (2, 20, 150, 100), (2, 10, 75, 50), (2, 5, 38, 25)]
    scales = [dataset.coordinateTransformations[0].scale for dataset in multiscale.datasets]
    assert scales == [[1, 30, 10, 10], [1, 30, 20, 20], [1, 60, 40, 40], [1, 120, 80, 80]]
    assert multiscale.datasets[2].coordinateTransformations[1].translation == [0, 15, 15, 15]
    pairs = array.reshape(20, 150, 2, 100, 2, 2).mean((2, 4))
    np.testing.assert_allclose(np.moveaxis(group["1"][:], 0, -1), pairs, atol=0.5)
    assert group["0"].chunks == (1, 20, 64, 64)
    assert group["0"].metadata.dimension_names == ("c", "z", "y", "x")
    coarser = open_volume(tmp_path / "a.zarr" / "2")
    assert (coarser.shape, coarser.spacing, coarser.channel_names) == ((10, 75, 50), (60, 40, 40), ("u", "v"))


def test_an_ome_zarr_of_labels(tmp_path):
    save_volume(
        tmp_path / "a.zarr", LABELS, content="labels", class_names=["cell", "gap"], class_colors=["#ff8800", "#0000ff"]
    )
    label = yaozarrs.validate_ome_json((tmp_path / "a.zarr" / "zarr.json").read_text()).attributes.ome.image_label
    assert [tuple(color.rgba) for color in label.colors] == [(255, 136, 0, 255), (0, 0, 255, 255)]
    attributes = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs.asdict()
    assert attributes["ome"]["image-label"]["properties"][1] == {"label-value": 2, "class": "gap"}
    coarser = open_labels(tmp_path / "a.zarr" / "1").read()[0]
    np.testing.assert_array_equal(coarser, LABELS[::2, ::2, ::2])


@pytest.mark.parametrize(
    ("shape", "spacing", "factors"),
    [
        ((64, 64, 64), (1, 1, 1), [(1, 1, 1)]),
        ((65, 64, 64), (1, 1, 1), [(1, 1, 1), (2, 2, 2)]),
        ((20, 300, 200), (50, 4.6, 4.6), [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8)]),
        ((1, 1, 200), (1, 1, 1), [(1, 1, 1), (1, 1, 2), (1, 1, 4)]),
        ((4, 100, 100), (0.01, 1, 1), [(1, 1, 1), (2, 1, 1), (4, 1, 1), (4, 2, 2)]),
    ],
)
def test_a_pyramid_makes_voxels_cubes_and_ends_in_a_chunk(shape, spacing, factors):
    assert pyramid_factors(shape, spacing) == factors


def test_downsampling_means_what_is_there():
    block = np.array([[[1, 2, 9], [3, 4, 5], [7, 8, 255]]], np.uint8)
    np.testing.assert_array_equal(downsample(block, (1, 2, 2), "image"), [[[2, 7], [8, 255]]])
    np.testing.assert_array_equal(downsample(block, (1, 2, 2), "labels"), [[[1, 9], [7, 255]]])
    large = np.full((2, 2, 2), 2**32 - 1, np.uint32)
    assert downsample(large, (2, 2, 2), "image").item() == 2**32 - 1
    assert downsample(large.astype(np.float32) / 3, (2, 2, 2), "image").dtype == np.float32


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".tif"])
@pytest.mark.parametrize("array", [RNG.integers(0, 9, (70, 90, 100), np.uint8), RNG.normal(size=(5, 70, 90, 3))])
@pytest.mark.parametrize("block_shape", [(64, 64, 64), (7, 100, 100), (11, 23, 100), (13, 29, 31)])
def test_blocks_from_many_threads_give_the_same_file_as_one_array(tmp_path, suffix, array, block_shape):
    save_volume(tmp_path / f"whole{suffix}", array, name="a")
    with create_volume(tmp_path / f"blocks{suffix}", array.shape, array.dtype, name="a") as writer:
        blocks = [block.inner for block in partition(array.shape[:3], block_shape)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda box: writer.write(box, array[box.slices]), reversed(blocks)))
    np.testing.assert_array_equal(
        open_volume(tmp_path / f"blocks{suffix}").read(), open_volume(tmp_path / f"whole{suffix}").read()
    )
    if suffix != ".tif":  # whose metadata hold a random identifier
        assert contents(tmp_path / f"blocks{suffix}") == contents(tmp_path / f"whole{suffix}")


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_voxels_never_written_are_zero(tmp_path, suffix):
    with create_volume(tmp_path / f"a{suffix}", (5, 70, 90), np.uint16) as writer:
        writer.write(Box((4, 0, 0), (5, 70, 90)), IMAGE[:1])
    with create_volume(tmp_path / f"b{suffix}", (5, 70, 90), np.uint16):
        pass
    written = open_volume(tmp_path / f"a{suffix}").read()[0]
    np.testing.assert_array_equal(written[4], IMAGE[0])
    assert not written[:4].any()
    assert not open_volume(tmp_path / f"b{suffix}").read().any()


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_blocks_that_do_not_fit_are_refused(tmp_path, suffix):
    with create_volume(tmp_path / f"a{suffix}", (5, 70, 90), np.uint16) as writer:
        with pytest.raises(InputError, match="box reaches from"):
            writer.write(Box((0, 0, 0), (6, 70, 90)), np.zeros((6, 70, 90), np.uint16))
        with pytest.raises(InputError, match=r"block has shape \(2, 70, 90\); expected \(1, 70, 90\)"):
            writer.write(Box((0, 0, 0), (1, 70, 90)), np.zeros((2, 70, 90), np.uint16))
        with pytest.raises(InputError, match="block has dtype uint32, which a volume of uint16 cannot hold"):
            writer.write(Box((0, 0, 0), (1, 70, 90)), np.zeros((1, 70, 90), np.uint32))


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_what_exists_is_replaced_only_if_asked_and_only_on_success(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_volume(path, IMAGE)
    before = contents(path)
    with pytest.raises(InputError, match=f"a{suffix} exists"):
        save_volume(path, LABELS)

    def fail_halfway():
        with create_volume(path, (9, 70, 90), np.uint32, overwrite=True) as writer:
            writer.write(Box((0, 0, 0), (1, 70, 90)), LABELS[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert contents(path) == before
    assert names_in(tmp_path) == [path.name]
    save_volume(path, LABELS, overwrite=True)
    np.testing.assert_array_equal(open_volume(path).read()[0], LABELS)
    assert names_in(tmp_path) == [path.name]


def test_a_zarr_that_cannot_be_moved_into_place_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    save_volume(path, IMAGE)
    before = contents(path)
    rename = Path.rename

    def refuse(self, target):
        if self.suffix == ".partial":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*a\.zarr: Permission denied"):
        save_volume(path, LABELS, overwrite=True)
    assert contents(path) == before
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_a_folder_with_other_things_is_never_replaced(tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is a folder, which is not replaced"):
        save_volume(path, IMAGE, overwrite=True)
    assert (path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_a_missing_folder(tmp_path, suffix):
    with pytest.raises(MissingFileError, match=r"cannot write .*: the folder .*nowhere does not exist"):
        save_volume(tmp_path / "nowhere" / f"a{suffix}", IMAGE)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from voxloop.errors import StorageError
from voxloop.io import save_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
array = np.random.default_rng(0).integers(0, 255, (64, 64, 200), np.uint8)
try:
    save_volume(sys.argv[1], array, overwrite=True)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_a_file_that_the_system_refuses_to_let_grow(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_volume(path, IMAGE)
    before = contents(path)
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"cannot write {path}: File too large"
    assert done.stderr == ""
    assert contents(path) == before
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_a_disk_that_fills_up_while_blocks_are_written(tmp_path, monkeypatch, suffix):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("voxloop.io.writers.RawWriter._write_run", full)
    with pytest.raises(StorageError, match=rf"cannot write .*a\{suffix}: No space left on device"):
        save_volume(tmp_path / f"a{suffix}", IMAGE)
    assert not names_in(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("suffix", [".tif", ".npy", ".zarr"])
def test_no_permission_to_write_or_read(tmp_path, monkeypatch, suffix):
    save_volume(tmp_path / f"secret{suffix}", IMAGE)
    (tmp_path / f"secret{suffix}").chmod(0o700)
    for folder in (tmp_path, *(parent for parent in tmp_path.parents if parent.name.startswith(("pytest-", "popen-")))):
        folder.chmod(0o755)
    nobody = 65534
    os.seteuid(nobody)
    try:
        with pytest.raises(StorageError, match=r"cannot write .*: Permission denied"):
            save_volume(tmp_path / f"a{suffix}", IMAGE)
        with pytest.raises(MissingFileError, match=r"secret.* cannot be read: Permission denied"):
            open_volume(tmp_path / f"secret{suffix}")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": (1, 0, 1)}, "spacing must be three positive numbers"),
        ({"unit": "furlong"}, "unit is 'furlong'"),
        ({"channel_names": ["a", "b"]}, r"channel_names has 2 names for 1 channel\(s\)"),
        ({"content": "picture"}, "content must be 'image' or 'labels', not 'picture'"),
        ({"class_names": ["a"], "class_colors": ["#000000", "#ffffff"]}, "class_colors has 2 entries, class_names 1"),
        ({"class_names": ["a"], "class_colors": ["red"]}, "class_colors holds 'red'"),
        ({"channel_names": ["a"], "channel_colors": ["red"]}, "channel_colors holds 'red'"),
        ({"ome_tiff": "tiled"}, "ome_tiff must be 'plain' or 'pyramid', not 'tiled'"),
        ({"shape": (3, 4)}, "shape must be"),
        ({"shape": (3, 0, 4)}, "shape must be"),
        ({"dtype": complex}, "dtype must be integers, floats or booleans, not complex128"),
        ({"dtype": np.float32, "content": "labels"}, "labels must be integers of one channel"),
        ({"shape": (3, 4, 5, 2), "content": "labels"}, "labels must be integers of one channel"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, arguments, message):
    arguments = {"shape": (3, 4, 5), "dtype": np.uint8, **arguments}
    with pytest.raises(InputError, match=message), create_volume(tmp_path / "a.tif", **arguments):
        pass
    assert not names_in(tmp_path)


def test_a_suffix_that_is_not_known(tmp_path):
    with pytest.raises(FormatError, match=r"a\.jpg names no known format; expected TIFF \(\.tif"):
        save_volume(tmp_path / "a.jpg", IMAGE)


def test_a_volume_larger_than_a_block_is_written_in_parts(tmp_path):
    class Watched:
        shape, dtype = (40, 300, 300), np.dtype(np.uint16)
        largest = 0

        def __getitem__(self, key):
            part = np.broadcast_to(np.uint16(5), self.shape)[key]
            Watched.largest = max(Watched.largest, part.nbytes)
            return part

    save_volume(tmp_path / "a.zarr", Watched())
    assert Watched.largest <= 40 * 64 * 64 * 2
    assert (open_volume(tmp_path / "a.zarr").read() == 5).all()


@pytest.mark.parametrize("content", ["image", "labels"])
@pytest.mark.parametrize("shape", [(2, 600, 530, 2), (1, 257, 40), (3, 256, 256), (1, 1, 1)])
def test_a_tiff_pyramid_for_other_readers(tmp_path, shape, content):
    """Levels of every plane, each half the size of the one before, in tiles that any reader can inflate."""
    if content == "labels":
        shape = shape[:3]
    array = np.random.default_rng(0).integers(0, 5, shape).astype(np.uint16)
    path = tmp_path / "a.ome.tif"
    channels = {"channel_names": ["u", "v"], "channel_colors": ["#ff8800", "#0000ff"]} if array.ndim == 4 else {}
    save_volume(path, array, ome_tiff="pyramid", spacing=(2, 0.5, 0.25), unit="um", content=content, **channels)
    assert names_in(tmp_path) == ["a.ome.tif"]
    stored = np.moveaxis(array, -1, 0) if array.ndim == 4 else array
    with tifffile.TiffFile(path) as tif:
        (series,) = tif.series
        levels = [level.asarray().reshape(stored.shape[:-2] + level.shape[-2:]) for level in series.levels]
        assert all((level.keyframe.is_tiled, level.keyframe.compression) == (True, 8) for level in series.levels)
        resolutions = [level.keyframe.get_resolution("micrometer") for level in series.levels]
    np.testing.assert_array_equal(levels[0], stored)
    for finer, coarser in itertools.pairwise(levels):
        step = (*(1 for _ in finer.shape[:-2]), 2, 2)
        assert coarser.shape == tuple(-(-n // s) for n, s in zip(finer.shape, step, strict=True))
        inner = finer[..., : finer.shape[-2] // 2 * 2, : finer.shape[-1] // 2 * 2]
        if content == "labels":
            expected = inner[..., ::2, ::2]
        else:
            corners = [inner[..., i::2, j::2].astype(float) for i in (0, 1) for j in (0, 1)]
            expected = np.rint(np.mean(corners, axis=0))
        np.testing.assert_array_equal(coarser[..., : inner.shape[-2] // 2, : inner.shape[-1] // 2], expected)
    assert max(levels[-1].shape[-2:]) <= 256
    assert resolutions == [(4 / 2**k, 2 / 2**k) for k in range(len(levels))]
    pixels = ome_types.from_tiff(path).images[0].pixels
    assert (pixels.physical_size_x, pixels.physical_size_y, pixels.physical_size_z) == (0.25, 0.5, 2)
    if channels:
        assert [channel.color.as_rgb_tuple() for channel in pixels.channels] == [(255, 136, 0), (0, 0, 255)]
    np.testing.assert_array_equal(open_volume(path).data, array)


@pytest.mark.parametrize("ome_zarr", ["0.4", "0.5"])
def test_a_part_knows_where_it_was(tmp_path, ome_zarr):
    """The translation of an OME-Zarr: of a part of a part, in the unit of the voxel size, at every scale."""
    whole = Volume.from_array(CHANNELS, spacing=(2, 0.5, 0.25), unit="micrometer")
    part = whole.crop(Box((1, 0, 10), (3, 70, 90))).crop(Box((0, 4, 2), (2, 70, 80)))
    assert part.origin == (2.0, 2.0, 3.0)
    with create_volume(
        tmp_path / "a.zarr", part.data.shape, part.dtype, spacing=part.spacing, unit="um", origin=part.origin,
        ome_zarr=ome_zarr, channel_names=["u", "v"], channel_colors=["#ff8800", "#0000ff"],
    ) as writer:  # fmt: skip
        writer.write(Box.of_shape(part.shape), np.asarray(part.data))
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))
    again = open_volume(tmp_path / "a.zarr")
    assert again.origin == (2.0, 2.0, 3.0)
    assert open_volume(tmp_path / "a.zarr", scale=1).origin == (2.0, 2.0, 3.125)  # half a fine voxel
    assert again.with_spacing((4, 0.5, 0.25)).origin == (4.0, 2.0, 3.0)  # one voxel is one voxel
    metadata = yaozarrs.open_group(str(tmp_path / "a.zarr")).ome_metadata()
    assert [channel.color for channel in metadata.omero.channels] == ["FF8800", "0000FF"]


def test_a_translation_is_moved_by_the_scale_of_the_image(tmp_path):
    save_volume(tmp_path / "a.zarr", IMAGE, origin=(1, 2, 3))
    group = zarr.open_group(tmp_path / "a.zarr")
    ome = group.attrs["ome"]
    ome["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [2, 2, 2]},
        {"type": "translation", "translation": [0, 0, 0.5]},
    ]
    group.attrs["ome"] = ome
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.spacing, volume.origin) == ((2, 2, 2), (2, 4, 6.5))
