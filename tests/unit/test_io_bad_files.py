"""Files that cannot be used: one clear line of the right type, never a crash and never wrong voxels."""

from __future__ import annotations

import json
import os
import pickle
import re

import numpy as np
import pytest
import tifffile
import zarr

from voxloop.errors import FormatError, InputError, MissingFileError, VoxloopError
from voxloop.io import open_labels, open_volume

STACK = np.random.default_rng(1).integers(0, 255, (6, 20, 30), np.uint8)


def message_of(error: type[VoxloopError], path, **arguments) -> str:
    """Return the one line that opening, or else reading, raises."""
    with pytest.raises(error) as caught:
        open_volume(path, **arguments).read()
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.zarr", "a.xyz"])
def test_a_missing_file(tmp_path, name):
    assert message_of(MissingFileError, tmp_path / name).endswith(f"{name} does not exist")
    with pytest.raises(FileNotFoundError):  # what a caller expects of any reader
        open_labels(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "data"])
def test_a_folder_that_is_no_store(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("hello")
    assert "is a folder but not a Zarr store" in message_of(FormatError, tmp_path / name)


def test_an_unknown_format_names_the_known_ones(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"whatever")
    message = message_of(FormatError, tmp_path / "a.xyz")
    assert "is in no known format; expected TIFF (.tif .tiff .btf), NumPy (.npy), Zarr (.zarr)" in message


@pytest.mark.parametrize("content", [b"", b"II*\0", b"not an image at all", bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_garbage(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read as" in message_of(FormatError, tmp_path / name)


@pytest.mark.parametrize(
    ("mark", "content"),
    [
        ("zarr.json", b""),
        ("zarr.json", b"\xff\xfe"),
        ("zarr.json", b'{"zarr_format": 3, "node_type": "array", "shape": [1]}'),
        (".zarray", b"[]"),
        (".zgroup", b"{"),
    ],
)
def test_a_zarr_store_with_damaged_metadata(tmp_path, mark, content):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / mark).write_bytes(content)
    assert "cannot be read as Zarr" in message_of(FormatError, tmp_path / "a.zarr")


def test_an_empty_zarr_group(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    assert "open an array in it (it holds nothing)" in message_of(FormatError, tmp_path / "a.zarr")


def test_a_zarr_array_with_a_damaged_chunk(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(6, 20, 30))
    (tmp_path / "a.zarr" / "c" / "0" / "0" / "0").write_bytes(b"nothing like a compressed chunk")
    assert "cannot be read as Zarr" in message_of(FormatError, tmp_path / "a.zarr")


def test_a_zarr_group_without_an_image_says_what_it_holds(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("raw", data=STACK)
    group.create_group("more")
    assert "without an OME-Zarr image; open an array in it (it holds more, raw)" in message_of(
        FormatError, tmp_path / "a.zarr"
    )


@pytest.mark.parametrize(
    "multiscale",
    [
        {"axes": [{"name": "x"}], "datasets": [{"path": "raw"}]},
        {"axes": [{"name": a} for a in "zyx"], "datasets": [{"path": "missing"}]},
        {"axes": [{"name": a} for a in "zyx"], "datasets": []},
        {"datasets": [{"path": "raw"}]},
        {
            "axes": [{"name": a} for a in "zyx"],
            "datasets": [{"path": "raw", "coordinateTransformations": [{"type": "scale", "scale": "large"}]}],
        },
    ],
)
def test_ome_zarr_metadata_that_do_not_fit(tmp_path, multiscale):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("raw", data=STACK)
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [multiscale]}})
    message_of(InputError, tmp_path / "a.zarr")


@pytest.mark.parametrize("kind", ["contiguous", "compressed", "pages", "imagej", "ome"])
def test_a_truncated_tiff_is_noticed_wherever_it_ends(tmp_path, kind):
    path = tmp_path / "a.tif"
    if kind == "pages":
        with tifffile.TiffWriter(path) as file:
            for page in STACK:
                file.write(page, contiguous=False, metadata=None, compression="zlib", tile=(16, 16))
    else:
        options = {"imagej": {"imagej": True}, "ome": {"ome": True}, "compressed": {"compression": "zlib"}}
        tifffile.imwrite(path, STACK, metadata={"axes": "ZYX"}, **options.get(kind, {}))
    content = path.read_bytes()
    refused = 0
    for length in np.linspace(0, len(content) - 1, 40, dtype=int):
        path.write_bytes(content[:length])
        try:
            voxels = open_volume(path).read()[0]
        except FormatError as error:
            assert path.name in str(error)  # noqa: PT017 - the end of the description may be all that is missing
            refused += 1
        else:
            np.testing.assert_array_equal(voxels, STACK)
    assert refused > 30


def test_a_plane_that_the_file_does_not_hold(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, metadata={"axes": "ZYX"}, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as tif:
        tif.pages[0].tags["ImageDescription"].overwrite(tif.ome_metadata.replace('SizeZ="6"', 'SizeZ="7"'))
    assert "lacks 1 of its 7 planes" in message_of(FormatError, tmp_path / "a.tif")


@pytest.mark.parametrize("length", [0, 5, 20, 128, 200])
def test_a_truncated_npy(tmp_path, length):
    np.save(tmp_path / "a.npy", STACK)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:length])
    assert "cannot be read as NumPy array" in message_of(FormatError, tmp_path / "a.npy")


def test_a_npy_is_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "objects.npy", np.array([[Trap()]], object))
    assert "holds Python objects" in message_of(FormatError, tmp_path / "objects.npy")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Trap()))
    message_of(FormatError, tmp_path / "pickle.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4), complex), "data has dtype complex128; expected integers, floats or booleans"),
        (np.zeros((2, 3), [("a", "i4")]), "expected integers, floats or booleans"),
        (np.zeros((2, 3), "S4"), "expected integers, floats or booleans"),
        (np.zeros((2, 0, 4)), "there are no voxels in it"),
        (np.zeros((2, 2, 2, 2, 2)), "name its dimensions with axes"),
        (np.zeros(5), "name its dimensions with axes"),
        (np.float32(3), "name its dimensions with axes"),
    ],
)
def test_arrays_that_are_no_volumes(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    assert message in message_of(InputError, tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": "zy"}, "axes is 'zy' (2 letters) but the image has shape (6, 20, 30)"),
        ({"axes": "zyy"}, "axes is 'zyy'"),
        ({"axes": "abc"}, "axes is 'abc'"),
        ({"axes": "tyx"}, "the image has 6 time points"),
        ({"spacing": (0, 1, 1)}, "spacing must be three positive numbers"),
        ({"spacing": (-1, 1, 1)}, "spacing must be three positive numbers"),
        ({"spacing": (np.nan, 1, 1)}, "spacing must be three positive numbers"),
        ({"unit": "parsec"}, "unit is 'parsec'"),
        ({"channels": [1]}, "channels holds 1 but the volume has 1 channel(s)"),
    ],
)
@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.zarr"])
def test_arguments_that_do_not_fit_the_file(tmp_path, name, arguments, message):
    if name == "a.npy":
        np.save(tmp_path / name, STACK)
    elif name == "a.tif":
        tifffile.imwrite(tmp_path / name, STACK, compression="zlib")
    else:
        zarr.create_array(tmp_path / name, data=STACK)
    assert message in message_of(InputError, tmp_path / name, **arguments)


