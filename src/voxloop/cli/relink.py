"""`voxloop relink`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_project
from voxloop.cli.output import Output
from voxloop.errors import InputError

HELP = "show which images are missing, or say where they are now"
EXAMPLES = """\
examples:
  voxloop relink cells.voxloop                                  # what is missing
  voxloop relink cells.voxloop /data/old /data/new              # a folder was moved: all images below it
  voxloop relink cells.voxloop /data/cells.tif /scans/c1.tif    # a file was moved or renamed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    parser.add_argument("old", metavar="OLD", nargs="?", help="folder or file as the project remembers it")
    parser.add_argument("new", metavar="NEW", nargs="?", help="folder or file that has taken its place")


def run(options: argparse.Namespace, output: Output) -> None:
    """List what is missing, or look for it in the new place; a file of other content is refused."""
    from voxloop.project import Project

    if options.old is not None and options.new is None:
        raise InputError("relink takes both OLD and NEW, or neither to see what is missing")
    if options.old is None:
        with Project.open(options.project, read_only=True) as project:
            missing, found = project.missing_files(), []
    else:
        with Project.open(options.project) as project:
            found = project.relink(options.old, options.new)
            missing = project.missing_files()
    lines = [f"found: {path}" for path in found] + [f"missing: {path}" for path in missing]
    if missing:
        lines.append(f"to say where they are: voxloop relink {options.project} OLD NEW")
    output.result(lines or ["nothing is missing"], {"found": found, "missing": missing})
