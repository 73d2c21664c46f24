"""`voxloop run`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from voxloop.cli.export import SOURCES
from voxloop.cli.options import add_computing, add_image_choice, add_project, open_project, parse_assignments
from voxloop.cli.output import Output
from voxloop.errors import InputError

if TYPE_CHECKING:
    from voxloop.project.computed import Stage
    from voxloop.project.sources import Source

HELP = "bring everything up to date: supervoxels, features, training, prediction, exports"
EXAMPLES = """\
example:
  voxloop run cells.voxloop --export segmentation=cells-segmented.tif --export uncertainty=cells-uncertainty.tif
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    add_image_choice(parser)
    parser.add_argument(
        "--export", action="append", default=[], metavar="SOURCE=FILE", help=f"one of {', '.join(SOURCES)}; repeat"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def run(options: argparse.Namespace, output: Output) -> None:
    """Compute what is missing or stale, then export."""
    exports = parse_assignments("--export", options.export)
    if unknown := set(exports) - set(SOURCES):
        raise InputError(f"--export knows {', '.join(SOURCES)}, not {sorted(unknown)[0]!r}")
    seconds = {}
    with open_project(options, output) as project:
        stages: dict[Stage, Callable[[int], object]] = {
            "supervoxels": project.supervoxels,
            "features": project.features,
            "prediction": project.predict,
        }
        for stage, compute in stages.items():
            start = time.perf_counter()
            reused = all(project.is_current(stage, index) for index in range(len(project.images)))
            for index in range(len(project.images)):
                compute(index)
            seconds[stage] = time.perf_counter() - start
            output.note(f"{stage}: " + ("as before" if reused else f"{seconds[stage]:.1f} s"))
        for source, path in exports.items():
            project.export(cast("Source", source), path, image=options.image, overwrite=options.overwrite)
            output.note(f"{path}: written")
    output.result(["done"], {"seconds": seconds, "exports": exports})