def test_time_series(tmp_path):
    array = np.zeros((3, 1, 2, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, ome=True, metadata={"axes": "TZCYX"})
    assert "the image has 3 time points (axes 'tcyx', shape (3, 2, 20, 30))" in message_of(
        InputError, tmp_path / "a.tif"
    )


def test_metadata_that_are_nonsense_do_not_hide_the_voxels(tmp_path):
    description = json.dumps({"shape": list(STACK.shape), "axes": "ZYX", "spacing": "wide", "unit": 5})
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, description=description)
    volume = open_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.read()[0], STACK)
    assert (volume.spacing, volume.unit) == ((1, 1, 1), "pixel")
    ome = {"axes": "ZYX", "PhysicalSizeX": 0, "PhysicalSizeY": -1, "PhysicalSizeZ": float("nan")}
    tifffile.imwrite(tmp_path / "b.tif", STACK, ome=True, metadata=ome)
    assert open_volume(tmp_path / "b.tif").spacing == (1, 1, 1)


def test_messages_of_a_library_come_as_one_line(tmp_path, capfd):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + b"\x08\0\0\0" + b"\xff" * 300)
    message = message_of(FormatError, tmp_path / "a.tif")
    assert re.search(r"a\.tif (cannot be read as TIFF|is truncated or damaged)", message)
    assert capfd.readouterr().err == ""  # the library's log stays out of a command's output
