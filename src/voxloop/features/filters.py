"""The filter bank of one scale on one block: the function that every executor runs.

A block is evaluated on its lattice, extended beyond the volume by mirroring, so that no kernel knows about borders.
Mirroring makes the gradient across a border odd; its sign is turned outside the volume, so that the products of the
structure tensor are mirrored as scalar images are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxloop.blocks import Block, Box, Shape3
from voxloop.errors import InputError
from voxloop.features.scales import Scale, Taps, scale_of
from voxloop.kernels import convolve, derivatives
from voxloop.kernels.simd_taps import aligned
from voxloop.specs import FAMILIES, FeatureFamily, FeatureSpec
from voxloop.volume import Volume

Field = NDArray[np.float32]
Table = NDArray[np.int64]

SLAB_VOXELS = 2**18  # of a block are float32 at a time: large halos are read in the image's own, smaller type
# Responses of this many voxels are made and used at a time: enough to forget the calls, and still in the cache. Ten of
# them take 1.3 MB; half and twice as many voxels took 6 and 10 % more CPU time.
RESPONSE_VOXELS = 2**15


def scale_channels(spec: FeatureSpec, sigma: float, *, planar: bool | None = None) -> tuple[str, ...]:
    """Return the names of the responses at `sigma`, such as ``"hessian_1 sigma=1.6"``; `planar` as for `filter_block`.

    There are 10 with all families (8 if planar), and one below sigma 0.5.
    """
    planar = sigma in spec.sigmas_2d if planar is None else planar
    suffix = f" sigma={sigma:g}" + (" 2d" if planar else "")
    chosen = spec.families_at(sigma)
    return tuple(name + suffix for family in FAMILIES if family in chosen for name in _family_channels(family, planar))


def _family_channels(family: FeatureFamily, planar: bool) -> list[str]:
    if family in ("structure_tensor", "hessian"):
        return [f"{family}_{i + 1}" for i in range(2 if planar else 3)]
    return [family]


def filter_block(
    voxels: ArrayLike,
    sigma: float,
    *,
    spec: FeatureSpec | None = None,
    block: Block | None = None,
    shape: Sequence[int] | None = None,
    relative_spacing: Sequence[float] = (1.0, 1.0, 1.0),
    planar: bool | None = None,
) -> Field:
    """Return the responses of one scale for the inner box of a block.

    Definition "voxloop": all filters at `sigma`, truncated at 3.5 sigma; Laplacian and Hessian times sigma^2, gradient
    magnitude times sigma; difference of Gaussians G(sigma) - G(0.66 sigma); structure tensor with gradients at sigma,
    integrated over 2 sigma. Definition "ilastik": Gaussian with sqrt(sigma^2 - 1), then the filters at min(sigma, 1).
    Eigenvalues come largest first. Intensities are not normalised. The border is mirrored, the edge voxel not repeated.

    Parameters
    ----------
    voxels
        (z, y, x), the voxels of `block.outer`; integers, floats or booleans.
    sigma
        Standard deviation in voxels of the finest axis; along axis a it is `sigma / relative_spacing[a]`, and
        derivatives are per voxel of the finest axis.
    spec
        Definition, families, resolution.
    block
        Where the voxels lie in the volume and what is wanted of them; by default they are the volume, all is wanted.
    shape
        Shape (z, y, x) of the volume, needed with `block`.
    relative_spacing
        Voxel size (z, y, x), smallest 1.
    planar
        Whether slices are filtered one by one; by default if `sigma` is in `spec.sigmas_2d` or there is one slice.

    Returns
    -------
    ndarray
        (k, z, y, x) float32, named by `scale_channels`.

    Raises
    ------
    InputError
        If the shapes do not fit, or a voxel is not finite or beyond the range of float32.
    """
    spec = spec or FeatureSpec()
    voxels = np.asarray(voxels)
    if voxels.ndim != 3 or voxels.size == 0:
        raise InputError(f"voxels has shape {voxels.shape}; expected (z, y, x) with at least one voxel")
    if block is None:
        whole = Box.of_shape(voxels.shape)
        block, shape = Block(0, whole, whole), voxels.shape
    if shape is None or block.outer.shape != voxels.shape:
        raise InputError(
            f"voxels has shape {voxels.shape} but the block's outer box {block.outer.shape}; shape is {shape}"
        )
    if planar is None:
        planar = sigma in spec.sigmas_2d or shape[0] == 1
    scale = scale_of(spec, sigma, relative_spacing=relative_spacing, planar=planar)
    out = np.empty((len(scale_channels(spec, sigma, planar=planar)), *block.inner.shape), np.float32)
    for slab, responses in respond(voxels, scale, block, shape):
        out[(slice(None), *slab.slices_in(block.inner))] = responses
    return out


def preview_feature(
    volume: Volume, family: FeatureFamily, sigma: float, box: Box, *, spec: FeatureSpec | None = None, channel: int = 0
) -> Field:
    """Return the responses of one family at one sigma on a box, without computing the volume.

    Parameters
    ----------
    volume
        The image.
    family, sigma
        The cell of the filter bank.
    box
        The voxels wanted, such as a slice.
    spec
        Definition and resolution.
    channel
        Channel of the image.

    Returns
    -------
    ndarray
        (k, z, y, x) float32: three eigenvalues (two in 2D), or one response.

    Raises
    ------
    InputError
        If the box is not inside the volume or the family is not computed at this sigma.
    """
    spec = spec or FeatureSpec()
    planar_sigmas = tuple(s for s in spec.sigmas_2d if s == sigma)
    one = spec.changed(families=(family,), sigmas=(sigma,), sigmas_2d=planar_sigmas, left_out=())
    if box.size == 0 or box.grow((0, 0, 0), volume.box) != box:
        raise InputError(f"box {box.start}..{box.stop} is not inside the volume of shape {volume.shape}")
    planar = sigma in one.sigmas_2d or volume.is_2d
    reach = scale_of(one, sigma, relative_spacing=volume.relative_spacing, planar=planar).halo
    block = Block(0, box, box.grow(reach, volume.box))
    return filter_block(
        volume.read(block.outer)[channel],
        sigma,
        spec=one,
        block=block,
        shape=volume.shape,
        relative_spacing=volume.relative_spacing,
        planar=planar,
    )


def respond(
    voxels: NDArray[np.generic], scale: Scale, block: Block, shape: Sequence[int]
) -> Iterator[tuple[Box, Field]]:
    """Yield slabs of the block's inner box along z and the chosen responses on them; `filter_block` without checks.

    The responses (k, z, y, x) of a slab may be overwritten by those of the next one.
    """
    lattice, inner = scale.lattice(block.inner), block.inner
    if scale.steps == (1, 1, 1):
        thickness = _thickness(lattice)
        for slab, responses in zip(
            _slabs(inner, thickness),
            _respond_on_lattice(voxels, scale, lattice, block.outer, shape, thickness),
            strict=True,
        ):
            yield slab, responses
        return
    (on_lattice,) = _respond_on_lattice(voxels, scale, lattice, block.outer, shape, lattice.shape[0])
    coarse = _LatticeResponses(on_lattice, lattice, scale.steps)
    for slab in _slabs(inner, _thickness(inner)):
        yield slab, coarse.on(slab)


def _thickness(box: Box) -> int:
    """Return how many planes of a box make a slab."""
    return max(1, RESPONSE_VOXELS // (box.shape[1] * box.shape[2]))


def _slabs(box: Box, thickness: int) -> list[Box]:
    """Cut a box along z."""
    return [
        Box((z, *box.start[1:]), (min(z + thickness, box.stop[0]), *box.stop[1:]))
        for z in range(box.start[0], box.stop[0], thickness)
    ]


@dataclass(frozen=True)
class _LatticeResponses:
    """Responses `values` (k, z, y, x) on the points of the box `lattice`, `steps` voxels apart."""

    values: Field
    lattice: Box
    steps: Shape3

    def on(self, box: Box) -> Field:
        """Return the responses on a box of voxels, interpolated linearly."""
        low_z, high_z, share_z = self._neighbours(0, box)
        low_y, high_y, share_y = self._neighbours(1, box)
        low_x, _, share_x = self._neighbours(2, box)
        out = np.empty((len(self.values), *box.shape), np.float32)
        convolve.interpolate(
            self.values, low_z, high_z, share_z, low_y, high_y, share_y, low_x, self.steps[2], share_x, out
        )
        return out

    def _neighbours(self, axis: int, box: Box) -> tuple[Table, Table, Field]:
        """Return the lattice points before and after each voxel of an axis, and the share of the second one."""
        position, step = np.arange(box.start[axis], box.stop[axis]), self.steps[axis]
        before = position // step - self.lattice.start[axis]
        # An axis with step 1 has no point after its last voxel; the share of that point is 0, so any will do.
        after = np.minimum(before + 1, self.values.shape[axis + 1] - 1)
        return before, after, ((position % step) / step).astype(np.float32)


def _respond_on_lattice(
    voxels: NDArray[np.generic], scale: Scale, lattice: Box, outer: Box, shape: Sequence[int], thickness: int
) -> Iterator[Field]:
    """Yield the chosen responses (k, z, y, x) on `thickness` planes of lattice points after the other."""
    order = 2 if scale.planar else 3
    n_z, n_y, n_x = lattice.shape
    presmoothed = _presmooth(voxels, scale, lattice, outer, shape)
    narrow = _narrow(voxels, scale, lattice, outer, shape)
    tensor = _StructureTensor.of(presmoothed, scale, lattice, shape, min(thickness, n_z))
    chosen = [f in scale.families for f in FAMILIES for _ in _family_channels(f, scale.planar)]
    # All rows are there for the kernels to write to; those of families not chosen stay empty and are left out.
    buffer = np.empty((4 + 2 * order, min(thickness, n_z), n_y, n_x), np.float32)
    for start in range(0, n_z, thickness):
        stop = min(start + thickness, n_z)
        responses = (
            buffer if stop - start == buffer.shape[1] else np.empty((len(buffer), stop - start, n_y, n_x), np.float32)
        )
        _fill_scalars_and_hessian(presmoothed, scale, start, responses)
        if narrow is not None:
            np.subtract(responses[0], narrow[start:stop], out=responses[3])
        if "structure_tensor" in scale.families:
            tensor.fill(start, responses[4 : 4 + order])
        yield responses if all(chosen) else responses[chosen]


def _presmooth(voxels: NDArray[np.generic], scale: Scale, lattice: Box, outer: Box, shape: Sequence[int]) -> Field:
    """Return the presmoothed field on the lattice and `scale.margin` points around it."""
    taps = [axis.presmooth for axis in scale.axes]
    extended = _extend(lattice, scale.margin)
    return _smooth_voxels(voxels, taps, scale, extended, outer, shape)


def _narrow(voxels: NDArray[np.generic], scale: Scale, lattice: Box, outer: Box, shape: Sequence[int]) -> Field | None:
    """Return the narrow Gaussian of DoG on the lattice if it is wanted and applied to the voxels."""
    if scale.narrow_follows or "difference_of_gaussians" not in scale.families:
        return None
    return _smooth_voxels(voxels, [axis.narrow for axis in scale.axes], scale, lattice, outer, shape)


def _smooth_voxels(
    voxels: NDArray[np.generic], taps: Sequence[Taps], scale: Scale, points: Box, outer: Box, shape: Sequence[int]
) -> Field:
    """Smooth the voxels of `outer`, evaluated at the lattice points of a box that may lie outside the volume."""
    tables = [
        _mirror_table(points.start[a], points.stop[a], scale.steps[a], taps[a].size - 1, outer, a, shape[a])
        for a in range(3)
    ]
    n_z, n_y, n_x = points.shape
    along_z = np.empty((n_z, *voxels.shape[1:]), np.float32)
    thickness = max(1, SLAB_VOXELS // (voxels.shape[0] * n_x))
    for start in range(0, voxels.shape[1], thickness):
        slab = as_float32(voxels[:, start : start + thickness])
        convolve.smooth_z(slab, taps[0], tables[0], scale.steps[0], along_z, start * voxels.shape[2])
    out = np.empty((n_z, n_y, n_x), np.float32)
    convolve.smooth_yx(along_z, taps[1], tables[1], scale.steps[1], taps[2], tables[2], scale.steps[2], out)
    return out


def _smooth_planes(field: Field, scale: Scale, taps: Sequence[Taps], start: int, responses: Field) -> Field:
    """Smooth the planes of a field on the lattice that `responses` (k, z, y, x) from plane `start` on are made of.

    The field has the scale's margin on all sides.
    """
    shape = responses.shape[1:]
    planes = field[start : start + shape[0] + 2 * scale.margin[0]]
    tables = [
        np.arange(m + 2 * (t.size - 1)) + (n - m) // 2 - (t.size - 1)
        for n, m, t in zip(planes.shape, shape, taps, strict=True)
    ]
    along_z = np.empty((shape[0], *field.shape[1:]), np.float32)
    convolve.smooth_z(planes, taps[0], tables[0], 1, along_z, 0)
    out = np.empty(shape, np.float32)
    convolve.smooth_yx(along_z, taps[1], tables[1], 1, taps[2], tables[2], 1, out)
    return out


def _fill_scalars_and_hessian(presmoothed: Field, scale: Scale, start: int, responses: Field) -> None:
    """Fill Gaussian, Laplacian, gradient magnitude, Hessian and, if its narrow Gaussian follows, the difference.

    The Gaussian only if that is all there is to do.
    """
    z, y, x = scale.axes
    centre = start + scale.margin[0]
    follows = scale.narrow_follows and "difference_of_gaussians" in scale.families
    if not follows and not {"laplacian", "gradient_magnitude", "hessian"} & set(scale.families):
        kernels = [axis.derive[0] for axis in scale.axes]
        responses[0] = _smooth_planes(presmoothed, scale, kernels, start, responses)
        return
    narrow_z, narrow_y, narrow_x = (axis.narrow if follows else axis.narrow[:0] for axis in scale.axes)
    if scale.planar:
        derivatives.second_order_2d(
            presmoothed, centre, y.derive, x.derive, narrow_y, narrow_x, responses[:4], responses[-2:]
        )
    else:
        derivatives.second_order_3d(
            presmoothed, centre, z.derive, y.derive, x.derive, narrow_z, narrow_y, narrow_x,
            responses[:4], responses[-3:],
        )  # fmt: skip


@dataclass(frozen=True)
class _StructureTensor:
    """The structure tensor of a presmoothed field, slab after slab; `ring` keeps what the next slab needs."""

    presmoothed: Field
    scale: Scale
    signs: tuple[Field, Field, Field]
    ring: Field

    @classmethod
    def of(
        cls, presmoothed: Field, scale: Scale, lattice: Box, shape: Sequence[int], thickness: int
    ) -> _StructureTensor:
        """Prepare for slabs of at most `thickness` planes."""
        extended = _extend(lattice, scale.outer_margin)
        z, y, x = (
            _mirror_signs(np.arange(extended.start[a], extended.stop[a]) * scale.steps[a], shape[a]) for a in range(3)
        )
        planes = 0 if scale.planar else 2 * scale.outer_margin[0] + thickness
        plane = lattice.shape[1] * lattice.shape[2]
        return cls(presmoothed, scale, (z, y, x), aligned(6 * planes * plane).reshape(6, planes, plane))

    def fill(self, start: int, eigenvalues: Field) -> None:
        """Write the eigenvalues of the planes from `start` on, where the last call has ended."""
        z, y, x = self.scale.axes
        signs_z, signs_y, signs_x = self.signs
        outer_z, outer_y, outer_x = (axis.outer for axis in self.scale.axes)
        if self.scale.planar:
            derivatives.structure_tensor_2d(
                self.presmoothed, start, y.tensor, x.tensor, signs_y, signs_x, outer_y, outer_x, eigenvalues
            )
        else:
            derivatives.structure_tensor_3d(
                self.presmoothed, start, z.tensor, y.tensor, x.tensor, signs_z, signs_y, signs_x,
                outer_z, outer_y, outer_x, self.ring, eigenvalues,
            )  # fmt: skip


def as_float32(voxels: NDArray[np.generic]) -> Field:
    """Return voxels as float32, or raise `InputError` if one of them is not finite."""
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(voxels, dtype=np.float32)
    if voxels.dtype.kind == "f" and not np.isfinite(converted).all():
        raise InputError("voxels must be finite numbers within the range of float32, but some are not")
    return converted


def _extend(box: Box, margin: Sequence[int]) -> Box:
    """Return a box of lattice points grown on all sides, beyond the volume too."""
    start = tuple(a - m for a, m in zip(box.start, margin, strict=True))
    stop = tuple(b + m for b, m in zip(box.stop, margin, strict=True))
    return Box(start, stop)  # type: ignore[arg-type]  # three of each


def _mirror_table(start: int, stop: int, step: int, radius: int, outer: Box, axis: int, length: int) -> Table:
    """Return the rows of `outer` that a convolution at the lattice points start..stop reads, mirrored at the border."""
    positions = np.arange(start * step - radius, (stop - 1) * step + radius + 1)
    return np.clip(convolve.mirrored(positions, length) - outer.start[axis], 0, outer.shape[axis] - 1)


def _mirror_signs(positions: Table, length: int) -> Field:
    """Return -1 where an axis runs backwards because it was mirrored an odd number of times, else 1."""
    if length == 1:
        return np.ones(positions.shape, np.float32)
    backwards = positions % (2 * (length - 1)) > length - 1
    return np.where(backwards, np.float32(-1.0), np.float32(1.0))
