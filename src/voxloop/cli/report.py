"""`voxloop report`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_computing, add_project, open_project
from voxloop.cli.output import Output

HELP = "write one HTML page about a project: pictures, accuracy, volumes"
EXAMPLES = """\
example:
  voxloop report cells.voxloop --out cells.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="where to, such as report.html")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")


def run(options: argparse.Namespace, output: Output) -> None:
    """Compute what is missing, then write the page."""
    with open_project(options, output) as project:
        path = project.report(options.out, overwrite=options.overwrite)
    output.result([f"{path}: written"], {"report": str(path)})
