"""Labels that were made elsewhere: label volumes and tables of points."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from voxloop.blocks import Shape3
from voxloop.errors import FormatError, InputError, MissingFileError
from voxloop.io import open_labels
from voxloop.project.annotations import Annotations, ClassAdded, Edit, Group, Stroke, palette_color
from voxloop.project.images import Crop
from voxloop.project.runs import Runs, runs_from_mask, runs_from_points

_COLUMNS = ("z", "y", "x", "class")


def read_points(path: str | os.PathLike[str], shape: Shape3) -> dict[str, Runs]:
    """Return the voxels of each class in a CSV table with the columns z, y, x (voxels) and class.

    Raises
    ------
    MissingFileError
        If the file cannot be read.
    FormatError
        If it has no such table; the message names the line.
    InputError
        If a point lies outside an image of `shape`.
    """
    points: dict[str, list[tuple[int, ...]]] = {}
    for where, row in table_rows(path, _COLUMNS):
        try:
            point = tuple(int(row[axis]) for axis in "zyx")
        except ValueError:
            raise FormatError(
                f"{where}: z, y and x must be whole numbers of voxels, not {[row[a] for a in 'zyx']}"
            ) from None
        if not all(0 <= p < n for p, n in zip(point, shape, strict=True)):
            raise InputError(f"{where}: the point {point} lies outside the image of shape {shape}")
        if not row["class"]:
            raise FormatError(f"{where}: class is empty")
        points.setdefault(row["class"], []).append(point)
    if not points:
        raise FormatError(f"{path} holds no points")
    return {name: runs_from_points(np.array(rows)) for name, rows in points.items()}


def table_rows(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield where a row of a CSV table is, for messages, and its cells by column; raises as `read_points`.

    `columns` must be there, others may; names of columns are in lower case, cells without blanks around them.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MissingFileError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not a text file in UTF-8") from None
    reader = csv.DictReader(text.splitlines(), restval="")
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
    if missing := [name for name in columns if name not in reader.fieldnames]:
        *first, last = columns
        expected = f"{', '.join(first)} and {last}" if first else last
        raise FormatError(f"{path} has no column {missing[0]!r}; its first line must name {expected}")
    for row in reader:
        yield f"{path}, line {reader.line_num}", {key: cell.strip() for key, cell in row.items() if key is not None}


def read_label_volume(
    labels: str | os.PathLike[str] | ArrayLike, shape: Shape3, crop: Crop | None, values: Collection[int] | None
) -> dict[int, Runs]:
    """Return the voxels of each value of a label volume.

    Parameters
    ----------
    labels
        File or integer array (z, y, x) of `shape`, or of the whole image that `crop` cuts `shape` out of.
    shape
        Shape of the image (z, y, x).
    crop
        The part of its file that the image is.
    values
        The values that count; by default all above 0.

    Raises
    ------
    InputError
        If the shape differs, the dtype is no integer, or none of the values occurs.
    """
    array = np.asarray(open_labels(labels).data if isinstance(labels, str | os.PathLike) else labels)
    if array.dtype.kind not in "biu":
        raise InputError(f"labels has dtype {array.dtype}; expected integers")
    if array.shape != shape and crop is not None and array.ndim == 3:
        array = array[crop]
    if array.shape != shape:
        raise InputError(f"labels has shape {array.shape} but the image has shape {shape}")
    present = np.unique(array).tolist()
    wanted = [v for v in present if (v > 0 if values is None else v in values)]
    if not wanted:
        expected = "above 0" if values is None else f"among {sorted(values)}"
        raise InputError(f"labels holds no value {expected}; it holds {present[:10]}")
    return {int(value): runs_from_mask(array == value) for value in wanted}


def label_step(found: Iterable[tuple[str | int, Runs]], annotations: Annotations, image: int) -> Group:
    """Return one step that labels runs of voxels of an image by class name or id; new names become classes."""
    edits: list[Edit] = []
    ids: dict[str | int, int] = {}
    for each in annotations.classes:
        ids |= {each.class_id: each.class_id, str(each.class_id): each.class_id}
    ids |= {each.name: each.class_id for each in annotations.classes}
    new_id = annotations.next_class_id
    for label, runs in found:
        if label not in ids:
            edits.append(ClassAdded(class_id=new_id, name=str(label), color=palette_color(new_id)))
            ids[label] = new_id
            new_id += 1
        edits.append(Stroke(image=image, class_id=ids[label], runs=runs, source="import"))
    return Group(edits=tuple(edits))
