"""`voxloop features`."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from voxloop.cli.options import add_computing, add_project, given, open_project
from voxloop.cli.output import Output

HELP = "describe the supervoxels by filter responses"
EXAMPLES = """\
examples:
  voxloop features cells.voxloop
  voxloop features cells.voxloop --sigmas 0.7 1 1.6 3.5 --definition ilastik
  voxloop features cells.voxloop --own shape boundary --volume probabilities.h5
  voxloop features cells.voxloop --context 2 --regions         # neighbours only, not the region
  voxloop features cells.voxloop --suggest                     # which are worth it, for the labels there are
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_project(parser)
    add_computing(parser)
    parser.add_argument(
        "--sigmas", type=float, nargs="+", help="scales, voxels of the finest axis (default: 0.3 0.7 1 1.6 3.5 5 10)"
    )
    parser.add_argument(
        "--sigmas-2d", type=float, nargs="+", help="those of the sigmas, in voxels, to compute slice by slice"
    )
    parser.add_argument(
        "--families",
        nargs="+",
        help="some of gaussian laplacian gradient_magnitude difference_of_gaussians structure_tensor hessian"
        " (default: all)",
    )
    parser.add_argument("--definition", help="voxloop (default) or ilastik")
    parser.add_argument("--statistics", nargs="+", help="some of mean std min max q10 q50 q90 (default: mean std)")
    parser.add_argument(
        "--left-out",
        nargs="*",
        metavar="FAMILY:SIGMA",
        help="pairs not to compute, such as hessian:0.7 (default: none)",
    )
    parser.add_argument(
        "--own", nargs="+", help="some of shape boundary position: what a supervoxel is by itself (default: none)"
    )
    parser.add_argument(
        "--context", type=int, metavar="STEPS", help="describe the surroundings so many steps away, too (default: 1)"
    )
    parser.add_argument(
        "--regions", type=int, nargs="*", metavar="STEPS",
        help="and the region that a supervoxel lies in, within so many steps; none after it: not (default: 24)",
    )  # fmt: skip
    parser.add_argument(
        "--volume", action="append", default=[], metavar="FILE",
        help="describe the image by a volume of your own as well, such as probabilities; once for each volume",
    )  # fmt: skip
    parser.add_argument(
        "--drop-volume", action="append", default=[], metavar="NAME", help="no longer use that volume of your own"
    )
    parser.add_argument("--image", type=int, default=0, help="the image that the volumes belong to (default: 0)")
    parser.add_argument("--suggest", action="store_true", help="say which are worth it for the labels there are")


def run(options: argparse.Namespace, output: Output) -> None:
    """Compute the feature tables, each scale unless it is there already."""
    with open_project(options, output) as project:
        chosen = given(
            options, "sigmas", "sigmas_2d", "families", "definition", "statistics", "own", "context", "regions"
        )
        if options.left_out is not None:
            chosen["left_out"] = [tuple(pair.partition(":")[::2]) for pair in options.left_out]
        project.configure(features=chosen)
        for name in options.drop_volume:
            project.remove_feature_volume(name, image=options.image)
        for path in options.volume:
            project.add_feature_volume(path, image=options.image)
        lines, data = [], []
        for index, record in enumerate(project.images):
            start = time.perf_counter()
            reused = project.is_current("features", index)
            table = project.features(index)
            seconds = time.perf_counter() - start
            n, f = table.values.shape
            state = "as before" if reused else f"{seconds:.1f} s"
            lines.append(f"{record.name}: {f} features of {n:,} supervoxels ({state})")
            data.append(
                {"image": record.name, "n": n, "features": list(table.names), "reused": reused, "seconds": seconds}
            )
        found = project.suggest_features() if options.suggest else None
    if found is None:
        output.result(lines, {"images": data})
        return
    lines += ["what adds most to those before, with the held-out log-loss in bits that is left:"]
    lines += [f"  {gain.cell}: {gain.log_loss:.3f}" for gain in found.cells] or ["  nothing adds anything"]
    sigmas, families = (" ".join(map(str, values)) for values in (found.spec.sigmas, found.spec.families))
    lines += [f"--sigmas {sigmas} --families {families} has all of them"]
    cells = [asdict(gain) for gain in found.cells]
    output.result(lines, {"images": data, "suggested": cells, "spec": found.spec.model_dump(mode="json")})
