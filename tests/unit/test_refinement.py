from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from voxloop.blocks import Box, SerialExecutor, ThreadExecutor
from voxloop.classify import Calibration, Classifier, LabelledImage, Prediction, fit_classifier, label_supervoxels
from voxloop.classify import refinement as module
from voxloop.classify.forest import fit_forest
from voxloop.classify.refinement import (
    Refiner,
    VoxelLabels,
    choose_weight,
    describe_voxels,
    fit_refinement,
    pool,
    refine,
    sample_voxels,
    smoothing_weights,
    undecided,
)
from voxloop.errors import InputError
from voxloop.features import compute_features, filter_block, voxel_features
from voxloop.specs import ClassifierSpec, FeatureSpec, SlicSpec
from voxloop.supervoxels import Adjacency, Supervoxels, slic
from voxloop.volume import Volume

FEATURES = FeatureSpec(sigmas=(0.7, 1.6), context=0)
FOREST = ClassifierSpec(n_trees=20, autocontext=False)
CLASSES = np.array([1, 2], np.int32)
MEMORY = 10**9


def sheets(shape=(16, 40, 40), seed=0) -> tuple[Volume, np.ndarray]:
    """Return bright sheets two voxels thick in noise, thinner than supervoxels, and the class of each voxel."""
    rng = np.random.default_rng(seed)
    truth = np.ones(shape, np.uint8)
    truth[:, :, 6::10] = truth[:, :, 7::10] = 2
    return Volume((truth * 60 + rng.normal(0, 12, shape)).astype(np.float32)), truth


def labelled(truth: np.ndarray, supervoxels: Supervoxels, rows: slice) -> VoxelLabels:
    """Return some rows of the truth as strokes."""
    indices = np.arange(truth.size).reshape(truth.shape)[4:12:4, rows].ravel()
    return VoxelLabels(
        np.sort(indices), truth.ravel()[np.sort(indices)].astype(np.int32),
        np.asarray(supervoxels.labels).ravel()[np.sort(indices)].astype(np.int64),
    )  # fmt: skip


def fitted(volume: Volume, truth: np.ndarray, *, executor=None) -> Refiner:
    supervoxels = slic(volume, SlicSpec(size=150))
    strokes = labelled(truth, supervoxels, slice(0, 40, 5))
    values = compute_features(volume, supervoxels.labels, supervoxels.n, FEATURES).values
    labels = label_supervoxels(strokes.supervoxels, strokes.classes)
    image = LabelledImage.of(labels, values, supervoxels, volume.spacing)

    def describe(position: int, voxels: VoxelLabels) -> np.ndarray:
        assert position == 0
        return describe_voxels(volume, voxels, FEATURES, memory=MEMORY)

    def surround(position: int, voxels: VoxelLabels) -> sparse.csr_array:
        return smoothing_weights(supervoxels.labels, voxels, n=supervoxels.n, relative_spacing=volume.relative_spacing)

    refinement = fit_refinement(
        [image],
        [strokes],
        fit_classifier([image], FOREST),
        FOREST,
        describe=describe,
        surround=surround,
        executor=executor,
    )
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([2, 2], supervoxels.n).astype(np.float32)
    prediction = Prediction(probabilities, CLASSES)
    chosen = undecided(prediction, supervoxels.graph)
    return Refiner(volume, supervoxels.labels, prediction, chosen, refinement, FEATURES)


def test_voxel_features_are_the_filter_responses_at_these_voxels() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(12, 15, 18)), spacing=(2.0, 1.0, 1.0))
    box, wanted = Box((2, 3, 0), (9, 15, 11)), np.random.default_rng(1).random((7, 12, 11)) < 0.3
    found = voxel_features(volume, box, wanted, FEATURES)
    whole = np.concatenate([
        filter_block(volume.data, sigma, spec=FEATURES, relative_spacing=volume.relative_spacing)
        for sigma in FEATURES.sigmas
    ])  # fmt: skip
    np.testing.assert_allclose(found, whole[(slice(None), *box.slices)][:, wanted].T, rtol=1e-4, atol=1e-4)


def test_voxel_features_of_channels_and_none() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(4, 9, 9, 2)))
    assert voxel_features(volume, volume.box, np.zeros((4, 9, 9), bool), FEATURES).shape == (0, 2 * 20)
    with pytest.raises(InputError, match="wanted has shape"):
        voxel_features(volume, volume.box, np.zeros((4, 9, 8), bool), FEATURES)


