"""Learning curves of the query strategies on the real volumes, and one table over all of them.

    python -m benchmarks.active --out curves [--volumes epfl nuclei] [--strategies far feature] [--repeats 10]
    python -m benchmarks.active --out curves --cold [--volumes epfl]

A run that was stopped goes on, strategies and repeats can be added later. With ``--cold`` nothing is labelled, and what
is counted is how many supervoxels are asked for, ten at a time, until one is not background.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.volumes import VOLUMES
from voxloop.active import QueryState, make_strategy
from voxloop.classify import label_supervoxels
from voxloop.simulate.benchmark import SimulationResult, prepare_task, run_simulation
from voxloop.simulate.curves import SimulationSpec
from voxloop.simulate.tables import ImageTables

STRATEGIES = (
    "mixed", "far", "random", "feature", "combined", "geometric", "bald", "power", "clasp", "diverse",
    "slices-mixed", "slices-random", "slices-feature", "slices-combined",
    "planes-mixed", "planes-random", "planes-feature", "planes-combined",
)  # fmt: skip
SPREAD_AT = 100  # inputs
COLD_STRATEGIES = ("random", "typiclust", "kinds")
N_COLD_STARTS, COLD_ROUND, COLD_ROUNDS = 20, 10, 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the curves that are missing, print a table for each volume and one for all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.active", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, a folder a volume")
    parser.add_argument("--volumes", nargs="+", choices=VOLUMES, default=list(VOLUMES), metavar="NAME")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10, help="rounds of --inputs inputs (10)")
    parser.add_argument("--inputs", type=int, default=19)
    parser.add_argument("--cold", action="store_true", help="count what is asked until the first foreground")
    options = parser.parse_args(arguments)

    options.out.mkdir(exist_ok=True)
    if options.cold:
        for name in options.volumes:
            task = prepare_task(VOLUMES[name].sample(), options.out / name, n_learn=VOLUMES[name].n_learn)
            print("\n".join(["", name, *cold_table(task.learn)]), flush=True)
        return
    spec = SimulationSpec(rounds=options.rounds, inputs_per_round=options.inputs)
    results = {}
    for name in options.volumes:
        volume = VOLUMES[name]
        results[name] = run_simulation(
            volume.sample(),
            options.out / name,
            strategies=options.strategies,
            repeats=options.repeats,
            spec=spec,
            n_learn=volume.n_learn,
        )
        print("\n".join(["", name, *volume_table(results[name])]), flush=True)
    print("\n".join(["", f"all {len(results)} volumes", *overall_table(results)]))


def cold_table(tables: ImageTables) -> list[str]:
    """Return a Markdown table of how soon a start from nothing comes upon the foreground."""
    lines = [f"{np.mean(tables.majority > 1):.2%} of {tables.supervoxels.n} supervoxels are foreground", ""]
    lines += [
        f"| strategy | median | within {COLD_ROUND}, of {N_COLD_STARTS} | the slowest but one |",
        "|---|---|---|---|",
    ]
    for strategy in COLD_STRATEGIES:
        found = np.sort([asked_until_foreground(tables, strategy, seed) for seed in range(N_COLD_STARTS)])
        lines.append(f"| `{strategy}` | {np.median(found):g} | {np.sum(found <= COLD_ROUND)} | {found[-2]:g} |")
    return lines


def asked_until_foreground(tables: ImageTables, strategy: str, seed: int) -> float:
    """Return which of the supervoxels asked for is the first that is not background; infinite if none of 50 is."""
    rng = np.random.default_rng(seed)
    asked = np.empty(0, np.uint32)
    for _ in range(COLD_ROUNDS):
        state = QueryState(
            features=tables.values,
            centers=tables.supervoxels.centers,
            graph=tables.walk,
            labels=label_supervoxels(asked, np.ones(asked.size, np.int32)),
            spacing=tables.spacing,
            candidates=tables.known_ids,
        )
        asked = np.concatenate([asked, make_strategy(strategy).query(state, COLD_ROUND, rng=rng)])
        hits = np.flatnonzero(tables.majority[asked.astype(np.int64) - 1] > 1)
        if hits.size:
            return float(hits[0] + 1)
    return np.inf


def volume_table(result: SimulationResult) -> list[str]:
    """Return a Markdown table of one volume, the strategy with the largest area first."""
    heading = (
        f"{result.measure}; fully labelled {result.full[result.measure]:.3f}, "
        f"supervoxels allow {result.oracle[result.measure]:.3f}"
    )
    lines = [heading, "", "| strategy | after 100 inputs | at the end (80 % of runs) | area | inputs to 95 % (runs) |"]
    lines.append("|---|---|---|---|---|")
    for s in sorted(result.summaries, key=lambda s: -s.area.mean):
        middle = np.interp(SPREAD_AT, s.inputs, s.mean)
        spread = f"{s.final.mean:.3f} ({s.final.low:.3f} .. {s.final.high:.3f})"
        needed = "never" if s.good_enough is None else f"{s.good_enough:.0f}"
        reached = f"{needed} ({s.n_good_enough}/{s.n_repeats})"
        lines.append(f"| `{s.strategy}` | {middle:.3f} | {spread} | {s.area.mean:.3f} | {reached} |")
    return lines


def overall_table(results: dict[str, SimulationResult]) -> list[str]:
    """Return a Markdown table of each strategy over all volumes.

    Areas; the width of the interval of 80 % of the runs at 100 inputs, mean of the volumes; and the inputs to 95 % of
    the fully labelled result, mean of the volumes, with all inputs where it is never reached.
    """
    names = list(results)
    lines = [f"| strategy | mean area | {' | '.join(names)} | 80 % at {SPREAD_AT} inputs | inputs to 95 % (volumes) |"]
    lines.append("|---|---|" + "---|" * (len(names) + 2))
    tables = {name: {s.strategy: s for s in result.summaries} for name, result in results.items()}
    strategies = list(tables[names[0]])
    mean_area = {s: float(np.mean([tables[name][s].area.mean for name in names])) for s in strategies}
    for s in sorted(strategies, key=lambda s: -mean_area[s]):
        found = [tables[name][s] for name in names]
        width = np.mean([np.interp(SPREAD_AT, f.inputs, f.high - f.low) for f in found])
        needed = np.mean([f.inputs[-1] if f.good_enough is None else f.good_enough for f in found])
        reached = sum(f.good_enough is not None for f in found)
        areas = " | ".join(f"{f.area.mean:.3f}" for f in found)
        lines.append(f"| `{s}` | {mean_area[s]:.3f} | {areas} | {width:.3f} | {needed:.0f} ({reached}) |")
    return lines


if __name__ == "__main__":
    main()
