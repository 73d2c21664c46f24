"""Surfaces of classes as triangles, for 3D programs: STL, PLY, OBJ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Block, Box, in_this_process, map_blocks, partition, within_memory
from voxloop.errors import FormatError, InputError
from voxloop.io.atomic import replacing, storing
from voxloop.project.annotations import LabelClass
from voxloop.project.export import check_distinct
from voxloop.project.images import Crop, crop_box
from voxloop.project.paths import expand, has_field
from voxloop.project.results import ImageResults
from voxloop.project.sources import Layer, make_layer

if TYPE_CHECKING:
    from trimesh import Trimesh

FORMATS = (".stl", ".ply", ".obj")

_SLICES = 32  # whose surface is found at a time
_SLICE_BYTES = 24  # of memory that a voxel takes there
_VERTEX_BYTES = (
    700  # of memory that a vertex takes at the most: with its triangles, while they are smoothed and written
)

Surface = tuple[NDArray[np.float64], NDArray[np.int64]]  # vertices (v, 3) in voxels (z, y, x), triangles (t, 3)


def export_meshes(
    results: ImageResults,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str | int] | None = None,
    source: Literal["segmentation", "refined"] = "segmentation",
    crop: Crop | None = None,
    smoothing: int = 10,
    overwrite: bool = False,
) -> list[Path]:
    """Write the surface of each class to a file; see `Project.export_meshes`."""
    _need_libraries()
    if source not in ("segmentation", "refined"):
        raise InputError(f"source is {source!r}; expected segmentation or refined")
    if isinstance(smoothing, bool) or not isinstance(smoothing, int) or not 0 <= smoothing <= 1000:
        raise InputError(f"smoothing must be a number of rounds from 0 to 1000, not {smoothing!r}")
    chosen = _chosen(results.classes, classes)
    folder = results.dataset_dir if has_field(path, "dataset_dir") else Path()
    about: dict[str, Any] = {"dataset_dir": folder, "nickname": results.name, "result_type": "mesh"}
    if len(chosen) > 1 and not has_field(path, "class"):
        raise InputError(f"{os.fspath(path)} must hold {{class}}: there are {len(chosen)} classes, a file for each")
    targets = {c: expand(path, **about, class_name=c.name) for c in chosen}
    check_distinct(list(targets.values()))
    for target in targets.values():
        if target.suffix.lower() not in FORMATS:
            raise FormatError(f"{target.name} names no format of meshes; expected one of {', '.join(FORMATS)}")
        if not overwrite and os.path.lexists(target):
            raise InputError(f"{target} exists; choose another name or allow overwriting")
    box = crop_box(crop, results.volume.shape) or results.volume.box
    layer, written = make_layer(source, results), []
    for label, target in targets.items():
        mesh = _mesh(results, layer, label, box, smoothing)
        if mesh is not None:
            with replacing(target, overwrite=overwrite) as temporary, storing(target):
                temporary.write_bytes(_encoded(mesh, target.suffix.lower()))
            written.append(target)
        elif classes is not None:
            raise InputError(f"class {label.name!r} has no voxel there")
    return written


def _need_libraries() -> None:
    try:
        for library in ("skimage", "trimesh"):
            import_module(library)
    except ModuleNotFoundError as error:
        raise InputError(f'meshes need {error.name}, which is not installed: pip install "voxloop[meshes]"') from None


def _chosen(classes: Sequence[LabelClass], names: Sequence[str | int] | None) -> list[LabelClass]:
    """Return the classes with these names or ids; all by default."""
    if names is None:
        return list(classes)
    chosen = [c for c in classes if c.name in names or c.class_id in names]
    known = {c.name for c in chosen} | {c.class_id for c in chosen}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"there is no class {unknown[0]!r}; the classes are: {', '.join(c.name for c in classes)}")
    return chosen


def _mesh(results: ImageResults, layer: Layer, label: LabelClass, box: Box, smoothing: int) -> Trimesh | None:
    """Return the surface of a class in physical units (x, y, z), None if it has no voxel in `box`."""
    import trimesh
    from trimesh.smoothing import filter_taubin

    vertices, triangles = _surface(results, layer, label, box)
    if not len(triangles):
        return None
    placed = (vertices + box.start) * results.volume.spacing
    color = [*bytes.fromhex(label.color[1:]), 255]
    mesh = trimesh.Trimesh(
        placed[:, ::-1], triangles, vertex_colors=np.tile(np.array(color, np.uint8), (len(placed), 1)), process=False
    )
    if smoothing:
        # Taubin (ICCV 1995): steps to the neighbours' mean and back, which keep the size. Pass band and steps are his.
        filter_taubin(mesh, lamb=0.5, nu=0.53, iterations=2 * smoothing)
    return mesh


def _surface(results: ImageResults, layer: Layer, label: LabelClass, box: Box) -> Surface:
    """Return the closed surface between a class and all else in `box`; beyond the box there is nothing.

    Found slab by slab; surfaces of two slabs meet in vertices that have the same coordinates.
    """
    slab = (_SLICES, *box.shape[1:])
    executor = within_memory(
        in_this_process(results.executor), memory=results.memory, item_bytes=prod(slab) * _SLICE_BYTES
    )
    find = partial(_slab_surface, layer, label.class_id, box)
    parts: list[Surface] = []
    n_vertices = 0
    stage = f"surface of {label.name}"
    for part in map_blocks(find, partition(box.shape, slab), executor=executor, progress=results.progress, stage=stage):
        n_vertices += len(part[0])
        if n_vertices * _VERTEX_BYTES > results.memory:
            raise InputError(
                f"the surface of {label.name!r} has more than {n_vertices:,} vertices, which take more than the "
                f"{results.memory / 1e9:.2g} GB of the memory budget: export a part of the image (crop), or give more"
            )
        parts.append(part)
    return _joined(parts)


def _slab_surface(layer: Layer, class_id: int, box: Box, block: Block) -> Surface:
    """Return the surface from the slice before a block to its last one; of the last block, to the one behind."""
    from skimage.measure import marching_cubes

    first, last = block.inner.start[0], block.inner.stop[0]
    start, stop = max(first - 1, 0), last
    part = Box((start + box.start[0], *box.start[1:]), (stop + box.start[0], *box.stop[1:]))
    around = ((int(first == 0), int(last == box.shape[0])), (1, 1), (1, 1))
    inside = np.pad(layer.read(part) == class_id, around)
    if inside.all() or not inside.any():
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    # The tables of Lorensen and Cline (SIGGRAPH 1987) close the surface of any mask; those of Lewiner et al. (2003),
    # which decide by the values, leave holes where these are all alike.
    vertices, triangles, _, _ = marching_cubes(
        inside.astype(np.float32), 0.5, allow_degenerate=False, method="lorensen"
    )
    offset = np.array([start, 0, 0]) - [around[0][0], 1, 1]
    return vertices.astype(np.float64) + offset, triangles.astype(np.int64)


def _joined(parts: Sequence[Surface]) -> Surface:
    """Return surfaces as one, with vertices at the same place made one."""
    firsts = np.cumsum([0, *(len(vertices) for vertices, _ in parts)])
    vertices = np.concatenate([vertices for vertices, _ in parts])
    triangles = np.concatenate([t + first for (_, t), first in zip(parts, firsts, strict=False)])
    places, which = np.unique(vertices, axis=0, return_inverse=True)
    return places, which.reshape(-1)[triangles]


def _encoded(mesh: Trimesh, suffix: str) -> bytes:
    content = mesh.export(file_type=suffix[1:])
    assert isinstance(content, str | bytes)
    return content.encode() if isinstance(content, str) else content
