"""The MNI152 sample: tissues where anatomy has them, and a clear sentence where nilearn is missing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from voxloop.errors import InputError
from voxloop.samples import Sample, mni


@pytest.fixture(scope="module")
def brain() -> Sample:
    pytest.importorskip("nilearn", reason="nilearn brings the template")
    return mni()


def test_shape_classes_and_mask(brain: Sample) -> None:
    assert brain.image.shape == (189, 233, 197)
    assert brain.image.dtype == np.uint8
    assert brain.image.unit == "millimeter"
    assert brain.image.spacing == (1.0, 1.0, 1.0)
    assert brain.mask is not None
    assert np.array_equal(brain.mask, brain.truth > 0)
    assert set(np.unique(brain.truth)) == {0, 1, 2, 3}


def test_tissues_have_the_brightness_of_a_t1_image(brain: Sample) -> None:
    image = np.asarray(brain.image.data)
    fluid, grey, white = (image[brain.truth == k].mean() for k in (1, 2, 3))
    assert fluid + 30 < grey < white - 30


def test_tissues_lie_where_anatomy_has_them(brain: Sample) -> None:
    # Voxel 0 is at x -98, y -134, z -72 mm in the template's space.
    def at(x: int, y: int, z: int) -> str:
        return brain.class_names[brain.truth[z + 72, y + 134, x + 98] - 1]

    assert at(4, 10, 15) == "cerebrospinal fluid"  # right lateral ventricle
    assert at(12, 10, 10) == "grey matter"  # caudate nucleus
    assert at(25, -30, 28) == "white matter"  # corona radiata
    assert brain.truth[0, 0, 0] == 0


def test_grey_matter_outweighs_white(brain: Sample) -> None:
    fluid, grey, white = np.bincount(brain.truth.ravel())[1:] / 1e6  # litres
    assert 0.9 < grey < 1.2
    assert 0.5 < white < 0.75
    assert fluid < 0.3


def test_without_nilearn_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(InputError, match=r'pip install "voxloop\[samples\]"'):
        mni()


def test_import_of_samples_is_light() -> None:
    code = (
        "import sys, voxloop.samples; print(sorted({'nilearn', 'sklearn', 'numba', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
