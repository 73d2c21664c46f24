"""`voxloop mesh`."""

from __future__ import annotations

import argparse

from voxloop.cli.images import parse_crop
from voxloop.cli.options import add_computing, add_image_choice, add_project, open_project
from voxloop.cli.output import Output

HELP = "write the surface of each class as triangles"
EXAMPLES = """\
examples:
  voxloop mesh cells.voxloop "{nickname}-{class}.stl"
  voxloop mesh cells.voxloop mitochondria.ply --class mitochondria --smoothing 20
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument(
        "path",
        metavar="FILE",
        help="where to: .stl, .ply or .obj; it may hold {dataset_dir}, {nickname}, {class}",
    )
    parser.add_argument("--class", dest="classes", nargs="+", metavar="NAME", help="classes to write (default: all)")
    parser.add_argument("--refined", action="store_true", help="of the segmentation that is decided voxel by voxel")
    parser.add_argument("--smoothing", type=int, default=10, metavar="N", help="rounds; 0 for none (default: 10)")
    parser.add_argument("--crop", metavar="Z0:Z1,Y0:Y1,X0:X1", help="a part of the image, in voxels")
    add_image_choice(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(options: argparse.Namespace, output: Output) -> None:
    """Write the surfaces."""
    with open_project(options, output) as project:
        files = project.export_meshes(
            options.path,
            classes=options.classes,
            source="refined" if options.refined else "segmentation",
            crop=parse_crop(options.crop),
            smoothing=options.smoothing,
            image=options.image,
            overwrite=options.overwrite,
        )
    output.result([f"{file}: written" for file in files], {"files": files})
