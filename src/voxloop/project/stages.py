"""What is computed from one image, kept in memory and on disk under the digest of what it depends on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor, Progress, Shape3
from voxloop.errors import InputError
from voxloop.features import (
    FeatureTable,
    average_neighbours,
    compute_own,
    compute_scale,
    context_names,
    describe_regions,
    join_lazily,
    n_columns,
    own_columns,
    pool_volume,
    region_names,
    scale_columns,
    typical,
    volume_columns,
    walk_within_regions,
    with_context,
)
from voxloop.io.scratch import scratch_folder
from voxloop.project.cache import ArrayCache, Entry
from voxloop.project.images import ProjectImage
from voxloop.specs import FeatureSpec, SlicSpec, digest_of
from voxloop.supervoxels import Adjacency, Supervoxels, slic
from voxloop.supervoxels.contrast import Neighbours
from voxloop.supervoxels.extent import Extent, extent
from voxloop.volume import ArrayLike

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

# Raised when a stage gives other bits for the same specs, so that what an older version computed counts as stale.
SUPERVOXELS_VERSION = 3
FEATURES_VERSION = 3
CONTEXT_VERSION = 2

# A feature table that takes more of the memory budget than this stays on the disk, its context with it, and is put
# together row by row.
TABLE_SHARE = 0.25


class Kept:
    """The newest value of each name, with the digest of what it was made from."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, Any]] = {}

    def get(self, name: str, digest: str, compute: Callable[[], Value]) -> Value:
        """Return the value of `name`, computed unless it is there under the same digest."""
        known_digest, value = self._values.get(name, ("", None))
        if known_digest != digest:
            value = compute()
            self._values[name] = (digest, value)
        kept: Value = value
        return kept


def read_entry(cache: ArrayCache, name: str, digest: str, read: Callable[[Entry], Value]) -> Value | None:
    """Return what `read` makes of a cache entry; None if there is none or, with a warning, if it cannot be right.

    Whatever is read here may have been written by a stranger: what `read` lets through must not lead a kernel out of
    its arrays.
    """
    entry = cache.get(name, digest)
    if entry is None:
        return None
    try:
        return read(entry)
    except (KeyError, TypeError, ValueError) as error:  # InputError is a ValueError
        logger.warning("%s in the cache is damaged and will be computed again: %s", name, error)
        return None


