"""The figure of several learning curves. matplotlib is imported inside the function and used without a screen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from voxloop.errors import InputError
from voxloop.simulate.summary import CurveSummary

# Okabe and Ito's colours without the yellow, which a line on white does not show; then again, dashed.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)))
DPI = 150


def draw_curves(
    path: str | Path,
    summaries: Sequence[CurveSummary],
    *,
    measure: str,
    full: float,
    oracle: float,
    title: str,
) -> None:
    """Write a figure of the mean of each strategy against the inputs, with the band that holds 80 % of its repeats.

    Parameters
    ----------
    path
        File to write; PNG unless its name says otherwise.
    summaries
        One a strategy.
    measure
        What they are of, for the axis.
    full, oracle
        Drawn as lines: the fully labelled result, and the best that the supervoxels allow.
    title
        One line above.

    Raises
    ------
    InputError
        If there are no summaries.
    """
    if not summaries:
        raise InputError("summaries must hold at least one strategy")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 5.0), dpi=DPI)
    ax = figure.add_axes((0.085, 0.12, 0.62, 0.78))
    styles = ((color, dash) for dash in cycle(DASHES) for color in COLORS)
    best_first = sorted(summaries, key=lambda s: -s.area.mean)
    style_of = dict(zip((s.strategy for s in summaries), styles, strict=False))
    for summary in best_first:
        color, dash = style_of[summary.strategy]
        ax.fill_between(summary.inputs, summary.low, summary.high, color=color, alpha=0.12, linewidth=0)
        label = f"{summary.strategy}  {summary.final.mean:.3f}"
        ax.plot(summary.inputs, summary.mean, color=color, linestyle=dash, linewidth=1.8, label=label)
    ax.axhline(full, color="#444444", linestyle=(0, (6, 4)), linewidth=1.1, label=f"fully labelled  {full:.3f}")
    ax.axhline(oracle, color="#444444", linestyle=(0, (1, 3)), linewidth=1.1, label=f"supervoxels allow  {oracle:.3f}")
    repeats = sorted({s.n_repeats for s in summaries})
    ax.set_xlabel("inputs: clicks and strokes")
    ax.set_ylabel(measure.replace("_", " ").replace("iou", "IoU").replace("dice", "Dice"))
    ax.set_title(title, loc="left", fontsize=12, fontweight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    ax.set_axisbelow(True)
    count = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        frameon=False,
        fontsize=9,
        title=f"mean of {count} repeats at the end;\nbands hold 80 % of them",
        title_fontsize=9,
        alignment="left",
    )
    figure.savefig(path, dpi=DPI, metadata={"Software": None} if str(path).endswith(".png") else None)
