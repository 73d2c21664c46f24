"""What is not needed is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import voxloop

HEAVY = ("numba", "sklearn", "scipy", "dask", "distributed", "qtpy", "PySide6", "napari", "zarr", "matplotlib",
         "pydantic", "numpy", "tifffile", "tqdm")  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "import voxloop",
        "import voxloop; dir(voxloop)",
        "from voxloop.cli.main import main; main(['--help'])",
        "from voxloop.cli.main import main; main(['features', '--help'])",
        "from voxloop.cli.main import main; main(['nonsense'])",
        "from voxloop.cli.main import main; main(['--version'])",
    ],
)
def test_nothing_heavy(statement: str) -> None:
    script = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(result.stderr.split())
    assert "voxloop" in loaded
    assert not loaded & set(HEAVY)


def test_no_toolkit_in_a_project() -> None:
    script = "import sys, voxloop.project; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    unwanted = {"sklearn", "skimage", "dask", "distributed", "qtpy", "napari", "matplotlib", "tqdm"}
    assert not set(result.stdout.split()) & unwanted


def test_every_public_name_is_there() -> None:
    for name in voxloop.__all__:
        assert getattr(voxloop, name) is not None
    assert set(voxloop.__all__) <= set(dir(voxloop))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = voxloop.nonsense
