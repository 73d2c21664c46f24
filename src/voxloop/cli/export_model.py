"""`voxloop export-model`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_computing, add_project, open_project
from voxloop.cli.output import Output

HELP = "write the trained classifier to a file that segments other images without the project"
EXAMPLES = """\
examples:
  voxloop export-model cells.voxloop cells.voxmodel
  voxloop predict --model cells.voxmodel new.tif --out "{nickname}-{result_type}.tif"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument("path", metavar="FILE", help="where to, such as cells.voxmodel")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def run(options: argparse.Namespace, output: Output) -> None:
    """Train if it has to be, and write the file."""
    with open_project(options, output) as project:
        model = project.model()
    path = model.save(options.path, overwrite=options.overwrite)
    names = [c.name for c in model.classes]
    output.result([f"{path}: written, for {', '.join(names)}"], {"path": path, "classes": names})
