"""Options of the commands that add images to a project."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from voxloop.cli.options import add_voxel_size
from voxloop.errors import InputError

if TYPE_CHECKING:
    from voxloop.project.images import ImageRecord


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the images and what corrects or chooses their content; `image_options` turns them into arguments."""
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="file, dataset in a file (a.h5/raw), folder or pattern of slices"
    )
    parser.add_argument("--axes", help="order of the image's axes, such as zyx, cyx or tyx (default: from the file)")
    add_voxel_size(parser)
    parser.add_argument("--mask", metavar="FILE", help="label volume; voxels with 0 are left out of everything")
    parser.add_argument("--crop", metavar="Z0:Z1,Y0:Y1,X0:X1", help="use a part of the image only, in voxels")
    parser.add_argument("--channels", nargs="+", metavar="C", help="channels to use, by index or name (default: all)")
    parser.add_argument(
        "--frames", metavar="T0:T1", help="time points of a series, each an image of the project; : for all"
    )
    parser.add_argument("--lab", action="store_true", help="see red, green and blue as CIE L*a*b*")


def image_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Project.add_image` or `Project.add_series` that the options ask for."""
    if options.mask and len(options.images) > 1:
        raise InputError("--mask goes with one image; add the others by: voxloop add")
    chosen: dict[str, Any] = {
        "axes": options.axes,
        "spacing": tuple(options.spacing) if options.spacing else None,
        "unit": options.unit,
        "mask": options.mask,
        "crop": parse_crop(options.crop),
        "channels": [int(c) if c.isdigit() else c for c in options.channels] if options.channels else None,
        "color": "lab" if options.lab else "stored",
    }
    if options.frames is not None:
        chosen["frames"] = parse_frames(options.frames)
    return chosen


def described(records: Sequence[ImageRecord], first: int = 0) -> list[str]:
    """Return a line about each image of a project, from index `first` on."""
    return [f"  image {i}: {r.name}, {r.describe()}" for i, r in enumerate(records) if i >= first]


def parse_crop(text: str | None, *, option: str = "--crop") -> tuple[slice, slice, slice] | None:
    """Return slices for ``Z0:Z1,Y0:Y1,X0:X1``; an empty end means the image's."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3:
        raise InputError(f"{option} takes Z0:Z1,Y0:Y1,X0:X1 (an end may be empty), not {text!r}")
    z, y, x = (_parse_slice(option, "Z0:Z1,Y0:Y1,X0:X1", part, text) for part in parts)
    return z, y, x


def parse_frames(text: str) -> slice:
    """Return the slice for ``T0:T1``; an empty end means the first or the last time point."""
    return _parse_slice("--frames", "T0:T1", text)


def _parse_slice(option: str, form: str, part: str, text: str | None = None) -> slice:
    try:
        start, stop = (int(end) if end else None for end in part.split(":"))
    except ValueError:
        raise InputError(f"{option} takes {form} (an end may be empty), not {text or part!r}") from None
    return slice(start, stop)
