"""Boxes, blocks with halos, and the executors that run one function over many blocks.

A voxel algorithm is written once, as a function of one block. `map_blocks` hands the blocks to an executor and yields
the results in the order of the blocks, whatever the executor, so that what is summed up afterwards has the same bits.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from voxloop.errors import InputError

Shape3 = tuple[int, int, int]
Item = TypeVar("Item")
Result = TypeVar("Result")
ItemIn = TypeVar("ItemIn", contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


@dataclass(frozen=True, slots=True)
class Box:
    """A box of voxels: `start` (z, y, x) belongs to it, `stop` (z, y, x) does not."""

    start: Shape3
    stop: Shape3

    @classmethod
    def of_shape(cls, shape: Sequence[int]) -> Box:
        """Return the box that holds a whole volume of `shape` (z, y, x)."""
        z, y, x = (int(n) for n in shape)
        return cls((0, 0, 0), (z, y, x))

    @property
    def shape(self) -> Shape3:
        """Size in voxels (z, y, x); 0 along an axis where the box is empty."""
        z, y, x = (max(0, b - a) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices that cut the box out of the whole volume."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def grow(self, halo: Sequence[int], bounds: Box) -> Box:
        """Return the box with `halo` (z, y, x) voxels more on each side, cut off at `bounds`."""
        start = tuple(max(lo, a - h) for a, h, lo in zip(self.start, halo, bounds.start, strict=True))
        stop = tuple(min(hi, b + h) for b, h, hi in zip(self.stop, halo, bounds.stop, strict=True))
        return Box(start, stop)  # type: ignore[arg-type]  # three of each

    def moved(self, by: Sequence[int]) -> Box:
        """Return the box moved by so many voxels (z, y, x)."""
        start, stop = (tuple(i + b for i, b in zip(corner, by, strict=True)) for corner in (self.start, self.stop))
        return Box(start, stop)  # type: ignore[arg-type]  # three of each

    def slices_in(self, outer: Box) -> tuple[slice, slice, slice]:
        """Slices that cut this box out of an array that holds `outer`."""
        z, y, x = (slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, outer.start, strict=True))
        return z, y, x


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of work: `inner` is what it answers for, `outer` what it has to read (inner plus halo)."""

    index: int
    inner: Box
    outer: Box

    @property
    def inner_in_outer(self) -> tuple[slice, slice, slice]:
        """Slices that cut the inner box out of an array that holds the outer box."""
        return self.inner.slices_in(self.outer)


def partition(shape: Sequence[int], block_shape: Sequence[int], halo: Sequence[int] = (0, 0, 0)) -> list[Block]:
    """Cut a volume of `shape` (z, y, x) into blocks of `block_shape`, in C order; halos end at the volume's border."""
    if any(n < 1 for n in block_shape):
        raise InputError(f"block_shape must be at least 1 along each axis, not {tuple(block_shape)}")
    whole = Box.of_shape(shape)
    corners = itertools.product(*(range(0, n, b) for n, b in zip(whole.shape, block_shape, strict=True)))
    blocks = []
    for index, corner in enumerate(corners):
        stop = tuple(min(c + b, n) for c, b, n in zip(corner, block_shape, whole.shape, strict=True))
        inner = Box(corner, stop)  # type: ignore[arg-type]  # three of each
        blocks.append(Block(index, inner, inner.grow(halo, whole)))
    return blocks


class Executor(Protocol):
    """Runs a function over items and yields the results in the order of the items."""

    @property
    def n_workers(self) -> int:
        """How many items are computed at a time."""

    @property
    def in_process(self) -> bool:
        """Whether functions run in this process and may keep locks, write to arrays here and so on."""

    def limited(self, n_per_process: int) -> Executor:
        """Return the executor that computes at most so many items at a time in each of its processes."""

    def check_folder(self, folder: Path) -> None:
        """Raise `ClusterError` unless every process finds in a folder what this one writes there."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order."""


