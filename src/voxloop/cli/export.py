"""`voxloop export`."""

from __future__ import annotations

import argparse
from typing import Any

from voxloop.cli.images import parse_crop
from voxloop.cli.options import add_computing, add_image_choice, add_project, given, open_project
from voxloop.cli.output import Output
from voxloop.errors import InputError

HELP = "write a result to a file"
EXAMPLES = """\
examples:
  voxloop export cells.voxloop segmentation cells-segmented.tif
  voxloop export cells.voxloop probabilities cells-probabilities.zarr
  voxloop export cells.voxloop probabilities cells.ome.tif --ome-tiff pyramid --dtype uint8 --rescale 0 1
  voxloop export cells.voxloop probabilities cells.h5 --dtype uint8 --rescale 0 1 --crop 0:40,:,:
  voxloop export cells.voxloop masks "{dataset_dir}/{nickname}-{class}.nii.gz"
  voxloop export cells.voxloop segmentation "slices/{nickname}_{slice_index:04d}.png"
  voxloop export cells.voxloop features edges.zarr --features gradient_magnitude:1.6 hessian:3.5
sources:
  segmentation    uint8, the class of each voxel, 0 outside the mask
  graph_cut       the same, neighbours decided together: no specks, fewer holes
  refined         the same, decided voxel by voxel near boundaries
  probabilities   float32, one channel a class
  uncertainty     float32, entropy in bits
  supervoxels     uint32, 0 outside the mask
  labels          uint8, the voxels that were labelled
  masks           uint8, 0 or 1, one channel a class
  objects         uint32, a number for each connected piece of a class
  top_uncertain   uint8, 1 where the next labels help most
  features        float32, one channel a filter response
"""
SOURCES = (
    "segmentation",
    "graph_cut",
    "refined",
    "probabilities",
    "uncertainty",
    "supervoxels",
    "labels",
    "masks",
    "objects",
    "top_uncertain",
    "features",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument("source", choices=SOURCES, metavar="SOURCE", help=f"what to write: {', '.join(SOURCES)}")
    parser.add_argument(
        "path",
        metavar="FILE",
        help="where to: .tif, .zarr, .h5, .n5, .npy, .nii.gz, .mrc, .nrrd; it may hold {dataset_dir}, {nickname},"
        " {result_type}, {class}, {slice_index}",
    )
    add_image_choice(parser)
    add_export_options(parser)


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of how a result is written."""
    parser.add_argument("--crop", metavar="Z0:Z1,Y0:Y1,X0:X1", help="write a part of the image, in voxels")
    parser.add_argument("--dtype", help="uint8, uint16, uint32 or float32 (default: the source's own)")
    parser.add_argument(
        "--rescale",
        nargs="+",
        metavar="LOW HIGH",
        help="values that become the lowest and highest of the type, or 'data' for the least and largest there are",
    )
    parser.add_argument("--axes", help="order of the axes in the file, such as czyx (default: the format's usual one)")
    parser.add_argument(
        "--features", nargs="+", metavar="FAMILY:SIGMA", help="what the source features is to hold, such as hessian:1.6"
    )
    parser.add_argument(
        "--strength",
        type=float,
        help="of the source graph_cut: what a contact of two classes costs, in units of log p (default: 4)",
    )
    parser.add_argument("--ome-zarr", choices=["0.4", "0.5"], default="0.5", help="version to write (default: 0.5)")
    parser.add_argument(
        "--ome-tiff",
        choices=["plain", "pyramid"],
        default="plain",
        help="uncompressed, or compressed tiles with coarser levels (default: plain)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def export_choices(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `Project.export` that were given."""
    names = ("dtype", "axes", "features", "strength", "ome_zarr", "ome_tiff")
    choices = {**given(options, *names), "crop": parse_crop(options.crop)}
    if options.rescale == ["data"]:
        choices["rescale"] = "data"
    elif options.rescale is not None:
        try:
            choices["rescale"] = tuple(float(value) for value in options.rescale)
        except ValueError:
            raise InputError(f"--rescale takes two numbers or 'data', not {' '.join(options.rescale)!r}") from None
    return choices


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the file."""
    with open_project(options, output) as project:
        files = project.export(
            options.source, options.path, image=options.image, overwrite=options.overwrite, **export_choices(options)
        )
    output.result([f"{file}: written" for file in files], {"source": options.source, "files": files})
