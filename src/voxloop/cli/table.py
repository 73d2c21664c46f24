"""`voxloop table`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_computing, add_image_choice, add_project, open_project
from voxloop.cli.output import Output

HELP = "write a table of supervoxels, objects or classes, with volumes in physical units"
EXAMPLES = """\
examples:
  voxloop table cells.voxloop objects cells-objects.csv
  voxloop table cells.voxloop supervoxels "{dataset_dir}/{nickname}-{result_type}.parquet"
tables:
  supervoxels   a row each: class, probabilities, uncertainty, size, centre, label
  objects       a row for each connected piece of a class: size, centre, bounding box, whether it touches the border
  classes       a row each: volume, share, number of objects and of labelled supervoxels
"""
TABLES = ("supervoxels", "objects", "classes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument("table", choices=TABLES, metavar="TABLE", help=f"one of {', '.join(TABLES)}")
    parser.add_argument(
        "path", metavar="FILE", help="where to: .csv or .parquet; it may hold {dataset_dir}, {nickname}, {result_type}"
    )
    add_image_choice(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the table."""
    with open_project(options, output) as project:
        path = project.export_table(options.table, options.path, image=options.image, overwrite=options.overwrite)
    output.result([f"{path}: written"], {"table": options.table, "path": path})
