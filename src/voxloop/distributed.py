"""Blocks on a `dask.distributed` cluster: processes of this machine, or the workers of a scheduler.

What travels is small: functions that name the files to read, and the statistics of a block. Everybody reads and
writes the same files, under the same paths.
"""

from __future__ import annotations

import itertools
import logging
import operator
import pickle
import signal
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import voxloop
from voxloop.blocks import Item, Result
from voxloop.errors import ClusterError, InputError

try:
    import dask.config
    from distributed import Client, Future, KilledWorker, LocalCluster, Worker
except ImportError:
    raise InputError('a cluster needs dask.distributed: pip install "voxloop[cluster]"') from None

CONNECT_SECONDS = 10
WORKER_SECONDS = 60  # for a worker to appear, at first or after the last one died
_LOOK_SECONDS = 0.5  # between two looks whether there are workers, and whether Ctrl-C was pressed
_FETCH_SECONDS = 60  # for a result to travel, before it is looked whether there are workers
# Ctrl-C reaches all processes of a terminal: this one stops the workers.
_IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# A message costs client and scheduler some 8 ms: blocks travel together until they are worth it.
_MESSAGE_SECONDS = 0.25
_MAX_ITEMS = 64  # in a message
# Dask has a worker give the memory of freed arrays back to the system, so that each array above 128 kB comes with
# new pages: half of the time of the features. What blocks need is kept instead.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}
_SCATTERED = 100_000  # bytes of a function: more is sent to each worker once, not along with each block


class DaskExecutor:
    """The workers of a `dask.distributed` scheduler, one item for each of their threads.

    Functions and items must pickle by name, as functions of a module and `functools.partial` of them do. The blocks
    of a worker that dies are computed again by others. Items that take little time travel several in a message, of
    which at most twice as many as there are threads are under way.

    Parameters
    ----------
    client
        A connection to the scheduler; stays open.
    n_per_process
        Items that a worker may compute at a time; by default as many as it has threads.
    """

    in_process = False

    def __init__(self, client: Client, *, n_per_process: int | None = None) -> None:
        self._client = client
        self._n_per_process = n_per_process

    @property
    def n_workers(self) -> int:
        """How many items are computed at a time: the threads of all workers, as far as they may be used."""
        return max(1, sum(self._threads_to_use(n) for n in self._client.nthreads().values()))

    def limited(self, n_per_process: int) -> DaskExecutor:
        """Return an executor of the same workers that computes at most so many items at a time in each."""
        return DaskExecutor(self._client, n_per_process=self._threads_to_use(n_per_process))

    def _threads_to_use(self, n: int) -> int:
        return n if self._n_per_process is None else min(n, self._n_per_process)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order; what has not started is dropped when the caller stops.

        Raises
        ------
        ClusterError
            If the scheduler is lost, or one item was lost with its worker again and again.
        """
        payload = pickle.dumps(function)
        with _interrupts_held():
            sent = self._client.scatter(payload, broadcast=True, hash=False) if len(payload) > _SCATTERED else payload
            # A second helping keeps the workers busy; where fewer items than threads may run, it would run at once.
            is_limited = any(self._threads_to_use(n) < n for n in self._client.nthreads().values())
            n_under_way = self.n_workers * (1 if is_limited else 2)
        n_left, n_items, remaining = operator.length_hint(items), 1, iter(items)
        waiting: deque[Future[Any]] = deque()

        def submit(n_messages: int) -> None:
            nonlocal n_left
            for _ in range(n_messages):
                # Towards the end less in a message, so that nobody waits for the last one.
                batch = list(itertools.islice(remaining, max(1, min(n_items, n_left // n_under_way))))
                n_left -= len(batch)
                if batch:
                    waiting.append(self._client.submit(_call, sent, batch, key=f"voxloop-{uuid.uuid4().hex}"))

        try:
            with _interrupts_held():
                submit(n_under_way)
            while waiting:
                seconds, results = _result(self._client, waiting[0])
                n_items = min(_MAX_ITEMS, int(_MESSAGE_SECONDS / max(seconds / len(results), 1e-6)))
                with _interrupts_held():
                    waiting.popleft()
                    submit(1)
                yield from results
        finally:
            with _interrupts_held():
                self._drop(waiting)
                waiting.clear()

    def _drop(self, futures: Iterable[Future[Any]]) -> None:
        """Cancel what has not started, and wait for what has: it may be writing to a file."""
        keys = {future.key for future in futures}
        if not keys or self._client.status != "running":
            return
        self._client.cancel(list(futures), force=True)
        while any(self._client.run(_still_runs, keys, on_error="ignore").values()):
            time.sleep(0.02)

    def check_folder(self, folder: Path) -> None:
        """Raise `ClusterError` unless every worker finds in `folder` what is written here, and runs this voxloop."""
        token = uuid.uuid4().hex
        path = folder.resolve() / f".reachable-{token}"
        _wait_for_worker(self._client)
        path.write_text(token)
        try:
            answers = self._client.run(_look, str(path))
        finally:
            path.unlink()
        for worker, (host, text, version) in answers.items():
            if text != token:
                raise ClusterError(
                    f"worker {worker} on {host} does not find what is written to {folder.resolve()}; a project on a "
                    "cluster must lie on a file system that all machines share, under the same path"
                )
            if version != voxloop.__version__:
                raise ClusterError(f"worker {worker} on {host} runs voxloop {version}, not {voxloop.__version__}")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait for the end: in the middle of dask it is lost in a callback or becomes another error."""
    elsewhere = threading.current_thread() is not threading.main_thread()  # which alone gets signals
    if elsewhere or signal.getsignal(signal.SIGINT) is None:  # None: not set from Python, and cannot be put back
        yield
        return
    received: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if received:
            # Also instead of an error: workers that were just starting get the signal too and fail.
            signal.raise_signal(signal.SIGINT)


