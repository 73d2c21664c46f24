"""The MNI152 brain template with its tissue maps, from the files that nilearn brings along."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.samples.sample import Sample
from voxloop.volume import Volume


def mni() -> Sample:
    """Return the MNI152 T1 template at 1 mm with its tissues; nothing is downloaded.

    The truth is the most probable tissue of the template's grey- and white-matter maps. What is neither is called
    cerebrospinal fluid: most of it is. The template is the symmetric ICBM 152 average of 2009, version a (Fonov et
    al., NeuroImage 54, 2011), without the skull.

    Returns
    -------
    Sample
        uint8 image of 189 x 233 x 197 voxels (z upwards, y to the front, x to the right); classes 1 cerebrospinal
        fluid, 2 grey matter, 3 white matter inside `mask` (the brain), 0 outside.

    Raises
    ------
    InputError
        If nilearn is not installed.
    """
    try:
        from nilearn import datasets
    except ImportError:
        raise InputError('the MNI152 sample needs nilearn: pip install "voxloop[samples]"') from None
    t1 = _voxels(datasets.load_mni152_template(resolution=1))
    grey = _voxels(datasets.load_mni152_gm_template(resolution=1))
    white = _voxels(datasets.load_mni152_wm_template(resolution=1))
    mask = t1 > 0
    truth = np.argmax(np.stack((1 - grey - white, grey, white)), axis=0).astype(np.uint8) + np.uint8(1)
    truth[~mask] = 0
    return Sample(
        image=Volume(np.rint(t1 * 255).astype(np.uint8), unit="millimeter", name="mni152", axes="zyx"),
        truth=truth,
        class_names=("cerebrospinal fluid", "grey matter", "white matter"),
        class_colors=("#0072b2", "#e69f00", "#cc79a7"),
        mask=mask,
    )


def _voxels(template: Any) -> NDArray[np.float32]:
    """Return a template's values (0..1) as (z, y, x); NIfTI has x first."""
    return np.ascontiguousarray(np.asarray(template.dataobj, dtype=np.float32).T)
