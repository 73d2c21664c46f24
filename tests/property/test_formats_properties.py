"""Any volume survives a round trip through any format, in any blocks; damaged files never crash the reader."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from voxloop.blocks import Box
from voxloop.errors import VoxloopError
from voxloop.io import create_volume, open_volume, save_volume
from voxloop.io.inside import natural_order, slice_names
from voxloop.io.raw import rescale, rescaled_dtype

# Each example writes into a folder of its own name in the test's folder.
in_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
count = itertools.count()
# Bytes to change: headers lie within the first few hundred bytes, the rest is mostly voxels.
places = st.integers(0, 600) | st.integers(0, 2**16)
damages = st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)
SUFFIXES = [".h5", ".n5", ".nii", ".nii.gz", ".nrrd", ".mrc", "_{slice_index}.tif", "_{slice_index}.png"]


@st.composite
def boxes(draw, shape):
    corners = [sorted((draw(st.integers(0, n - 1)), draw(st.integers(1, n)))) for n in shape]
    start, stop = zip(*[(a, b if b > a else a + 1) for a, b in corners], strict=True)
    return Box(start, stop)


@in_folder
@given(st.data(), st.sampled_from(SUFFIXES), st.sampled_from([(), (1,), (2,), (3,)]))
def test_any_block_lands_where_it_belongs(tmp_path, data, suffix, channels):
    channels = () if suffix == ".mrc" else channels
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 70)))
    expected = np.zeros((*shape, *channels), np.uint16)
    path = tmp_path / f"{next(count)}{suffix}"
    with create_volume(path, expected.shape, np.uint16) as writer:
        for value in range(1, 4):
            box = data.draw(boxes(shape))
            part = (*box.shape, *channels)
            block = value * 20_000 + np.arange(np.prod(part), dtype=np.uint16).reshape(part)
            writer.write(box, block)
            expected[box.slices] = block
    volume = open_volume(path)
    expected = np.moveaxis(expected.reshape(*shape, -1), 3, 0)
    np.testing.assert_array_equal(volume.read(), expected)
    box = data.draw(boxes(shape))
    np.testing.assert_array_equal(volume.read(box), expected[(slice(None), *box.slices)])


@in_folder
@given(
    st.sampled_from([".h5", ".n5", ".nii", ".nii.gz", ".nrrd", ".mrc"]),
    st.tuples(*[st.floats(1e-3, 1e3)] * 3),
    st.sampled_from(["nm", "Å", "µm", "mm", "m", "inch"]),
)
def test_any_voxel_size_comes_back_in_metres(tmp_path, suffix, spacing, unit):
    metres = {"angstrom": 1e-10, "nanometer": 1e-9, "micrometer": 1e-6, "millimeter": 1e-3, "meter": 1, "inch": 0.0254}
    given_metres = {"nm": 1e-9, "Å": 1e-10, "µm": 1e-6, "mm": 1e-3, "m": 1, "inch": 0.0254}[unit]
    path = tmp_path / f"{next(count)}{suffix}"
    save_volume(path, np.zeros((2, 3, 4), np.int16), spacing=spacing, unit=unit)
    volume = open_volume(path)
    np.testing.assert_allclose(
        np.multiply(volume.spacing, metres[volume.unit]), np.multiply(spacing, given_metres), rtol=1e-6
    )


@given(st.sampled_from(["u1", "i1", "u2", "i2"]), st.integers(-300, 300), st.integers(-5000, 5000))
def test_integers_stay_integers_and_never_overflow(dtype, slope, intercept):
    info = np.iinfo(dtype)
    stored = np.array([info.min, 0, info.max], dtype)
    rescaled = rescale(stored, slope, intercept, rescaled_dtype(stored.dtype, (info.min, info.max), slope, intercept))
    assert rescaled.dtype.kind in "iu"
    np.testing.assert_array_equal(rescaled, stored.astype(np.int64) * slope + intercept)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), st.integers(1, 2000))
def test_names_of_slices_sort_by_number(numbers, n):
    paths = [Path(f"a/b{number}_c.png") for number in numbers]
    assert sorted(paths, key=natural_order) == [Path(f"a/b{number}_c.png") for number in sorted(numbers)]
    names = slice_names(Path("b{slice_index}.png"), n)
    assert names == sorted(names)
    assert len(set(names)) == n


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    array = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8)
    for name in ("a.h5", "a.nii", "a.nii.gz", "a.mrc", "a.nrrd"):
        save_volume(folder / name, array)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / "b.nrrd"), True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / "b.mha"), True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array[0]), str(folder / "a.dcm"))
    for suffix in ("png", "jpg", "bmp"):
        Image.fromarray(array[0]).save(folder / f"a.{suffix}")
    np.savez_compressed(folder / "a.npz", a=array)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@settings(in_folder, max_examples=200)
@given(damages, st.integers(0, 11))
def test_a_damaged_file_is_refused_or_read_but_nothing_else(tmp_path: Path, originals, damage, kind):
    name, original = list(originals.items())[kind]
    content = bytearray(original)
    for place, value in damage:
        content[place % len(content)] = value
    path = tmp_path / f"{next(count)}-{name}"
    path.write_bytes(content)
    try:
        volume = open_volume(path)
        volume.read(Box((0, 0, 0), (1, 1, 1)))
    except VoxloopError as error:
        assert "\n" not in str(error)  # noqa: PT017 - most damage hits voxels and is none
