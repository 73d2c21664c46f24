"""What a benchmark is, and how it is timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from voxloop.errors import InputError

Value = TypeVar("Value")
Size = Literal["test", "quick", "full"]
Kind = Literal["peer", "growth", "threads", "processes"]


@dataclass(frozen=True)
class Comparison:
    """Two calls that do the same work.

    Attributes
    ----------
    name, work
        What is measured, and on how much.
    peer
        What it is compared with.
    ours, theirs
        The calls; what they need is prepared before.
    check
        Takes the results of both, raises `AssertionError` unless the work was the same, and returns figures to report.
    kind
        ``peer``: another library or method. ``growth``: `theirs` does half the work. ``threads``: `theirs` has one
        thread, `ours` two. ``processes``: the same with processes, whose CPU time is not ours: only time by the clock
        is compared.
    repeats
        How many pairs are timed, unless the caller asks for fewer.
    """

    name: str
    work: str
    peer: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    check: Callable[[Any, Any], dict[str, float]]
    kind: Kind = "peer"
    repeats: int = 3


@dataclass(frozen=True)
class Seconds:
    """CPU time of all threads of the process, and time by the clock."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Result:
    """A measured comparison; `cpu_ratio` and `wall_ratio` are medians over the pairs."""

    name: str
    work: str
    peer: str
    kind: Kind
    ours: Seconds
    theirs: Seconds
    cpu_ratio: float
    wall_ratio: float
    figures: dict[str, float] = field(default_factory=dict)


def verify(comparison: Comparison) -> dict[str, float]:
    """Run both calls once, untimed, and return the figures of the check."""
    return comparison.check(comparison.ours(), comparison.theirs())


def measure(comparison: Comparison, *, max_repeats: int) -> Result:
    """Time pairs A B A B ..., so that what else the machine does meets both alike.

    The first pair warms up caches and is checked. A ratio is how many times as long the peer takes; for growth, how
    many times as long twice the work takes.
    """
    if max_repeats < 1:
        raise InputError(f"max_repeats must be at least 1, not {max_repeats}")
    figures = verify(comparison)
    pairs = [
        (_seconds(comparison.ours), _seconds(comparison.theirs)) for _ in range(min(max_repeats, comparison.repeats))
    ]
    ours, theirs = (_median([pair[side] for pair in pairs]) for side in (0, 1))
    upper, lower = (0, 1) if comparison.kind == "growth" else (1, 0)
    return Result(
        name=comparison.name,
        work=comparison.work,
        peer=comparison.peer,
        kind=comparison.kind,
        ours=ours,
        theirs=theirs,
        cpu_ratio=statistics.median(pair[upper].cpu / pair[lower].cpu for pair in pairs),
        wall_ratio=statistics.median(pair[upper].wall / pair[lower].wall for pair in pairs),
        figures=figures,
    )


def timed(call: Callable[[], Value]) -> tuple[float, Value]:
    """Return the CPU seconds of a call, and what it returned."""
    start = time.process_time()
    value = call()
    return time.process_time() - start, value


def _seconds(call: Callable[[], Any]) -> Seconds:
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def _median(times: Sequence[Seconds]) -> Seconds:
    return Seconds(statistics.median(t.cpu for t in times), statistics.median(t.wall for t in times))


_HEADINGS = {
    "peer": "times faster",
    "growth": "t(2n) / t(n)",
    "threads": "t(1 thread) / t(2)",
    "processes": "t(1 process) / t(2)",
}
HEADER = (
    "| | against | voxloop CPU s | wall s | other CPU s | wall s | ratio | CPU | wall | figures |\n"
    "|---|---|--:|--:|--:|--:|---|--:|--:|---|"
)


def row(result: Result) -> str:
    """Return one row of the table (Markdown)."""
    cpu_ratio = "" if result.kind == "processes" else f"**{result.cpu_ratio:.1f}**"
    cells = [
        f"{result.name}: {result.work}",
        result.peer,
        *(f"{seconds:.3g}" for t in (result.ours, result.theirs) for seconds in (t.cpu, t.wall)),
        _HEADINGS[result.kind],
        cpu_ratio,
        f"{result.wall_ratio:.1f}",
        ", ".join(f"{name} {_figure(value)}" for name, value in result.figures.items()),
    ]
    return "| " + " | ".join(cells) + " |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
