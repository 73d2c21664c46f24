"""What can be exported: each source as a volume, of which any box can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Box, Shape3
from voxloop.classify.cut import STRENGTH
from voxloop.errors import InputError
from voxloop.features import preview_feature, scale_channels
from voxloop.project.annotations import LabelClass
from voxloop.project.objects import find_objects
from voxloop.project.results import ImageResults
from voxloop.specs import FAMILIES, FeatureFamily, FeatureSpec
from voxloop.volume import ArrayLike, Volume

Source = Literal[
    "segmentation",
    "graph_cut",
    "refined",
    "probabilities",
    "uncertainty",
    "supervoxels",
    "labels",
    "masks",
    "objects",
    "top_uncertain",
    "features",
]
SOURCES: tuple[Source, ...] = get_args(Source)
OF_STROKES: tuple[Source, ...] = ("refined", "labels")  # an image without strokes of its own has none
BY_CLASS: tuple[Source, ...] = ("probabilities", "masks")  # which `{class}` in a path splits into a file a class

Cell = tuple[FeatureFamily, float]
_HIGHLIGHT = "#00ffff"


@dataclass(frozen=True)
class Layer:
    """A source as a volume.

    Attributes
    ----------
    dtype
        Type of a voxel.
    read
        Gives the voxels (z, y, x) or (z, y, x, c) of a box of the image; can be sent to another process.
    content
        Whether the values measure something or name something.
    maximum
        The highest value, if the values are whole numbers.
    channel_names, channel_colors
        One per channel; one channel or none is a volume (z, y, x). Only channels of classes have colours.
    classes
        What the values 1, 2, ... stand for.
    """

    dtype: np.dtype[Any]
    read: Callable[[Box], NDArray[Any]]
    content: Literal["image", "labels"]
    maximum: int | None = None
    channel_names: tuple[str, ...] = ()
    channel_colors: tuple[str, ...] = ()
    classes: tuple[LabelClass, ...] = ()

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return max(1, len(self.channel_names))


def make_layer(
    source: Source,
    results: ImageResults,
    *,
    class_id: int | None = None,
    cells: Sequence[Cell] = (),
    strength: float = STRENGTH,
) -> Layer:
    """Return a source of an image.

    Parameters
    ----------
    source
        Which.
    results
        What is known of the image.
    class_id
        Of ``probabilities`` and ``masks``: this class only, as a volume without channels.
    cells
        Of ``features``: family and sigma of each.
    strength
        Of ``graph_cut``.
    """
    if source == "graph_cut":
        return _classes(results, results.graph_cut(strength))
    if source == "probabilities":
        return _probabilities(results, class_id)
    if source == "masks":
        return _masks(results, class_id)
    if source == "features":
        return _features(results, cells)
    return _MAKERS[source](results)


def _segmentation(results: ImageResults) -> Layer:
    return _classes(results, results.prediction().segmentation)


def _classes(results: ImageResults, of_supervoxels: NDArray[np.int32]) -> Layer:
    dtype = _class_dtype(results)
    values = of_supervoxels.astype(dtype)
    read = _painter(results, values)
    return Layer(dtype, read, "labels", int(values.max(initial=0)), classes=results.classes)


def _refined(results: ImageResults) -> Layer:
    refined = results.refined()
    highest = max((c.class_id for c in results.classes), default=0)
    return Layer(refined.dtype, partial(_read, refined), "labels", highest, classes=results.classes)


def _probabilities(results: ImageResults, class_id: int | None) -> Layer:
    prediction = results.prediction()
    classes = {c.class_id: c for c in results.classes}
    columns = [i for i, c in enumerate(prediction.classes) if class_id in (None, c)]
    read = _painter(results, _squeezed(prediction.probabilities[:, columns]))
    return Layer(
        np.dtype(np.float32), read, "image", **_channels([classes[int(prediction.classes[i])] for i in columns])
    )


def _channels(classes: Sequence[LabelClass]) -> dict[str, Any]:
    """Return what a layer says of channels that are classes."""
    return {"channel_names": tuple(c.name for c in classes), "channel_colors": tuple(c.color for c in classes)}


def _masks(results: ImageResults, class_id: int | None) -> Layer:
    segmentation = results.prediction().segmentation
    chosen = [c for c in results.classes if class_id in (None, c.class_id)]
    values = np.stack([segmentation == c.class_id for c in chosen], axis=1).astype(np.uint8)
    read = _painter(results, _squeezed(values))
    if class_id is None:
        return Layer(np.dtype(np.uint8), read, "image", 1, **_channels(chosen))
    only = LabelClass(1, chosen[0].name, chosen[0].color)
    return Layer(np.dtype(np.uint8), read, "labels", 1, classes=(only,))


def _uncertainty(results: ImageResults) -> Layer:
    return Layer(np.dtype(np.float32), _painter(results, results.uncertainty()), "image")


def _top_uncertain(results: ImageResults) -> Layer:
    values = np.zeros(results.supervoxels().n, np.uint8)
    values[results.top_uncertain().astype(np.int64) - 1] = 1
    classes = (LabelClass(1, "most uncertain", _HIGHLIGHT),)
    return Layer(np.dtype(np.uint8), _painter(results, values), "labels", 1, classes=classes)


def _supervoxels(results: ImageResults) -> Layer:
    supervoxels = results.supervoxels()
    return Layer(np.dtype(np.uint32), partial(_read, supervoxels.labels), "labels", supervoxels.n)


def _read(array: ArrayLike, box: Box) -> NDArray[Any]:
    return np.asarray(array[box.slices])


def _objects(results: ImageResults) -> Layer:
    objects = find_objects(results)
    return Layer(np.dtype(np.uint32), _painter(results, objects.of_supervoxel), "labels", objects.n)


def _labels(results: ImageResults) -> Layer:
    indices, classes = results.labelled_voxels()
    dtype = _class_dtype(results)
    read = partial(_strokes, indices, classes.astype(dtype), results.volume.shape)
    return Layer(dtype, read, "labels", int(classes.max(initial=0)), classes=results.classes)


def _strokes(indices: NDArray[np.int64], classes: NDArray[Any], shape: Shape3, box: Box) -> NDArray[Any]:
    """Return the class of each voxel of a box; the labelled voxels of the image are given by sorted linear indices."""
    plane = shape[1] * shape[2]
    first, last = np.searchsorted(indices, [box.start[0] * plane, box.stop[0] * plane])
    voxels = np.stack(np.unravel_index(indices[first:last], shape))
    inside = ((voxels >= np.array(box.start)[:, np.newaxis]) & (voxels < np.array(box.stop)[:, np.newaxis])).all(axis=0)
    found = np.zeros(box.shape, classes.dtype)
    found[tuple(voxels[:, inside] - np.array(box.start)[:, np.newaxis])] = classes[first:last][inside]
    return found


def _features(results: ImageResults, cells: Sequence[Cell]) -> Layer:
    volume, spec = results.volume, results.feature_spec
    prefixes = [""] if volume.n_channels == 1 else [f"{name} " for name in _image_channels(volume.n_channels, results)]
    names: list[str] = []
    for prefix in prefixes:
        for family, sigma in cells:
            one = _cell_spec(spec, family, sigma)
            planar = volume.is_2d or sigma in one.sigmas_2d
            names += [prefix + name for name in scale_channels(one, sigma, planar=planar)]

    read = partial(_responses, volume, spec, tuple(cells))
    return Layer(np.dtype(np.float32), read, "image", channel_names=tuple(names))


def _responses(volume: Volume, spec: FeatureSpec, cells: Sequence[Cell], box: Box) -> NDArray[Any]:
    """Return the responses (z, y, x) or (z, y, x, c) of cells of the filter bank in a box."""
    parts = [
        preview_feature(volume, family, sigma, box, spec=_cell_spec(spec, family, sigma), channel=channel)
        for channel in range(volume.n_channels)
        for family, sigma in cells
    ]
    responses: NDArray[np.float32] = np.moveaxis(np.concatenate(parts), 0, -1)
    return responses if responses.shape[-1] > 1 else responses[..., 0]


def parse_cells(texts: Sequence[str], spec: FeatureSpec) -> tuple[Cell, ...]:
    """Return the cells of the filter bank that texts such as ``"hessian:1.6"`` name.

    Raises
    ------
    InputError
        If there is none, or one is not a family and a sigma at which the family is computed.
    """
    if not texts:
        raise InputError("name the features to export, such as features=['gaussian:1.6', 'hessian:3.5']")
    return tuple(_parse_cell(text, spec) for text in texts)


def _parse_cell(text: str, spec: FeatureSpec) -> Cell:
    name, _, number = text.partition(":")
    family = next((f for f in FAMILIES if f == name), None)
    try:
        sigma = float(number)
        if family is not None:
            _cell_spec(spec, family, sigma)
            return family, sigma
    except ValueError:  # InputError is one
        pass
    raise InputError(
        f"features holds {text!r}; expected FAMILY:SIGMA of {', '.join(FAMILIES)} and a sigma of at least 0.5 "
        "(gaussian: above 0)"
    )


def _cell_spec(spec: FeatureSpec, family: FeatureFamily, sigma: float) -> FeatureSpec:
    planar = tuple(s for s in spec.sigmas_2d if s == sigma)
    return spec.changed(families=(family,), sigmas=(sigma,), sigmas_2d=planar, left_out=())


def _image_channels(n: int, results: ImageResults) -> Sequence[str]:
    return results.volume.channel_names or [f"channel_{i + 1}" for i in range(n)]


@dataclass(frozen=True)
class Painter:
    """Gives each voxel of a box the value of its supervoxel.

    Attributes
    ----------
    labels
        The supervoxel of each voxel, 0 outside.
    table
        (n + 1, ...): the value outside, and those of supervoxels 1..n.
    """

    labels: ArrayLike
    table: NDArray[Any]

    def __call__(self, box: Box) -> NDArray[Any]:
        """Return the values (z, y, x, ...) of the voxels of a box."""
        painted: NDArray[Any] = self.table[np.asarray(self.labels[box.slices])]
        return painted

    def converted(self, convert: Callable[[NDArray[Any]], NDArray[Any]]) -> Painter:
        """Return a painter of converted values; there are far fewer of them than of voxels."""
        return Painter(self.labels, convert(self.table))


def _painter(results: ImageResults, values: NDArray[Any]) -> Painter:
    outside = np.zeros((1, *values.shape[1:]), values.dtype)
    return Painter(results.supervoxels().labels, np.concatenate([outside, values]))


def _squeezed(values: NDArray[Any]) -> NDArray[Any]:
    """Return (n, k) values as (n,) if there is one column: a volume without channels."""
    return values[:, 0] if values.shape[1] == 1 else values


def _class_dtype(results: ImageResults) -> np.dtype[Any]:
    return np.dtype(np.uint8 if max((c.class_id for c in results.classes), default=0) < 256 else np.uint16)


_MAKERS: dict[Source, Callable[[ImageResults], Layer]] = {
    "segmentation": _segmentation,
    "refined": _refined,
    "uncertainty": _uncertainty,
    "supervoxels": _supervoxels,
    "labels": _labels,
    "objects": _objects,
    "top_uncertain": _top_uncertain,
}
