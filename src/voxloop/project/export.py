"""Writing the results of a project to files that other programs open, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Progress, map_blocks, partition
from voxloop.classify import look_up
from voxloop.errors import InputError
from voxloop.io import create_volume

if TYPE_CHECKING:
    from voxloop.project.project import Project

Source = Literal["segmentation", "probabilities", "uncertainty", "supervoxels", "labels"]


@dataclass(frozen=True)
class _Result:
    """What a source looks like as a volume, and a function that gives the voxels of a block."""

    dtype: np.dtype[Any]
    block: Callable[[Block], NDArray[Any]]
    content: Literal["image", "labels"]
    channel_names: tuple[str, ...] = ()


def export(
    project: Project,
    source: Source,
    path: str | os.PathLike[str],
    *,
    image: int,
    overwrite: bool,
    progress: Progress | None,
) -> None:
    """Write one result of one image; see `Project.export`."""
    makers = {
        "segmentation": _segmentation,
        "probabilities": _probabilities,
        "uncertainty": _uncertainty,
        "supervoxels": _supervoxels,
        "labels": _labels,
    }
    if source not in makers:
        raise InputError(f"source is {source!r}; expected one of {', '.join(makers)}")
    result = makers[source](project, image)
    record = project.images[image]
    classes = project.annotations.classes if source in ("segmentation", "labels") else ()
    # Names stand for the labels 1, 2, ...: a class that was removed leaves a gap to fill.
    by_id = {c.class_id: c for c in classes}
    ids = range(1, max(by_id, default=0) + 1)
    n_channels = len(result.channel_names)
    with create_volume(
        path,
        (*record.shape, n_channels) if n_channels > 1 else record.shape,
        result.dtype,
        spacing=record.spacing,
        unit=record.unit,
        channel_names=result.channel_names,
        content=result.content,
        class_names=[by_id[i].name if i in by_id else f"removed {i}" for i in ids],
        class_colors=[by_id[i].color if i in by_id else "#000000" for i in ids],
        overwrite=overwrite,
    ) as writer:
        blocks = partition(record.shape, writer.block_shape)

        def write(block: Block) -> None:
            writer.write(block.inner, result.block(block))

        for _ in map_blocks(write, blocks, executor=project.executor, progress=progress, stage=f"export {source}"):
            pass


def _segmentation(project: Project, image: int) -> _Result:
    dtype = _class_dtype(project)
    values = project.predict(image).segmentation.astype(dtype)
    return _Result(dtype, _painter(project, image, values), "labels")


def _probabilities(project: Project, image: int) -> _Result:
    prediction = project.predict(image)
    names = tuple(project.class_names[int(class_id)] for class_id in prediction.classes)
    return _Result(np.dtype(np.float32), _painter(project, image, prediction.probabilities), "image", names)


def _uncertainty(project: Project, image: int) -> _Result:
    return _Result(np.dtype(np.float32), _painter(project, image, project.uncertainty(image)), "image")


def _supervoxels(project: Project, image: int) -> _Result:
    labels = project.supervoxels(image).labels
    return _Result(np.dtype(np.uint32), lambda block: np.asarray(labels[block.inner.slices]), "labels")


def _labels(project: Project, image: int) -> _Result:
    indices, classes = project.annotations.labelled_voxels(image)
    shape, dtype = project.images[image].shape, _class_dtype(project)

    def block_of(block: Block) -> NDArray[Any]:
        plane = shape[1] * shape[2]
        first, last = np.searchsorted(indices, [block.inner.start[0] * plane, block.inner.stop[0] * plane])
        slab = np.zeros((block.inner.shape[0], *shape[1:]), dtype)
        slab.reshape(-1)[indices[first:last] - block.inner.start[0] * plane] = classes[first:last]
        return slab[:, block.inner.slices[1], block.inner.slices[2]]

    return _Result(dtype, block_of, "labels")


def _painter(project: Project, image: int, values: NDArray[Any]) -> Callable[[Block], NDArray[Any]]:
    """Return a function that gives each voxel of a block the value of its supervoxel."""
    labels = project.supervoxels(image).labels
    return lambda block: look_up(np.asarray(labels[block.inner.slices]), values)


def _class_dtype(project: Project) -> np.dtype[Any]:
    return np.dtype(np.uint8 if project.annotations.next_class_id <= 256 else np.uint16)