class SerialExecutor:
    """One item after the other, in the calling thread."""

    n_workers = 1
    in_process = True

    def check_folder(self, folder: Path) -> None:
        """Do nothing: there is one process."""

    def limited(self, n_per_process: int) -> Self:
        """Return this executor: it computes one item at a time."""
        del n_per_process
        return self

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order."""
        return map(function, items)


class ThreadExecutor:
    """Threads of this process; kernels and most of numpy let go of the interpreter lock.

    At most twice as many items as threads are under way or waiting to be collected, so that memory stays bounded when
    the caller is slower than the workers.
    """

    in_process = True

    def __init__(self, n_workers: int | None = None) -> None:
        self.n_workers = n_workers if n_workers is not None else available_cpus()
        if self.n_workers < 1:
            raise InputError(f"n_workers must be at least 1, not {n_workers}")

    def check_folder(self, folder: Path) -> None:
        """Do nothing: there is one process."""

    def limited(self, n_per_process: int) -> ThreadExecutor:
        """Return an executor of at most so many threads."""
        return ThreadExecutor(min(n_per_process, self.n_workers))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order; what has not started is dropped when the caller stops."""
        remaining = iter(items)
        with ThreadPoolExecutor(self.n_workers, thread_name_prefix="voxloop") as pool:
            waiting: deque[Future[Result]] = deque()
            try:
                for item in itertools.islice(remaining, 2 * self.n_workers):
                    waiting.append(pool.submit(function, item))
                while waiting:
                    result = waiting.popleft().result()
                    for item in itertools.islice(remaining, 1):
                        waiting.append(pool.submit(function, item))
                    yield result
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def available_cpus() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def default_executor() -> Executor:
    """Return threads, one per processor; serial on a machine with one processor."""
    n = available_cpus()
    return ThreadExecutor(n) if n > 1 else SerialExecutor()


_UNITS = {"": 1} | {
    f"{prefix}{kind}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for kind, base in (("B", 1000), ("", 1000), ("IB", 1024))
}
_LEAST_MEMORY = 1_000_000  # below it somebody forgot the unit


def memory_budget(memory: int | str | None = None) -> int:
    """Return how many bytes a process may take for its work.

    Parameters
    ----------
    memory
        Bytes, or a text such as ``"2GB"``, ``"500 MB"`` or ``"1.5GiB"``; by default half of what is free.

    Raises
    ------
    InputError
        If it is no size, or less than 1 MB.
    """
    if memory is None:
        return max(_LEAST_MEMORY, free_memory() // 2)
    number = re.fullmatch(r"(\d{1,15}(?:\.\d{0,9})?) *([A-Z]*)", str(memory).strip().upper())
    if isinstance(memory, bool) or not isinstance(memory, int | str) or not number or number[2] not in _UNITS:
        raise InputError(f"memory must be a size such as '2GB' or '500MB', not {memory!r}")
    n_bytes = int(float(number[1]) * _UNITS[number[2]])
    if n_bytes < _LEAST_MEMORY:
        raise InputError(f"memory must be at least 1MB, not {memory!r}; give a unit, such as '2GB'")
    return n_bytes


def free_memory() -> int:
    """Return how many bytes are free: on the machine, or in the control group of a container or batch job, if less."""
    import psutil  # here, for whatever reads a file imports this module

    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError, StopIteration):  # no Linux, no control groups (version 2), or no limit
        groups = Path("/proc/self/cgroup").read_text().splitlines()
        group = Path("/sys/fs/cgroup") / next(line for line in groups if line.startswith("0::"))[4:]
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    return max(0, free)


def within_memory(executor: Executor | None, *, memory: int, item_bytes: int) -> Executor:
    """Return the executor, limited to as many items at a time as a process can hold; at least one."""
    executor = executor or default_executor()
    return executor.limited(max(1, memory // max(1, item_bytes)))


def in_this_process(executor: Executor | None) -> Executor:
    """Return the executor if it runs functions here, else threads: for work on arrays that nobody else can reach."""
    return executor if executor is not None and executor.in_process else default_executor()


class Progress(Protocol):
    """Told after each finished piece of a stage; may raise `Cancelled` to stop the stage."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note that `done` of `total` pieces of `stage` are finished."""


def map_blocks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    stage: str = "",
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, and tell `progress` after each."""
    executor = executor or default_executor()
    total = len(items)
    if progress is not None:
        progress(stage, 0, total)
    for done, result in enumerate(executor.map(function, items), start=1):
        yield result
        if progress is not None:
            progress(stage, done, total)
