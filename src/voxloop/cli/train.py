"""`voxloop train`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from voxloop.cli.options import add_computing, add_project, given, open_project
from voxloop.cli.output import Output
from voxloop.errors import InputError

if TYPE_CHECKING:
    from voxloop.classify import Assessment

HELP = "train the classifier on the labels"
EXAMPLES = """\
examples:
  voxloop train cells.voxloop
  voxloop train cells.voxloop --n-trees 200 --seed 7
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument("--n-trees", type=int, metavar="N", help="trees in the forest (default: 100)")
    parser.add_argument("--min-samples-leaf", type=int, metavar="N", help="labels a leaf holds at least (default: 1)")
    parser.add_argument(
        "--smoothing", type=int, metavar="N", help="rounds of smoothing along the graph (default: up to 1)"
    )
    parser.add_argument("--seed", type=int, help="the same seed gives the same bits (default: 0)")


def run(options: argparse.Namespace, output: Output) -> None:
    """Train, and say on what."""
    with open_project(options, output) as project:
        project.configure(classifier=given(options, "n_trees", "min_samples_leaf", "smoothing", "seed"))
        forest = project.train().first
        summary = project.label_summary()
        try:
            assessment = project.assess()
        except InputError as error:
            assessment, doubt = None, str(error)
    lines = [f"trained {forest.n_trees} trees on {summary.n_labelled:,} supervoxels, {forest.n_features} features"]
    lines += [f"  {name}: {count:,} supervoxels" for name, count in summary.counts.items()]
    if summary.n_conflicts:
        lines.append(f"  {summary.n_conflicts:,} have strokes of several classes; the larger share decides")
    if summary.n_outside:
        output.warn(f"{summary.n_outside:,} labelled voxels lie outside the mask and are not used")
    lines += [doubt] if assessment is None else _describe(assessment)
    found = None if assessment is None else asdict(assessment)
    output.result(lines, {"n_trees": forest.n_trees, **asdict(summary), "assessment": found})


def _describe(assessment: Assessment) -> list[str]:
    """Return how good the classifier is, in two lines."""
    share, low, high, mean = (
        f"{100 * x:.0f} %" for x in (assessment.accuracy, assessment.low, assessment.high, assessment.balanced_accuracy)
    )
    interval = f"95 % interval {low} to {high}, {mean} averaged over the classes"
    return [
        f"held out by stroke: {share} of {assessment.n_labels:,} labels right ({interval})",
        f"  most important features: {', '.join(list(assessment.importances)[:3])}",
    ]
