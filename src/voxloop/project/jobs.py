"""One long piece of work at a time in a thread, with progress, the time left, and a way to cancel it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from voxloop.errors import Cancelled, ProjectError, VoxloopError

logger = logging.getLogger(__name__)

JobStatus = Literal["running", "cancelling", "done", "cancelled", "failed"]


@dataclass(frozen=True)
class JobState:
    """How far a job is.

    Attributes
    ----------
    name
        What it does, for people.
    status
        Whether it runs, and how it ended.
    stage, done, total
        `done` of `total` pieces of the current stage are finished.
    seconds_left
        Estimate for the current stage from its pace so far; None before there is one.
    message
        Why it failed, in one line.
    """

    name: str
    status: JobStatus = "running"
    stage: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing runs any more."""
        return self.status in ("done", "cancelled", "failed")


class Jobs:
    """Runs one job at a time; `progress` is what a `Project` is opened with.

    Parameters
    ----------
    tell
        Called with each new state, in the job's thread.
    """

    def __init__(self, tell: Callable[[JobState], None]) -> None:
        self._tell = tell
        self._state: JobState | None = None
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stage_started = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a job runs."""
        return self._state is not None and not self._state.is_over

    def start(self, name: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Start a job; `then` gets what `work` returned, in the job's thread, unless it was cancelled or failed.

        Raises
        ------
        ProjectError
            If another job runs.
        """
        if self.is_running and self._state is not None:
            raise ProjectError(f"{self._state.name} is still running; wait for it or cancel it")
        self._cancelled.clear()
        self._state = JobState(name)
        self._thread = threading.Thread(target=self._run, args=(name, work, then), name="voxloop-job", daemon=True)
        self._tell(self._state)
        self._thread.start()

    def cancel(self) -> None:
        """Ask the job to stop after the piece of work that is under way; returns at once."""
        self._cancelled.set()
        if self._state is not None:
            self._change(replace(self._state, status="cancelling"))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the job to end; return whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Take note of how far the job is; raises `Cancelled` once it is to stop."""
        if threading.current_thread() is not self._thread or self._state is None:
            return
        if self._cancelled.is_set():
            raise Cancelled(f"{self._state.name} was cancelled")
        now = time.perf_counter()
        if stage != self._state.stage or done == 0:
            self._stage_started = now
        left = (now - self._stage_started) / done * (total - done) if done else None
        self._change(replace(self._state, stage=stage, done=done, total=total, seconds_left=left))

    def _run(self, name: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        try:
            result = work()
        except Cancelled:
            self._change(JobState(name, "cancelled"))
        except VoxloopError as error:
            self._change(JobState(name, "failed", message=str(error)))
        except Exception as error:
            # A fault in one job must not end the thread that runs the next.
            logger.exception("%s failed", name)
            self._change(JobState(name, "failed", message=f"internal error: {type(error).__name__}: {error}"))
        else:
            self._change(JobState(name, "done"))  # first, so that `then` may start the next job
            then(result)

    def _change(self, state: JobState) -> None:
        with self._lock:
            # Somebody cancelled just when the job ended: it has ended.
            if self._state is None or self._state.is_over:
                return
            self._state = state
        self._tell(state)
