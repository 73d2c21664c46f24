"""The real volumes that quality is measured on: learned on the first part along z, scored on the rest.

They are not part of the project, since their licences do not allow it: the folder is named by ``VOXLOOP_DATA``, or lies
beside the repository as ``shared/data``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from voxloop.project import PALETTE
from voxloop.samples import Sample
from voxloop.volume import Volume


@dataclass(frozen=True)
class RealVolume:
    """How a volume is read and split.

    Attributes
    ----------
    folder, image, truth
        Where the files are.
    spacing
        Size of a voxel (z, y, x), in `unit`.
    n_learn
        Slices along z that are labelled; the rest is scored.
    classes
        Names of the classes 1..k.
    class_of
        What turns the values of the file into classes, 0 for voxels outside the mask.
    crop
        Rows and columns that are used, to keep a run short; None for all.
    """

    folder: str
    image: str
    truth: str
    spacing: tuple[float, float, float]
    unit: str
    n_learn: int
    classes: tuple[str, ...]
    class_of: Callable[[np.ndarray], np.ndarray]
    crop: tuple[slice, slice] | None = None

    def sample(self) -> Sample:
        """Return the volume with its truth."""
        rows, columns = self.crop or (slice(None), slice(None))
        image, truth = (
            tifffile.imread(data_folder() / self.folder / name)[:, rows, columns] for name in (self.image, self.truth)
        )
        classes = self.class_of(truth).astype(np.uint8)
        volume = Volume.from_array(image, spacing=self.spacing, unit=self.unit, name=self.folder)
        mask = classes > 0
        colors = tuple(PALETTE[: len(self.classes)])
        return Sample(volume, classes, self.classes, colors, None if mask.all() else mask)


VOLUMES = {
    "epfl": RealVolume(
        "epfl_hippocampus_ca1", "image.tif", "label.tif", (5, 5, 5), "nm", 83,
        ("background", "mitochondria"), lambda v: 1 + (v > 0), (slice(0, 512), slice(176, 688)),
    ),
    "vnc": RealVolume(
        "vnc_drosophila_sstem", "image.tif", "label.tif", (50, 4.6, 4.6), "nm", 14,
        ("intracellular", "membrane", "mitochondria", "synapse", "glia"), lambda v: v,
        (slice(256, 768), slice(256, 768)),
    ),
    "fib25": RealVolume(
        "fib25_drosophila_medulla", "image.tif", "label_membrane.tif", (10, 10, 10), "nm", 125,
        ("interior", "membrane"), lambda v: v,
    ),
    "mri": RealVolume(
        "mri_flair_ms_lesions", "image.tif", "label.tif", (1, 1, 1), "mm", 60, ("brain", "lesion"), lambda v: v
    ),
    "nuclei": RealVolume(
        "lm_ovule_nuclei", "image.tif", "label_instances.tif", (284, 127, 127), "nm", 50,
        ("background", "nucleus"), lambda v: 1 + (v > 0),
    ),
}  # fmt: skip


def data_folder() -> Path:
    """Return the folder of the real volumes; `FileNotFoundError` says how to name another."""
    folder = Path(os.environ.get("VOXLOOP_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; name the folder of the real volumes by VOXLOOP_DATA")
    return folder
