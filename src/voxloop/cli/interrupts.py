"""Ctrl-C that is neither lost nor turned into another error."""

from __future__ import annotations

import signal
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_SECONDS = 0.01


class Interrupts:
    """Knows of Ctrl-C while a command runs.

    Attributes
    ----------
    received
        Whether there was one.
    """

    def __init__(self) -> None:
        self.received = False
        self._again: threading.Timer | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at once, but not where numba runs Python code of its own: there it waits.

        Numba does so on the way into and out of kernels, and its C code does not look for exceptions there:
        KeyboardInterrupt becomes a SystemError, or nothing.
        """
        # Only the main thread gets signals; a handler that was not set from Python cannot be put back.
        if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
            yield
            return
        before = signal.signal(signal.SIGINT, self._receive)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            if self._again is not None:
                self._again.cancel()

    def check(self) -> None:
        """Raise KeyboardInterrupt if there was one that got lost: Python ignores what is raised in a destructor."""
        if self.received:
            raise KeyboardInterrupt

    def _receive(self, _: int, frame: FrameType | None) -> None:
        self.received = True
        while frame is not None:
            if str(frame.f_globals.get("__name__")).startswith("numba."):
                self._again = threading.Timer(_AGAIN_SECONDS, interrupt_main)
                self._again.daemon = True
                self._again.start()
                return
            frame = frame.f_back
        raise KeyboardInterrupt
