"""The phantom: same bytes for a seed, the classes in their shares, hard enough to need more than a few labels."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import interpolate, ndimage

from voxloop.errors import InputError
from voxloop.samples import Sample, phantom
from voxloop.samples.electron import BACKGROUND, MITOCHONDRIA, _grid, _paint, _random_textures
from voxloop.samples.noise import SmoothField
from voxloop.samples.tissue import Cells, grow_cells, grow_tissue
from voxloop.volume import Volume

SMALL = (24, 64, 64)


@pytest.fixture(scope="module")
def default() -> Sample:
    return phantom(seed=0)


@pytest.fixture(scope="module")
def small() -> Sample:
    return phantom(SMALL, seed=5)


def digest(sample: Sample) -> str:
    return hashlib.sha256(np.asarray(sample.image.data).tobytes() + sample.truth.tobytes()).hexdigest()


def test_same_seed_gives_the_same_bytes_whatever_numpy_did_before(small: Sample) -> None:
    np.random.seed(1)
    np.random.random(7)
    assert digest(phantom(SMALL, seed=5)) == digest(small)


def test_other_seed_gives_another_volume(small: Sample) -> None:
    other = phantom(SMALL, seed=6)
    assert (np.asarray(other.image.data) != np.asarray(small.image.data)).mean() > 0.9
    assert (other.truth != small.truth).any()


def test_unit_of_the_spacing_changes_nothing(small: Sample) -> None:
    in_micrometers = phantom(SMALL, seed=5, spacing=(0.010, 0.008, 0.008), unit="micrometer")
    assert in_micrometers.image.unit == "micrometer"
    assert np.array_equal(in_micrometers.truth, small.truth)


@pytest.mark.slow
def test_default_is_what_its_docstring_says(default: Sample) -> None:
    assert default.image.shape == (64, 256, 256)
    assert default.image.dtype == np.uint8
    assert default.image.relative_spacing == (1.25, 1.0, 1.0)
    assert default.class_names == ("background", "mitochondria")
    assert default.mask is None
    assert set(np.unique(default.truth)) == {BACKGROUND, MITOCHONDRIA}
    assert 0.06 < (default.truth == MITOCHONDRIA).mean() < 0.12


def test_mitochondria_are_several_bodies_of_some_size(default: Sample) -> None:
    pieces, n = ndimage.label(default.truth == MITOCHONDRIA)
    sizes = np.bincount(pieces.ravel())[1:]
    assert n >= 10
    assert sizes[sizes > 1000].sum() > 0.98 * sizes.sum()


def test_grey_values_use_the_range_without_clipping(default: Sample) -> None:
    image = np.asarray(default.image.data)
    assert 35 < image.std() < 55
    assert np.isin(image, (0, 255)).mean() < 1e-3


def test_intensity_alone_does_not_tell_mitochondria_apart(default: Sample) -> None:
    """Membranes, dark cells and dense bodies are as dark: even the best threshold after smoothing stays poor."""
    smooth = ndimage.gaussian_filter(np.asarray(default.image.data, np.float32), 2)
    truth = default.truth == MITOCHONDRIA
    ious = [(truth & (smooth < t)).sum() / (truth | (smooth < t)).sum() for t in range(80, 160, 5)]
    assert 0.2 < max(ious) < 0.6


def test_look_alikes_are_dark_and_not_labelled() -> None:
    extent = (48.0, 128.0, 128.0)
    for_tissue, for_textures = np.random.default_rng(2).spawn(2)
    tissue = grow_tissue(for_tissue, extent, 0.7)
    signal, truth = _paint(tissue, _random_textures(for_textures, extent), (48, 128, 128), (1.0, 1.0, 1.0))
    position = tissue.warp.positions(_grid(Volume(truth).box, (1.0, 1.0, 1.0)))
    owner, gap = tissue.cells.owners(position)
    inside = {kind: np.zeros(truth.shape, bool) for kind in ("mitochondrion", "dense body", "reticulum")}
    for organelle in tissue.organelles:
        inside[organelle.kind] |= organelle.depth(position, owner, gap) > 0
    assert np.array_equal(inside["mitochondrion"], truth == MITOCHONDRIA)
    for kind in ("dense body", "reticulum"):
        decoy = inside[kind] & ~inside["mitochondrion"]
        assert decoy.sum() > 200, kind
    cytoplasm = signal[(gap > 6) & ~np.any(list(inside.values()), axis=0)]
    assert signal[inside["dense body"]].mean() < cytoplasm.mean() - 30
    assert sum(len(synapse.vesicles) for synapse in tissue.synapses) > 20


def test_blocks_leave_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = phantom((12, 48, 48), seed=1)
    monkeypatch.setattr("voxloop.samples.electron.BLOCK_SHAPE", (5, 17, 48))
    blocks = phantom((12, 48, 48), seed=1)
    assert np.array_equal(whole.truth, blocks.truth)
    difference = np.asarray(whole.image.data).astype(int) - np.asarray(blocks.image.data)
    assert np.abs(difference).max() <= 1  # float32 coordinates round at another place


@settings(max_examples=12, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(8, 20), st.integers(12, 40), st.integers(12, 40)),
        st.tuples(st.just(1), st.integers(8, 80), st.integers(8, 80)),
    ),
    seed=st.integers(0, 2**31),
)
def test_any_shape_gives_an_image_with_background(shape: tuple[int, int, int], seed: int) -> None:
    sample = phantom(shape, seed=seed)
    assert sample.truth.shape == sample.image.shape == shape
    assert set(np.unique(sample.truth)) <= {BACKGROUND, MITOCHONDRIA}
    assert (sample.truth == BACKGROUND).any()
    assert np.ptp(np.asarray(sample.image.data)) > 40


@pytest.mark.parametrize("shape", [(1, 256, 256), (16, 16, 16), (32, 96, 64)])
@pytest.mark.parametrize("seed", range(3))
def test_small_and_flat_volumes_hold_both_classes(shape: tuple[int, int, int], seed: int) -> None:
    assert 0.03 < (phantom(shape, seed=seed).truth == MITOCHONDRIA).mean() < 0.3


@pytest.mark.parametrize("shape", [(64, 64), (4, 64, 64), (16, 4, 64), (0, 64, 64)])
def test_shapes_that_make_no_sense_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shape must be"):
        phantom(shape)  # type: ignore[arg-type]


def test_spacing_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="spacing must be"):
        phantom(SMALL, spacing=(1.0, 0.0, 1.0))


def test_owners_and_gaps_match_all_distances() -> None:
    """Cells too far away are left out of the comparison: nothing may change by it."""
    rng = np.random.default_rng(0)
    cells = grow_cells(rng, (40.0, 60.0, 60.0), 0.5)
    z, y, x = (rng.uniform(low, low + 9, 200).astype(np.float32) for low in (5, 20, 30))
    owner, gap = cells.owners((z, y, x))
    distances = np.stack([cells.surface_distance(cell, (z, y, x)) for cell in range(len(cells.length))])
    nearest = np.sort(distances, axis=0)
    assert np.array_equal(owner, distances.argmin(axis=0))
    assert np.allclose(gap, (nearest[1] - nearest[0]) / 2, atol=1e-5)


def test_distance_to_a_rod() -> None:
    one = np.ones(1, np.float32)
    rod = Cells(np.array([[0, 0, 2]], np.float32), np.array([[0, 0, 1]], np.float32), 10 * one, 3 * one, one)
    z, y, x = np.array([[4, 0, 0, 0], [3, 0, 0, 0], [7, -2, 12, 16]], np.float32)
    assert rod.surface_distance(0, (z, y, x)) == pytest.approx([2, 1, -3, 1])


def test_smooth_field_is_a_cubic_spline() -> None:
    field = SmoothField.random(np.random.default_rng(3), (6.0, 20.0, 14.0), 2.0)
    grid = tuple(np.linspace(0, e, n).astype(np.float32) for e, n in zip((6, 20, 14), (5, 9, 30), strict=True))
    expected = field.lattice.astype(float)
    for axis, points in enumerate(grid):
        n = expected.shape[axis]
        spline = interpolate.BSpline(np.arange(-3, n + 1), np.moveaxis(expected, axis, 0), 3)
        expected = np.moveaxis(spline(points / 2.0), 0, axis)
    assert field.on(grid) == pytest.approx(expected * 0.479**-1.5, abs=1e-4)  # type: ignore[arg-type]


def test_smooth_field_has_unit_variance() -> None:
    field = SmoothField.random(np.random.default_rng(4), (40.0, 40.0, 40.0), 1.0)
    axis = np.linspace(0, 40, 97, dtype=np.float32)
    assert field.on((axis, axis, axis)).std() == pytest.approx(1, abs=0.02)


def test_sample_refuses_a_truth_of_another_shape() -> None:
    image = Volume(np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(InputError, match="truth has shape"):
        Sample(image, np.ones((2, 3, 5), np.uint8), ("a",), ("#000000",))
    with pytest.raises(InputError, match="class_colors has 1"):
        Sample(image, np.ones((2, 3, 4), np.uint8), ("a", "b"), ("#000000",))


@pytest.mark.slow
def test_ten_labels_are_not_enough_and_two_hundred_well_chosen_ones_are() -> None:
    """Supervoxels, plain filters and a forest: labels added where it is least sure must pay."""
    from skimage.segmentation import slic
    from sklearn.ensemble import ExtraTreesClassifier

    sample = phantom((40, 256, 256), seed=0)
    image = np.asarray(sample.image.data, np.float32)
    smooth = ndimage.gaussian_filter(image, 1) / image.std()
    ids = slic(smooth, n_segments=image.size // 340, compactness=0.12, channel_axis=None, max_num_iter=5, start_label=0)
    size = np.bincount(ids.ravel())
    share = np.bincount(ids.ravel(), sample.truth.ravel() == MITOCHONDRIA) / size
    y = share > 0.5

    def pool(values: np.ndarray) -> np.ndarray:
        return np.bincount(ids.ravel(), values.ravel()) / size

    columns = []
    for sigma in (0.7, 1.0, 1.6, 3.5, 5.0):
        for filtered in (ndimage.gaussian_filter, ndimage.gaussian_laplace, ndimage.gaussian_gradient_magnitude):
            response = filtered(image, sigma)
            mean = pool(response)
            columns += [mean, np.sqrt(np.maximum(pool(response**2) - mean**2, 0))]
    X = np.stack(columns, axis=1)

    def iou(predicted: np.ndarray) -> float:
        hit = (size * share)[predicted].sum()
        return float(hit / (size[predicted].sum() + (size * share)[~predicted].sum()))

    rng = np.random.default_rng(0)
    start = np.concatenate([rng.choice(np.flatnonzero(y == c), 5, replace=False) for c in (False, True)])
    labelled, ious = start, {}
    while True:
        forest = ExtraTreesClassifier(100, class_weight="balanced", random_state=0).fit(X[labelled], y[labelled])
        p = forest.predict_proba(X)[:, 1]
        ious[len(labelled)] = iou(p > 0.5)
        if len(labelled) >= 200:
            break
        certainty = np.abs(p - 0.5)
        certainty[labelled] = np.inf
        labelled = np.concatenate([labelled, np.argsort(certainty)[:19]])
    assert iou(y) > 0.83
    assert ious[10] < 0.5
    assert ious[200] > 0.7
