"""Run the benchmarks and print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import first_use, gigavoxel, growth
from benchmarks.catalogue import BENCHMARKS
from benchmarks.measure import HEADER, Result, Size, measure, row
from benchmarks.memory import Peak, peaks
from voxloop.blocks import available_cpus
from voxloop.project.warmup import warm_up

PEERS = (
    "numpy",
    "numba",
    "scikit-image",
    "SimpleITK",
    "bioimage-cpp",
    "connected-components-3d",
    "scikit-learn",
    "scipy",
)
PARTS = ("growth", "memory", "first_use")  # tables of their own
REPEATS: dict[Size, int] = {"test": 1, "quick": 2, "full": 5}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller volumes, fewer repeats: about a minute")
    parser.add_argument("--only", metavar="WORD", default="", help="benchmarks whose name holds WORD, such as slic")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results there as well")
    big = parser.add_argument_group("--only gigavoxel, which is not run otherwise")
    big.add_argument("--voxels", type=float, default=1e9, metavar="N", help="size of the volume (default: 1e9)")
    big.add_argument("--memory", default="2GB", metavar="SIZE", help="budget of each command (default: 2GB)")
    big.add_argument("--workers", type=int, metavar="N", help="processes instead of threads")
    big.add_argument("--folder", type=Path, help="where the files go for the time being (default: the system's)")
    options = parser.parse_args(arguments)
    if options.only == "gigavoxel":
        gigavoxel.measure(
            voxels=int(options.voxels), memory=options.memory, workers=options.workers,
            folder=options.folder, json_file=options.json,
        )  # fmt: skip
        print(machine())
        return
    size: Size = "quick" if options.quick else "full"

    chosen = [benchmark for benchmark in BENCHMARKS if options.only in benchmark.__name__]
    parts = [part for part in PARTS if options.only in part]
    if not chosen and not parts:
        parser.error(f"no benchmark's name holds {options.only!r}; there are {', '.join(names())}")

    start = time.perf_counter()
    warm_up()
    print(f"compiled or loaded in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    results = []
    if chosen:
        print(HEADER)
    for benchmark in chosen:
        results.append(measure(benchmark(size), max_repeats=REPEATS[size]))
        print(row(results[-1]), flush=True)
    grown = []
    if "growth" in parts:
        print(f"\n{growth.HEADER}")
        for found in growth.growth(size):
            grown.append(found)
            print(growth.row(found), flush=True)
    stages = peaks(size) if "memory" in parts else []
    if stages:
        print("\n| peak memory | beyond image and labels | bytes a voxel |\n|---|--:|--:|")
    for stage in stages:
        print(f"| {stage.stage}: {stage.work} | {stage.peak / 1e6:.0f} MB | {stage.bytes_per_voxel:.1f} |")
    begun = first_use.starts() if "first_use" in parts else []
    if begun:
        print(f"\n{first_use.HEADER}")
    for one in begun:
        print(f"| {one.name} | {one.cpu:.1f} | {one.wall:.1f} |")
    print(f"\n{machine()}; {time.perf_counter() - start:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(report(size, results, grown, stages, begun), indent=1) + "\n")


def names() -> list[str]:
    """Return the names that `--only` knows."""
    return [*(benchmark.__name__ for benchmark in BENCHMARKS), *PARTS, "gigavoxel"]


def machine() -> str:
    """Return what the figures were measured on, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in PEERS)
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    return (
        f"{available_cpus()} processors ({platform.machine()}), {load}, Python {platform.python_version()}, {versions}"
    )


def report(
    size: Size,
    results: Sequence[Result],
    grown: Sequence[growth.Growth],
    stages: Sequence[Peak],
    begun: Sequence[first_use.Start],
) -> dict[str, Any]:
    """Return the results as data that JSON can hold."""
    return {
        "size": size,
        "machine": machine(),
        "comparisons": [asdict(result) for result in results],
        "growth": [asdict(found) for found in grown],
        "memory": [asdict(stage) for stage in stages],
        "first use": [asdict(one) for one in begun],
    }


if __name__ == "__main__":
    main()
