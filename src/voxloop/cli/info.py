"""`voxloop info`."""

from __future__ import annotations

import argparse
from pathlib import Path

from voxloop.cli.output import Output

HELP = "show what an image, a project or a model file holds"
EXAMPLES = """\
examples:
  voxloop info cells.tif
  voxloop info cells.voxloop
  voxloop info cells.voxmodel
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("path", metavar="IMAGE|PROJECT|MODEL", help="image file, project folder or model file")


def run(options: argparse.Namespace, output: Output) -> None:
    """Describe the image, the project or the model."""
    from voxloop.project import is_project
    from voxloop.project.model_file import SUFFIX

    path = Path(options.path)
    if is_project(path):
        _describe_project(path, output)
    elif path.suffix == SUFFIX:
        _describe_model(path, output)
    else:
        _describe_image(path, output)


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


def _describe_model(path: Path, output: Output) -> None:
    from voxloop.project import Model

    model = Model.open(path)
    spacing = " x ".join(f"{s:g}" for s in model.spacing)
    names = [c.name for c in model.classes]
    first = model.classifier.first
    lines = [
        f"{path}",
        f"  classes   {', '.join(names)}",
        f"  forest    {first.n_trees} trees, {first.n_features} features",
        f"  voxel     {spacing} {model.unit} in the training, {model.n_channels} channel(s)",
    ]
    data = {
        "path": path,
        "classes": names,
        "n_trees": first.n_trees,
        "n_features": first.n_features,
        "spacing": model.spacing,
        "unit": model.unit,
        "n_channels": model.n_channels,
        "specs": model.specs.model_dump(mode="json"),
    }
    output.result(lines, data)
