"""Figures of a simulated session: one that shows the whole loop at a glance, and its learning curve.

matplotlib is imported inside the functions and used without a screen or global state. The panels of the overview are
composed as RGB arrays by plain numpy, at whole multiples of a voxel, so that thin lines stay thin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from voxloop.errors import InputError
from voxloop.supervoxels.outlines import boundaries, hatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RGB = NDArray[np.uint8]

UNCERTAIN_COLOR = "#00ffff"
BOUNDARY_COLOR = "#f0e442"
DPI = 150
PANEL_PIXELS = 480
"""Length of a panel's longer side, roughly: a slice is enlarged by a whole factor, or shrunk, to about this."""
GAP, CAPTION, HEAD = 26, 86, 46
UNIT_SYMBOLS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "pixel": "px"}
COARSER_UNIT = {"nm": "µm", "µm": "mm"}


@dataclass(frozen=True)
class SuggestedSlice:
    """The slice that the user is taken to, along any axis.

    Attributes
    ----------
    image
        Grey values, shape (rows, columns).
    uncertain
        bool of the same shape: the supervoxels to label.
    strokes
        Class 1..k where a new stroke runs, 0 elsewhere; same shape.
    spacing
        Voxel size (row, column).
    caption
        Which slice it is, such as ``"z = 31"``.
    """

    image: NDArray[Any]
    uncertain: NDArray[np.bool_]
    strokes: NDArray[np.integer]
    spacing: tuple[float, float]
    caption: str


@dataclass(frozen=True)
class SessionScores:
    """Intersection over union (0..1) in the whole volume: at first, at last, and the most these supervoxels allow."""

    first: float
    final: float
    oracle: float


def draw_overview(
    path: str | Path,
    *,
    image: ArrayLike,
    supervoxels: ArrayLike,
    first_prediction: ArrayLike,
    uncertain: ArrayLike,
    suggestion: SuggestedSlice,
    segmentation: ArrayLike,
    truth: ArrayLike,
    class_names: Sequence[str],
    class_colors: Sequence[str],
    spacing: tuple[float, float],
    unit: str,
    scores: SessionScores,
    title: str,
    background: int = 1,
) -> None:
    """Write a figure that explains a session: from the input to the final segmentation, beside the truth.

    Parameters
    ----------
    path
        File to write; PNG unless its name says otherwise.
    image
        Grey values of one slice, shape (rows, columns); shown from their 0.5 to their 99.5 percentile.
    supervoxels
        Supervoxel ids of the slice.
    first_prediction
        Classes 1..k of the slice (integers), or probabilities of shape (rows, columns, k).
    uncertain
        bool: the supervoxels that the classifier is least sure of; drawn as a cyan hatch with an outline.
    suggestion
        The slice to label next and the strokes made there.
    segmentation, truth
        Classes 1..k of the slice, 0 outside the mask.
    class_names, class_colors
        Names and colours (``"#rrggbb"``) of the classes 1..k.
    spacing
        Voxel size (row, column) in `unit`, for the shape of the panels and the scale bar.
    unit
        Unit of `spacing`, such as ``"nanometer"``.
    scores
        Intersection over union at the start and at the end.
    title
        One line above the panels.
    background
        Class drawn without a tint, 0 for none.

    Raises
    ------
    InputError
        If the slices differ in shape or the colours are fewer than the classes.
    """
    slices = {
        "supervoxels": supervoxels,
        "first_prediction": np.asarray(first_prediction)[..., 0]
        if np.ndim(first_prediction) == 3
        else first_prediction,
        "uncertain": uncertain,
        "segmentation": segmentation,
        "truth": truth,
    }
    grey = np.asarray(image)
    _check_slices(grey, slices)
    _check_slices(suggestion.image, {"uncertain": suggestion.uncertain, "strokes": suggestion.strokes})
    palette = _palette(class_colors, n_classes=len(class_names), background=background)

    size = _panel_size(grey.shape, spacing)
    base = draw_grey(grey, size)

    def tinted(classes: ArrayLike) -> RGB:
        return tint(base, enlarge(np.asarray(classes), size), palette)

    other_size = _panel_size(suggestion.image.shape, suggestion.spacing, within=size)
    panels = [
        ("1  Input", "one slice of the volume", base),
        (
            "2  Supervoxels",
            "small pieces of similar voxels",
            draw_boundaries(base, enlarge(np.asarray(supervoxels), size)),
        ),
        ("3  First prediction", f"after the first strokes: IoU {scores.first:.2f}", tinted(first_prediction)),
        (
            "4  Where it is least sure",
            "the most uncertain supervoxels",
            draw_hatch(base, enlarge(np.asarray(uncertain), size)),
        ),
        (
            "5  Where to label next",
            f"suggested slice {suggestion.caption}, new strokes",
            _suggestion(suggestion, other_size, class_colors),
        ),
        (
            f"6  Final segmentation: IoU {scores.final:.2f}",
            f"these supervoxels allow {scores.oracle:.2f} at most",
            tinted(segmentation),
        ),
        ("7  Truth", "what an annotator would draw", tinted(truth)),
    ]
    figure, axes = _lay_out(size, columns=4, rows=2, title=title)
    for ax, (name, explanation, rgb) in zip(axes, panels, strict=False):
        _show(ax, rgb, name, explanation)
    _scale_bar(axes[0], size, grey.shape[1] * spacing[1], unit)
    if other_size[0] > 200:  # on a flat slice it would hide what matters
        _scale_bar(axes[4], other_size, suggestion.image.shape[1] * suggestion.spacing[1], unit)
    _legend(axes[7], class_names, class_colors)
    figure.savefig(path, dpi=DPI)


