"""Which blocks of a folder that is written block by block are complete, so that another process can go on with it."""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

_BLOCKS = "blocks-"


@dataclass(frozen=True)
class DoneLog:
    """Numbers of blocks, one a line, in a file of each process that appends to it.

    A file that two machines append to would lose lines on a network's file system. A line counts when it has its end.

    Attributes
    ----------
    folder
        Where the files are; there is none before `start`.
    """

    folder: Path

    def start(self, key: str) -> None:
        """Begin the log of what has the digest `key`; blocks that are noted there already stay."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "key").write_text(_line(key))

    def is_of(self, key: str) -> bool:
        """Whether the log is of this digest, and written since the machine was started.

        Blocks are not flushed to the disk one by one: what a power cut took is not known.
        """
        try:
            return (self.folder / "key").read_text() == _line(key)
        except FileNotFoundError:
            return False

    def done(self) -> frozenset[int]:
        """Return which blocks are complete."""
        files = self.folder.glob(f"{_BLOCKS}*")
        lines = (line for file in files for line in file.read_text().splitlines(keepends=True))
        return frozenset(int(line) for line in lines if line.endswith("\n"))

    def note(self, index: int) -> None:
        """Take note that a block is complete."""
        path = self.folder / f"{_BLOCKS}{socket.gethostname()}-{os.getpid()}"
        # One write at the file's end: threads of a process do not mix their lines.
        with path.open("ab", buffering=0) as file:
            file.write(b"%d\n" % index)

    def remove(self) -> None:
        """Remove the log: everything is complete."""
        shutil.rmtree(self.folder)


def _line(key: str) -> str:
    import psutil  # here, for whatever names a format imports this module

    return f"{key} {psutil.boot_time():.0f}\n"
