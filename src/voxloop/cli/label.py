"""`voxloop label`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_image_choice, add_project, parse_assignments
from voxloop.cli.output import Output
from voxloop.errors import InputError

HELP = "add labels from a label volume or a table of points"
EXAMPLES = """\
examples:
  voxloop label cells.voxloop --points points.csv            # columns z,y,x,class
  voxloop label cells.voxloop --volume strokes.tif --map 1=background --map 2=mitochondria
  voxloop label cells.voxloop --undo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_image_choice(parser)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--points", metavar="CSV", help="table with columns z, y, x (voxels) and class (name or number)"
    )
    action.add_argument("--volume", metavar="FILE", help="label volume of the image's shape; 0 is no label")
    action.add_argument("--undo", action="store_true", help="take the last labels or change of classes back")
    action.add_argument("--redo", action="store_true", help="put what was taken back in place again")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="VALUE=CLASS",
        help="which class a value of the label volume means; repeat; other values are ignored"
        " (default: value n is class n)",
    )


def run(options: argparse.Namespace, output: Output) -> None:
    """Add the labels and say what the project then has."""
    from voxloop.project import Project

    if options.map and not options.volume:
        raise InputError("--map goes with --volume")
    with Project.open(options.project) as project:
        if options.undo:
            project.undo()
        elif options.redo:
            project.redo()
        elif options.points:
            project.import_points(options.points, image=options.image)
        else:
            mapping = parse_assignments("--map", options.map)
            if wrong := [value for value in mapping if not value.isdigit()]:
                raise InputError(f"--map takes a whole number before the =, not {wrong[0]!r}")
            project.import_labels(
                options.volume, image=options.image, mapping={int(v): c for v, c in mapping.items()} or None
            )
        counts = project.count_labelled_voxels()
    lines = [f"{name}: {count:,} labelled voxels" for name, count in counts.items()]
    output.result(lines or ["no labels"], {"labelled_voxels": counts})
