"""What the first use costs: all kernels compiled with an empty cache, and loaded from it the second time."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

SCRIPT = "from voxloop.project.warmup import warm_up; warm_up()"
HEADER = "| first use | CPU s | wall s |\n|---|--:|--:|"


@dataclass(frozen=True)
class Start:
    """Seconds that a new process takes until every kernel has run once."""

    name: str
    cpu: float
    wall: float


def starts(script: str = SCRIPT) -> list[Start]:
    """Return what the first and the second start take, in processes of their own."""
    with tempfile.TemporaryDirectory(prefix="voxloop-compiled-") as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        return [_start(name, script, environment) for name in ("compiled", "loaded from the cache")]


def _start(name: str, script: str, environment: dict[str, str]) -> Start:
    cpu, wall = _children(), time.perf_counter()
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    return Start(name, _children() - cpu, time.perf_counter() - wall)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
