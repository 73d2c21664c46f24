"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxloop.errors import InputError, MissingFileError, StorageError, VoxloopError
from voxloop.io.inside import matching_files


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


@contextmanager
def replacing_files(pattern: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder for the files of a stack; they replace those that match `pattern` if all went well.

    An older stack goes whole: slices that a shorter one left behind would be read as part of it.

    Raises
    ------
    InputError
        If files match `pattern` and `overwrite` is false.
    MissingFileError
        If the folder to write into does not exist.
    StorageError
        If the disk is full or writing is not permitted.
    """
    folder = pattern.parent
    if not folder.is_dir():
        raise MissingFileError(f"{pattern} cannot be written: the folder {folder} does not exist")
    old = matching_files(pattern)
    if old and not overwrite:
        raise InputError(f"{old[0]} exists; choose another name or allow overwriting")
    temporary = folder / f".slices.{uuid.uuid4().hex[:8]}.part"
    aside = temporary.with_suffix(".old")
    try:
        yield temporary
        with storing(pattern):
            _flush(temporary)
            _swap(folder, new=sorted(temporary.iterdir()), old=matching_files(pattern), aside=aside)
    finally:
        _remove(temporary)


def _swap(folder: Path, *, new: list[Path], old: list[Path], aside: Path) -> None:
    """Move `new` files into the folder and `old` ones out of it; if one cannot be moved, put all back."""
    aside.mkdir()
    moves = [(path, aside / path.name) for path in old] + [(path, folder / path.name) for path in new]
    done = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            target.rename(source)
        raise
    finally:
        if len(done) == len(moves) or not any(aside.iterdir()):
            shutil.rmtree(aside, ignore_errors=True)
    _fsync(folder)


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
