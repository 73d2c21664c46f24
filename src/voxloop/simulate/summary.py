"""What many learning curves come to: mean and spread, the area below, and how soon they are good enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import InputError
from voxloop.simulate.curves import CurvePoint

INTERVAL = (10.0, 90.0)  # percentiles: 80 % of the runs lie between
GOOD_ENOUGH = 0.95  # of the fully labelled result

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean over the repeats, and the interval that holds 80 % of them (percentiles, linear between runs)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Floats) -> Spread:
        """Return the spread of (r,) values."""
        low, high = np.percentile(values, INTERVAL)
        return cls(float(np.mean(values)), float(low), float(high))


@dataclass(frozen=True)
class CurveSummary:
    """The repeats of one strategy.

    Attributes
    ----------
    strategy, n_repeats
        Whose, and how many.
    inputs
        (g,) where the curves are compared: from the first to the last input that all strategies share.
    mean, low, high
        (g,) mean of the repeats, and the interval that holds 80 % of them; between its points a curve is straight.
    final
        At the last input.
    area
        Under the curve, divided by the range of inputs: the mean height, 0 to 1.
    good_enough
        Inputs after which half of the repeats have reached 95 % of the fully labelled result, at one of their points;
        None if half of them never do.
    n_good_enough
        How many repeats ever do.
    """

    strategy: str
    n_repeats: int
    inputs: Floats
    mean: Floats
    low: Floats
    high: Floats
    final: Spread
    area: Spread
    good_enough: float | None
    n_good_enough: int


def summarise(points: Iterable[CurvePoint], measure: str, *, full: float) -> list[CurveSummary]:
    """Return the summary of each strategy, in the order in which they first appear.

    Parameters
    ----------
    points
        Of any number of curves, each in the order of its rounds.
    measure
        One of `CurvePoint.measures`.
    full
        The fully labelled result.

    Raises
    ------
    InputError
        If there are no points, a point lacks the measure, or the curves have no input in common.
    """
    curves: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for point in points:
        if measure not in point.measures:
            raise InputError(f"measure is {measure!r}; expected one of {', '.join(point.measures)}")
        curve = curves.setdefault(point.strategy, {}).setdefault(point.repeat, [])
        curve.append((point.inputs, point.measures[measure]))
    if not curves:
        raise InputError("points must hold at least one point")
    arrays = {name: [np.array(curve) for curve in repeats.values()] for name, repeats in curves.items()}
    everything = [curve for repeats in arrays.values() for curve in repeats]
    # A curve that ended early, as nothing was left to ask, stays where it is.
    first, last = max(c[0, 0] for c in everything), max(c[-1, 0] for c in everything)
    grid = np.unique(np.concatenate([c[:, 0] for c in everything]))
    grid = grid[(first <= grid) & (grid <= last)]
    return [_summarise(name, repeats, grid, GOOD_ENOUGH * full) for name, repeats in arrays.items()]


def _summarise(name: str, curves: list[Floats], grid: Floats, target: float) -> CurveSummary:
    heights = np.array([np.interp(grid, curve[:, 0], curve[:, 1]) for curve in curves])
    areas = np.trapezoid(heights, grid, axis=1) / (grid[-1] - grid[0]) if grid.size > 1 else heights[:, 0]
    reached = [curve[curve[:, 1] >= target, 0] for curve in curves]
    needed = np.sort([inputs[0] if inputs.size else np.inf for inputs in reached])
    half = float(needed[(len(curves) - 1) // 2])
    low, high = np.percentile(heights, INTERVAL, axis=0)
    return CurveSummary(
        strategy=name,
        n_repeats=len(curves),
        inputs=grid,
        mean=heights.mean(axis=0),
        low=low,
        high=high,
        final=Spread.of(heights[:, -1]),
        area=Spread.of(areas),
        good_enough=half if np.isfinite(half) else None,
        n_good_enough=int(np.isfinite(needed).sum()),
    )
