"""The benchmark of the app on a tiny volume: every part runs, and says what it measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import app


@pytest.mark.slow
def test_every_part_on_a_tiny_volume(
    window: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxloop.app import layers

    monkeypatch.delenv("VOXLOOP_DATA", raising=False)
    monkeypatch.setattr(app, "N_STROKES", 5)
    monkeypatch.setattr(app, "MAPPED_SHAPE", (8, 240, 250))
    monkeypatch.setattr(layers, "_IN_MEMORY_BYTES", layers._IN_MEMORY_BYTES)  # put back afterwards
    app.run(tmp_path, app.PARTS, (24, 240, 250), 300)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 19
    times = [float(row[3].split()[0]) for row in rows if row[3].strip().endswith("ms")]
    assert len(times) == 18
    assert all(math.isfinite(time) and time >= 0 for time in times)
