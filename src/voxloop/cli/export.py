"""`voxloop export`."""

from __future__ import annotations

import argparse

from voxloop.cli.options import add_computing, add_image_choice, add_project, open_project
from voxloop.cli.output import Output

HELP = "write a result to a file"
EXAMPLES = """\
examples:
  voxloop export cells.voxloop segmentation cells-segmented.tif
  voxloop export cells.voxloop probabilities cells-probabilities.zarr
sources:
  segmentation    uint8, the class of each voxel, 0 outside the mask
  probabilities   float32, one channel a class
  uncertainty     float32, entropy in bits
  supervoxels     uint32, 0 outside the mask
  labels          uint8, the voxels that were labelled
"""
SOURCES = ("segmentation", "probabilities", "uncertainty", "supervoxels", "labels")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument("source", choices=SOURCES, metavar="SOURCE", help=f"what to write: {', '.join(SOURCES)}")
    parser.add_argument("path", metavar="FILE", help="where to: .tif, .ome.tif, .npy or .zarr")
    add_image_choice(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the file."""
    with open_project(options, output) as project:
        project.export(options.source, options.path, image=options.image, overwrite=options.overwrite)
    output.result([f"{options.path}: written"], {"source": options.source, "path": options.path})
