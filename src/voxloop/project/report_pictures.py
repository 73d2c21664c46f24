"""The pictures of a report: slices of an image and the course of labelling, as PNG in memory.

matplotlib is imported inside the functions and used without a screen or global state.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box
from voxloop.classify import look_up
from voxloop.project.history import Round

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from voxloop.project.project import Project

_MOST_PIXELS = 600  # along an edge of a panel: more make the file large and nothing clearer
_INCHES = 3.6


def draw_slice(project: Project, image: int, z: int) -> bytes:
    """Return a picture of slice `z`: the image, the segmentation over it with the labels, and the uncertainty."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    volume, colors = project.volume(image), _colors(project)
    _, n_rows, n_columns = volume.shape
    step = max(1, -(-max(n_rows, n_columns) // _MOST_PIXELS))
    box = Box((z, 0, 0), (z + 1, n_rows, n_columns))
    grey = volume.read(box)[:, 0, ::step, ::step].astype(np.float64).mean(axis=0)
    ids = np.asarray(project.supervoxels(image).labels[z])[::step, ::step]
    classes = look_up(ids, project.predict(image).segmentation)
    unsure = np.ma.masked_where(ids == 0, look_up(ids, project.uncertainty(image)))
    low, high = np.percentile(grey, (1, 99))
    aspect = volume.spacing[1] / volume.spacing[2]
    height = min(2 * _INCHES, _INCHES * aspect * n_rows / n_columns) + 0.3
    figure = Figure((3 * _INCHES, height), dpi=110, layout="constrained")
    panels = figure.subplots(1, 3)
    table = ListedColormap([colors.get(i, "#000000") for i in range(max(colors, default=0) + 1)])
    for panel, title in zip(panels, ("image", "segmentation", "uncertainty"), strict=True):
        panel.imshow(grey, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), aspect=aspect)
        panel.set_title(title, fontsize=9)
        panel.set_axis_off()
    shown = np.ma.masked_equal(classes, 0)
    panels[1].imshow(shown, cmap=table, vmin=0, vmax=table.N - 1, alpha=0.45, aspect=aspect, interpolation="nearest")
    _draw_labels(panels[1], project, image, z, step, colors)
    drawn = panels[2].imshow(unsure, cmap="cividis", vmin=0, aspect=aspect, interpolation="nearest")
    figure.colorbar(drawn, ax=panels[2], shrink=0.8).ax.tick_params(labelsize=7)
    return _png(figure)


def draw_course(rounds: Sequence[Round]) -> bytes:
    """Return a picture of how accuracy and change went with the number of labelled supervoxels."""
    from matplotlib.figure import Figure

    figure = Figure((2 * _INCHES, 2.4), dpi=110, layout="constrained")
    panel = figure.subplots()
    series = {
        "accuracy, held out": [(r.n_labelled, r.accuracy) for r in rounds if r.accuracy is not None],
        "supervoxels that kept their class": [(r.n_labelled, 1 - r.change) for r in rounds if r.change is not None],
    }
    for (name, points), color, marker in zip(series.items(), ("#0072b2", "#d55e00"), ("o", "s"), strict=True):
        if points:
            panel.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label=name)
    panel.set_xlabel("labelled supervoxels", fontsize=8)
    panel.set_ylabel("share", fontsize=8)
    panel.tick_params(labelsize=8)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    return _png(figure)


def _draw_labels(panel: object, project: Project, image: int, z: int, step: int, colors: Mapping[int, str]) -> None:
    """Draw the labelled pixels of a slice in the full colour of their class."""
    indices, classes = project.annotations.labelled_voxels(image)
    _, n_rows, n_columns = project.images[image].shape
    first, last = np.searchsorted(indices, [z * n_rows * n_columns, (z + 1) * n_rows * n_columns])
    y, x = np.divmod(indices[first:last] - z * n_rows * n_columns, n_columns)
    here: NDArray[np.uint16] = classes[first:last]
    for class_id in np.unique(here):
        own = here == class_id
        panel.plot(  # type: ignore[attr-defined]  # matplotlib has no types
            x[own] / step, y[own] / step, linestyle="", marker=",", color=colors[int(class_id)]
        )


def _colors(project: Project) -> dict[int, str]:
    return {c.class_id: c.color for c in project.annotations.classes}


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
