"""The app is killed in the middle of a stroke: that stroke is lost, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxloop.project import Project

# The second stroke is never finished: the button stays down until the process is killed.
_VICTIM = textwrap.dedent("""
    import sys, warnings
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path
    warnings.simplefilter("ignore")
    spec = spec_from_file_location("hands", sys.argv[1])
    hands = module_from_spec(spec)
    spec.loader.exec_module(hands)
    import napari
    desk = hands.Window(napari.Viewer())
    desk.open(Path(sys.argv[2]))
    desk.viewer.dims.set_point(0, 0)
    desk.stroke((0, 10, 10), (0, 12, 40))
    desk.mouse("Move", (0, 40, 10), pressed=False)
    desk.mouse("Press", (0, 40, 10))
    desk.mouse("Move", (0, 44, 25))
    assert desk.controller.layers.labels.data[0, 40, 10], "the second stroke is not on the screen"
    print("in mid-stroke", flush=True)
    desk.until(lambda: False, timeout=600)
""")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill -9")
def test_kill_in_mid_stroke(window: Callable[..., Any], project_folder: Path) -> None:
    hands = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", _VICTIM, str(hands), str(project_folder)]
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert victim.stdout is not None
    line = victim.stdout.readline()
    victim.kill()
    _, errors = victim.communicate(timeout=60)
    assert line == "in mid-stroke\n", errors[-2000:]
    assert victim.returncode == -signal.SIGKILL
    with Project.open(project_folder) as project:
        (stroke,) = project.annotations.strokes
        assert project.recovered is None
        assert stroke.class_id == 1
        indices, _ = project.annotations.labelled_voxels(0)
        rows = (indices // 64) % 64
        assert rows.max() < 30, "a part of the stroke in flight was saved"
