"""`voxloop batch`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from voxloop.cli.export import SOURCES, add_export_options, export_choices
from voxloop.cli.images import parse_crop, parse_frames
from voxloop.cli.options import add_computing, add_voxel_size, chosen_executor, parse_assignments
from voxloop.cli.output import Output
from voxloop.errors import InputError

if TYPE_CHECKING:
    from voxloop.project import BatchImage, BatchItem
    from voxloop.project.sources import Source
    from voxloop.project.tables import TableKind

HELP = "segment many images with one trained classifier"
EXAMPLES = """\
examples:
  voxloop batch cells.voxloop new/*.tif --out "{dataset_dir}/{nickname}-{result_type}.tif"
  voxloop batch cells.voxmodel a.h5 b.h5 --out "out/{nickname}_{result_type}.zarr" --source segmentation probabilities
  voxloop batch cells.voxmodel film.tif --frames : --mask "{dataset_dir}/inside.tif" --out "{nickname}.tif"
  voxloop batch cells.voxmodel --list images.csv --out "{nickname}.zarr"     # columns image,name,mask,crop,frame
Run it again to go on: files that exist are not made again, and nothing is added to the project.
Exit codes: 0 all are done, 1 some failed, 2 something given cannot be used.
"""
_SOURCES = tuple(source for source in SOURCES if source not in ("refined", "labels"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("model", metavar="PROJECT|MODEL", help="project folder, or a file of voxloop export-model")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="file, dataset in a file, folder of slices")
    parser.add_argument(
        "--list",
        metavar="CSV",
        help="table of images with the columns image, name, mask, crop (voxels) and frame, of which all but the first"
        " may be missing; paths start at its folder",
    )
    add_batch_options(parser, required=True)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="images at a time (default: 1)")


def add_batch_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add how images are opened, and what is written of them and where to."""
    parser.add_argument(
        "--out",
        required=required,
        metavar="PATTERN",
        help="where results go; it may hold {dataset_dir}, {nickname}, {result_type}, {class}, {slice_index}",
    )
    parser.add_argument(
        "--source",
        nargs="+",
        choices=_SOURCES,
        metavar="SOURCE",
        help=f"what to write, some of {', '.join(_SOURCES)} (default: segmentation)",
    )
    parser.add_argument(
        "--table",
        action="append",
        default=[],
        metavar="TABLE=PATTERN",
        help="also write a table of each image, such as objects={nickname}.csv; repeat",
    )
    parser.add_argument(
        "--mask",
        metavar="PATTERN",
        help="where the mask of each image is, such as {dataset_dir}/{nickname}-mask.tif; voxels with 0 are left out",
    )
    parser.add_argument("--frames", metavar="T0:T1", help="time points of a series, each an image; : for all")
    parser.add_argument("--image-axes", metavar="AXES", help="order of the images' axes (default: from the file)")
    add_voxel_size(parser)
    add_export_options(parser)
    add_computing(parser)


def run(options: argparse.Namespace, output: Output) -> int:
    """Segment the images; return 1 if some failed."""
    images = [*options.images, *(_listed(Path(options.list)) if options.list else [])]
    return segment(options.model, images, options, output, jobs=options.jobs)


def _listed(table: Path) -> list[BatchImage]:
    """Return the images that a table names; an empty cell says nothing."""
    from voxloop.project import BatchImage
    from voxloop.project.imports import table_rows

    found = []
    for where, row in table_rows(table, ["image"]):
        cells = {column: cell for column, cell in row.items() if cell}
        if unknown := [column for column in cells if column not in ("image", "name", "mask", "crop", "frame")]:
            raise InputError(f"{where}: column {unknown[0]!r} is not known; expected image, name, mask, crop and frame")
        if "image" not in cells or not cells.get("frame", "0").isdecimal():
            raise InputError(f"{where}: expected the path of an image, and a time point counted from 0 or nothing")
        found.append(
            BatchImage(
                table.parent / cells["image"],
                mask=table.parent / cells["mask"] if "mask" in cells else None,
                crop=parse_crop(cells.get("crop"), option=f"{where}: crop"),
                frame=int(cells["frame"]) if "frame" in cells else None,
                name=cells.get("name"),
            )
        )
    return found


def segment(
    model: str, images: Sequence[str | BatchImage], options: argparse.Namespace, output: Output, *, jobs: int
) -> int:
    """Segment the images of a command, say what became of each, and return the exit code."""
    from voxloop.project import batch

    with chosen_executor(options) as executor:
        items = batch(
            model,
            images,
            options.out,
            mask=options.mask,
            frames=parse_frames(options.frames) if options.frames is not None else None,
            sources=cast("list[Source]", options.source or ["segmentation"]),
            tables=cast("dict[TableKind, str]", parse_assignments("--table", options.table)),
            jobs=jobs,
            overwrite=options.overwrite,
            image_axes=options.image_axes,
            spacing=tuple(options.spacing) if options.spacing else None,
            unit=options.unit,
            executor=executor,
            progress=output.progress,
            memory=options.memory,
            report=lambda item: output.note(_line(item)),
            **export_choices(options),
        )
    counts = {state: sum(item.state == state for item in items) for state in ("written", "there", "failed")}
    lines = [f"{counts['written']} done, {counts['there']} there before, {counts['failed']} failed"]
    output.result(lines, {"images": [_data(item) for item in items], **counts})
    return 1 if counts["failed"] else 0


def _line(item: BatchItem) -> str:
    image = item.image if item.frame is None else f"{item.image} frame {item.frame}"
    if item.state == "failed":
        return f"failed   {image}: {item.reason}"
    if item.state == "there":
        return f"there    {image}"
    return f"done     {image} ({item.seconds:.1f} s)" + (f"; {item.note}" if item.note else "")


def _data(item: BatchItem) -> dict[str, object]:
    return {
        "image": item.image,
        "frame": item.frame,
        "state": item.state,
        "files": [str(Path(file)) for file in item.files],
        "reason": item.reason,
        "note": item.note,
        "seconds": item.seconds,
    }
