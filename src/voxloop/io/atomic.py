"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxloop.errors import InputError, MissingFileError, StorageError, VoxloopError


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into a `StorageError` of one line that names `path`."""
    try:
        yield
    except VoxloopError:
        raise
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder to; it takes the place of `path` if all went well.

    What is written is flushed to the disk before it is renamed. After any exception it is removed, and what was at
    `path` before is still there.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false.
    MissingFileError
        If the folder to write into does not exist.
    StorageError
        If the disk is full or writing is not permitted.
    """
    if not path.parent.is_dir():
        raise MissingFileError(f"{path} cannot be written: the folder {path.parent} does not exist")
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path} exists; choose another name or allow overwriting")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with storing(path):
            _flush(temporary)
            _rename(temporary, path)
    finally:
        _remove(temporary)


def _flush(path: Path) -> None:
    """Have a file, or a folder and all in it, reach the disk."""
    for each in (path, *path.rglob("*")):
        _fsync(each)


def _fsync(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name != "posix":  # where a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(temporary: Path, path: Path) -> None:
    """Put `temporary` at `path`. A folder cannot replace another one, so the old one steps aside first."""
    if not path.is_dir() or path.is_symlink():
        temporary.replace(path)
    else:
        aside = temporary.with_suffix(".old")
        path.rename(aside)
        try:
            temporary.rename(path)
        except OSError:
            aside.rename(path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _fsync(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
