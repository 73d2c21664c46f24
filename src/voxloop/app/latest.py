"""Work in the background of which only the newest counts, such as a preview while a slider moves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from voxloop.errors import Cancelled, VoxloopError

logger = logging.getLogger(__name__)

Dispatch = Callable[[Callable[[], None]], None]


@dataclass(frozen=True, eq=False)
class _Task:
    work: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[str], None]


class Latest:
    """Does the newest of the tasks given to it, in a thread; the others are dropped, also half done.

    Parameters
    ----------
    dispatch
        Runs a call in the thread that the results are for.
    name
        Of the thread.
    """

    def __init__(self, dispatch: Dispatch, *, name: str) -> None:
        self._dispatch = dispatch
        self._name = name
        self._changed = threading.Condition()
        self._newest: _Task | None = None
        self._doing: _Task | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[str], None]) -> None:
        """Do `work` soon, then `then` with its result, or `failed` with one line; returns at once."""
        with self._changed:
            self._newest = _Task(work, then, failed)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()

    def forget(self) -> None:
        """Drop what waits and what is under way."""
        with self._changed:
            self._newest = None

    def progress(self, _stage: str, _done: int, _total: int) -> None:
        """Raise `Cancelled` in work that nobody waits for any more; for functions that tell how far they are."""
        if self._newest is not self._doing:
            raise Cancelled("a newer task waits")

    @property
    def is_busy(self) -> bool:
        """Whether a result is still to come."""
        return self._newest is not None

    def close(self, timeout: float) -> None:
        """Do nothing more; wait for what is under way for at most `timeout` seconds."""
        with self._changed:
            self._newest, self._closed = None, True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                result = task.work()
            except Cancelled:
                continue
            except VoxloopError as error:
                self._deliver(task, lambda task=task, line=str(error): task.failed(line))
            except Exception as error:
                # A fault in one task must not end the thread that does all the others.
                logger.exception("a task failed")
                line = f"internal error: {type(error).__name__}: {error}"
                self._deliver(task, lambda task=task, line=line: task.failed(line))
            else:
                self._deliver(task, lambda task=task, result=result: task.then(result))

    def _next(self) -> _Task | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._newest not in (None, self._doing))
            self._doing = self._newest
            return None if self._closed else self._doing

    def _deliver(self, task: _Task, call: Callable[[], None]) -> None:
        def if_wanted() -> None:
            if self._newest is task:
                self._newest = None
                call()

        self._dispatch(if_wanted)
