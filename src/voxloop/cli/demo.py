"""`voxloop demo`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from voxloop.cli.options import executor
from voxloop.cli.output import Output
from voxloop.errors import InputError

if TYPE_CHECKING:
    from voxloop.project import Project
    from voxloop.samples import Sample
    from voxloop.simulate.session import Round

HELP = "run the whole job on a sample volume with a simulated annotator"
EXAMPLES = """\
examples:
  voxloop demo
  voxloop demo --sample mni
  voxloop demo --image cells.tif --truth cells-labels.tif --rounds 5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--out", default="voxloop-demo", metavar="FOLDER", help="results (default: voxloop-demo)")
    add_sample_options(parser)
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="suggestions to follow (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")


def add_sample_options(parser: argparse.ArgumentParser) -> None:
    """Add the choice of an image with known truth, how it is split, and the size of its supervoxels."""
    parser.add_argument("--sample", choices=["phantom", "mni"], default="phantom", help="default: phantom")
    parser.add_argument("--image", metavar="FILE", help="an image of your own instead")
    parser.add_argument("--truth", metavar="FILE", help="its label volume: what the annotator knows, and the score")
    parser.add_argument("--mask", metavar="FILE", help="voxels with 0 are left out of everything")
    parser.add_argument("--learn-slices", type=int, metavar="N", help="slices that are labelled (default: half)")
    parser.add_argument(
        "--size",
        type=float,
        metavar="VOXELS",
        help="mean size of a supervoxel (default: 40 to 200, by the volume's size)",
    )


def run(options: argparse.Namespace, output: Output) -> None:
    """Run the session, print its table, name what was written."""
    from voxloop.simulate.demo import run_demo

    start = time.perf_counter()
    sample = chosen_sample(options)
    output.note(f"{sample.image.name}: {' x '.join(map(str, sample.image.shape))} voxels; preparing ...")
    rows = []

    def report(project: Project, round_: Round) -> None:
        if round_.number == 0:
            n = sum(project.supervoxels(index).n for index in range(2))
            seconds = time.perf_counter() - start
            output.note(f"{n:,} supervoxels with {len(project.features(0).names)} features after {seconds:.0f} s\n")
            output.note(_HEADING)
        output.note(_line(round_, len(sample.class_names)))
        rows.append(round_)

    result = run_demo(
        sample,
        Path(options.out),
        rounds=options.rounds,
        seed=options.seed,
        n_learn=options.learn_slices,
        specs={"slic": {"size": options.size}} if options.size else {},
        executor=executor(options),
        progress=output.progress,
        report=report,
    )
    oracle = _shown_iou(result.oracle, len(sample.class_names))
    seconds = time.perf_counter() - start
    lines = [
        f"\nthe best that these supervoxels allow: IoU {oracle:.3f}",
        f"done in {seconds:.0f} s; look at {result.files['overview']}",
        *(f"  {name:<13} {path}" for name, path in result.files.items()),
    ]
    data = {
        "rounds": [
            {"round": r.number, "labelled": r.n_labelled, "iou": r.score.iou, "seconds": r.seconds} for r in rows
        ],
        "oracle_iou": result.oracle.iou,
        "seconds": seconds,
        "files": result.files,
    }
    output.result(lines, data)


_HEADING = f"{'round':>5}  {'slice':<10} {'labelled':>8}  {'IoU':>6}  {'seconds':>7}"


def _line(round_: Round, n_classes: int) -> str:
    s = round_.suggestion
    where = "(start)" if s is None else f"{'zyx'[s.axis]} = {s.index}"
    iou = _shown_iou(round_.score, n_classes)
    return f"{round_.number:>5}  {where:<10} {round_.n_labelled:>8}  {iou:>6.3f}  {round_.seconds:>7.1f}"


def _shown_iou(score: object, n_classes: int) -> float:
    """Return the IoU of the foreground if there are two classes, else the mean."""
    from voxloop.simulate.score import Score

    assert isinstance(score, Score)
    return score.iou_of(2) if n_classes == 2 else score.mean_iou


def chosen_sample(options: argparse.Namespace) -> Sample:
    """Return the image that `add_sample_options` lets the user choose; `--seed` makes another phantom."""
    if (options.image is None) != (options.truth is None):
        raise InputError("--image and --truth go together")
    if options.image is not None:
        return _own_sample(options)
    from voxloop.samples import mni, phantom

    return mni() if options.sample == "mni" else phantom(seed=options.seed or 0)


def _own_sample(options: argparse.Namespace) -> Sample:
    """Return the user's image with its truth; every value of the truth is a class, 0 is the background."""
    import numpy as np

    from voxloop.io import open_labels, open_volume
    from voxloop.project import PALETTE
    from voxloop.samples import Sample

    image = open_volume(options.image)
    labels = np.asarray(open_labels(options.truth).data)
    mask = None if options.mask is None else np.asarray(open_labels(options.mask).data) != 0
    values = np.unique(labels if mask is None else labels[mask])
    if not 2 <= len(values) <= 64:
        raise InputError(f"--truth must hold 2 to 64 values, one a class; {options.truth} holds {len(values)}")
    truth = (np.searchsorted(values, labels) + 1).astype(np.uint8)
    if mask is not None:
        truth[~mask] = 0
    names = tuple("background" if value == 0 else f"class {value}" for value in values)
    return Sample(image, truth, names, tuple(PALETTE[i % len(PALETTE)] for i in range(len(names))), mask)
