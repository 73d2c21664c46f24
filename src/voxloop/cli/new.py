"""`voxloop new`."""

from __future__ import annotations

import argparse

from voxloop.cli.output import Output
from voxloop.errors import InputError

HELP = "make a project for one or more images"
EXAMPLES = """\
examples:
  voxloop new cells.voxloop cells.tif --class background --class mitochondria
  voxloop new brain.voxloop brain.npy --spacing 3 1 1 --unit millimeter --mask inside.tif
  voxloop new part.voxloop cells.tif --crop 0:80,:,:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("project", metavar="PROJECT", help="folder to make, such as cells.voxloop")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="TIFF, OME-TIFF, npy, Zarr or OME-Zarr")
    parser.add_argument("--axes", help="order of the image's axes, such as zyx or cyx (default: from the file)")
    parser.add_argument(
        "--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="size of a voxel (default: from the file)"
    )
    parser.add_argument("--unit", help="unit of the spacing, such as nanometer (default: from the file)")
    parser.add_argument("--mask", help="label volume; voxels with 0 are left out of everything")
    parser.add_argument("--crop", metavar="Z0:Z1,Y0:Y1,X0:X1", help="use a part of the image only; the file stays")
    parser.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME", help="a class; repeat")


def run(options: argparse.Namespace, output: Output) -> None:
    """Make the project."""
    from voxloop.project import Project

    if options.mask and len(options.images) > 1:
        raise InputError("--mask goes with one image; add the others to a project of their own")
    spacing = tuple(options.spacing) if options.spacing else None
    project = Project.create(
        options.project,
        options.images,
        classes=options.classes,
        axes=options.axes,
        spacing=spacing,
        unit=options.unit,
        mask=options.mask,
        crop=_parse_crop(options.crop),
    )
    with project:
        records = project.images
    lines = [f"{options.project}: made"]
    lines += [f"  image {i}: {r.name}, {r.describe()}" for i, r in enumerate(records)]
    lines.append(f"next: voxloop label {options.project} --points points.csv")
    output.result(lines, {"project": options.project, "images": [r.model_dump(mode="json") for r in records]})


def _parse_crop(text: str | None) -> tuple[slice, slice, slice] | None:
    """Return slices for ``Z0:Z1,Y0:Y1,X0:X1``; an empty end means the image's."""
    if text is None:
        return None
    try:
        z, y, x = (slice(*(int(end) if end else None for end in part.split(":", 1))) for part in text.split(","))
    except ValueError:
        raise InputError(f"--crop takes Z0:Z1,Y0:Y1,X0:X1 (an end may be empty), not {text!r}") from None
    return z, y, x
