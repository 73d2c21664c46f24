"""What is computed from one image, kept in memory and on disk under the digest of what it depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.blocks import Executor, Progress
from voxloop.features import FeatureTable, compute_scale, with_context
from voxloop.project.cache import ArrayCache
from voxloop.project.images import ProjectImage
from voxloop.specs import FeatureSpec, SlicSpec, digest_of
from voxloop.supervoxels import Supervoxels, slic
from voxloop.supervoxels.extent import Extent, extent

# Raised when a stage gives other bits for the same specs, so that what an older version computed counts as stale.
_SUPERVOXELS_VERSION = 1
_FEATURES_VERSION = 1


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
    """

    index: int
    image: ProjectImage
    content_digest: str
    cache: ArrayCache
    save: bool
    executor: Executor
    progress: Progress | None
    _kept: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def supervoxels(self, spec: SlicSpec) -> Supervoxels:
        """Return the supervoxels under `spec`."""
        digest = supervoxels_digest(self.content_digest, spec)
        return self._keep("supervoxels", digest, lambda: self._load_supervoxels(digest) or self._slic(spec, digest))

    def features(self, slic_spec: SlicSpec, spec: FeatureSpec) -> FeatureTable:
        """Return the feature table under `spec` of the supervoxels under `slic_spec`."""
        digest = features_digest(self.content_digest, slic_spec, spec)
        return self._keep("features", digest, lambda: self._join_scales(slic_spec, spec))

    def extent(self, spec: SlicSpec) -> Extent:
        """Return which slices the supervoxels under `spec` meet."""
        digest = supervoxels_digest(self.content_digest, spec)
        return self._keep("extent", digest, lambda: self._load_extent(digest) or self._measure_extent(spec, digest))

    def voxel_supervoxels(self, spec: SlicSpec, indices: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the supervoxel of each voxel, given by linear indices in C order."""
        labels = np.asarray(self.supervoxels(spec).labels)  # an array or a memory map of one
        found: NDArray[np.uint32] = labels.reshape(-1)[indices]
        return found

    def _keep(self, name: str, digest: str, compute: Any) -> Any:
        kept_digest, value = self._kept.get(name, ("", None))
        if kept_digest != digest:
            value = compute()
            self._kept[name] = (digest, value)
        return value

    def _load_supervoxels(self, digest: str) -> Supervoxels | None:
        labels = self.cache.get(f"supervoxels-{self.index}", digest)
        tables = self.cache.get(f"supervoxel-tables-{self.index}", digest)
        if labels is None or tables is None:
            return None
        return Supervoxels.from_arrays({**labels.arrays, **tables.arrays}, tables.meta)

    def _slic(self, spec: SlicSpec, digest: str) -> Supervoxels:
        volume, mask = self.image.volume, self.image.mask
        if not self.save:
            return slic(volume, spec, mask=mask, executor=self.executor, progress=self.progress)
        name, sizes = f"supervoxels-{self.index}", {"labels": (volume.shape, np.uint32)}
        with self.cache.create(name, digest, sizes) as draft:
            out = draft.arrays["labels"]
            computed = slic(volume, spec, mask=mask, executor=self.executor, progress=self.progress, out=out)
        arrays, meta = computed.to_arrays()
        self.cache.put(f"supervoxel-tables-{self.index}", digest, arrays, meta=meta)
        return self._load_supervoxels(digest) or computed

    def _load_extent(self, digest: str) -> Extent | None:
        entry = self.cache.get(f"extent-{self.index}", digest)
        if entry is None:
            return None
        a = {name: np.asarray(array) for name, array in entry.arrays.items()}
        return Extent(a["first"], a["last"], (a["in_z"], a["in_y"], a["in_x"]))

    def _measure_extent(self, spec: SlicSpec, digest: str) -> Extent:
        supervoxels = self.supervoxels(spec)
        measured = extent(supervoxels.labels, supervoxels.n, executor=self.executor, progress=self.progress)
        if self.save:
            arrays = {"first": measured.first, "last": measured.last}
            arrays |= dict(zip(("in_z", "in_y", "in_x"), measured.voxels_per_slice, strict=True))
            self.cache.put(f"extent-{self.index}", digest, arrays)
        return measured

    def _join_scales(self, slic_spec: SlicSpec, spec: FeatureSpec) -> FeatureTable:
        digests = scale_digests(self.content_digest, slic_spec, spec)
        table = FeatureTable.join(self._scale(slic_spec, spec, sigma, digest) for sigma, digest in digests.items())
        return with_context(table, self.supervoxels(slic_spec).graph, spec.context)

    def _scale(self, slic_spec: SlicSpec, spec: FeatureSpec, sigma: float, digest: str) -> FeatureTable:
        """Return the features at one sigma, from the cache if they are there."""
        name = scale_entry(self.index, sigma)
        entry = self.cache.get(name, digest)
        if entry is not None:
            return FeatureTable(np.asarray(entry.arrays["values"]), tuple(entry.meta["names"]))
        supervoxels = self.supervoxels(slic_spec)
        table = compute_scale(
            self.image.volume, supervoxels.labels, supervoxels.n, sigma=sigma, spec=spec,
            executor=self.executor, progress=self.progress,
        )  # fmt: skip
        if self.save:
            self.cache.put(name, digest, {"values": table.values}, meta={"names": list(table.names)})
        return table


def supervoxels_digest(content_digest: str, spec: SlicSpec) -> str:
    """Return the digest that supervoxels of an image under `spec` have."""
    return digest_of("supervoxels", _SUPERVOXELS_VERSION, content_digest, spec.digest)


def scale_digests(content_digest: str, slic_spec: SlicSpec, spec: FeatureSpec) -> dict[float, str]:
    """Return the digest that the features at each sigma have; the other sigmas do not matter to it."""
    base = supervoxels_digest(content_digest, slic_spec)
    digests = {}
    for sigma in spec.sigmas:
        if spec.families_at(sigma):
            planar = (sigma,) if sigma in spec.sigmas_2d else ()
            alone = spec.changed(sigmas=(sigma,), sigmas_2d=planar, context=0)
            digests[sigma] = digest_of("features", _FEATURES_VERSION, base, alone.digest)
    return digests


def features_digest(content_digest: str, slic_spec: SlicSpec, spec: FeatureSpec) -> str:
    """Return the digest of an image's whole feature table."""
    return digest_of(scale_digests(content_digest, slic_spec, spec), spec.context)


def scale_entry(index: int, sigma: float) -> str:
    """Return the name in the cache of the features of image `index` at `sigma`."""
    return f"features-{index}-{f'{sigma:g}'.replace('.', '_')}"
