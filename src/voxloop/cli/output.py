"""What a command says: results on stdout, as lines or as JSON; progress on stderr, if that is a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Output:
    """Where a command's result and its progress go; `check` is called at every step of the progress."""

    def __init__(self, *, as_json: bool, check: Callable[[], None] = lambda: None) -> None:
        self._as_json = as_json
        self._check = check
        self._bar: Any = None
        self._stage = ""

    def result(self, lines: Sequence[str], data: Mapping[str, Any]) -> None:
        """Print `lines` for people, or `data` as one JSON object for machines."""
        self.end_progress()
        text = json.dumps(data, default=_plain) if self._as_json else "\n".join(lines)
        print(text, flush=True)

    def note(self, line: str) -> None:
        """Print a line for people while the work goes on."""
        self.end_progress()
        if not self._as_json:
            print(line, flush=True)

    def warn(self, line: str) -> None:
        """Print a warning on stderr."""
        self.end_progress()
        print(f"voxloop: {line}", file=sys.stderr, flush=True)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show how far `stage` is and how long it will still take; nothing where nobody watches."""
        self._check()
        if not sys.stderr.isatty():
            return
        if self._bar is None or stage != self._stage:
            from tqdm import tqdm

            self.end_progress()
            layout = "{desc} {percentage:3.0f} % |{bar:30}| {elapsed} elapsed, {remaining} left"
            self._bar = tqdm(total=total, desc=f"{stage:<24}", bar_format=layout, leave=False, file=sys.stderr)
            self._stage = stage
        self._bar.update(done - self._bar.n)
        if done == total:
            self.end_progress()

    def end_progress(self) -> None:
        """Take the progress bar off the screen."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _plain(value: Any) -> Any:
    """Turn numpy values and paths into what JSON knows."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