@pytest.mark.parametrize("block_side", [128, 9])
def test_labelled_voxels_are_described_in_their_order(monkeypatch: pytest.MonkeyPatch, block_side: int) -> None:
    monkeypatch.setattr(module, "BLOCK_SIDE", block_side)
    volume = Volume(np.random.default_rng(0).normal(size=(10, 20, 22)).astype(np.float32))
    indices = np.sort(np.random.default_rng(1).permutation(4400)[:60])
    voxels = VoxelLabels(indices, np.ones(60, np.int32), np.ones(60, np.int64))
    found = describe_voxels(volume, voxels, FEATURES, memory=MEMORY, executor=ThreadExecutor(2))
    whole = voxel_features(volume, volume.box, np.ones(volume.shape, bool), FEATURES)
    np.testing.assert_allclose(found, whole[indices], rtol=1e-4, atol=1e-4)


def test_at_most_so_many_voxels_of_each_class_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VOXELS_A_CLASS", 30)
    classes = np.repeat([1, 2, 1], [100, 20, 50]).astype(np.int32)
    voxels = VoxelLabels(np.arange(170), classes, np.arange(170))
    parts = [voxels.take(np.arange(90)), voxels.take(np.arange(90, 170))]
    drawn = sample_voxels(parts, rng=0)
    together = np.concatenate([part.classes for part in drawn])
    assert np.bincount(together).tolist() == [0, 30, 20]
    for part, of_image in zip(drawn, parts, strict=True):
        assert np.isin(part.indices, of_image.indices).all()
        np.testing.assert_array_equal(part.classes, classes[part.indices])
        assert (np.diff(part.indices) > 0).all()


def test_the_weight_goes_to_whoever_is_right() -> None:
    columns = np.repeat([0, 1], [60, 20])
    right = np.where(columns[:, np.newaxis] == [0, 1], 0.9, 0.1).astype(np.float32)
    guess = np.full_like(right, 0.5)
    assert choose_weight(guess, right, columns) == (1, pytest.approx(-np.log(0.9)))
    assert choose_weight(right, guess, columns) == (0, pytest.approx(-np.log(0.9)))
    np.testing.assert_allclose(pool(right, guess, 0.5)[0], np.sqrt([0.45, 0.05]), rtol=1e-6)
    assert choose_weight(right, right, columns)[0] == 1, "of equals voxels: strokes do not show boundaries"
    little = np.where(right > 0.5, 0.898, 0.102).astype(np.float32)
    assert choose_weight(right, little, columns)[0] == 1, "a loss of 2 % more is nothing to go by"


def test_boundary_and_unsure_supervoxels_are_looked_at() -> None:
    volume = Volume(np.zeros((1, 1, 25), np.float32))
    supervoxels = slic(volume, SlicSpec(n_segments=5))
    first = np.array([0.9, 0.95, 0.1, 0.05, 0.4], np.float32)
    prediction = Prediction(np.stack([first, 1 - first], axis=1), CLASSES)
    assert undecided(prediction, supervoxels.graph).tolist() == [False, True, True, False, True]


def test_thin_sheets_come_back_that_supervoxels_cannot_hold() -> None:
    volume, truth = sheets()
    refiner = fitted(volume, truth)
    out = np.zeros(truth.shape, np.uint8)
    refine(refiner, out, memory=MEMORY)
    looked_at = refiner.undecided[np.asarray(refiner.labels) - 1]
    assert refiner.refinement.weight > 0
    assert looked_at.mean() > 0.5
    before = np.concatenate([[0], refiner.prediction.segmentation])[refiner.labels]
    np.testing.assert_array_equal(out[~looked_at], before[~looked_at])
    # The supervoxels' prediction is drawn at random: what is right comes from the voxels.
    best = Refiner(**{**vars(refiner), "refinement": replace(refiner.refinement, weight=1.0)})
    refine(best, out, memory=MEMORY)
    assert (out == truth)[looked_at].mean() > 0.97
    assert (before == truth)[looked_at].mean() < 0.7


def test_same_bytes_on_any_executor_and_after_a_journey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_SIDE", 16)
    volume, truth = sheets()
    results = []
    for executor in (SerialExecutor(), ThreadExecutor(2)):
        refiner = fitted(volume, truth, executor=executor)
        out = np.zeros(truth.shape, np.uint8)
        refine(pickle.loads(pickle.dumps(refiner)), out, executor=executor, memory=MEMORY)  # noqa: S301
        results.append(out.tobytes())
    assert results[0] == results[1]


