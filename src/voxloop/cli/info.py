"""`voxloop info`."""

from __future__ import annotations

import argparse
from pathlib import Path

from voxloop.cli.output import Output

HELP = "show what an image or a project holds"
EXAMPLES = """\
examples:
  voxloop info cells.tif
  voxloop info cells.voxloop
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("path", metavar="IMAGE|PROJECT", help="image file or project folder")


def run(options: argparse.Namespace, output: Output) -> None:
    """Describe the image or the project."""
    from voxloop.project import is_project

    (_describe_project if is_project(options.path) else _describe_image)(Path(options.path), output)


def _describe_image(path: Path, output: Output) -> None:
    from voxloop.io import open_volume

    volume = open_volume(path)
    z, y, x = volume.shape
    spacing = " x ".join(f"{s:g}" for s in volume.spacing)
    lines = [
        f"{path}",
        f"  shape     {z} x {y} x {x} (z, y, x)" + (f", {volume.n_channels} channels" if volume.n_channels > 1 else ""),
        f"  type      {volume.dtype}",
        f"  voxel     {spacing} {volume.unit}",
        f"  axes      {volume.axes} in the file",
    ]
    data = {
        "path": path,
        "shape": volume.shape,
        "n_channels": volume.n_channels,
        "dtype": str(volume.dtype),
        "spacing": volume.spacing,
        "unit": volume.unit,
        "axes": volume.axes,
    }
    output.result(lines, data)


def _describe_project(path: Path, output: Output) -> None:
    from voxloop.project import Project

    with Project.open(path, read_only=True) as project:
        counts = project.count_labelled_voxels()
        lines = [f"{path}"]
        data = []
        for index, record in enumerate(project.images):
            states = {
                stage: project.state_of(stage, index)
                for stage in ("supervoxels", "features", "prediction")
            }  # fmt: skip
            lines.append(f"  image {index}: {record.name}, {record.describe()}")
            lines += [f"    {stage:<12} {state}" for stage, state in states.items()]
            data.append({**record.model_dump(mode="json"), "stages": states})
        lines += [f"  class {name}: {count:,} labelled voxels" for name, count in counts.items()]
        specs = project.specs.model_dump(mode="json")
    output.result(lines, {"project": path, "images": data, "labelled_voxels": counts, "specs": specs})
