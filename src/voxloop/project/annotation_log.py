"""The file of annotation events: one JSON record a line, on the disk before it counts, read back by replay."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic_core import from_json

from voxloop.errors import InputError, MissingFileError, ProjectError, StorageError, VoxloopError
from voxloop.io.atomic import reason_of, storing, sync
from voxloop.project.annotations import Annotations, Event, Record

logger = logging.getLogger(__name__)


class AnnotationLog:
    """The annotations of a project and the file that they live in; one writer at a time.

    Attributes
    ----------
    path
        The file, ``annotations.jsonl``.
    annotations
        What the events add up to.
    recovered
        What was cut off at the end of the file when it was opened, in one sentence, or None: a crash in mid-write
        leaves a torn last line, which nobody was told is safe.
    """

    def __init__(
        self, path: Path, annotations: Annotations, file: FileIO | None, size: int, recovered: str | None
    ) -> None:
        self.path = path
        self.annotations = annotations
        self.recovered = recovered
        self._file = file
        self._size = size
        self._torn = False
        self._kept: list[bytes] = []

    @classmethod
    def open(cls, path: str | Path, shapes: Iterable[Sequence[int]], *, read_only: bool = False) -> Self:
        """Open a log and replay it; a writer creates it if it is missing and cuts off a torn last line.

        Parameters
        ----------
        path
            The file.
        shapes
            Voxels along (z, y, x) of each image of the project.
        read_only
            Leave the file as it is; `append` is then refused.

        Raises
        ------
        MissingFileError
            If the file is not there or cannot be read.
        ProjectError
            If a line before the last is damaged, or any line says what cannot be.
        StorageError
            If a writer cannot create or write the file.
        """
        path = Path(path)
        annotations = Annotations(shapes)
        if not read_only and not path.exists():
            return cls(path, annotations, _open_for_writing(path, size=0), 0, None)
        size, torn = _replay(path, annotations)
        done = "is ignored" if read_only else "was removed"
        recovered = (
            f"{path.name} ended in {torn} bytes of a record that was never finished; it {done}" if torn else None
        )
        file = None if read_only else _open_for_writing(path, size=size)
        return cls(path, annotations, file, size, recovered)

    def append(self, event: Event) -> Record:
        """Write `event` and apply it; when this returns, the event is on the disk.

        Raises
        ------
        InputError
            If the event does not fit the images or classes.
        ProjectError
            If there is nothing to undo or redo, the log is closed or read-only, or another program changed the file.
        StorageError
            If it could not be written. The file and the annotations are then as before, and the next append may work.
        """
        file = self._writable()
        self.save()
        record = self.annotations.stamp(event)
        self._put(file, _line_of(record))
        self.annotations.apply(record)
        return record

    def keep(self, event: Event) -> Record:
        """Apply `event`, and write it; if the disk refuses it, keep it in memory until `save` succeeds.

        For somebody who goes on working while a full disk is being cleared.

        Raises
        ------
        InputError, ProjectError
            As `append`; nothing has changed then.
        """
        self._writable()
        record = self.annotations.stamp(event)
        self._kept.append(_line_of(record))
        try:
            self.save()
        except StorageError:
            pass  # `n_unsaved` says so
        except ProjectError:
            self._kept.pop()
            raise
        self.annotations.apply(record)
        return record

    def save(self) -> None:
        """Write what `keep` could not write.

        Raises
        ------
        ProjectError
            As `append`.
        StorageError
            If it still cannot be written; it stays in memory.
        """
        file = self._writable()
        if self._kept:
            self._put(file, b"".join(self._kept))
            self._kept.clear()

    @property
    def n_unsaved(self) -> int:
        """Number of events that are in memory only."""
        return len(self._kept)

    def _writable(self) -> FileIO:
        if self._file is None:
            raise ProjectError(f"{self.path.name} is not open for writing")
        return self._file

    def _put(self, file: FileIO, lines: bytes) -> None:
        try:
            self._write(file, lines)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {reason_of(error)}; the last edit was not saved") from error
        self._size += len(lines)

    def _write(self, file: FileIO, line: bytes) -> None:
        """Write `line` after the last good one; whatever happens before the end, the next call starts there again."""
        if self._torn:
            file.truncate(self._size)
        elif os.fstat(file.fileno()).st_size != self._size:
            raise ProjectError(f"{self.path.name} was changed by another program; open the project again")
        self._torn = True
        try:
            file.seek(self._size)
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):  # then the next call tries again
                file.truncate(self._size)
                os.fsync(file.fileno())
            raise
        self._torn = False

    def close(self) -> None:
        """Let go of the file; the annotations stay readable. What `keep` could not write is tried once more."""
        if self._file is not None:
            try:
                self.save()
            except VoxloopError as error:
                logger.error("%d edits are lost: %s", self.n_unsaved, error)
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _open_for_writing(path: Path, *, size: int) -> FileIO:
    """Return the file, created if it is missing, cut off at `size`."""
    with storing(path):
        created = not path.exists()
        file = FileIO(path, "x+" if created else "r+")
        if created:
            sync(path.parent)
        elif os.fstat(file.fileno()).st_size != size:
            file.truncate(size)
            os.fsync(file.fileno())
        return file


def _replay(path: Path, annotations: Annotations) -> tuple[int, int]:
    """Apply all records of a file; return how many bytes are good, and how many belong to a torn last line."""
    good = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    document = from_json(line)
                except ValueError as error:
                    if file.read(1):
                        raise ProjectError(f"{path.name}, line {number}: damaged, {error}") from None
                    return good, len(line)
                if not line.endswith(b"\n"):
                    return good, len(line)
                try:
                    annotations.apply(_record(document))
                except VoxloopError as error:
                    raise ProjectError(f"{path.name}, line {number}: {error}") from None
                good += len(line)
    except OSError as error:
        raise MissingFileError(f"cannot read {path}: {reason_of(error)}") from error
    return good, 0


def _line_of(record: Record) -> bytes:
    return record.model_dump_json().encode() + b"\n"


def _record(document: Any) -> Record:
    """Return the record that a parsed line holds."""
    if not isinstance(document, dict):
        raise InputError(f"a record must be a JSON object, not a {type(document).__name__}")
    return Record(**document)