def test_outside_the_mask_stays_outside_and_does_not_count() -> None:
    volume, truth = sheets()
    refiner = fitted(volume, truth)
    labels = np.array(refiner.labels)
    labels[:, :20] = 0
    masked = Refiner(**{**vars(refiner), "labels": labels})
    out = masked.classes_in(volume.box)
    assert (out[:, :20] == 0).all()
    assert set(np.unique(out[:, 20:])) == {1, 2}


def test_labels_too_few_to_leave_any_out_weigh_both_the_same() -> None:
    volume, truth = sheets()
    supervoxels = slic(volume, SlicSpec(size=150))
    strokes = labelled(truth, supervoxels, slice(0, 1)).take(np.array([4, 6]))
    assert sorted(strokes.classes) == [1, 2]
    values = compute_features(volume, supervoxels.labels, supervoxels.n, FEATURES).values
    image = LabelledImage.of(label_supervoxels(strokes.supervoxels, strokes.classes), values, supervoxels, (1, 1, 1))
    made = fit_refinement(
        [image],
        [strokes],
        fit_classifier([image], FOREST),
        FOREST,
        describe=lambda _, v: describe_voxels(volume, v, FEATURES, memory=MEMORY),
        surround=lambda *_: pytest.fail("nobody is asked"),
    )
    assert made.weight == 0.5


@pytest.mark.parametrize(("n_telling", "chosen"), [(1, "all"), (40, "sqrt")])
def test_splits_look_at_all_features_where_one_alone_tells_the_classes_apart(
    monkeypatch: pytest.MonkeyPatch, n_telling: int, chosen: str
) -> None:
    """Forty columns: one that says the class beside noise, or each a little. The supervoxels know nothing."""
    rng = np.random.default_rng(0)
    n = 400
    ids = np.arange(1, n + 1)
    strokes = VoxelLabels(ids - 1, rng.integers(1, 3, n).astype(np.int32), ids)
    table = rng.normal(size=(n, 40)).astype(np.float32)
    table[:, :n_telling] += 4 / np.sqrt(n_telling) * (strokes.classes[:, np.newaxis] - 1.5)
    chain = Adjacency(np.stack([ids[:-1], ids[1:]], axis=1), np.ones(n - 1), n)
    positions = np.pad(ids[:, np.newaxis], ((0, 0), (2, 0))).astype(float)
    labels = label_supervoxels(strokes.supervoxels, strokes.classes)
    image = LabelledImage(labels, np.zeros((n, 1), np.float32), chain, positions, diameter=1.0, ndim=3)
    grown = {}

    def grow(rows, classes, spec, **how):
        forest = fit_forest(rows, classes, spec, **how)
        if rows.shape[1] == 40:
            grown[spec.max_features] = forest
        return forest

    monkeypatch.setattr(module, "fit_forest", grow)
    made = fit_refinement(
        [image],
        [strokes],
        fit_classifier([image], FOREST),
        FOREST,
        describe=lambda _, v: table[v.indices],
        surround=lambda _, v: sparse.csr_array(np.eye(n)[v.supervoxels - 1]),
    )
    assert made.weight == 1
    assert made.forest is grown[chosen]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (10.0, 1.0, 2.0)])
