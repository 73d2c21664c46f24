"""What the benchmarks run on: a crop of a real volume where there is one, else the phantom."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.measure import Size
from voxloop.samples import phantom
from voxloop.volume import Volume

SHAPES: dict[Size, tuple[int, int, int]] = {"test": (16, 48, 48), "quick": (40, 128, 128), "full": (64, 192, 192)}
MIN_REAL = 64  # voxels a side, below which the real volumes are not read: the tests need no data
CUBES_A_SIDE: dict[Size, int] = {"test": 18, "quick": 37, "full": 37}  # 37^3 is 50,653
N_LABELS = 500
N_FEATURES = 122  # 61 responses, mean and standard deviation
N_CLASSES = 3


@dataclass(frozen=True)
class Scene:
    """An image with references: `segments` are objects to keep apart, `classes` what a classifier would tell apart."""

    name: str
    image: Volume
    segments: NDArray[Any]
    classes: NDArray[Any]


@cache
def scene(size: Size) -> Scene:
    """Return a crop of FIB-25 (neurons, and their membranes) or a phantom (mitochondria, for both references)."""
    shape = SHAPES[size]
    folder = data_root() / "fib25_drosophila_medulla"
    if size == "test" or not folder.is_dir():
        sample = phantom(shape, seed=1, spacing=(1.0, 1.0, 1.0))
        return Scene("phantom", sample.image, sample.truth, sample.truth)
    crop = tuple(slice(0, n) for n in shape)
    image, neurons, membrane = (
        np.ascontiguousarray(tifffile.imread(folder / name)[crop])
        for name in ("image.tif", "label_neurons.tif", "label_membrane.tif")
    )
    return Scene("FIB-25", Volume.from_array(image), neurons, membrane)


def data_root() -> Path:
    """Return where the real volumes are, if they are."""
    return Path(os.environ.get("VOXLOOP_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def real_or_tissue(name: str, folder: str, shape: tuple[int, int, int]) -> tuple[str, Volume]:
    """Return the middle of a real volume if it is there and large enough to be cut, else blobs, with its name."""
    file = data_root() / folder / "image.tif"
    if min(shape) < MIN_REAL or not file.is_file():
        return "blobs", tissue(shape)
    image = tifffile.imread(file)
    starts = [(whole - part) // 2 for whole, part in zip(image.shape, shape, strict=True)]
    crop = tuple(slice(start, start + part) for start, part in zip(starts, shape, strict=True))
    return name, Volume.from_array(np.ascontiguousarray(image[crop]))


def tissue(shape: tuple[int, int, int], seed: int = 0) -> Volume:
    """Return blobs with noise, 8 bits, as in electron microscopy; quick to make at any size."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), 3.0, mode="wrap")
    image = 128 + 40 * smooth / smooth.std() + 10 * rng.standard_normal(shape, np.float32)
    return Volume.from_array(np.clip(image, 0, 255).astype(np.uint8))


def cubes(n: int, side: int = 4) -> NDArray[np.uint32]:
    """Return the labels of n x n x n cubes of `side` voxels each way."""
    ids = np.arange(1, n**3 + 1, dtype=np.uint32).reshape(n, n, n)
    for axis in range(3):
        ids = ids.repeat(side, axis)
    return ids


@dataclass(frozen=True)
class Rows:
    """A table of supervoxels with their true classes 0, 1, 2; the first `N_LABELS` of `order` are labelled."""

    values: NDArray[np.float32]
    classes: NDArray[np.int64]
    order: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.classes)

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Positions of the labelled rows."""
        return self.order[:N_LABELS]

    def accuracy(self, probabilities: NDArray[Any]) -> float:
        """Return the share of unlabelled rows whose most probable class is the true one."""
        rest = self.order[N_LABELS:]
        return float((probabilities.argmax(axis=1)[rest] == self.classes[rest]).mean())


@cache
def table(n: int) -> Rows:
    """Return the rows of n x n x n cubes whose classes form blobs of several cubes.

    Each class is three clusters that overlap with others; a third of the columns says nothing.
    """
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.standard_normal((n, n, n)), 1.5, mode="wrap").ravel()
    classes = np.digitize(field, np.quantile(field, (0.33, 0.67)))
    clusters = classes * 3 + rng.integers(0, 3, n**3)
    middles = rng.normal(0, 0.4, (N_CLASSES * 3, N_FEATURES)) * (np.arange(N_FEATURES) % 3 > 0)
    values = middles[clusters] + rng.normal(size=(n**3, N_FEATURES))
    return Rows(values.astype(np.float32), classes, rng.permutation(n**3))


def side_by_side(shape: tuple[int, int, int]) -> str:
    """Return a shape as text."""
    return " x ".join(map(str, shape))
