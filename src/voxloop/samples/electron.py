"""An EM-like volume from a seed: nervous tissue with mitochondria, as a FIB-SEM would show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxloop.blocks import Box, Shape3, partition
from voxloop.errors import InputError
from voxloop.samples.noise import Floats, Grid, SmoothField
from voxloop.samples.sample import Sample
from voxloop.samples.tissue import Organelle, Position, Synapse, Tissue, dot, grow_tissue
from voxloop.volume import Spacing, Volume, check_spacing, relative_spacing

BACKGROUND, MITOCHONDRIA = 1, 2
BLOCK_SHAPE = (16, 32, 32)
"""Small blocks: few cells and organelles come near one, and its arrays stay in the processor's cache."""


@dataclass(frozen=True)
class _Textures:
    """Granules of the cytoplasm, fine and coarse, and patches that decide where a fold or a density shows."""

    fine: SmoothField
    coarse: SmoothField
    patches: SmoothField


@dataclass
class _Scene:
    """One block while it is painted: positions in tissue space, who owns them, textures, signal and classes."""

    position: Position
    owner: NDArray[np.intp]
    gap: Floats
    fine: Floats
    coarse: Floats
    patches: Floats
    signal: Floats
    truth: NDArray[np.uint8]

    def __post_init__(self) -> None:
        self.low = np.array([p.min() for p in self.position])
        self.high = np.array([p.max() for p in self.position])

    def reaches(self, centre: Floats, reach: Floats | float) -> NDArray[np.bool_]:
        """Whether the block comes within `reach` of each centre (..., 3), along every axis."""
        near: NDArray[np.bool_] = np.all((self.low - reach <= centre) & (centre <= self.high + reach), axis=-1)
        return near


def phantom(
    shape: Shape3 = (64, 256, 256), *, seed: int = 0, spacing: Spacing = (10.0, 8.0, 8.0), unit: str = "nanometer"
) -> Sample:
    """Return an EM-like volume with mitochondria to find.

    Cells with membranes fill the volume. In them lie mitochondria, tubes and ellipsoids with a double membrane and
    cristae, and what is taken for them: dense bodies, endoplasmic reticulum, clusters of vesicles, synaptic densities,
    cells with dark cytoplasm. Blur, noise, a slow drift of contrast and stripes of the mill come from the imaging.

    Parameters
    ----------
    shape
        Voxels (z, y, x); one slice is allowed, else at least 8 along each axis. Below 256 voxels in-plane the tissue
        shrinks with the volume, so that small volumes show more than one cell.
    seed
        The same seed, shape and spacing give the same bytes, at any number of threads.
    spacing
        Voxel size (z, y, x) in `unit`. Only the ratios matter to what is seen.
    unit
        Unit of `spacing`.

    Returns
    -------
    Sample
        uint8 image; classes 1 background and 2 mitochondria (about 9 % of the voxels).

    Raises
    ------
    InputError
        If `shape` or `spacing` cannot be used.
    """
    shape = _check_shape(shape)
    spacing = check_spacing(spacing)
    relative = relative_spacing(spacing)
    extent = [n * s for n, s in zip(shape, relative, strict=True)]
    scale = float(np.clip(np.sqrt(min(extent[1:]) / 256), 0.3, 1.0))
    for_tissue, for_textures, for_imaging = np.random.default_rng(seed).spawn(3)
    tissue = grow_tissue(for_tissue, extent, scale)
    signal, truth = _paint(tissue, _random_textures(for_textures, extent), shape, relative)
    image = _take_image(for_imaging, signal, relative)
    return Sample(
        image=Volume(image, spacing=spacing, unit=unit, name="phantom", axes="zyx"),
        truth=truth,
        class_names=("background", "mitochondria"),
        class_colors=("#0072b2", "#e69f00"),
    )


