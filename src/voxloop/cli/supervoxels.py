"""`voxloop supervoxels`."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from voxloop.cli.options import add_computing, add_project, given, open_project
from voxloop.cli.output import Output

HELP = "cut the project's images into supervoxels"
EXAMPLES = """\
examples:
  voxloop supervoxels cells.voxloop
  voxloop supervoxels cells.voxloop --size 100 --compactness 0.2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument("--method", choices=("slic", "watershed"), help="how: slic (default), or a seeded watershed")
    parser.add_argument(
        "--n-segments", type=int, metavar="N", help="how many supervoxels an image gets (default: by --size)"
    )
    parser.add_argument(
        "--size",
        type=float,
        metavar="VOXELS",
        help="mean size of a supervoxel (default: 40 to 200, by the volume's size)",
    )
    parser.add_argument(
        "--compactness", type=float, help="weight of distance against intensity in standard deviations (default: 0.3)"
    )
    parser.add_argument("--max-num-iter", type=int, metavar="N", help="iterations at most (default: 10)")
    parser.add_argument("--sigma", type=float, help="smoothing before, voxels of the finest axis (default: 0.7)")
    parser.add_argument(
        "--coarse-sigma",
        type=float,
        help="smoothing of the second, coarse copy of the image, voxels; 0: none (default: 4)",
    )
    parser.add_argument(
        "--min-size-factor", type=float, help="smaller pieces, as a share of the mean size, are merged (default: 0.25)"
    )
    parser.add_argument(
        "--channel-weights", type=float, nargs="+", metavar="W", help="contrast of each channel (default: 1 each)"
    )


def run(options: argparse.Namespace, output: Output) -> None:
    """Compute the supervoxels, unless they are there already."""
    from voxloop.specs import SlicSpec

    with open_project(options, output) as project:
        names = (
            "method",
            "n_segments",
            "size",
            "compactness",
            "max_num_iter",
            "sigma",
            "coarse_sigma",
            "min_size_factor",
        )
        choice = given(options, *names, "channel_weights")
        if "n_segments" in choice or "size" in choice:
            choice = {"n_segments": None, "size": None} | choice  # one replaces the other
        if choice.get("method") == "watershed":  # which has neither; what SLIC had does not matter
            choice = SlicSpec().model_dump(include={"compactness", "max_num_iter"}) | choice
        project.configure(slic=choice)
        lines, data = [], []
        for index, record in enumerate(project.images):
            start = time.perf_counter()
            reused = project.is_current("supervoxels", index)
            found = project.supervoxels(index)
            seconds = time.perf_counter() - start
            if found.report.message:
                output.warn(f"{record.name}: {found.report.message}")
            state = "as before" if reused else f"{seconds:.1f} s"
            lines.append(f"{record.name}: {found.n:,} supervoxels of {found.sizes.mean():.0f} voxels ({state})")
            data.append({"image": record.name, **asdict(found.report), "reused": reused, "seconds": seconds})
    output.result(lines, {"images": data})
