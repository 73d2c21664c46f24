"""`voxloop predict`."""

from __future__ import annotations

import argparse

from voxloop.cli.batch import add_batch_options, segment
from voxloop.cli.options import open_project
from voxloop.cli.output import Output
from voxloop.errors import InputError

HELP = "predict a class for every supervoxel of a project, or of other images with a model file"
EXAMPLES = """\
examples:
  voxloop predict cells.voxloop
  voxloop predict --model cells.voxmodel new.tif --out new-segmented.tif
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("what", nargs="+", metavar="PROJECT|IMAGE", help="project folder; with --model images")
    parser.add_argument("--model", metavar="FILE", help="a file of voxloop export-model, which needs no project")
    add_batch_options(parser, required=False)


def run(options: argparse.Namespace, output: Output) -> int:
    """Predict; return 1 if some images of a model failed."""
    if options.model is None:
        if options.out is not None or len(options.what) > 1:
            raise InputError("--out and several images go with --model; a project is predicted in place")
        options.project = options.what[0]
        _predict_project(options, output)
        return 0
    if options.out is None:
        raise InputError("--model needs --out: where the results go")
    return segment(options.model, options.what, options, output, jobs=1)


def _predict_project(options: argparse.Namespace, output: Output) -> None:
    """Predict, and say how much of each image each class takes."""
    with open_project(options, output) as project:
        lines, data = [], []
        for index, record in enumerate(project.images):
            shares = project.class_shares(index)
            lines.append(f"{record.name}: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
            data.append({"image": record.name, "shares": shares})
    output.result(lines, {"images": data})
