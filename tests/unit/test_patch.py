from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from voxloop.active.patch import label_patch, resample_plane
from voxloop.active.planes import PlaneSuggestion, best_planes, cut_supervoxels
from voxloop.errors import InputError
from voxloop.volume import Volume

SHAPE = (20, 24, 28)
RAMP = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)  # linear: interpolation is exact
IDS = RAMP.astype(np.uint32) + 1


def plane(normal=(1.0, 0.0, 0.0), center=(10.0, 12.0, 14.0), radius=5.0, supervoxels=()):
    unit = np.array(normal) / np.linalg.norm(normal)
    return PlaneSuggestion(
        center=center,
        normal=tuple(unit.tolist()),
        radius=radius,
        score=1.0,
        supervoxels=np.array(supervoxels, np.uint32),
        center_supervoxel=1,
        upper_bound=1.0,
        axis=None,
        reason="",
    )


class Recorder:
    """An array that remembers what was read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, key):
        self.read.append(key)
        return self.array[key]


normals = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda m: np.linalg.norm(m) > 0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_looks_as_it_does_elsewhere(axis):
    rng = np.random.default_rng(axis)
    image = rng.integers(0, 60_000, SHAPE).astype(np.uint16)
    patch = resample_plane(Volume(image), IDS, plane(np.eye(3)[axis]))
    window = [slice(c - 5, c + 6) for c in (10, 12, 14)]
    window[axis] = (10, 12, 14)[axis]
    assert patch.image.tolist() == image[tuple(window)].tolist()
    assert patch.supervoxels.tolist() == IDS[tuple(window)].tolist()
    assert patch.image.dtype == np.float32


@given(normals)
def test_every_pixel_lies_on_the_plane_and_leads_back(normal):
    normal = np.array(normal) * np.sign(normal[np.argmax(np.abs(normal))])
    patch = resample_plane(Volume(RAMP), IDS, plane(normal), step=0.5)
    offsets = patch.coordinates - patch.plane.center
    np.testing.assert_allclose(offsets @ patch.plane.normal, 0, atol=1e-9)
    pixels = np.stack(np.indices(patch.inside.shape), -1).reshape(-1, 2)
    np.testing.assert_allclose(
        patch.offsets(pixels) @ patch.plane.directions,
        offsets.reshape(-1, 3),
        atol=1e-9,
        err_msg="pixels lead elsewhere",
    )
    distance = np.linalg.norm(offsets, axis=-1)
    off_circle = np.abs(distance - 5) > 1e-6
    assert (patch.inside == (distance <= 5))[off_circle].all()
    expected = patch.coordinates @ [24 * 28, 28, 1]
    np.testing.assert_allclose(patch.image, expected, atol=0.01)
    assert (patch.supervoxels == IDS[tuple(np.moveaxis(patch.voxels, -1, 0))]).all()


@given(normals)
def test_the_picture_is_turned_as_little_as_possible(normal):
    """No rotation in the plane brings the picture nearer to the slice along the nearest axis."""
    normal = np.array(normal) * np.sign(normal[np.argmax(np.abs(normal))])
    shown = plane(normal)
    native = np.delete(np.eye(3), np.argmax(np.abs(shown.normal)), axis=0)
    angles = np.linspace(-np.pi, np.pi, 73)
    down, right = shown.directions
    turned = [np.stack([np.cos(a) * down + np.sin(a) * right, np.cos(a) * right - np.sin(a) * down]) for a in angles]
    alike = [np.sum(t * native) for t in turned]
    assert np.argmax(alike) == 36


def test_anisotropic_voxels_are_shown_in_their_proportions():
    volume = Volume(RAMP, spacing=(40.0, 10.0, 10.0))
    patch = resample_plane(volume, IDS, plane((0, 1, 0), radius=8.0))
    assert patch.image.shape == (17, 17)
    np.testing.assert_allclose(patch.coordinates[:, 0, 0], 10 + np.arange(-8, 9) / 4)
    np.testing.assert_allclose(patch.coordinates[0, :, 2], 14 + np.arange(-8, 9))
    np.testing.assert_allclose(patch.image, patch.coordinates @ [24 * 28, 28, 1], rtol=1e-6)


def test_reads_only_the_box_around_the_patch():
    image, labels = Recorder(RAMP), Recorder(IDS)
    resample_plane(Volume(image), labels, plane((1, 0, 0), center=(10.0, 12.0, 14.0), radius=3.0))
    for recorder in (image, labels):
        (box,) = recorder.read
        assert [(s.start, s.stop) for s in box] == [(10, 12), (9, 17), (11, 19)]


def test_beyond_the_volume():
    patch = resample_plane(Volume(RAMP + 1), IDS, plane(center=(10.0, 0.0, 27.0)))
    assert not patch.inside[:5].any()
    assert not patch.inside[:, 6:].any()
    assert (patch.image[~patch.inside][:5] == 0).all()
    assert patch.supervoxels[4, 5] == 0
    assert patch.supervoxels[5, 5] == IDS[10, 0, 27]
    assert patch.inside[5, 5]
    assert (patch.image[patch.inside] == patch.supervoxels[patch.inside]).all()


def test_channels_and_a_wider_picture():
    image = np.stack([RAMP, -RAMP], -1)
    patch = resample_plane(Volume(image), IDS, plane(radius=3.0), half_width=4.5, step=1.0)
    assert patch.image.shape == (11, 11, 2)
    assert (patch.image[..., 0] == -patch.image[..., 1]).all()
    assert patch.inside.sum() == 29  # lattice points in a circle of radius 3
    assert patch.supervoxels.all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": IDS[:, :, 1:]}, r"labels has shape \(20, 24, 27\) but the volume has shape"),
        ({"plane": plane(center=(10.0, 12.0, 28.0))}, "center"),
        ({"step": 0.0}, "step must be positive"),
        ({"step": np.nan}, "step must be positive"),
        ({"step": 0.001}, "at most 4096 pixels"),
        ({"half_width": 0.0}, "half_width of 0.0"),
        ({"volume": Volume(RAMP[:1])}, "planes need a 3D volume"),
    ],
)
def test_bad_input_to_resample(changed, message):
    arguments = {"volume": Volume(RAMP), "labels": IDS, "plane": plane()} | changed
    data = [arguments.pop(name) for name in ("volume", "labels", "plane")]
    with pytest.raises(InputError, match=message):
        resample_plane(*data, **arguments)


CENTERS = np.array([[10.0, 10, 14], [10, 14, 14], [11, 12, 10], [9, 12.5, 18]])


def test_two_clicks_split_the_patch():
    """From left to right, the upper half is on the left-hand side."""
    shown = plane(supervoxels=[2, 1, 3, 4])
    across = [(0, -5), (0, 5)]
    assert label_patch(shown, CENTERS, classes=(1, 2), line=across) == {2: 2, 1: 1, 3: 1, 4: 2}
    assert label_patch(shown, CENTERS, classes=(1, 2), line=across[::-1]) == {2: 1, 1: 2, 3: 1, 4: 1}
    down = [(-5, 0), (5, 0)]
    assert label_patch(shown, CENTERS, classes=(7, 3), line=down) == {2: 7, 1: 7, 3: 3, 4: 7}


def test_clicks_come_from_pixels():
    shown = plane(supervoxels=[1, 2])
    patch = resample_plane(Volume(RAMP), IDS, shown, step=0.5)
    line = patch.offsets([(10 + 7, 0), (10 + 7, 20)])  # below the middle, at y = 12 + 3.5
    assert label_patch(shown, CENTERS, classes=(1, 2), line=line) == {1: 1, 2: 1}


def test_one_class_and_chosen_supervoxels():
    shown = plane(supervoxels=[1, 2])
    assert label_patch(shown, CENTERS, classes=4) == {1: 4, 2: 4}
    assert label_patch(shown, CENTERS, classes=4, supervoxels=[3]) == {3: 4}
    assert label_patch(plane(), CENTERS, classes=4) == {}


def test_labelled_supervoxels_are_answered_for_only_when_asked():
    rng = np.random.default_rng(0)
    centers, sizes, scores = rng.uniform(0, 19, (60, 3)), np.full(60, 100), rng.random(60)
    labelled = np.arange(1, 31)
    (shown,) = best_planes(scores, centers, sizes, shape=SHAPE, exclude=labelled)
    assert not set(label_patch(shown, centers, classes=1)) & set(labelled.tolist())
    cut = cut_supervoxels(shown, centers, sizes)
    answer = label_patch(shown, centers, classes=1, supervoxels=cut)
    assert set(answer) & set(labelled.tolist())
    assert set(answer) == set(cut.tolist())


def test_spacing_counts_when_centres_project():
    """A line that rises by 45 degrees in the picture, between two centres one slice of 4 above."""
    shown = plane((0, 1, 0), supervoxels=[1, 2])
    centers = np.array([[9.0, 12, 16.5], [9, 12, 19.0]])  # 4 up; 2.5 and 5 to the right
    line = [(0, 0), (-1, 1)]
    assert label_patch(shown, centers, classes=(1, 2), line=line, spacing=(4, 1, 1)) == {1: 1, 2: 2}
    assert label_patch(shown, centers, classes=(1, 2), line=line) == {1: 2, 2: 2}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": 1}, "two with a line and one without"),
        ({"line": None}, "two with a line and one without"),
        ({"classes": (0, 1)}, "1 or more"),
        ({"line": [(1, 1), (1, 1)]}, "two different points"),
        ({"line": [(1, 1)]}, "two different points"),
        ({"line": [(1, np.nan), (2, 2)]}, "two different points"),
        ({"supervoxels": [5]}, "ids from 1 to 4, not 5 to 5"),
        ({"supervoxels": [0]}, "ids from 1 to 4, not 0 to 0"),
        ({"centers": CENTERS[0]}, r"expected \(n, 3\)"),
    ],
)
def test_bad_answers(changed, message):
    arguments = {"centers": CENTERS, "classes": (1, 2), "line": [(0, -5), (0, 5)], "supervoxels": [1]} | changed
    with pytest.raises(InputError, match=message):
        label_patch(plane(), arguments.pop("centers"), **arguments)


def test_two_clicks_label_mitochondria(real_data):
    """On real electron microscopy: a plane at a mitochondrion's border, answered by the best line."""
    folder = real_data("epfl_hippocampus_ca1")
    box = (slice(0, 42), slice(200, 326), slice(200, 326))
    image, truth = (tifffile.imread(folder / name)[box] for name in ("image.tif", "label.tif"))
    z, y, x = np.indices(image.shape)
    ids = (1 + z // 7 + 6 * (y // 7 + 18 * (x // 7))).astype(np.uint32)
    sizes = np.bincount(ids.ravel())[1:]
    centers = np.stack([np.bincount(ids.ravel(), a.ravel())[1:] / sizes for a in (z, y, x)], 1)
    share = np.bincount(ids.ravel(), truth.ravel() > 0)[1:] / sizes
    assert 0 < share.mean() < 1
    (shown,) = best_planes(4 * share * (1 - share), centers, sizes, shape=image.shape)
    patch = resample_plane(Volume(image), ids, shown)
    assert np.isin(shown.supervoxels, patch.supervoxels[patch.inside]).mean() > 0.8, "what is cut can be seen"

    truth_of = {int(i): 1 + int(share[i - 1] > 0.5) for i in shown.supervoxels}
    angles, shifts = np.arange(0, 2 * np.pi, np.pi / 18), np.arange(-10.0, 11.0)
    agreement = [
        np.mean([truth_of[i] == c for i, c in label_patch(shown, centers, classes=(1, 2), line=line).items()])
        for line in (_line(angle, shift) for angle in angles for shift in shifts)
    ]
    shares = np.bincount(list(truth_of.values()))[1:] / len(truth_of)
    # The plane runs along the border, where cubes straddle it: 0.77 with the best line, 0.54 with one class.
    assert max(agreement) > shares.max() + 0.1, "no line is better than one class for all"


def _line(angle, shift):
    along = np.array([np.sin(angle), np.cos(angle)])
    middle = shift * np.array([-along[1], along[0]])
    return [middle - along, middle + along]