def _check_shape(shape: Sequence[int]) -> Shape3:
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < 8 or 1 < shape[0] < 8:
        raise InputError(
            f"shape must be (z, y, x) of at least 8 voxels each, or one slice (1, y, x), not {tuple(shape)}"
        )
    z, y, x = (int(n) for n in shape)
    return z, y, x


def _random_textures(rng: np.random.Generator, extent: Sequence[float]) -> _Textures:
    return _Textures(*(SmoothField.random(rng, extent, step) for step in (1.6, 4.0, 9.0)))


def _paint(tissue: Tissue, textures: _Textures, shape: Shape3, relative: Spacing) -> tuple[Floats, NDArray[np.uint8]]:
    """Return the grey values before imaging and the classes, block by block."""
    signal = np.empty(shape, np.float32)
    truth = np.empty(shape, np.uint8)
    for block in partition(shape, BLOCK_SHAPE):
        scene = _set_scene(tissue, textures, _grid(block.inner, relative))
        _paint_cells(scene, tissue)
        for synapse in tissue.synapses:
            _paint_synapse(scene, synapse, tissue.scale)
        for organelle in tissue.organelles:
            if scene.reaches(organelle.centre, organelle.reach):
                _paint_organelle(scene, organelle)
        signal[block.inner.slices] = scene.signal
        truth[block.inner.slices] = scene.truth
    return signal, truth


def _grid(box: Box, relative: Spacing) -> Grid:
    z, y, x = ((np.arange(a, b) * s).astype(np.float32) for a, b, s in zip(box.start, box.stop, relative, strict=True))
    return z, y, x


def _set_scene(tissue: Tissue, textures: _Textures, grid: Grid) -> _Scene:
    position = tissue.warp.positions(grid)
    owner, gap = tissue.cells.owners(position)
    return _Scene(
        position=position,
        owner=owner,
        gap=gap,
        fine=textures.fine.on(grid),
        coarse=textures.coarse.on(grid),
        patches=textures.patches.on(grid),
        signal=np.empty(gap.shape, np.float32),
        truth=np.full(gap.shape, BACKGROUND, np.uint8),
    )


def _ridge(distance: Floats, width: float) -> Floats:
    """Return a Gaussian line profile: 1 at distance 0."""
    profile: Floats = np.exp(-((distance / np.float32(width)) ** 2))
    return profile


def _paint_cells(scene: _Scene, tissue: Tissue) -> None:
    """Fill cells with granular cytoplasm and draw the membrane between them."""
    brightness = tissue.cells.brightness[scene.owner]
    busy = np.clip(0.9 + 0.7 * scene.patches, 0.2, 2.5)
    granules = np.minimum(busy * (13 * scene.coarse + 7 * scene.fine), 16)
    membrane = _ridge(scene.gap, max(1.1, 1.9 * tissue.scale))
    scene.signal[:] = brightness + granules
    scene.signal += membrane * (72 + 7 * scene.coarse - scene.signal)


def _paint_synapse(scene: _Scene, synapse: Synapse, scale: float) -> None:
    """Darken the density on both sides of the cleft, darker on the receiving side, and the vesicles."""
    if scene.reaches(synapse.centre, 16 * scale):
        square = sum((p - c) ** 2 for p, c in zip(scene.position, synapse.centre, strict=True))
        spot = np.exp(-((square / (11 * scale) ** 2) ** 2)) * _ridge(scene.gap, 4.0 * scale)
        scene.signal -= spot * np.where(scene.owner == synapse.sender, np.float32(35), np.float32(75))
    for vesicle in synapse.vesicles[scene.reaches(synapse.vesicles, 4 * scale + 1)]:
        _paint_vesicle(scene, vesicle, scale)


def _paint_vesicle(scene: _Scene, centre: Floats, scale: float) -> None:
    """Darken a shell, 40 nm across where a voxel is 8 nm."""
    distance = np.sqrt(sum((p - c) ** 2 for p, c in zip(scene.position, centre, strict=True)))
    scene.signal -= 75 * _ridge(distance - max(1.0, 2.1 * scale), 0.9)