def draw_learning_curve(
    path: str | Path,
    *,
    n_labelled: Sequence[int],
    iou: Mapping[str, Sequence[float]],
    oracle_iou: Mapping[str, float],
    class_colors: Mapping[str, str],
    title: str,
) -> None:
    """Write a figure of the intersection over union against the number of labelled supervoxels.

    Parameters
    ----------
    path
        File to write; PNG unless its name says otherwise.
    n_labelled
        Labelled supervoxels after each round.
    iou
        Per class, the IoU (0..1) after each round.
    oracle_iou
        Per class, the IoU when every supervoxel takes its majority class: a dashed line.
    class_colors
        Per class, its colour.
    title
        One line above the axes.

    Raises
    ------
    InputError
        If there are no rounds, or a class has another number of them.
    """
    for name, values in iou.items():
        if len(values) != len(n_labelled) or not len(values):
            raise InputError(f"iou of {name!r} has {len(values)} rounds but n_labelled has {len(n_labelled)}")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=DPI)
    ax = figure.add_axes((0.1, 0.14, 0.62, 0.74))
    labels: list[tuple[float, str, str]] = []
    for name, values in iou.items():
        color = class_colors[name]
        ax.plot(n_labelled, values, color=color, linewidth=2, marker="o", markersize=4, clip_on=False, zorder=3)
        ax.plot(
            n_labelled[0],
            values[0],
            "o",
            color="white",
            markeredgecolor=color,
            markeredgewidth=2,
            markersize=9,
            zorder=4,
        )
        ax.axhline(oracle_iou[name], color=color, linestyle=(0, (5, 4)), linewidth=1.2)
        labels += [(values[-1], f"{name}  {values[-1]:.2f}", color)]
        labels += [(oracle_iou[name], f"supervoxels allow {oracle_iou[name]:.2f}", color)]
    right = max(n_labelled) * 1.02
    ax.set_xlim(0, right)
    ax.set_ylim(0, 1)
    for height, (_, text, color) in zip(_keep_apart([y for y, _, _ in labels], 0.055), labels, strict=True):
        ax.text(right * 1.015, height, text, color=_darker(color), va="center", fontsize=9.5)
    lowest = min(values[0] for values in iou.values())
    ax.annotate(
        "first round",
        (n_labelled[0], lowest),
        xytext=(14, -16),
        textcoords="offset points",
        fontsize=9.5,
        color="#444444",
    )
    ax.set_xlabel("labelled supervoxels", fontsize=10.5)
    ax.set_ylabel("intersection over union", fontsize=10.5)
    ax.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=12)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    ax.set_axisbelow(True)
    figure.savefig(path, dpi=DPI)


