"""`voxloop suggest`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_computing, add_image_choice, add_project, open_project
from voxloop.cli.output import Output

HELP = "propose the slices where the next labels help most"
EXAMPLES = """\
examples:
  voxloop suggest cells.voxloop
  voxloop suggest cells.voxloop --number 5 --axis z --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    add_image_choice(parser)
    parser.add_argument("--number", type=int, default=1, metavar="N", help="how many slices (default: 1)")
    parser.add_argument("--axis", choices=["z", "y", "x"], help="look along one axis only (default: all)")


def run(options: argparse.Namespace, output: Output) -> None:
    """Print the suggestions, best first."""
    axes = None if options.axis is None else ["zyx".index(options.axis)]
    with open_project(options, output) as project:
        suggestions = project.suggest_slices(number=options.number, axes=axes, image=options.image)
    lines, data = [], []
    for s in suggestions:
        z, y, x = s.center
        lines.append(f"{'zyx'[s.axis]} = {s.index}, look at (z {z}, y {y}, x {x}): {s.reason}")
        data.append(
            {"axis": "zyx"[s.axis], "index": s.index, "center": s.center, "score": s.score,
             "supervoxels": s.supervoxels, "reason": s.reason}
        )  # fmt: skip
    output.result(lines or ["no slice is left that keeps its distance from the labelled ones"], {"suggestions": data})