def _paint_organelle(scene: _Scene, organelle: Organelle) -> None:
    depth = organelle.depth(scene.position, scene.owner, scene.gap)
    inside = depth > 0
    if not inside.any():
        return
    paint = {"mitochondrion": _mitochondrion, "dense body": _dense_body, "reticulum": _reticulum}[organelle.kind]
    scene.signal[inside] = paint(scene, organelle, inside, depth[inside])
    if organelle.kind == "mitochondrion":
        scene.truth[inside] = MITOCHONDRIA


def _mitochondrion(scene: _Scene, organelle: Organelle, inside: NDArray[np.bool_], depth: Floats) -> Floats:
    """Return two membranes, a grey matrix and cristae: folds at a distance of 6 to 8 voxels that come and go."""
    coarse, patches = scene.coarse[inside], scene.patches[inside]
    matrix = organelle.brightness + 7 * coarse + 6 * scene.fine[inside]
    period = 5.5 + 0.12 * organelle.radius
    phase = dot([p[inside] for p in scene.position], organelle.grain) / period + 0.28 * patches + 0.1 * coarse
    fold = _ridge((phase - np.round(phase)) * period, 1.1) * np.clip(0.6 + patches, 0, 1) * np.clip(depth - 3, 0, 1)
    value: Floats = matrix - 38 * fold - 48 * _ridge(depth - 0.9, 1.0) - 22 * _ridge(depth - 3.8, 1.0)
    return value


def _dense_body(scene: _Scene, organelle: Organelle, inside: NDArray[np.bool_], depth: Floats) -> Floats:
    """Return something dark and mottled with a soft edge."""
    body = organelle.brightness + 13 * scene.coarse[inside] + 7 * scene.fine[inside]
    value: Floats = scene.signal[inside] + np.clip(depth / 2.5, 0, 1) * (body - scene.signal[inside])
    return value


def _reticulum(scene: _Scene, organelle: Organelle, inside: NDArray[np.bool_], depth: Floats) -> Floats:
    """Return a thin membrane around a bright lumen."""
    return organelle.brightness + 6 * scene.fine[inside] - 95 * _ridge(depth - 0.7, 1.0)


def _take_image(rng: np.random.Generator, signal: Floats, relative: Spacing) -> NDArray[np.uint8]:
    """Return what the detector records of `signal` (which is overwritten): blur, drift, stripes, noise, 8 bits."""
    for_drift, for_stripes, *for_slices = rng.spawn(2 + signal.shape[0])
    ndimage.gaussian_filter(signal, [0.9 / s for s in relative], output=signal, mode="nearest")
    extent = [n * s for n, s in zip(signal.shape, relative, strict=True)]
    drift = SmoothField.random(for_drift, extent, max(extent) / 2)
    stripes = for_stripes.normal(0, 1.2, (signal.shape[0], 1, signal.shape[2]))
    z, y, x = _grid(Box.of_shape(signal.shape), relative)
    image = np.empty(signal.shape, np.uint8)
    for k, slice_rng in enumerate(for_slices):
        gain = 1 + 0.07 * drift.on((z[k : k + 1], y, x))[0] + slice_rng.normal(0, 0.008)
        recorded = (signal[k] - 128) * gain + 128 + 9 * (gain - 1) / 0.07 + ndimage.gaussian_filter1d(stripes[k], 1.5)
        recorded += _noise(slice_rng, recorded)
        image[k] = np.clip(np.rint(recorded), 0, 255)
    return image


def _noise(rng: np.random.Generator, expected: Floats) -> Floats:
    """Return noise that grows with the signal, as counts do, and is slightly correlated between neighbours."""
    white = ndimage.gaussian_filter(rng.standard_normal(expected.shape, dtype=np.float32), 0.65, mode="wrap")
    noise: Floats = white * np.sqrt(np.clip(expected, 20, None)) * 2.2
    return noise
