"""Volumes over arrays: axes, channels, blocks, fingerprints, and what is refused."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from voxloop.blocks import Box
from voxloop.errors import InputError
from voxloop.volume import AxesView, Volume, check_axes, check_spacing, relative_spacing


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int32).reshape(shape)


@pytest.mark.parametrize(
    ("axes", "shape", "expected", "n_channels"),
    [
        (None, (4, 5), (1, 4, 5), 1),
        (None, (3, 4, 5), (3, 4, 5), 1),
        (None, (3, 4, 5, 2), (3, 4, 5), 2),
        ("XYZ", (5, 4, 3), (3, 4, 5), 1),
        ("yxs", (4, 5, 3), (1, 4, 5), 3),
        ("zyxc", (3, 4, 5, 1), (3, 4, 5), 1),
        ("tczyx", (1, 2, 3, 4, 5), (3, 4, 5), 2),
        ("tczyx", (1, 1, 1, 4, 5), (1, 4, 5), 1),
        ("tzcyxs", (1, 3, 1, 4, 5, 3), (3, 4, 5), 3),
        ("tzcyxs", (1, 3, 2, 4, 5, 1), (3, 4, 5), 2),
        ("syx", (3, 4, 5), (1, 4, 5), 3),
        ("yx", (1, 1), (1, 1, 1), 1),
    ],
)
def test_axes_become_zyx_and_channels(axes, shape, expected, n_channels):
    volume = Volume.from_array(numbered(*shape), axes=axes)
    assert volume.shape == expected
    assert volume.n_channels == n_channels
    assert volume.read().shape == (n_channels, *expected)
    letters = (axes or {2: "yx", 3: "zyx", 4: "zyxc"}[len(shape)]).lower()
    channel = "s" if dict(zip(letters, shape, strict=True)).get("s", 1) > 1 else "c"
    index = dict.fromkeys(letters, 0)
    for axis, position in {"z": expected[0] - 1, "x": 1 if expected[2] > 1 else 0, channel: n_channels - 1}.items():
        if axis in index:
            index[axis] = position
    own = numbered(*shape)[tuple(index[a] for a in letters)]
    assert volume.read()[index.get(channel, 0), index.get("z", 0), 0, index["x"]] == own


@pytest.mark.parametrize(
    ("axes", "shape", "message"),
    [
        ("zyx", (4, 5), "axes is 'zyx' (3 letters) but the image has shape (4, 5)"),
        ("zyy", (3, 4, 5), "axes is 'zyy'"),
        ("zqx", (3, 4, 5), "axes is 'zqx'"),
        ("zcx", (3, 4, 5), "expected y, x"),
        (None, (1, 2, 3, 4, 5), "name its dimensions with axes"),
        (None, (5,), "name its dimensions with axes"),
        ("tyx", (7, 4, 5), "the image has 7 time points"),
        ("cyxs", (2, 4, 5, 3), "colour samples and channels"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes, shape, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check_axes(axes, shape)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, np.nan), (np.inf, 1, 1), (1, 1), ("a", 1, 1), 3])
def test_spacing_must_be_three_positive_numbers(spacing):
    with pytest.raises(InputError, match="spacing must be three positive numbers"):
        check_spacing(spacing)
    with pytest.raises(InputError, match="spacing must be three positive numbers"):
        Volume.from_array(numbered(2, 2, 2), spacing=spacing)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 4, 5)), "no voxels"),
        (np.zeros((2, 4, 5), complex), "dtype complex128"),
        (np.zeros((2, 4, 5), object), "dtype object"),
        (np.zeros((2, 4, 5), "U3"), "dtype <U3"),
        (np.zeros((2, 4, 5), "M8[s]"), "dtype datetime64"),
    ],
)
def test_arrays_without_numbers_are_refused(array, message):
    with pytest.raises(InputError, match=message):
        Volume.from_array(array)


def test_relative_spacing_does_not_depend_on_the_unit():
    volume = Volume.from_array(numbered(2, 3, 4), spacing=(50, 4, 8), unit="nanometer")
    assert volume.relative_spacing == (12.5, 1, 2) == relative_spacing((0.050, 0.004, 0.008))
    assert volume.with_spacing((0.05, 0.004, 0.008), "micrometer").relative_spacing == pytest.approx((12.5, 1, 2))


@pytest.mark.parametrize(("thickness", "shape"), [(0.1, (1, 4, 5)), (99.0, (1, 4, 5)), (2.0, (1, 1, 1))])
def test_relative_spacing_does_not_depend_on_the_thickness_of_a_single_slice(thickness, shape):
    volume = Volume.from_array(numbered(*shape), spacing=(thickness, 4, 4))
    assert volume.relative_spacing == (1, 1, 1)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[1],
        np.s_[:, 2],
        np.s_[1:3, :, 4:],
        np.s_[-1, 1, 2, 1],
        np.s_[::2, :, ::3],
        np.s_[()],
        np.s_[0, 0:0],
        np.s_[..., :][1:],
    ],
)
def test_a_view_slices_as_numpy_does(key):
    array = numbered(2, 5, 3, 4)  # c x z y
    expected = array.transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(AxesView(array, "cxzy")[key], expected[key])


def test_a_view_of_a_missing_axis_slices_as_numpy_does():
    array = numbered(4, 5)
    view = AxesView(array, "yx")
    np.testing.assert_array_equal(np.asarray(view), array[np.newaxis])
    np.testing.assert_array_equal(view[0], array)
    np.testing.assert_array_equal(view[1:], array[np.newaxis][1:])
    with pytest.raises(IndexError):
        view[1]


@pytest.mark.parametrize("key", [np.s_[..., 0], ([0, 1],), np.s_[0, 0, 0, 0, 0]])
def test_a_view_refuses_what_a_file_cannot_answer(key):
    volume = Volume.from_array(numbered(2, 3, 4, 5), axes="czyx")
    with pytest.raises(InputError, match="key must be"):
        volume.data[key]


def test_read_returns_channels_first_contiguous_and_writeable():
    array = numbered(6, 7, 8, 2)
    array.flags.writeable = False
    volume = Volume.from_array(array)
    block = volume.read(Box((1, 2, 3), (4, 5, 6)))
    np.testing.assert_array_equal(block, array[1:4, 2:5, 3:6].transpose(3, 0, 1, 2))
    assert block.flags.c_contiguous
    assert block.flags.writeable
    assert Volume.from_array(array[..., 0]).read().flags.writeable


@pytest.mark.parametrize("box", [Box((0, 0, 0), (2, 3, 5)), Box((-1, 0, 0), (1, 1, 1)), Box((1, 0, 0), (0, 1, 1))])
def test_a_box_beyond_the_volume_is_refused(box):
    with pytest.raises(InputError, match="box reaches from"):
        Volume.from_array(numbered(2, 3, 4)).read(box)


def test_channels_are_chosen_by_index_or_name_in_the_order_given():
    array = numbered(2, 3, 4, 3)
    volume = Volume.from_array(array, channel_names=("dapi", "gfp", "rfp"))
    chosen = volume.with_channels(["rfp", 0])
    assert chosen.channel_names == ("rfp", "dapi")
    np.testing.assert_array_equal(chosen.read(), array[..., [2, 0]].transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(chosen.data[1, :, 2:, 0], array[1, :, 2:, 2])
    single = volume.with_channels(["gfp"])
    assert single.n_channels == 1
    assert single.data.shape == (2, 3, 4)
    np.testing.assert_array_equal(np.asarray(single.data), array[..., 1])
    np.testing.assert_array_equal(single.with_channels([0]).read(), single.read())


@pytest.mark.parametrize("channels", [[], ["cy5"], [3], [-1], [0, 0], ["gfp", 1]])
def test_channels_that_do_not_exist_are_refused(channels):
    volume = Volume.from_array(numbered(2, 3, 4, 3), channel_names=("dapi", "gfp", "rfp"))
    with pytest.raises(InputError, match="channels"):
        volume.with_channels(channels)


def test_channel_names_must_fit():
    with pytest.raises(InputError, match=r"channel_names has 1 names for 3 channel\(s\)"):
        Volume.from_array(numbered(2, 3, 4, 3), channel_names=("dapi",))


def test_a_volume_pickles():
    volume = Volume.from_array(numbered(2, 3, 4, 3), axes="czyx", spacing=(3, 2, 1), unit="nanometer")
    copy = pickle.loads(pickle.dumps(volume))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(copy.read(), volume.read())
    assert (copy.spacing, copy.unit, copy.axes) == (volume.spacing, volume.unit, volume.axes)


def test_the_fingerprint_tells_content_shape_and_dtype_apart():
    array = numbered(70, 3, 4).astype(np.uint8)
    fingerprint = Volume.from_array(array).fingerprint()
    assert fingerprint == "bf817490de3cf6fd369fc635ca51d296"  # the same on every machine, and in the next release
    changed = array.copy()
    changed[69, 2, 3] ^= 1
    others = [changed, array.reshape(35, 6, 4), array.astype(np.int8), array[..., np.newaxis].repeat(2, -1)]
    assert fingerprint not in {Volume.from_array(other).fingerprint() for other in others}


def test_the_fingerprint_does_not_depend_on_how_the_voxels_are_stored():
    array = numbered(3, 4, 5, 2)
    fingerprint = Volume.from_array(array).fingerprint()
    stored = np.asfortranarray(array.transpose(3, 1, 2, 0).astype(">i4"))
    assert Volume.from_array(stored, axes="cyxz", spacing=(2, 1, 1)).fingerprint() == fingerprint


def test_the_fingerprint_of_a_large_volume_samples_it(monkeypatch):
    monkeypatch.setattr("voxloop.volume._HASHED_WHOLE", 1000)
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (40, 150, 30), np.uint8)
    fingerprint = Volume.from_array(array).fingerprint()
    assert fingerprint == Volume.from_array(array.copy()).fingerprint()
    for place in [(0, 0, 0), (39, 149, 29), (20, 80, 15)]:
        changed = array.copy()
        changed[place] ^= 1
        assert Volume.from_array(changed).fingerprint() != fingerprint
    brighter = np.clip(array.astype(int) + 1, 0, 255).astype(np.uint8)
    assert Volume.from_array(brighter).fingerprint() != fingerprint
