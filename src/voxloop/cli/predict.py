"""`voxloop predict`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_computing, add_project, open_project
from voxloop.cli.output import Output

HELP = "predict a class for every supervoxel"
EXAMPLES = """\
example:
  voxloop predict cells.voxloop
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)


def run(options: argparse.Namespace, output: Output) -> None:
    """Predict, and say how much of each image each class takes."""
    with open_project(options, output) as project:
        lines, data = [], []
        for index, record in enumerate(project.images):
            shares = project.class_shares(index)
            lines.append(f"{record.name}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
            data.append({"image": record.name, "shares": shares})
    output.result(lines, {"images": data})
