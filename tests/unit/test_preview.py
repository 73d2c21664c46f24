from __future__ import annotations

import numpy as np
import pytest
import tifffile

from voxloop.blocks import Box, SerialExecutor, ThreadExecutor
from voxloop.errors import Cancelled, InputError
from voxloop.samples import phantom
from voxloop.specs import SlicSpec
from voxloop.supervoxels import measure_intensities, preview_supervoxels, slic
from voxloop.volume import Volume


def faces(labels: np.ndarray) -> np.ndarray:
    """Return where a voxel and the next one along z, y and x have other labels."""
    return np.concatenate([np.diff(labels.astype(np.int64), axis=axis).ravel() != 0 for axis in range(3)])


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the F-measure of the faces between supervoxels."""
    ours, theirs = faces(a), faces(b)
    return float(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))


def test_the_preview_is_close_to_the_supervoxels_of_the_whole() -> None:
    volume, spec = phantom((32, 96, 96), seed=1).image, SlicSpec(size=100)
    box = Box((8, 24, 24), (24, 72, 72))
    shown = preview_supervoxels(volume, box, spec)
    real = np.asarray(slic(volume, spec).labels)[box.slices]
    assert shown.shape == box.shape
    assert shown.min() > 0
    assert agreement(shown, real) > 0.65
    assert agreement(shown, np.roll(real, 3, axis=2)) < 0.5  # which is what chance gives
    assert len(np.unique(shown)) == pytest.approx(len(np.unique(real)), rel=0.1)


@pytest.mark.slow
def test_the_preview_on_electron_microscopy(real_data) -> None:
    image = tifffile.imread(real_data("epfl_hippocampus_ca1") / "image.tif")[:96, :400, :400]
    volume, box = Volume(np.ascontiguousarray(image)), Box((32, 64, 64), (64, 320, 320))
    real = np.asarray(slic(volume).labels)[box.slices]
    shown = preview_supervoxels(volume, box)
    assert agreement(shown, real) > 0.6
    assert agreement(shown, np.roll(real, 4, axis=2)) < 0.4


def test_the_whole_volume_as_a_box_is_what_slic_gives() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(12, 20, 24)), spacing=(2.0, 1.0, 1.0))
    mask = np.random.default_rng(1).random(volume.shape) < 0.9
    spec = SlicSpec(size=60, max_num_iter=3, min_size_factor=0)
    for inside in (None, mask):
        shown = preview_supervoxels(volume, volume.box, spec, mask=inside)
        np.testing.assert_array_equal(shown, slic(volume, spec, mask=inside).labels)


def test_a_box_outside_the_mask_is_empty() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(8, 20, 60)))
    mask = np.zeros(volume.shape, bool)
    mask[:, :, 50:] = True
    assert not preview_supervoxels(volume, Box((0, 0, 0), (8, 20, 20)), SlicSpec(size=40), mask=mask).any()
    shown = preview_supervoxels(volume, Box((0, 0, 40), (8, 20, 60)), SlicSpec(n_segments=40), mask=mask)
    np.testing.assert_array_equal(shown > 0, mask[:, :, 40:])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 40), (9, 1, 1)])
def test_thin_shapes_and_known_intensities(shape: tuple[int, int, int]) -> None:
    volume = Volume(np.random.default_rng(0).normal(size=shape))
    shown = preview_supervoxels(volume, volume.box, executor=SerialExecutor())
    known = measure_intensities(volume)
    again = preview_supervoxels(volume, volume.box, intensities=known, executor=ThreadExecutor(2))
    np.testing.assert_array_equal(shown, again)
    assert shown.min() == 1


def test_cancelling_and_bad_boxes() -> None:
    volume = Volume(np.zeros((9, 9, 9)))

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "iteration 1":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        preview_supervoxels(volume, volume.box, progress=stop)
    for box in (Box((0, 0, 0), (9, 9, 10)), Box((3, 3, 3), (3, 4, 4))):
        with pytest.raises(InputError, match=r"box reaches from .* but the volume has shape \(9, 9, 9\)"):
            preview_supervoxels(volume, box)
    with pytest.raises(InputError, match="mask has shape"):
        preview_supervoxels(volume, volume.box, mask=np.ones((9, 9, 8)))
