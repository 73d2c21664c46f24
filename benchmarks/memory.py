"""The most memory that a stage takes beyond the image and the labels, in a process of its own. Linux only.

`python -m benchmarks.memory STAGE Z Y X` prints bytes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Size
from benchmarks.scaling import run_stage
from benchmarks.scenes import side_by_side

STAGES = ("SLIC", "graph", "features")
SHAPES: dict[Size, tuple[tuple[int, int, int], ...]] = {
    "test": ((16, 32, 32),),
    "quick": ((64, 192, 192),),
    "full": ((64, 256, 256), (128, 256, 256)),
}


@dataclass(frozen=True)
class Peak:
    """Peak of one stage: `peak` bytes on top of what was there before, for a volume of `voxels`."""

    stage: str
    work: str
    voxels: int
    peak: int

    @property
    def bytes_per_voxel(self) -> float:
        """Peak over the number of voxels."""
        return self.peak / self.voxels


# Arrays above 64 KB go back to the system when they are freed, so that no stage uses memory unseen that another left.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def peaks(size: Size) -> list[Peak]:
    """Return the peaks of all stages, each measured in a new process."""
    return [
        Peak(stage, side_by_side(shape), shape[0] * shape[1] * shape[2], peak_in_new_process(stage, shape))
        for stage in STAGES
        for shape in SHAPES[size]
    ]


def peak_in_new_process(stage: str, shape: tuple[int, int, int]) -> int:
    """Return `peak_of` as a new process finds it, which has no freed memory to use again."""
    command = [sys.executable, "-m", "benchmarks.memory", stage, *map(str, shape)]
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | ALLOCATOR
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=root, env=environment).stdout)


def peak_of(stage: str, shape: tuple[int, int, int]) -> int:
    """Return by how many bytes a stage lifts the peak of this process."""
    run_stage(stage, (16, 16, 16))  # compiled code and its caches are not the stage's
    run_stage("graph", shape)  # makes the image and the labels
    # getrusage would start at the peak of the process that started this one: it is inherited.
    Path("/proc/self/clear_refs").write_text("5")  # makes the peak what is in use now
    before = _peak()
    result = run_stage(stage, shape)
    after = _peak()
    del result  # not before: what a stage returns counts
    return after - before


def _peak() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def main(arguments: list[str]) -> None:
    stage, *lengths = arguments
    z, y, x = map(int, lengths)
    print(peak_of(stage, (z, y, x)))


if __name__ == "__main__":
    main(sys.argv[1:])