def test_labelled_voxels_hear_what_smoothing_says_of_them(monkeypatch: pytest.MonkeyPatch, spacing) -> None:
    monkeypatch.setattr(module, "VOXELS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    volume = Volume(np.zeros((6, 9, 11), np.float32), spacing=spacing)
    labels = rng.integers(0, 20, volume.shape).astype(np.uint32)
    prediction = Prediction(rng.dirichlet([1, 1, 1], 19).astype(np.float32), np.array([1, 2, 5], np.int32))
    indices = np.flatnonzero(labels)[::3]
    voxels = VoxelLabels(indices, np.ones(indices.size, np.int32), labels.ravel()[indices].astype(np.int64))
    weights = smoothing_weights(labels, voxels, n=19, relative_spacing=volume.relative_spacing)
    assert weights.shape == (indices.size, 19)
    refiner = Refiner(volume, labels, prediction, np.ones(19, np.bool_), None, FEATURES)
    smoothed = refiner._smoothed(labels).reshape(3, -1)[:, indices].T
    np.testing.assert_allclose(weights @ prediction.probabilities, smoothed, atol=1e-6)


def test_voxels_follow_the_shares_as_much_as_their_forest_counts() -> None:
    volume, truth = sheets()
    refiner = fitted(volume, truth)
    box = Box((0, 0, 0), volume.shape)
    looked_at = refiner.undecided[np.asarray(refiner.labels).astype(np.int64) - 1]
    for weight, extreme in ((1.0, True), (0.0, False)):
        found = [
            replace(refiner, refinement=replace(refiner.refinement, weight=weight, shift=np.array(shift))).classes_in(
                box
            )
            for shift in ([0.0, 0.0], [9.0, -9.0], [-9.0, 9.0])
        ]
        assert (found[1] == 1)[looked_at].all() == (found[2] == 2)[looked_at].all() == extreme
        assert np.array_equal(found[0], found[1]) != extreme


def test_a_shift_has_no_say_in_how_much_the_voxels_count(monkeypatch: pytest.MonkeyPatch) -> None:
    volume, truth = sheets()
    judged = []
    monkeypatch.setattr(module, "choose_weight", lambda p, *_: judged.append(p) or (0.5, 1.0))
    for shift in (0.0, 4.0):

        def shifted(images, spec, *, executor=None, shift=shift) -> Classifier:
            made = fit_classifier(images, spec, executor=executor)
            calibration = Calibration(made.calibration.scale, made.calibration.offsets, np.array([shift, -shift]))
            return replace(made, calibration=calibration)

        monkeypatch.setattr(module, "fit_classifier", shifted)
        fitted(volume, truth)
    without, _, shifted, _ = judged
    np.testing.assert_array_equal(without, shifted)


def test_an_image_without_a_drawn_voxel_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VOXELS_A_CLASS", 40)
    volume, truth = sheets()
    supervoxels = slic(volume, SlicSpec(size=150))
    many = labelled(truth, supervoxels, slice(0, 40, 5))
    strokes = [many, many.take(np.array([0]))]
    values = compute_features(volume, supervoxels.labels, supervoxels.n, FEATURES).values
    images = [
        LabelledImage.of(label_supervoxels(own.supervoxels, own.classes), values, supervoxels, (1, 1, 1))
        for own in strokes
    ]
    drawn = sample_voxels(strokes, rng=FOREST.seed)
    assert [part.classes.size for part in drawn] == [80, 0], "the seed draws none of the second image"

    def surround(_: int, voxels: VoxelLabels) -> sparse.csr_array:
        return smoothing_weights(supervoxels.labels, voxels, n=supervoxels.n, relative_spacing=(1, 1, 1))

    made = fit_refinement(
        images,
        strokes,
        fit_classifier(images, FOREST),
        FOREST,
        describe=lambda _, v: describe_voxels(volume, v, FEATURES, memory=MEMORY),
        surround=surround,
    )
    assert 0 <= made.weight <= 1


def test_supervoxels_are_judged_by_what_is_smoothed_and_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a row that is dark and then bright, a labelled voxel beside the edge hears both sides of it."""
    brightness = np.repeat([0.0, 1.0], 60).astype(np.float32)
    volume = Volume(brightness.reshape(1, 1, 120))
    supervoxels = slic(volume, SlicSpec(n_segments=6))
    owner = np.asarray(supervoxels.labels).ravel().astype(np.int64)
    values = np.array([[brightness[owner == i].mean()] for i in range(1, supervoxels.n + 1)], np.float32)
    assert set(values[:, 0]) == {0, 1}
    indices = np.arange(0, 120, 2)
    strokes = VoxelLabels(indices, (brightness[indices] + 1).astype(np.int32), owner[indices])
    labels = label_supervoxels(strokes.supervoxels, strokes.classes)
    image, uncalibrated = LabelledImage.of(labels, values, supervoxels, (1, 1, 1)), FOREST.changed(calibrated=False)
    asked = []
    monkeypatch.setattr(module, "choose_weight", lambda p, _, columns: asked.append((p, columns)) or (0.3, 1.0))
    made = fit_refinement(
        [image],
        [strokes],
        fit_classifier([image], uncalibrated),
        uncalibrated,
        describe=lambda _, v: brightness[v.indices, np.newaxis],
        surround=lambda _, v: smoothing_weights(supervoxels.labels, v, n=supervoxels.n, relative_spacing=(1, 1, 1)),
    )
    assert made.weight == 0.3
    (opinions, columns), (again, _) = asked
    np.testing.assert_array_equal(opinions, again, "what supervoxels say does not depend on the forest of the voxels")
    np.testing.assert_array_equal(columns, brightness[indices])
    far = np.abs(indices - 59.5) > 6
    np.testing.assert_allclose(opinions[far, columns[far]], 1, atol=1e-6)
    gaussian = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    beyond = gaussian[7:].sum() / gaussian.sum()  # of voxel 58: from 60 on
    np.testing.assert_allclose(opinions[indices == 58], [[1 - beyond, beyond]], atol=1e-6)