def enlarge(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return `array` (rows, columns, ...) at another size by repeating or skipping its pixels."""
    rows, columns = ((np.arange(new) * old) // new for new, old in zip(size, array.shape[:2], strict=True))
    resized: NDArray[Any] = array[rows[:, None], columns[None, :]]
    return resized


def draw_grey(image: NDArray[Any], size: tuple[int, int]) -> RGB:
    """Return grey values (rows, columns) as a picture of `size`, from their 0.5 to their 99.5 percentile."""
    values = image.astype(np.float32)
    low, high = np.percentile(values, (0.5, 99.5))
    grey = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full_like(values, 0.5)
    # Where pixels are skipped, average over them first, or noise and edges turn to grit.
    skipped = [max(1, round(old / new)) for old, new in zip(grey.shape, size, strict=True)]
    grey = enlarge(ndimage.uniform_filter(grey, skipped), size)
    return np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=2)


def tint(rgb: RGB, classes: NDArray[Any], palette: NDArray[np.float64]) -> RGB:
    """Lay class colours over a picture; classes, not probabilities, are outlined too.

    Parameters
    ----------
    rgb
        uint8 of shape (rows, columns, 3).
    classes
        Integers (rows, columns), or probabilities (rows, columns, k) of the classes 1..k.
    palette
        Per class 0..k: red, green, blue in 0..255 and the weight of the colour in 0..1; shape (k + 1, 4).

    Returns
    -------
    ndarray of uint8
        Same shape as `rgb`.
    """
    if classes.ndim == 2:
        weight = palette[classes, 3]
        color = palette[classes, :3]
    else:
        weights = classes * palette[1:, 3]
        weight = weights.sum(axis=2)
        color = weights @ palette[1:, :3] / np.maximum(weight, 1e-9)[..., None]
    if classes.ndim == 2:  # a full-coloured line around each class shows where it ends
        weight = np.where(_inner_edge(classes) & (weight > 0), 1.0, weight)
    blended = rgb + weight[..., None] * (color - rgb)
    tinted: RGB = np.rint(blended).astype(np.uint8)
    return tinted


def _inner_edge(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels with one of their four neighbours in another class."""
    edge = boundaries(classes)
    return edge | boundaries(classes[::-1, ::-1])[::-1, ::-1]


def draw_boundaries(rgb: RGB, supervoxels: NDArray[Any]) -> RGB:
    """Draw thin lines between supervoxels."""
    return _paint(rgb, boundaries(supervoxels), BOUNDARY_COLOR)


def draw_hatch(rgb: RGB, region: NDArray[Any]) -> RGB:
    """Draw a cyan hatch and outline over a region."""
    return _paint(rgb, hatch(region), UNCERTAIN_COLOR)


def _suggestion(suggestion: SuggestedSlice, size: tuple[int, int], class_colors: Sequence[str]) -> RGB:
    """Grey values, the hatch of what to label, and thick strokes with a dark rim."""
    rgb = draw_hatch(draw_grey(np.asarray(suggestion.image), size), enlarge(suggestion.uncertain, size))
    strokes = enlarge(suggestion.strokes, size)
    for class_id, color in enumerate(class_colors, start=1):
        line = strokes == class_id
        rgb = _paint(rgb, ndimage.binary_dilation(line, iterations=4), "#000000")
        rgb = _paint(rgb, ndimage.binary_dilation(line, iterations=2), color)
    return rgb


def _paint(rgb: RGB, where: NDArray[np.bool_], color: str) -> RGB:
    painted = rgb.copy()
    painted[where] = _rgb_of(color)
    return painted


def _rgb_of(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _darker(color: str) -> tuple[float, float, float]:
    """Return a colour in which small text on white can be read."""
    red, green, blue = (0.72 * part / 255 for part in _rgb_of(color))
    return red, green, blue


def _palette(class_colors: Sequence[str], *, n_classes: int, background: int) -> NDArray[np.float64]:
    if len(class_colors) != n_classes:
        raise InputError(f"class_colors has {len(class_colors)} entries for {n_classes} class_names")
    palette = np.zeros((n_classes + 1, 4))
    palette[1:, :3] = [_rgb_of(color) for color in class_colors]
    palette[1:, 3] = 0.42
    palette[background, 3] = 0
    return palette


def _check_slices(image: NDArray[Any], slices: Mapping[str, ArrayLike]) -> None:
    if image.ndim != 2:
        raise InputError(f"image has shape {image.shape}; expected one slice (rows, columns)")
    for name, values in slices.items():
        if np.shape(values) != image.shape:
            raise InputError(f"{name} has shape {np.shape(values)} but the image has shape {image.shape}")


def _panel_size(
    shape: tuple[int, ...], spacing: tuple[float, float], within: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return the size of a panel in pixels, with the physical proportions of the slice.

    The finer voxel side becomes a whole number of pixels where the slice is small enough; `within` is a size that
    the panel must not exceed.
    """
    finest = min(spacing)
    rows, columns = (n * s / finest for n, s in zip(shape, spacing, strict=True))
    limit = PANEL_PIXELS / max(rows, columns)
    factor = float(round(limit)) if limit >= 1 else limit
    if within is not None:
        factor = min(factor, within[0] / rows, within[1] / columns)
    return max(1, round(rows * factor)), max(1, round(columns * factor))


def _lay_out(size: tuple[int, int], *, columns: int, rows: int, title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with one axes of exactly `size` pixels per panel, room for two lines of text above each."""
    from matplotlib.figure import Figure

    height, width = size
    cell = max(width, 420)  # narrower than this, the captions would run into each other
    total_width = columns * cell + (columns + 1) * GAP
    total_height = HEAD + rows * (height + CAPTION) + GAP
    figure = Figure(figsize=(total_width / DPI, total_height / DPI), dpi=DPI, facecolor="white")
    figure.text(GAP / total_width, 1 - 20 / total_height, title, fontsize=14, fontweight="bold", va="top")
    axes = []
    for index in range(rows * columns):
        row, column = divmod(index, columns)
        left = GAP + column * (cell + GAP)
        bottom = total_height - HEAD - (row + 1) * (height + CAPTION)
        box = (left / total_width, bottom / total_height, width / total_width, height / total_height)
        ax = figure.add_axes(box)
        ax.set_xlim(0, width)
        ax.set_ylim(height, 0)
        ax.axis("off")
        axes.append(ax)
    return figure, axes


def _show(ax: Axes, rgb: RGB, name: str, explanation: str) -> None:
    """Put a picture at the top left of its panel, its title and one line of explanation above."""
    height, width = rgb.shape[:2]
    ax.imshow(rgb, extent=(0, width, height, 0), interpolation="none")
    ax.set_xlim(0, ax.bbox.width)
    ax.set_ylim(ax.bbox.height, 0)
    ax.text(0, -30, name, fontsize=10.5, fontweight="bold", va="bottom")
    ax.text(0, -8, explanation, fontsize=8.5, color="#444444", va="bottom")


def _scale_bar(ax: Axes, size: tuple[int, int], physical_width: float, unit: str) -> None:
    """Draw a white bar of a round length, about a quarter of the picture, with its length above."""
    length = round_length(physical_width / 4)
    height, width = size
    pixels = length / physical_width * width
    left, bottom = 14, height - 14
    right = left + max(pixels, 70)
    ax.fill_between((left - 8, right + 8), bottom - 34, bottom + 8, color="black", alpha=0.65, linewidth=0)
    ax.fill_between((left, left + pixels), bottom - 5, bottom, color="white", linewidth=0)
    ax.text(left, bottom - 9, describe_length(length, unit), color="white", fontsize=8.5, va="bottom")


def round_length(length: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that is not above `length`."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9)))


def describe_length(length: float, unit: str) -> str:
    """Return a length with its unit's symbol, in the next coarser unit from 1000 on."""
    symbol = UNIT_SYMBOLS.get(unit, unit)
    if length >= 1000 and symbol in COARSER_UNIT:
        length, symbol = length / 1000, COARSER_UNIT[symbol]
    return f"{length:g} {symbol}"


def _legend(ax: Axes, class_names: Sequence[str], class_colors: Sequence[str]) -> None:
    """List what the colours mean in the panel that is left over."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = [Patch(facecolor=c, label=name) for name, c in zip(class_names, class_colors, strict=True)]
    entries.append(Patch(facecolor="#777777", edgecolor=UNCERTAIN_COLOR, hatch="////", label="least sure"))
    entries.append(Line2D([], [], color=BOUNDARY_COLOR, linewidth=2, label="supervoxel boundary"))
    ax.legend(handles=entries, loc="upper left", borderaxespad=0, frameon=False, fontsize=10, labelspacing=0.9)


def _keep_apart(heights: Sequence[float], distance: float) -> list[float]:
    """Move heights as little as needed upwards so that neighbours are `distance` apart; the order stays."""
    order = np.argsort(heights, kind="stable")
    moved = np.array(heights, float)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + distance)
    return [float(height) for height in moved]
