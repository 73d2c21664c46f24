"""The whole job on a volume that is larger than the memory it may take, stage by stage. Linux only.

`python -m benchmarks --only gigavoxel --voxels 1e9 --memory 2GB` prints a table. A real volume with known classes is
tiled, each copy mirrored, into a Zarr array; every stage is a command of its own, watched from outside.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray

from benchmarks.scenes import data_root
from voxloop.blocks import Block, Box, map_blocks, partition
from voxloop.io import create_volume, open_volume
from voxloop.samples import phantom

POINTS_PER_CLASS = 300
CLASSES = ("background", "mitochondria")
HEADER = "| stage | wall s | CPU s | CPU ns a voxel | peak anonymous MB | peak resident MB |\n|---|--:|--:|--:|--:|--:|"


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes
    ----------
    stage
        Its name.
    wall, cpu
        Seconds, by the clock and of all threads and processes.
    anonymous
        Most bytes of memory of its own: what the system cannot take back.
    resident
        Most bytes in memory, with the pages of mapped files, which the system takes back when it needs them.
    """

    stage: str
    wall: float
    cpu: float
    anonymous: int
    resident: int


def watch(stage: str, command: Sequence[str]) -> Usage:
    """Run a command and return what it and the processes that it starts took; memory is looked at 20 times a second."""
    start, anonymous, resident = time.perf_counter(), 0, 0
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while True:
            found = [_memory(pid) for pid in _family(process.pid)]
            anonymous = max(anonymous, sum(own for own, _ in found))
            resident = max(resident, sum(all_ for _, all_ in found))
            done, status, rusage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {out.read()}")
    wall = time.perf_counter() - start
    return Usage(stage, wall, rusage.ru_utime + rusage.ru_stime, anonymous, resident)


def _family(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []


def _memory(pid: int) -> tuple[int, int]:
    """Return the anonymous bytes of a process now and the most it had in memory, 0 if it has gone."""
    # Not from getrusage: that starts at the peak of the process that started this one.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    sizes = {name: int(kb) * 1024 for name, kb in re.findall(r"(RssAnon|VmHWM):\s+(\d+) kB", status)}
    return sizes.get("RssAnon", 0), sizes.get("VmHWM", 0)


def source() -> tuple[str, NDArray[np.uint8], NDArray[np.uint8]]:
    """Return name, image and classes (1, 2) of what is tiled: mitochondria of EPFL, or a phantom."""
    folder = data_root() / "epfl_hippocampus_ca1"
    if folder.is_dir():
        return "EPFL", tifffile.imread(folder / "image.tif"), tifffile.imread(folder / "label.tif") + np.uint8(1)
    sample = phantom(spacing=(1.0, 1.0, 1.0))
    return "phantom", np.asarray(sample.image.data), sample.truth


def mirrored(n: int, length: int) -> NDArray[np.int64]:
    """Return which of `length` planes is shown at 0..n-1 when each copy is the mirror image of the one before."""
    phase = np.arange(n) % (2 * length)
    return np.minimum(phase, 2 * length - 1 - phase)


def prepare(folder: Path, voxels: int) -> tuple[str, tuple[int, int, int]]:
    """Write ``image.zarr`` and ``points.csv``; return the name of the source and the shape."""
    name, image, truth = source()
    side = max(32, round(voxels ** (1 / 3)))
    shape = (max(1, round(voxels / side**2)), side, side)
    planes = [mirrored(n, length) for n, length in zip(shape, image.shape, strict=True)]
    with create_volume(folder / "image.zarr", shape, np.uint8) as writer:

        def write(block: Block) -> None:
            writer.write(block.inner, image[np.ix_(*(p[s] for p, s in zip(planes, block.inner.slices, strict=True)))])

        for _ in map_blocks(write, partition(shape, writer.block_shape)):
            pass
    rng = np.random.default_rng(0)
    at = rng.integers(0, shape, (200 * POINTS_PER_CLASS, 3))
    classes = truth[tuple(p[i] for p, i in zip(planes, at.T, strict=True))]
    chosen = np.concatenate([np.flatnonzero(classes == c)[:POINTS_PER_CLASS] for c in (1, 2)])
    with (folder / "points.csv").open("w", newline="") as file:
        rows = ([*at[i].tolist(), CLASSES[classes[i] - 1]] for i in chosen)
        csv.writer(file).writerows([["z", "y", "x", "class"], *rows])
    return name, shape


def run(folder: Path, *, voxels: int, memory: str, workers: int | None = None) -> list[Usage]:
    """Run the job in a folder, print a row for each stage, and return what each took."""
    name, shape = prepare(folder, voxels)
    n_voxels = int(np.prod(shape))
    print(f"{name} tiled to {' x '.join(map(str, shape))} uint8, {n_voxels / 1e6:.0f} M voxels, --memory {memory}\n")
    print(HEADER, flush=True)
    project, segmentation = str(folder / "cells.voxloop"), folder / "segmentation.zarr"
    classes = [f"--class={c}" for c in CLASSES]
    budget = ["--memory", memory, *(["--workers", str(workers)] if workers else [])]
    commands = {
        "new": ["new", project, str(folder / "image.zarr"), *classes],
        "supervoxels": ["supervoxels", project, *budget],
        "features": ["features", project, *budget],
        "label": ["label", project, "--points", str(folder / "points.csv")],
        "prediction": ["predict", project, *budget],
        "export segmentation, OME-Zarr": ["export", project, "segmentation", str(segmentation), *budget],
        **{
            f"export probabilities, {name}": [
                "export",
                project,
                "probabilities",
                str(folder / f"probabilities{suffix}"),
                "--dtype",
                "uint8",
                "--rescale",
                "0",
                "1",
                *budget,
            ]
            for name, suffix in {"OME-Zarr": ".zarr", "OME-TIFF": ".ome.tif"}.items()
        },
    }
    found = []
    for stage, command in commands.items():
        usage = watch(stage, [sys.executable, "-m", "voxloop", *command])
        found.append(usage)
        print(
            f"| {stage} | {usage.wall:.1f} | {usage.cpu:.1f} | {usage.cpu / n_voxels * 1e9:.0f} | "
            f"{usage.anonymous / 1e6:.0f} | {usage.resident / 1e6:.0f} |", flush=True,
        )  # fmt: skip
    print(f"\nIoU of {CLASSES[1]} in the first copy, to see that all went well: {_iou(segmentation, shape):.2f}")
    return found


def _iou(segmentation: Path, shape: tuple[int, int, int]) -> float:
    """Return the IoU of class 2 in the first copy of the source, labelled voxels and all."""
    _, image, truth = source()
    box = Box((0, 0, 0), tuple(min(a, b) for a, b in zip(shape, image.shape, strict=True)))  # type: ignore[arg-type]
    ours, theirs = open_volume(segmentation).read(box)[0] == 2, truth[box.slices] == 2
    return float((ours & theirs).sum() / max(1, (ours | theirs).sum()))


def measure(*, voxels: int, memory: str, workers: int | None, folder: Path | None, json_file: Path | None) -> None:
    """Run the job in a temporary folder (inside `folder`, if given), print the table and write the JSON file."""
    with tempfile.TemporaryDirectory(prefix="voxloop-gigavoxel-", dir=folder) as temporary:
        found = run(Path(temporary), voxels=voxels, memory=memory, workers=workers)
    if json_file:
        json_file.write_text(json.dumps([vars(usage) for usage in found], indent=1) + "\n")
