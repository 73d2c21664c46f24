"""`voxloop import-ilastik`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from voxloop.cli.images import described
from voxloop.cli.output import Output

HELP = "make a project of an ilastik project: images, classes, labels, chosen features"
EXAMPLES = """\
examples:
  voxloop import-ilastik cells.ilp                          # makes cells.voxloop beside it
  voxloop import-ilastik cells.ilp --out other.voxloop
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("ilp", metavar="FILE.ilp", help="project of Voxel Segmentation or Pixel Classification")
    parser.add_argument("--out", metavar="PROJECT", help="folder to make (default: FILE.voxloop beside the file)")


def run(options: argparse.Namespace, output: Output) -> None:
    """Import, and say what came over and what did not."""
    from voxloop.project import Project, import_ilastik

    ilp = Path(options.ilp)
    made = import_ilastik(ilp, options.out or ilp.with_suffix(".voxloop"))
    with Project.open(made.project, read_only=True) as project:
        images = described(project.images)
    lines = [f"{made.project}: made of {made.workflow}, ilastik {made.version or 'of unknown version'}"]
    for line, count in zip(images, made.labelled_voxels, strict=True):
        lines.append(f"{line}, {count:,} labelled voxels")
    lines.append(f"  classes: {', '.join(made.class_names) or 'none'}")
    if made.features is not None:
        sigmas = ", ".join(f"{sigma:g}" for sigma in made.features.sigmas)
        lines.append(f"  features: {', '.join(made.features.families)} at sigma {sigmas}")
    lines += [f"  note: {note}" for note in made.notes]
    if made.missing:
        lines.append(f"to say where missing images are: voxloop relink {made.project} OLD NEW")
    features = None if made.features is None else made.features.model_dump(mode="json")
    output.result(lines, asdict(made) | {"features": features})
