"""What the supervoxels of an image are like, and what they are too large for, in words."""

from __future__ import annotations

from math import ceil, prod

import numpy as np

from voxloop.features import FeatureTable
from voxloop.project.images import ImageRecord
from voxloop.supervoxels import Supervoxels, explained_variation

SMALL = 0.25  # of the mean size: what is smaller is called small
# Of the edge of a piece. Sheets in noise, pieces of 125 to 1000 voxels, default settings: the best IoU that supervoxels
# allow for a sheet half an edge thick is 0.77 to 0.86 where noise is a third of the contrast, and 0.60 to 0.76 where it
# is as strong; for a third of an edge 0.60 to 0.81 and 0.32 to 0.61.
_TOO_THIN = 0.5
_SYMBOLS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm"}
_SAMPLE = 10_000  # supervoxels are enough to go by, where rows lie on the disk


def describe(supervoxels: Supervoxels, record: ImageRecord) -> str:
    """Return how many there are, how large they are, and how many are small."""
    n, report = supervoxels.n, supervoxels.report
    size = float(supervoxels.sizes.mean())
    asked = f" ({report.asked_for:,} asked for)" if report.got != report.asked_for else ""
    small = float(np.mean(supervoxels.sizes < SMALL * size))
    return (
        f"{n:,}{asked}, {size:,.0f} voxels on average: about {_length(_across(size, record), record)} across; "
        f"{small:.0%} smaller than a quarter of that"
    )


def warn(supervoxels: Supervoxels, record: ImageRecord) -> str:
    """Return what is too thin for pieces of this size."""
    across = _across(float(supervoxels.sizes.mean()), record)
    return (
        f"Structures thinner than about {_length(_TOO_THIN * across, record)} come out ragged, or end up in one piece "
        "with what is beside them. If you look for such, take smaller pieces."
    )


def explain(supervoxels: Supervoxels, features: FeatureTable) -> str:
    """Return how much of the image's brightness the supervoxels keep; empty if the features do not tell."""
    columns = {name: index for index, name in enumerate(features.names)}
    sigmas = [
        name.removesuffix(" mean")
        for name in features.names
        if name.startswith("gaussian sigma=") and f"{name.removesuffix(' mean')} std" in columns
    ]
    if not sigmas:  # several channels, or other features
        return ""
    sharpest = min(sigmas, key=lambda name: float(name.split("=")[1].split()[0]))
    rows = np.arange(0, supervoxels.n, ceil(supervoxels.n / _SAMPLE))
    means, stds = features.values[rows][:, [columns[f"{sharpest} mean"], columns[f"{sharpest} std"]]].T
    share = explained_variation(supervoxels.sizes[rows], means, stds)
    if share is None:
        return ""
    return (
        f"{share:.0%} of the variance of brightness lies between pieces, the rest (noise and texture, too) inside of "
        "them: a measure to compare sizes by."
    )


def _across(size: float, record: ImageRecord) -> float:
    """Return the edge of a cube (in a flat image of a square) of `size` voxels, in the unit of the voxel size."""
    axes = record.spacing[1:] if record.shape[0] == 1 else record.spacing
    return float((size * prod(axes)) ** (1 / len(axes)))


def _length(value: float, record: ImageRecord) -> str:
    """Return a length in two digits, such as ``"20 nm"``."""
    return f"{float(f'{value:.2g}'):,g} {_SYMBOLS.get(record.unit, record.unit)}"
