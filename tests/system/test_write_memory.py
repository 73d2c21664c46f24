"""Writing holds some blocks, not the volume, also while coarser levels are made: measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHAPE = (48, 2048, 2048)  # 201 million voxels
MAX_GROWTH = 120_000_000  # bytes; a few blocks in each of two threads, and what the codecs keep

CODE = """
import resource, sys
import numpy as np
from voxloop.blocks import ThreadExecutor, map_blocks, partition
from voxloop.io import create_volume, open_volume

shape, (name, layout, channels) = tuple(map(int, sys.argv[1].split(","))), sys.argv[2:]
shape = shape if channels == "1" else (shape[0] // 2, *shape[1:], 2)

def write(block):
    z, y, x = (at.astype(np.uint8) for at in np.ogrid[block.inner.slices])  # in bytes: the sum is one array
    values = z + y // 7 + x // 5
    writer.write(block.inner, values if len(shape) == 3 else np.stack([values, 255 - values], axis=-1))

def run(path, shape):
    global writer
    with create_volume(path, shape, np.uint8, ome_tiff=layout) as writer:
        for _ in map_blocks(write, partition(shape[:3], writer.block_shape), executor=ThreadExecutor(2)):
            pass

shapes = shape
shape = (4, 300, 300, *shapes[3:])
run("small-" + name, shape)  # imports and caches
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shape = shapes
run(name, shape)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
volume = open_volume(name)
assert volume.data[7, 100, 200:203].ravel()[0] == 7 + 100 // 7 + 200 // 5
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere ru_maxrss has another unit")
@pytest.mark.parametrize(
    ("name", "layout", "channels"),
    [("a.ome.tif", "plain", "1"), ("a.ome.tif", "pyramid", "2"), ("a.zarr", "plain", "2"), ("a.h5", "plain", "1")],
)
def test_memory_is_that_of_blocks(tmp_path: Path, name: str, layout: str, channels: str) -> None:
    command = [sys.executable, "-c", CODE, ",".join(map(str, SHAPE)), name, layout, channels]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MAX_GROWTH
