"""`voxloop simulate`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloop.cli.demo import add_sample_options, chosen_sample
from voxloop.cli.options import executor, given
from voxloop.cli.output import Output

if TYPE_CHECKING:
    from voxloop.simulate.benchmark import SimulationResult

HELP = "draw learning curves of query strategies with a simulated annotator"
EXAMPLES = """\
strategies: mixed (the default of projects), random, typiclust, kinds, feature, geometric, combined, bald, power,
clasp, diverse, each also with slices- (strokes on slices) or planes- (two clicks in patches of planes) before it;
far (knows the truth: a baseline)

examples:
  voxloop simulate --strategy random --strategy feature --repeats 5
  voxloop simulate --image cells.tif --truth cells-labels.tif --strategy planes-feature --rounds 20 --out curves
  voxloop simulate --image cells.tif --truth cells-labels.tif --strategy random --out curves    # adds to it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--out", default="voxloop-curves", metavar="FOLDER", help="results; an earlier run goes on (voxloop-curves)"
    )
    add_sample_options(parser)
    parser.add_argument(
        "--strategy", action="append", required=True, metavar="NAME", help="what asks for labels; repeat for several"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of a curve (default: 20)")
    parser.add_argument("--inputs-per-round", type=int, metavar="N", help="clicks or strokes a round (default: 10)")
    parser.add_argument(
        "--start-per-class", type=int, metavar="N", help="supervoxels a class to begin with, 0 for none (default: 5)"
    )
    parser.add_argument("--radius", type=float, metavar="VOXELS", help="radius of a plane's patch (default: 12)")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="curves of each strategy (default: 10)")
    parser.add_argument(
        "--tables", choices=("csv", "parquet"), default="csv", help="format of the tables (default: csv)"
    )
    parser.add_argument("--seed", type=int, help="the same seed gives the same curves (default: 0)")


def run(options: argparse.Namespace, output: Output) -> None:
    """Run the curves, print a line for each strategy, name what was written."""
    from voxloop.simulate.benchmark import run_simulation
    from voxloop.simulate.curves import SimulationSpec

    start = time.perf_counter()
    spec = SimulationSpec(**given(options, "rounds", "inputs_per_round", "start_per_class", "radius", "seed"))
    sample = chosen_sample(options)
    output.note(f"{sample.image.name}: {' x '.join(map(str, sample.image.shape))} voxels")
    result = run_simulation(
        sample,
        Path(options.out),
        strategies=options.strategy,
        repeats=options.repeats,
        spec=spec,
        n_learn=options.learn_slices,
        specs={"slic": {"size": options.size}} if options.size else {},
        table_format=options.tables,
        executor=executor(options),
        progress=output.progress,
    )
    seconds = time.perf_counter() - start
    output.result(
        [*_table(result), f"done in {seconds:.0f} s", *(f"  {n:<8} {path}" for n, path in result.files.items())],
        _data(result) | {"seconds": seconds},
    )


def _table(result: SimulationResult) -> list[str]:
    full, oracle = result.full[result.measure], result.oracle[result.measure]
    inputs = int(result.summaries[0].inputs[-1])
    heading = (
        f"{result.measure} on the other part; fully labelled {full:.3f}, supervoxels allow {oracle:.3f}; "
        f"{result.n_reused} curves were there already"
    )
    lines = [
        heading,
        f"{'strategy':<18} {f'after {inputs} inputs (80 %)':<26} {'area':>6}  inputs to 95 % of fully labelled",
    ]
    for s in result.summaries:
        final = f"{s.final.mean:.3f} ({s.final.low:.3f} .. {s.final.high:.3f})"
        reached = "half never do" if s.good_enough is None else f"{s.good_enough:.0f}"
        lines.append(
            f"{s.strategy:<18} {final:<26} {s.area.mean:>6.3f}  {reached} ({s.n_good_enough} of {s.n_repeats} do)"
        )
    return lines


def _data(result: SimulationResult) -> dict[str, Any]:
    from voxloop.simulate.benchmark import SUMMARY_COLUMNS, summary_row

    rows = [dict(zip(SUMMARY_COLUMNS, summary_row(s, result), strict=True)) for s in result.summaries]
    return {"strategies": rows, "full": result.full, "oracle": result.oracle, "files": result.files}
