"""Whatever the axes, layout or block: the voxels are those of the array; damaged files never crash the reader."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxloop.blocks import Box
from voxloop.errors import VoxloopError
from voxloop.io import create_volume, open_volume, save_volume
from voxloop.volume import AxesView, Volume

# Each example writes into a folder of its own name in the test's folder.
in_folder = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
count = itertools.count()
# Bytes to change: headers and tags lie within the first few hundred bytes, the rest is mostly voxels.
places = st.integers(0, 600) | st.integers(0, 2**16)
damages = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)


@st.composite
def arrays_with_axes(draw):
    letters = draw(st.sampled_from(["yx", "zyx", "zyxc", "czyxt", "syx", "tzyxcs", "cyx"]))
    axes = "".join(draw(st.permutations(letters)))
    longest = {"t": 1, "s": 3 if "c" not in letters else 1}
    shape = [draw(st.integers(1, longest.get(axis, 7))) for axis in axes]
    return axes, np.arange(np.prod(shape), dtype=draw(st.sampled_from([np.uint16, np.float32]))).reshape(shape)


def as_zyxc(array, axes):
    """The same with einsum, in one go."""
    singles = {axis: 0 for axis in axes if axis in "tcs" and array.shape[axes.index(axis)] == 1}
    array = array[tuple(singles.get(axis, slice(None)) for axis in axes)]
    axes = "".join(axis for axis in axes if axis not in singles)
    order = "".join(axis for axis in "zyxcs" if axis in axes)
    array = np.einsum(f"{axes}->{order}", array)
    for axis, position in (("z", 0), ("c", 3)):
        if axis not in order.replace("s", "c"):
            array = np.expand_dims(array, position)
    return array


@given(arrays_with_axes())
def test_any_order_of_axes_is_seen_as_zyxc(array_with_axes):
    axes, array = array_with_axes
    volume = Volume.from_array(array, axes=axes)
    np.testing.assert_array_equal(np.moveaxis(volume.read(), 0, -1), as_zyxc(array, axes))


@given(arrays_with_axes(), st.data())
def test_any_slicing_of_a_view_is_numpys(array_with_axes, data):
    axes, array = array_with_axes
    view = AxesView(array, axes)
    keys = tuple(
        data.draw(st.one_of(st.slices(n), st.integers(-n, n - 1)))
        for n in view.shape[: data.draw(st.integers(0, view.ndim))]
    )
    np.testing.assert_array_equal(view[keys], as_zyxc(array, axes).reshape(view.shape)[keys])


@in_folder
@given(arrays_with_axes(), st.sampled_from([".npy", ".tif", ".zarr"]))
def test_any_volume_survives_a_round_trip(tmp_path, array_with_axes, suffix):
    axes, array = array_with_axes
    path = tmp_path / f"{next(count)}{suffix}"
    save_volume(path, array, axes=axes)
    np.testing.assert_array_equal(np.moveaxis(open_volume(path).read(), 0, -1), as_zyxc(array, axes))


@st.composite
def boxes(draw, shape):
    corners = [sorted((draw(st.integers(0, n - 1)), draw(st.integers(1, n)))) for n in shape]
    start, stop = zip(*[(a, b if b > a else a + 1) for a, b in corners], strict=True)
    return Box(start, stop)


@in_folder
@given(st.data(), st.sampled_from([None, "zlib"]), st.sampled_from([None, (16, 32)]), st.integers(1, 9))
def test_any_block_of_any_tiff_layout(tmp_path, data, compression, tile, rowsperstrip):
    channels = data.draw(st.sampled_from([(), (2,), (3,)]))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 50)))
    array = np.random.default_rng(0).integers(0, 9999, (*shape, *channels), np.uint16)
    path = tmp_path / f"{next(count)}.tif"
    layout = {"tile": tile} if tile else {"rowsperstrip": rowsperstrip}
    axes, own = ("ZYXS", array) if channels == (3,) else ("ZCYX"[: 1 + len(channels)] + "YX", array)
    if channels == (2,):
        axes, own = "ZCYX", np.moveaxis(array, 3, 1)
    elif not channels:
        axes = "ZYX"
    photometric = "rgb" if channels == (3,) else "minisblack"
    tifffile.imwrite(
        path, own, metadata={"axes": axes}, ome=True, photometric=photometric, compression=compression, **layout
    )
    volume = open_volume(path)
    box = data.draw(boxes(shape))
    expected = array if channels else array[..., np.newaxis]
    np.testing.assert_array_equal(volume.read(box), np.moveaxis(expected[box.slices], 3, 0))


@in_folder
@given(st.data(), st.sampled_from([".npy", ".tif", ".zarr"]), st.sampled_from([(), (2,)]))
def test_any_block_lands_where_it_belongs(tmp_path, data, suffix, channels):
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 70)))
    expected = np.zeros((*shape, *channels), np.int16)
    path = tmp_path / f"{next(count)}{suffix}"
    with create_volume(path, expected.shape, np.int16) as writer:
        for value in range(1, 4):
            box = data.draw(boxes(shape))
            block = value * 100 + np.arange(np.prod((*box.shape, *channels)), dtype=np.int16).reshape(
                *box.shape, *channels
            )
            writer.write(box, block)
            expected[box.slices] = block
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(), np.moveaxis(expected.reshape(*shape, -1), 3, 0))


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    array = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8)
    np.save(folder / "plain.npy", array)
    tifffile.imwrite(folder / "zlib.tif", array, compression="zlib", tile=(16, 16), metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "ome.tif", array, ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 2.0})
    tifffile.imwrite(folder / "imagej.tif", array, imagej=True, metadata={"axes": "ZYX"})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@in_folder
@given(damages, st.sampled_from(["plain.npy", "zlib.tif", "ome.tif", "imagej.tif"]))
def test_a_damaged_file_is_refused_or_read_but_nothing_else(tmp_path: Path, originals, damage, name):
    content = bytearray(originals[name])
    for place, value in damage:
        content[place % len(content)] = value
    path = tmp_path / f"{next(count)}-{name}"
    path.write_bytes(content)
    try:
        volume = open_volume(path)
        volume.read(Box((0, 0, 0), (1, 1, 1)))
    except VoxloopError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most damage hits voxels and is none
