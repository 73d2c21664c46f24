"""The lock of a project folder, and the versions of its document."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

from filelock import FileLock, Timeout
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from voxloop import __version__
from voxloop.errors import MissingFileError, ProjectError, ProjectInUseError, ProjectVersionError, StorageError
from voxloop.io.atomic import reason_of, write_atomically

Document = dict[str, Any]
Migration = Callable[[Document], Document]

SCHEMA_VERSION = 1
# From each older version to the next; version 1 is the first.
MIGRATIONS: Mapping[int, Migration] = {}


class LockHolder(BaseModel):
    """Who works on a project."""

    user: Annotated[str, Field(max_length=200)]
    host: Annotated[str, Field(max_length=200)]
    process: int
    since: AwareDatetime

    @classmethod
    def this_process(cls) -> Self:
        """Return the current user and process, from now on."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's user may have no name
            user = "unknown"
        return cls(user=user, host=socket.gethostname(), process=os.getpid(), since=datetime.now(UTC))

    def __str__(self) -> str:
        since = self.since.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"{self.user!r} on {self.host!r} (process {self.process}) since {since}"


class ProjectLock:
    """The right to write to a project folder, held by one process at a time.

    The operating system holds the lock, so it goes with the process, however that ends. Who holds it is written
    beside it for others to read. Reading a project needs no lock.

    Parameters
    ----------
    folder
        The project folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        # Another thread may release it than the one that acquired it.
        self._lock = FileLock(self._folder / "project.lock", timeout=0, thread_local=False)
        self._holder_path = self._folder / "project.lock.json"

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return bool(self._lock.is_locked)

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        ProjectInUseError
            If somebody else has it; the message says who.
        StorageError
            If the folder cannot be written to.
        """
        if self.is_held:
            raise ProjectError(f"{self._folder.name} is locked by this object already")
        try:
            self._lock.acquire()
        except Timeout:
            raise ProjectInUseError(
                f"{self._folder.name} is in use by {self._read_holder()}; close it there first"
            ) from None
        except OSError as error:
            raise StorageError(f"cannot lock {self._folder}: {reason_of(error)}") from error
        try:
            write_atomically(self._holder_path, LockHolder.this_process().model_dump_json().encode())
        except StorageError:
            self._lock.release()
            raise

    def release(self) -> None:
        """Give the lock back."""
        if self.is_held:
            with suppress(OSError):  # a stale note does no harm: it is read only while the lock is held
                self._holder_path.unlink(missing_ok=True)
            self._lock.release()

    def _read_holder(self) -> str:
        try:
            return str(LockHolder.model_validate_json(self._holder_path.read_bytes()))
        except (OSError, ValidationError):  # the holder is about to write it
            return "another process"

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def read_document(
    path: str | Path,
    *,
    version: int = SCHEMA_VERSION,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    read_only: bool = False,
) -> Document:
    """Read a project's JSON document, brought up to the current schema version.

    A document of an older version is copied to ``<stem>.v<version>.json`` and then replaced, unless `read_only`.

    Parameters
    ----------
    path
        The file, ``project.json``; the key ``schema_version`` tells its version.
    version
        The version to bring it to.
    migrations
        For each older version, a function that turns its document into one of the next version.
    read_only
        Leave the file as it is.

    Returns
    -------
    dict
        The document; its content is not checked beyond the version.

    Raises
    ------
    MissingFileError
        If the file cannot be read.
    ProjectError
        If it is not a JSON object with a version that there is a way from.
    ProjectVersionError
        If it was written by a newer voxloop.
    StorageError
        If the migrated document could not be written.
    """
    path = Path(path)
    original = _read(path)
    document = _parse(path, original)
    found = document.get("schema_version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ProjectError(f"{path}: schema_version must be a number of at least 1, not {found!r:.60}")
    if found > version:
        raise ProjectVersionError(
            f"{path} has schema version {found}, but voxloop {__version__} knows up to {version}: update voxloop"
        )
    for step in range(found, version):
        if step not in migrations:
            raise ProjectError(
                f"{path} has schema version {found}, which voxloop {__version__} cannot bring up to {version}"
            )
        document = {**migrations[step](document), "schema_version": step + 1}
    if found < version and not read_only:
        write_atomically(path.with_name(f"{path.stem}.v{found}{path.suffix}"), original)
        write_document(path, document)
    return document


def write_document(path: str | Path, document: Document) -> None:
    """Write a JSON document atomically; raises `StorageError` if it could not be written."""
    write_atomically(path, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"cannot read {path}: {reason_of(error)}") from error


def _parse(path: Path, content: bytes) -> Document:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{path} is damaged: {error}") from None
    if not isinstance(document, dict):
        raise ProjectError(f"{path} must hold a JSON object, not a {type(document).__name__}")
    return document
