"""Tables of an image: its supervoxels, the connected objects of each class, the classes; as CSV or Parquet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.io.atomic import check_place
from voxloop.io.columns import Columns, check_table_format, write_columns
from voxloop.project.objects import find_objects
from voxloop.project.paths import expand, has_field
from voxloop.project.results import ImageResults
from voxloop.volume import Volume

TableKind = Literal["supervoxels", "objects", "classes"]
TABLES: tuple[TableKind, ...] = get_args(TableKind)


def make_table(kind: TableKind, results: ImageResults) -> Columns:
    """Return a table of an image as columns of one length, by name; see `Project.table`."""
    if kind not in _MAKERS:
        raise InputError(f"table is {kind!r}; expected one of {', '.join(TABLES)}")
    return _MAKERS[kind](results)


def export_table(
    kind: TableKind, results: ImageResults, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a table of an image to a file and return where it is; see `Project.export_table`."""
    folder = results.dataset_dir if has_field(path, "dataset_dir") else Path()
    target = planned_table(kind, path, name=results.name, dataset_dir=folder)
    write_table(kind, results, target, overwrite=overwrite)
    return target


def planned_table(kind: TableKind, path: str | os.PathLike[str], *, name: str, dataset_dir: Path) -> Path:
    """Return the file that a table of the image called `name` is written to.

    Raises
    ------
    InputError
        If there is no such table, the pattern is wrong, or the library for Parquet is missing.
    FormatError
        If the suffix is not one of a table.
    """
    if kind not in _MAKERS:
        raise InputError(f"table is {kind!r}; expected one of {', '.join(TABLES)}")
    target = expand(path, dataset_dir=dataset_dir, nickname=name, result_type=kind)
    check_table_format(target)
    return target


def write_table(kind: TableKind, results: ImageResults, target: Path, *, overwrite: bool = False) -> None:
    """Write a table of an image to the file that `planned_table` names."""
    check_place(target, overwrite=overwrite)  # before anything is computed
    write_columns(target, make_table(kind, results), overwrite=overwrite)


def _supervoxels(results: ImageResults) -> Columns:
    supervoxels, prediction = results.supervoxels(), results.prediction()
    names, painted = _class_names(results), np.zeros(supervoxels.n, np.int32)
    labels = results.labels()
    painted[labels.ids.astype(np.int64) - 1] = labels.classes
    shares = {f"p_{names[c]}": prediction.probabilities[:, i] for i, c in enumerate(prediction.classes.tolist())}
    return {
        "id": np.arange(1, supervoxels.n + 1),
        **_classes_of(prediction.segmentation, names),
        **shares,
        "uncertainty": results.uncertainty(),
        **_measures(supervoxels.sizes, results.volume),
        **_places(supervoxels.centers, results.volume),
        "label": np.array([names.get(int(c), "") for c in painted]),
    }


def _objects(results: ImageResults) -> Columns:
    objects, shape = find_objects(results), np.array(results.volume.shape)
    long = shape > 1  # every object of a 2D image touches its faces
    cut = ((objects.first == 0) | (objects.last == shape - 1))[:, long].any(axis=1)
    box = {f"{end}_{axis}": getattr(objects, end)[:, i] for end in ("first", "last") for i, axis in enumerate("zyx")}
    return {
        "id": np.arange(1, objects.n + 1),
        **_classes_of(objects.classes, _class_names(results)),
        **_measures(objects.sizes, results.volume),
        **_places(objects.centers, results.volume),
        **box,
        "touches_border": cut,
    }


def _classes(results: ImageResults) -> Columns:
    supervoxels, segmentation = results.supervoxels(), results.prediction().segmentation
    objects, labels = find_objects(results), results.labels()
    ids = np.array([c.class_id for c in results.classes], np.int32)
    n = int(ids.max()) + 1
    sizes = np.bincount(segmentation, weights=supervoxels.sizes, minlength=n).astype(np.int64)[ids]
    return {
        **_classes_of(ids, _class_names(results)),
        "color": np.array([c.color for c in results.classes]),
        **_measures(sizes, results.volume),
        "share": sizes / supervoxels.sizes.sum(),
        "objects": np.bincount(objects.classes, minlength=n)[ids],
        "supervoxels": np.bincount(segmentation, minlength=n)[ids],
        "labelled_supervoxels": np.bincount(labels.classes, minlength=n)[ids],
    }


def _class_names(results: ImageResults) -> dict[int, str]:
    return {c.class_id: c.name for c in results.classes}


def _classes_of(classes: NDArray[np.int32], names: Mapping[int, str]) -> Columns:
    return {"class_id": classes, "class": np.array([names[int(c)] for c in classes], str)}


def _measures(sizes: NDArray[np.int64], volume: Volume) -> Columns:
    """Return the number of voxels, and the volume (of a 2D image the area) with its unit in the name."""
    if volume.is_2d:
        return {"voxels": sizes, f"area_{volume.unit}2": sizes * prod(volume.spacing[1:])}
    return {"voxels": sizes, f"volume_{volume.unit}3": sizes * prod(volume.spacing)}


def _places(centers: NDArray[np.float64], volume: Volume) -> Columns:
    """Return centres of mass in voxels and in the unit; both are 0 at the centre of the first voxel."""
    places: Columns = {f"center_{axis}": centers[:, i] for i, axis in enumerate("zyx")}
    if volume.unit != "pixel":
        scaled = centers * volume.spacing
        places |= {f"center_{axis}_{volume.unit}": scaled[:, i] for i, axis in enumerate("zyx")}
    return places


_MAKERS: dict[TableKind, Callable[[ImageResults], Columns]] = {
    "supervoxels": _supervoxels,
    "objects": _objects,
    "classes": _classes,
}
