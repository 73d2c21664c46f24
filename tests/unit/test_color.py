"""Lab against scikit-image, and as a view."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from voxloop.color import as_lab, rgb_to_lab
from voxloop.errors import InputError
from voxloop.volume import Volume


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_same_as_scikit_image(dtype: type) -> None:
    unit = np.random.default_rng(0).random((4, 30, 31, 3))
    unit[0] *= 0.03  # the linear part
    rgb = unit.astype(dtype) if dtype == np.float32 else (unit * np.iinfo(dtype).max).astype(dtype)
    expected = rgb2lab(rgb)
    assert np.abs(rgb_to_lab(rgb) - expected).max() < 2e-3  # single precision, of values up to 100
    assert rgb_to_lab(rgb).dtype == np.float32


def test_view_reads_parts_and_leaves_alpha_out() -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (3, 8, 9, 4), np.uint8)
    lab = as_lab(Volume.from_array(rgba))
    whole = rgb_to_lab(rgba[..., :3])
    assert lab.shape == (3, 8, 9)
    assert lab.n_channels == 3
    assert lab.channel_names == ("L*", "a*", "b*")
    for key in (np.s_[:], np.s_[1], np.s_[0:2, 3:5, 4, 1], np.s_[1:3, 2]):
        assert np.array_equal(lab.data[key], whole[key])


def test_what_is_no_rgb() -> None:
    with pytest.raises(InputError, match="three channels"):
        as_lab(Volume.from_array(np.zeros((2, 3, 4, 2), np.uint8)))
    with pytest.raises(InputError, match="dtype int16"):
        as_lab(Volume.from_array(np.zeros((2, 3, 4, 3), np.int16)))
