"""Figures: the right colours in the right pixels, files of a sensible size; no golden images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from voxloop.errors import InputError
from voxloop.samples import phantom
from voxloop.simulate.pictures import (
    SessionScores,
    SuggestedSlice,
    _keep_apart,
    _palette,
    _panel_size,
    describe_length,
    draw_boundaries,
    draw_grey,
    draw_hatch,
    draw_learning_curve,
    draw_overview,
    enlarge,
    round_length,
    tint,
)
from voxloop.supervoxels.outlines import boundaries, hatch, ring

CYAN = (0, 255, 255)
YELLOW = (240, 228, 66)


def is_color(rgb: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.all(rgb == color, axis=-1)


def grey(rows: int, columns: int, value: int = 100) -> np.ndarray:
    return np.full((rows, columns, 3), value, np.uint8)


# Outlines


def test_boundary_is_one_pixel_left_of_and_above_the_next_supervoxel() -> None:
    ids = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    assert boundaries(ids).astype(int).tolist() == [[0, 1, 0], [1, 1, 1], [0, 0, 0]]


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
def test_boundaries_survive_relabelling_and_turn_with_the_slice(ids: np.ndarray) -> None:
    assert np.array_equal(boundaries(ids), boundaries(np.array([7, 2, 9, 4])[ids]))
    assert np.array_equal(boundaries(ids).T, boundaries(ids.T))


def test_hatch_of_a_square_counted() -> None:
    region = np.zeros((20, 20), bool)
    region[4:16, 4:16] = True
    drawn = hatch(region)
    outline = 4 * 11
    stripes = sum((row + column) % 8 == 0 for row in range(5, 15) for column in range(5, 15))
    assert drawn.sum() == outline + stripes
    assert not drawn[~region].any()


@given(hnp.arrays(bool, (9, 12), elements=st.sampled_from([False] * 9 + [True])))
def test_a_ring_is_as_far_from_its_piece_everywhere(region: np.ndarray) -> None:
    pieces, n = ndimage.label(region, structure=np.ones((3, 3)))
    expected = np.zeros(region.shape, bool)
    for number in range(1, n + 1):
        there = np.argwhere(pieces == number)
        pixels = np.moveaxis(np.indices(region.shape), 0, -1)
        nearest = np.array([[np.hypot(*(there - at).T).min() for at in row] for row in pixels])
        expected |= (nearest > 3) & (nearest <= 4)
    assert np.array_equal(ring(region), expected)


def test_hatch_does_not_outline_the_border_of_the_slice() -> None:
    drawn = hatch(np.ones((8, 8), bool))
    assert drawn.sum() == 8  # rows + columns = 0 or 8, and nothing else


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_hatch_stays_inside_and_marks_every_pixel_at_the_edge(region: np.ndarray) -> None:
    drawn = hatch(region)
    assert not (drawn & ~region).any()
    assert drawn[:, :-1][region[:, :-1] & ~region[:, 1:]].all()
    assert drawn[1:][region[1:] & ~region[:-1]].all()


def test_outlines_refuse_volumes() -> None:
    with pytest.raises(InputError, match="supervoxels has shape"):
        boundaries(np.zeros((2, 3, 4), int))
    with pytest.raises(InputError, match="region has shape"):
        hatch(np.zeros(4, bool))
    with pytest.raises(InputError, match="region has shape"):
        ring(np.zeros(4, bool))


# Panels


def test_tint_mixes_the_class_colour_and_leaves_background_and_outside() -> None:
    palette = _palette(("#0000ff", "#ff0000"), n_classes=2, background=1)
    classes = np.zeros((9, 9), int)
    classes[:, 3:] = 1
    classes[2:7, 3:8] = 2
    tinted = tint(grey(9, 9), classes, palette)
    inner, edge = classes == 2, is_color(tinted, (255, 0, 0))
    assert np.array_equal(edge, inner & ~ndimage.binary_erosion(inner))
    assert is_color(tinted, (165, 58, 58))[inner & ~edge].all()  # 100 + 0.42 * (color - 100)
    assert is_color(tinted, (100, 100, 100))[classes != 2].all()


def test_certain_probabilities_are_tinted_like_classes_inside() -> None:
    palette = _palette(("#0072b2", "#e69f00", "#cc79a7"), n_classes=3, background=0)
    classes = np.repeat(np.arange(1, 4), 5)[None, :].repeat(5, axis=0)
    by_class = tint(grey(5, 15), classes, palette)
    by_probability = tint(grey(5, 15), np.eye(3)[classes - 1], palette)
    middle = np.s_[2, [2, 7, 12]]
    assert np.array_equal(by_class[middle], by_probability[middle])


def test_tint_grows_with_the_probability() -> None:
    palette = _palette(("#0000ff", "#ff0000"), n_classes=2, background=1)
    p = np.linspace(0, 1, 6)[None, :]
    red = tint(grey(1, 6), np.stack((1 - p, p), axis=-1), palette)[0, :, 0].astype(int)
    assert red[0] == 100
    assert (np.diff(red) > 0).all()


def test_cyan_lies_only_inside_what_is_uncertain() -> None:
    region = np.zeros((30, 40), bool)
    region[5:20, 10:25] = True
    drawn = draw_hatch(grey(30, 40), region)
    assert np.array_equal(is_color(drawn, CYAN), hatch(region))
    assert is_color(drawn, CYAN).sum() > 60


def test_boundaries_are_drawn_thin_at_any_enlargement() -> None:
    ids = np.repeat([1, 2, 3], 4)[None, :].repeat(8, axis=0)
    drawn = draw_boundaries(grey(32, 48), enlarge(ids, (32, 48)))
    assert is_color(drawn, YELLOW).sum() == 2 * 32


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_grey_values_do_not_depend_on_dtype_offset_or_scale(dtype: Any) -> None:
    values = np.arange(100).reshape(10, 10)
    assert np.array_equal(draw_grey(values.astype(dtype), (10, 10)), draw_grey(values * 3.0 + 17, (10, 10)))


def test_constant_image_is_mid_grey_and_large_images_are_averaged() -> None:
    assert (draw_grey(np.full((4, 4), 7), (8, 8)) == 128).all()
    noise = np.random.default_rng(0).normal(size=(300, 300))
    skipped = draw_grey(enlarge(noise, (100, 100)), (100, 100))
    assert draw_grey(noise, (100, 100)).std() < 0.5 * skipped.std()  # 3 x 3 voxels to a pixel: a third


@settings(max_examples=50)
@given(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), st.tuples(st.floats(0.5, 4), st.floats(0.5, 4)))
def test_panels_keep_the_physical_proportions(shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    rows, columns = _panel_size(shape, spacing)
    assert max(rows, columns) <= 720
    ratio = (shape[0] * spacing[0]) / (shape[1] * spacing[1])
    assert abs(rows - ratio * columns) <= 0.51 * (1 + ratio) or min(rows, columns) == 1


@pytest.mark.parametrize(
    ("length", "expected"), [(1, 1), (1.99, 1), (4.9, 2), (5, 5), (99, 50), (512, 500), (0.03, 0.02), (1000, 1000)]
)
def test_round_length(length: float, expected: float) -> None:
    assert round_length(length) == pytest.approx(expected)


def test_lengths_are_described_in_plain_units() -> None:
    assert describe_length(500, "nanometer") == "500 nm"
    assert describe_length(2000, "nanometer") == "2 µm"
    assert describe_length(20, "millimeter") == "20 mm"
    assert describe_length(50, "furlong") == "50 furlong"


def test_labels_are_kept_apart_in_their_order() -> None:
    assert _keep_apart([0.5, 0.2, 0.21], 0.1) == pytest.approx([0.5, 0.2, 0.3])
    assert _keep_apart([0.4], 0.1) == [0.4]


# Whole figures


def overview_of(seed: int = 0, **changed: Any) -> dict[str, Any]:
    sample = phantom((1, 96, 128), seed=seed)
    image, truth = np.asarray(sample.image.data)[0], sample.truth[0]
    rows, columns = np.indices(image.shape) // 8
    ids = rows * 16 + columns + 1
    uncertain = np.isin(ids, (20, 21, 90))
    strokes = np.zeros(image.shape, np.uint8)
    strokes[40, 20:50], strokes[60, 70:90] = 1, 2
    return {
        "image": image,
        "supervoxels": ids,
        "first_prediction": np.roll(truth, 9, axis=1),
        "uncertain": uncertain,
        "suggestion": SuggestedSlice(image, np.zeros(image.shape, bool), strokes, (8.0, 8.0), "z = 0"),
        "segmentation": truth,
        "truth": truth,
        "class_names": sample.class_names,
        "class_colors": sample.class_colors,
        "spacing": (8.0, 8.0),
        "unit": "nanometer",
        "scores": SessionScores(0.3, 0.8, 0.9),
        "title": "A session",
    } | changed


def read_png(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return np.rint(imread(path)[..., :3] * 255).astype(np.uint8)


def test_overview_shows_cyan_for_the_uncertain_only(tmp_path: Path) -> None:
    path = tmp_path / "overview.png"
    arguments = overview_of()
    draw_overview(path, **arguments)
    with_hatch = is_color(read_png(path), CYAN).sum()
    draw_overview(path, **overview_of(uncertain=np.zeros((96, 128), bool)))
    legend_only = is_color(read_png(path), CYAN).sum()
    enlarged = enlarge(arguments["uncertain"], _panel_size((96, 128), (8.0, 8.0)))
    assert with_hatch - legend_only == hatch(enlarged).sum()
    assert 10_000 < path.stat().st_size < 1_500_000


def test_overview_shows_strokes_in_their_class_colours(tmp_path: Path) -> None:
    path = tmp_path / "overview.png"
    draw_overview(path, **overview_of())
    blue = is_color(read_png(path), (0x00, 0x72, 0xB2)).sum()
    bare = overview_of()["suggestion"]
    no_strokes = SuggestedSlice(bare.image, bare.uncertain, np.zeros_like(bare.strokes), bare.spacing, bare.caption)
    draw_overview(path, **overview_of(suggestion=no_strokes))
    assert blue - is_color(read_png(path), (0x00, 0x72, 0xB2)).sum() > 30 * 4 * 4


def test_overview_takes_probabilities_and_a_flat_suggestion_along_another_axis(tmp_path: Path) -> None:
    flat = np.arange(20 * 128).reshape(20, 128)
    suggestion = SuggestedSlice(flat, flat % 7 == 0, np.zeros(flat.shape, np.uint8), (10.0, 8.0), "y = 30")
    p = np.linspace(0, 1, 96 * 128).reshape(96, 128)
    draw_overview(tmp_path / "o.png", **overview_of(first_prediction=np.stack((1 - p, p), -1), suggestion=suggestion))
    assert read_png(tmp_path / "o.png").shape[1] > 1600


def test_overview_of_a_large_noisy_slice_is_no_large_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shape = (1100, 900)
    image = rng.integers(0, 255, shape)
    zeros, ones = np.zeros(shape, np.uint8), np.ones(shape, np.uint8)
    draw_overview(
        tmp_path / "large.png",
        **overview_of(
            image=image,
            supervoxels=ones,
            first_prediction=ones,
            uncertain=zeros.astype(bool),
            suggestion=SuggestedSlice(image, zeros.astype(bool), zeros, (8.0, 8.0), "z = 3"),
            segmentation=ones,
            truth=ones,
        ),
    )
    assert (tmp_path / "large.png").stat().st_size < 1_500_000


def test_overview_names_the_slice_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"truth has shape \(96, 127\)"):
        draw_overview(tmp_path / "o.png", **overview_of(truth=np.ones((96, 127), int)))
    with pytest.raises(InputError, match="class_colors has 1"):
        draw_overview(tmp_path / "o.png", **overview_of(class_colors=("#000000",)))
    assert not (tmp_path / "o.png").exists()


def test_learning_curve_draws_every_class_in_its_colour(tmp_path: Path) -> None:
    path = tmp_path / "curve.png"
    draw_learning_curve(
        path,
        n_labelled=[10, 20, 40],
        iou={"grey": [0.2, 0.5, 0.7], "white": [0.4, 0.6, 0.8]},
        oracle_iou={"grey": 0.85, "white": 0.9},
        class_colors={"grey": "#e69f00", "white": "#0072b2"},
        title="Brain",
    )
    picture = read_png(path)
    for color in ((0xE6, 0x9F, 0x00), (0x00, 0x72, 0xB2)):
        assert is_color(picture, color).sum() > 1000
    assert path.stat().st_size < 300_000


def test_learning_curve_of_one_round(tmp_path: Path) -> None:
    draw_learning_curve(
        tmp_path / "c.png",
        n_labelled=[10],
        iou={"a": [0.5]},
        oracle_iou={"a": 0.9},
        class_colors={"a": "#e69f00"},
        title="",
    )
    assert (tmp_path / "c.png").exists()


def test_learning_curve_refuses_rounds_that_do_not_match(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="iou of 'a' has 1 rounds but n_labelled has 2"):
        draw_learning_curve(
            tmp_path / "c.png",
            n_labelled=[10, 20],
            iou={"a": [0.5]},
            oracle_iou={"a": 0.9},
            class_colors={"a": "#e69f00"},
            title="",
        )