@contextmanager
def local_cluster(n_workers: int) -> Iterator[DaskExecutor]:
    """Start worker processes on this machine, with one thread each; they end with the ``with`` block.

    Raises
    ------
    InputError
        If `n_workers` is below 1.
    """
    if n_workers < 1:
        raise InputError(f"n_workers must be at least 1, not {n_workers}")
    opened = ExitStack()
    try:
        environment = "distributed.nanny.pre-spawn-environ"
        with _interrupts_held(), dask.config.set({environment: dask.config.get(environment) | _ALLOCATOR}):
            # Dask's limit would count the pages of mapped files, which the system takes back when it needs them.
            cluster = opened.enter_context(LocalCluster(
                n_workers=n_workers, threads_per_worker=1, processes=True, memory_limit=0,
                dashboard_address=":0", silence_logs=logging.CRITICAL, preload=[_IGNORE_INTERRUPTS],
            ))  # fmt: skip
            client = opened.enter_context(Client(cluster, set_as_default=False))
        yield DaskExecutor(client)
    finally:
        with _interrupts_held():
            opened.close()


@contextmanager
def connect(address: str) -> Iterator[DaskExecutor]:
    """Use the workers of a scheduler, such as ``"tcp://node1:8786"``.

    Raises
    ------
    ClusterError
        If no scheduler answers, or it has no workers.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised, in one line
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no scheduler answers at {address}: {' '.join(str(error).split())}") from None
    with client:
        _wait_for_worker(client)
        yield DaskExecutor(client)


def _wait_for_worker(client: Client) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        raise ClusterError("the scheduler has no workers: start some with dask worker") from None


def _result(client: Client, future: Future[Any]) -> Any:
    """Return the result of a block, however long it takes, as long as there are workers."""
    last_seen, finished = time.monotonic(), threading.Event()
    # Not a result with a short timeout, which would begin to fetch it again and again if it took longer to travel.
    future.add_done_callback(lambda _: finished.set())
    try:
        while True:
            with _interrupts_held():
                if finished.wait(_LOOK_SECONDS):
                    with suppress(TimeoutError):
                        return future.result(timeout=_FETCH_SECONDS)
                    if future.status == "error":  # the timeout was the block's own error
                        return future.result()
                has_workers = bool(client.nthreads())
            if has_workers:
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > WORKER_SECONDS:
                raise ClusterError("all workers are gone; start some and run it again to go on")
    except KilledWorker as error:
        raise ClusterError(
            f"a block was lost {error.allowed_failures + 1} times with the worker that computed it; a worker may need "
            "more memory, or a smaller --memory"
        ) from None
    except CancelledError:
        raise ClusterError("the connection to the scheduler was lost; run it again to go on") from None


@lru_cache(maxsize=4)
def _load(payload: bytes) -> Callable[[Any], Any]:
    """Return a function that was sent here, with the files it reads; they stay open for the next blocks."""
    function: Callable[[Any], Any] = pickle.loads(payload)  # noqa: S301 - sent by the client, as dask itself does it
    return function


def _call(payload: bytes, batch: list[Any]) -> tuple[float, list[Any]]:
    """Return how many seconds the items of a message took, and their results."""
    function, start = _load(payload), time.perf_counter()
    results = [function(item) for item in batch]
    return time.perf_counter() - start, results


def _still_runs(keys: set[str], dask_worker: Worker) -> bool:
    return any(task.key in keys for task in dask_worker.state.executing)


def _look(path: str) -> tuple[str, str | None, str]:
    """Return the name of this machine, what the file holds, and the version of voxloop."""
    try:
        text = Path(path).read_text()
    except OSError:
        text = None
    return socket.gethostname(), text, voxloop.__version__
