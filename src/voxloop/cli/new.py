"""`voxloop new`."""

from __future__ import annotations

import argparse

from voxloop.cli.images import add_image_options, described, image_options
from voxloop.cli.output import Output

HELP = "make a project for one or more images"
EXAMPLES = """\
examples:
  voxloop new cells.voxloop cells.tif --class background --class mitochondria
  voxloop new brain.voxloop brain.npy --spacing 3 1 1 --unit millimeter --mask inside.tif
  voxloop new part.voxloop cells.tif --crop 0:80,:,:
  voxloop new slides.voxloop slide1.png slide2.png --lab
  voxloop new film.voxloop film.tif --frames 0:10
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("project", metavar="PROJECT", help="folder to make, such as cells.voxloop")
    add_image_options(parser)
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME", help="a class; repeat")


def run(options: argparse.Namespace, output: Output) -> None:
    """Make the project."""
    from voxloop.project import Project

    with Project.create(options.project, options.images, classes=options.classes, **image_options(options)) as project:
        records = project.images
    lines = [f"{options.project}: made", *described(records)]
    lines.append(f"next: voxloop label {options.project} --points points.csv")
    output.result(lines, {"project": options.project, "images": [r.model_dump(mode="json") for r in records]})
