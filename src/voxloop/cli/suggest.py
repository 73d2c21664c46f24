"""`voxloop suggest`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from voxloop.cli.options import add_computing, add_image_choice, add_project, open_project
from voxloop.cli.output import Output
from voxloop.errors import InputError

if TYPE_CHECKING:
    from voxloop.project import Project

HELP = "propose the slices, planes or supervoxels where the next labels help most"
EXAMPLES = """\
examples:
  voxloop suggest cells.voxloop
  voxloop suggest cells.voxloop --number 5 --axis z --json
  voxloop suggest cells.voxloop --kind plane                   # a round patch of an oblique plane
  voxloop suggest cells.voxloop --kind supervoxel --number 20 --strategy diverse
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    add_image_choice(parser)
    parser.add_argument(
        "--kind", choices=["slice", "plane", "supervoxel"], default="slice", help="what to propose (default: slice)"
    )
    parser.add_argument("--number", type=int, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument("--axis", choices=["z", "y", "x"], help="slices along one axis only (default: all)")
    parser.add_argument(
        "--strategy",
        metavar="NAME",
        help="what makes a place worth labelling, kept in the project: mixed, random, typiclust, kinds, "
        "feature, geometric, combined, bald, power, clasp or diverse (default: the project's, at first mixed)",
    )


def run(options: argparse.Namespace, output: Output) -> None:
    """Print the suggestions, best first."""
    from voxloop.specs import StrategyName

    if options.axis is not None and options.kind != "slice":
        raise InputError(f"--axis is for slices, not for --kind {options.kind}")
    if options.strategy is not None and options.strategy not in get_args(StrategyName):
        raise InputError(f"--strategy is {options.strategy!r}; expected one of {', '.join(get_args(StrategyName))}")
    find = {"slice": _slices, "plane": _planes, "supervoxel": _supervoxels}[options.kind]
    with open_project(options, output) as project:
        if options.strategy is not None:
            project.configure(query={"strategy": options.strategy})
        lines, data = find(project, options)
    output.result(lines or [f"no {options.kind} is left that is apart from the labelled ones"], {"suggestions": data})


Found = tuple[list[str], list[dict[str, Any]]]


def _slices(project: Project, options: argparse.Namespace) -> Found:
    axes = None if options.axis is None else ["zyx".index(options.axis)]
    found = project.suggest_slices(number=options.number, axes=axes, image=options.image)
    return [f"{'zyx'[s.axis]} = {s.index}, look at {_place(s.center)}: {s.reason}" for s in found], [
        {"axis": "zyx"[s.axis], "index": s.index, "center": s.center, "score": s.score,
         "supervoxels": s.supervoxels, "reason": s.reason}
        for s in found
    ]  # fmt: skip


def _planes(project: Project, options: argparse.Namespace) -> Found:
    found = project.suggest_planes(number=options.number, image=options.image)
    lines = [
        f"patch of radius {p.radius:g} voxels around {_place(p.center)}, normal {_place(p.normal)}: {p.reason}"
        for p in found
    ]
    return lines, [
        {"center": p.center, "normal": p.normal, "radius": p.radius, "score": p.score,
         "supervoxels": p.supervoxels, "reason": p.reason}
        for p in found
    ]  # fmt: skip


def _supervoxels(project: Project, options: argparse.Namespace) -> Found:
    ids = project.suggest_supervoxels(number=options.number, image=options.image)
    centers = project.supervoxels(options.image).centers[ids.astype(int) - 1].tolist()
    lines = [f"supervoxel {i} at {_place(c)}" for i, c in zip(ids, centers, strict=True)]
    return lines, [{"supervoxel": int(i), "center": c} for i, c in zip(ids, centers, strict=True)]


def _place(zyx: Sequence[float]) -> str:
    """Return three numbers as people read them, whole ones without a point."""
    return "({})".format(", ".join(f"{name} {round(value, 2):g}" for name, value in zip("zyx", zyx, strict=True)))
