"""Supervoxels of a volume in a file take memory by the block and by the supervoxel, not by the voxel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SHAPE = (192, 384, 384)  # 28 million voxels, in blocks of one million
MEMORY = 40_000_000

# Anonymous memory: pages of mapped files are the system's to take back. Read at each step, as there is no record of
# the highest value.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from voxloop.blocks import SerialExecutor
from voxloop.io import open_volume
from voxloop.specs import SlicSpec
from voxloop.supervoxels import slic
from voxloop.volume import Volume

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

slic(Volume(np.random.default_rng(0).normal(size=(9, 40, 40))), SlicSpec(size=1000))  # compiles
highest = before = anonymous()

def progress(stage, done, total):
    global highest
    highest = max(highest, anonymous())

volume = open_volume(sys.argv[1])
out = np.lib.format.open_memmap(sys.argv[2], "w+", np.uint32, volume.shape)
spec = SlicSpec(size=2000, coarse_sigma=0, max_num_iter=2)
slic(volume, spec, memory=int(sys.argv[3]), out=out, executor=SerialExecutor(), progress=progress)
print(highest - before)
"""


def rise(image: Path, out: Path, memory: int) -> int:
    """Return by how many bytes a process grows that cuts an image within a budget."""
    command = [sys.executable, "-c", PROGRAM, image, out, str(memory)]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells how much memory is anonymous")
def test_the_tiles_are_in_files_where_the_budget_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.normal(128, 30, [n // 16 for n in SHAPE]).repeat(16, 0).repeat(16, 1).repeat(16, 2)
    np.save(tmp_path / "image.npy", (coarse + rng.normal(0, 3, SHAPE).astype(np.float32)).clip(0, 255).astype(np.uint8))
    small = rise(tmp_path / "image.npy", tmp_path / "small.npy", MEMORY)
    large = rise(tmp_path / "image.npy", tmp_path / "large.npy", 2_000_000_000)
    np.testing.assert_array_equal(np.load(tmp_path / "small.npy"), np.load(tmp_path / "large.npy"))
    n_voxels = int(np.prod(SHAPE))
    assert large > 2 * n_voxels  # images of two bytes a voxel, or fragments, all at once
    assert small < 80_000_000 + MEMORY  # a block at a time takes more than so small a budget; 28 million voxels do not
