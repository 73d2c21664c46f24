"""`voxloop add`."""

from __future__ import annotations

import argparse

from voxloop.cli.images import add_image_options, described, image_options
from voxloop.cli.options import add_project
from voxloop.cli.output import Output

HELP = "add images to a project: one classifier learns from all of them"
EXAMPLES = """\
examples:
  voxloop add cells.voxloop cells2.tif cells3.tif
  voxloop add cells.voxloop cells4.tif --mask inside4.tif
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_image_options(parser)


def run(options: argparse.Namespace, output: Output) -> None:
    """Add the images, one after the other."""
    from voxloop.project import Project

    chosen = image_options(options)
    with Project.open(options.project) as project:
        first = len(project.images)
        for image in options.images:
            project.add_images(image, **chosen)
        records = project.images
    data = [r.model_dump(mode="json") for r in records[first:]]
    output.result(described(records, first), {"project": options.project, "images": data})
