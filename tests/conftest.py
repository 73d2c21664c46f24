"""Fixtures for all tests: where the real volumes are, and a machine without surprises."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Return the folder of a real volume by name; skip the test where the volumes are not on this machine."""

    def folder(name: str) -> Path:
        root = Path(os.environ.get("VOXLOOP_DATA", REPOSITORY.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"no real volume {name!r} in {root} (set VOXLOOP_DATA)")
        return root / name

    return folder