@dataclass
class ImageStages:
    """Supervoxels and features of one image, computed when asked for and only if their digest has changed.

    Attributes
    ----------
    index
        Which image of the project.
    image
        Its voxels and mask.
    content_digest
        Digest of all of the image that the stages depend on.
    cache
        Where results are kept on disk.
    save
        Whether new results are written to the cache.
    executor, progress
        What runs the blocks, and who is told.
    memory
        Bytes that a process may take for its blocks.
    """

    index: int
    image: ProjectImage
    content_digest: str
    cache: ArrayCache
    save: bool
    executor: Executor
    progress: Progress | None
    memory: int
    _kept: Kept = field(default_factory=Kept)

    def supervoxels(self, spec: SlicSpec) -> Supervoxels:
        """Return the supervoxels under `spec`."""
        digest = supervoxels_digest(self.content_digest, spec)
        return self._kept.get("supervoxels", digest, lambda: self._load_supervoxels(digest) or self._slic(spec, digest))

    def features(self, slic_spec: SlicSpec, spec: FeatureSpec) -> FeatureTable:
        """Return the feature table under `spec` of the supervoxels under `slic_spec`."""
        digest = features_digest(self._feature_digests(slic_spec, spec), spec)
        return self._kept.get("features", digest, lambda: self._join_features(slic_spec, spec))

    def extent(self, spec: SlicSpec) -> Extent:
        """Return which slices the supervoxels under `spec` meet."""
        digest = supervoxels_digest(self.content_digest, spec)
        cut = self.supervoxels(spec)
        return self._kept.get(
            "extent", digest, lambda: self._load_extent(digest, cut.n) or self._measure_extent(cut, digest)
        )

    def voxel_supervoxels(self, spec: SlicSpec, indices: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the supervoxel of each voxel, given by linear indices in C order."""
        labels = np.asarray(self.supervoxels(spec).labels)  # an array or a memory map of one
        found: NDArray[np.uint32] = labels.reshape(-1)[indices]
        return found

    def _load_supervoxels(self, digest: str) -> Supervoxels | None:
        labels = self.cache.get(f"supervoxels-{self.index}", digest)
        if labels is None:
            return None

        def read(tables: Entry) -> Supervoxels:
            supervoxels = Supervoxels.from_arrays({**labels.arrays, **tables.arrays}, tables.meta)
            _check_tables(supervoxels)
            _check_labels(supervoxels.labels, self.image.volume.shape, supervoxels.n)
            return supervoxels

        return read_entry(self.cache, f"supervoxel-tables-{self.index}", digest, read)

    def _slic(self, spec: SlicSpec, digest: str) -> Supervoxels:
        name, volume = f"supervoxels-{self.index}", self.image.volume

        def cut(out: ArrayLike | None, scratch: Path | None) -> Supervoxels:
            return slic(
                volume, spec, mask=self.image.mask, executor=self.executor, progress=self.progress, out=out,
                memory=self.memory, scratch=scratch,
            )  # fmt: skip

        if not self.save:
            return cut(None, None)
        with self.cache.create(name, digest, {"labels": (volume.shape, np.uint32)}) as draft:
            computed = cut(draft.arrays["labels"], self.cache.scratch(name))
        arrays, meta = computed.to_arrays()
        self.cache.put(f"supervoxel-tables-{self.index}", digest, arrays, meta=meta)
        return self._load_supervoxels(digest) or computed

    def _load_extent(self, digest: str, n: int) -> Extent | None:
        def read(entry: Entry) -> Extent:
            a = {name: np.asarray(array) for name, array in entry.arrays.items()}
            loaded = Extent(a["first"], a["last"], (a["in_z"], a["in_y"], a["in_x"]))
            _check_extent(loaded, self.image.volume.shape, n)
            return loaded

        return read_entry(self.cache, f"extent-{self.index}", digest, read)

    def _measure_extent(self, supervoxels: Supervoxels, digest: str) -> Extent:
        measured = extent(supervoxels.labels, supervoxels.n, executor=self.executor, progress=self.progress)
        if self.save:
            in_z, in_y, in_x = measured.voxels_per_slice
            arrays: dict[str, NDArray[Any]] = {"in_z": in_z, "in_y": in_y, "in_x": in_x}
            arrays |= {"first": measured.first, "last": measured.last}
            self.cache.put(f"extent-{self.index}", digest, arrays)
        return measured

    def _join_features(self, slic_spec: SlicSpec, spec: FeatureSpec) -> FeatureTable:
        digests, supervoxels = self._feature_digests(slic_spec, spec), self.supervoxels(slic_spec)
        volume, labels, n = self.image.volume, supervoxels.labels, supervoxels.n
        settings: dict[str, Any] = {"executor": self.executor, "progress": self.progress, "memory": self.memory}
        tables = []
        for sigma in filter(spec.families_at, spec.sigmas):
            filtered = partial(
                compute_scale, volume, labels, n, sigma=sigma, spec=spec, sizes=supervoxels.sizes, **settings
            )
            columns = scale_columns(volume, sigma, spec)
            tables.append(self._feature_part(scale_entry(self.index, sigma), digests, n, columns, filtered))
        if spec.own:
            own = partial(compute_own, volume, labels, n, spec, **settings)
            tables.append(self._feature_part(own_entry(self.index), digests, n, own_columns(volume, spec), own))
        for k, (own_volume, _) in enumerate(self.image.feature_volumes):
            pooled = partial(
                pool_volume, own_volume, labels, n, statistics=spec.statistics, sizes=supervoxels.sizes, **settings
            )
            columns = volume_columns(own_volume, spec.statistics)
            tables.append(self._feature_part(volume_entry(self.index, k), digests, n, columns, pooled))
        names = tuple(chain.from_iterable(table.names for table in tables))
        graph = supervoxels.graph
        if 4 * n * n_columns(names, spec.context, spec.regions) > self.memory * TABLE_SHARE:
            around = self._context_parts(tables, graph, digests, spec.context)
            return join_lazily([*tables, *around, *self._region_parts(tables, graph, digests, spec.regions)])
        return with_context(FeatureTable.join(tables), graph, spec.context, spec.regions, executor=self.executor)

    def _feature_part(
        self,
        name: str,
        digests: Mapping[str, str],
        n: int,
        columns: tuple[str, ...],
        compute: Callable[..., FeatureTable],
    ) -> FeatureTable:
        """Return some columns of the features of `n` supervoxels, from the cache if they are there."""
        digest = digests[name]
        if loaded := read_entry(self.cache, name, digest, lambda entry: _read_table(entry, n)):
            return loaded
        if not self.save:
            return compute()
        with (
            scratch_folder(self.cache.scratch(name), digest) as scratch,
            self.cache.create(name, digest, {"values": ((n, len(columns)), np.float32)}) as draft,
        ):
            draft.meta["names"] = list(columns)
            table = compute(out=draft.arrays["values"], scratch=scratch)
        return read_entry(self.cache, name, digest, lambda entry: _read_table(entry, n)) or table

    def _context_parts(
        self, tables: Sequence[FeatureTable], graph: Adjacency, digests: Mapping[str, str], depth: int
    ) -> list[FeatureTable]:
        """Return what lies 1 to `depth` steps away, a table a step; from the cache, or written there part by part."""
        alone = typical(join_lazily(tables))
        parts, base = [alone], digest_of(list(digests.values()))
        for step in range(1, depth + 1):
            name, digest = f"context-{self.index}-{step}", digest_of("context", CONTEXT_VERSION, base, step)
            averaged = partial(
                average_neighbours, parts[-1], graph, executor=self.executor, progress=self.progress,
                stage=f"features of neighbours, step {step}",
            )  # fmt: skip
            parts.append(self._context_part(name, digest, graph.n, context_names(alone.names, step), averaged))
        return parts[1:]

    def _region_parts(
        self, tables: Sequence[FeatureTable], graph: Adjacency, digests: Mapping[str, str], regions: Sequence[int]
    ) -> list[FeatureTable]:
        """Return what describes regions, a table for each number of steps; from the cache, or written there."""
        joined = join_lazily(tables)
        alone, before = typical(joined), 0
        parts, base = [alone], digest_of(list(digests.values()))
        walk = cache(partial(walk_within_regions, joined, graph))  # made if something has to be computed
        for last, steps in enumerate(regions):
            # Which fewer steps they went on from shows in the last bit of a spread.
            way = regions[: last + 1]
            name, digest = f"region-{self.index}-{steps}", digest_of("region", CONTEXT_VERSION, base, way)
            columns = region_names(alone.names, steps)
            described = partial(self._describe_region, name, digest, parts[-1], walk, (before, steps))
            parts.append(self._context_part(name, digest, graph.n, columns, described))
            before = steps
        return parts[1:]

    def _describe_region(
        self,
        name: str,
        digest: str,
        nearer: FeatureTable,
        walk: Callable[[], Neighbours],
        steps: tuple[int, int],
        *,
        out: NDArray[np.float32],
    ) -> None:
        with scratch_folder(self.cache.scratch(name) if self.save else None, digest) as scratch:
            describe_regions(
                nearer, walk(), *steps, out=out, spare=scratch.zeros(out.shape, np.float32),
                executor=self.executor, progress=self.progress,
            )  # fmt: skip

    def _context_part(
        self, name: str, digest: str, n: int, columns: tuple[str, ...], describe: Callable[..., None]
    ) -> FeatureTable:
        if loaded := read_entry(self.cache, name, digest, lambda entry: _read_table(entry, n)):
            return loaded
        if not self.save:
            values = np.empty((n, len(columns)), np.float32)
            describe(out=values)
            return FeatureTable(values, columns)
        with self.cache.create(name, digest, {"values": ((n, len(columns)), np.float32)}) as draft:
            draft.meta["names"] = list(columns)
            describe(out=draft.arrays["values"])
            kept = draft.arrays["values"]
        return read_entry(self.cache, name, digest, lambda entry: _read_table(entry, n)) or FeatureTable(kept, columns)

    def _feature_digests(self, slic_spec: SlicSpec, spec: FeatureSpec) -> dict[str, str]:
        return feature_entries(
            self.index, self.content_digest, slic_spec, spec, [digest for _, digest in self.image.feature_volumes]
        )


def _check_tables(supervoxels: Supervoxels) -> None:
    """Raise `InputError` unless the tables of 1..n supervoxels have the right shapes and name no other supervoxel."""
    n, edges, area = supervoxels.n, supervoxels.graph.edges, supervoxels.graph.area
    _check_array("sizes", supervoxels.sizes, (n,), "iu", low=1)
    _check_array("centers", supervoxels.centers, (n, 3), "f", low=0)
    if (supervoxels.centers > supervoxels.labels.shape).any():
        raise InputError("centers reach beyond the volume")
    _check_array("edges", edges, (len(edges), 2), "iu", low=1, high=n)
    _check_array("area", area, (len(edges),), "f", low=0)


def _check_labels(labels: ArrayLike, shape: Shape3, n: int) -> None:
    """Raise `InputError` unless `labels` are those of a volume of `shape` cut into `n` supervoxels."""
    if tuple(labels.shape) != shape or labels.dtype != np.uint32:
        raise InputError(f"labels are {labels.dtype} of shape {labels.shape}")
    # A tenth of a second a gigabyte, once: without it a wrong id would be followed out of every table.
    highest = max(int(np.max(labels[z : z + 16])) for z in range(0, shape[0], 16))
    if highest > n:
        raise InputError(f"labels reach {highest} but there are {n} supervoxels")


def _check_extent(loaded: Extent, shape: Shape3, n: int) -> None:
    """Raise `InputError` unless an extent is one of `n` supervoxels in a volume of `shape`."""
    for name in ("first", "last"):
        array = getattr(loaded, name)
        _check_array(name, array, (n, 3), "i", low=0)
        if (array >= shape).any():
            raise InputError(f"{name} reaches beyond the volume")
    for axis, counts in zip("zyx", loaded.voxels_per_slice, strict=True):
        _check_array(f"in_{axis}", counts, (shape["zyx".index(axis)],), "i", low=0)


def _read_table(entry: Entry, n: int) -> FeatureTable:
    values = np.asarray(entry.arrays["values"])
    _check_array("values", values, (n, len(entry.meta["names"])), "f")
    return FeatureTable(values, tuple(map(str, entry.meta["names"])))


def _check_array(
    name: str,
    array: NDArray[Any],
    shape: tuple[int, ...],
    kinds: str,
    *,
    low: int | None = None,
    high: int | None = None,
) -> None:
    rows = 1 + 2**22 // max(1, prod(shape[1:]))  # of a large table not all at once
    if (
        array.shape != shape
        or array.dtype.kind not in kinds
        or not all(np.isfinite(array[i : i + rows]).all() for i in range(0, len(array), rows))
    ):
        raise InputError(f"{name} is {array.dtype} of shape {array.shape}, or not finite")
    if (low is not None and array.min(initial=low) < low) or (high is not None and array.max(initial=high) > high):
        raise InputError(f"{name} reaches from {array.min()} to {array.max()}")


def supervoxels_digest(content_digest: str, spec: SlicSpec) -> str:
    """Return the digest that supervoxels of an image under `spec` have."""
    return digest_of("supervoxels", SUPERVOXELS_VERSION, content_digest, spec.digest)


def feature_entries(
    index: int, content_digest: str, slic_spec: SlicSpec, spec: FeatureSpec, volumes: Sequence[str]
) -> dict[str, str]:
    """Return the names and digests of the cache entries that hold the features of image `index`.

    Each depends on what it is computed from alone: on one sigma, on the families that need none, or on a feature volume
    of the user's own, of which `volumes` are digests.
    """
    base = supervoxels_digest(content_digest, slic_spec)
    entries = {}
    for sigma in spec.sigmas:
        if spec.families_at(sigma):
            planar = (sigma,) if sigma in spec.sigmas_2d else ()
            alone = spec.changed(sigmas=(sigma,), sigmas_2d=planar, own=(), context=0, regions=())
            entries[scale_entry(index, sigma)] = digest_of("features", FEATURES_VERSION, base, alone.digest)
    if spec.own:
        entries[own_entry(index)] = digest_of("own features", FEATURES_VERSION, base, spec.definition, spec.own)
    for k, digest in enumerate(volumes):
        entries[volume_entry(index, k)] = digest_of("volume", FEATURES_VERSION, base, digest, spec.statistics)
    return entries


def features_digest(entries: Mapping[str, str], spec: FeatureSpec) -> str:
    """Return the digest of an image's whole feature table, of what it is made."""
    around = [CONTEXT_VERSION, spec.context, spec.regions] if spec.context or spec.regions else []
    return digest_of(list(entries.values()), *around)


def own_entry(index: int) -> str:
    """Return the name in the cache of the features of image `index` that need no sigma."""
    return f"features-{index}-own"


def volume_entry(index: int, k: int) -> str:
    """Return the name in the cache of the features of image `index` from its feature volume `k`."""
    return f"features-{index}-volume-{k}"


def scale_entry(index: int, sigma: float) -> str:
    """Return the name in the cache of the features of image `index` at `sigma`."""
    return f"features-{index}-{f'{sigma:g}'.replace('.', '_')}"
