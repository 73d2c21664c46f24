"""Files and folders that appear whole or not at all, also after a crash or on a full disk."""

from __future__ import annotations

import errno
import glob
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from voxloop.errors import Cancelled, ClusterError, InputError, MissingFileError, StorageError, VoxloopError
from voxloop.io.done_log import DoneLog
from voxloop.io.inside import matching_files

_PARTIAL, _ASIDE = ".partial", ".old"
_DONE = ".done"
# Whatever has a name of this pattern was never finished, or has been replaced.
_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{8}\.(partial|old)")

# Two threads may finish the same folder.
_rename_lock = threading.Lock()


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into a `StorageError` of one line that names `path`."""
    try:
        yield
    except VoxloopError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {reason_of(error)}") from error


def reason_of(error: OSError) -> str:
    """Return what the operating system says is wrong, without number and path."""
    return error.strerror or str(error) or type(error).__name__


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old content or the new, never a mixture.

    Raises
    ------
    MissingFileError
        If the folder to write into does not exist.
    StorageError
        If it could not be written; the old file is then untouched.
    """
    path = Path(path)
    with replacing(path, overwrite=True) as temporary, storing(path):
        temporary.write_bytes(content)


@contextmanager
def folder_written_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a new folder to write files into, which appears under `path` when the block ends without an error.

    A folder that was there is replaced; a crash at the moment of that leaves neither.

    Raises
    ------
    StorageError
        If the folder could not be made or put in its place.
    """
    path = Path(path)
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, overwrite=True) as temporary:
        with storing(path):
            temporary.mkdir()
        yield temporary


@contextmanager
def replacing(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder to; it takes the place of `path` if all went well.

    What is written is flushed to the disk before it is renamed, its folder after. After any exception it is removed,
    and what was at `path` before is still there.

    Raises
    ------
    InputError
        If `path` exists and `overwrite` is false.
    MissingFileError
        If the folder to write into does not exist.
    StorageError
        If the disk is full or writing is not permitted.
    """
    check_place(path, overwrite=overwrite)
    temporary = partial_path(path)
    try:
        yield temporary
        _put_in_place(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def replacing_resumably(path: Path, *, overwrite: bool, key: str) -> Iterator[tuple[Path, DoneLog]]:
    """Yield a folder beside `path` that takes its place as with `replacing`, and the log of the blocks done in it.

    If the process is killed or stopped the folder stays, and the next call with the same digest `key` goes on with it;
    one with another digest removes it. After any other exception it is removed.

    Raises
    ------
    As `replacing`.
    """
    check_place(path, overwrite=overwrite)
    temporary = path.with_name(f".{path.name}.{key[:8]}{_PARTIAL}")
    log = DoneLog(temporary / _DONE)
    for earlier in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}/{_DONE}"):
        if earlier != log.folder or not log.is_of(key):
            _remove(earlier.parent)
    if not log.is_of(key):
        _remove(temporary)  # it was stopped before there was anything to go on with
    try:
        yield temporary, log
        with storing(path):
            log.remove()
        _put_in_place(temporary, path)
    except (KeyboardInterrupt, Cancelled, ClusterError):
        raise
    except BaseException:
        _remove(temporary)
        raise


def check_place(path: Path, *, overwrite: bool) -> None:
    """Raise `MissingFileError` or `InputError` if `replacing` would not write there."""
    if not path.parent.is_dir():
        raise MissingFileError(f"cannot write {path}: the folder {path.parent} does not exist")
    if not overwrite and os.path.lexists(path):
        raise InputError(f"{path} exists; choose another name or allow overwriting")


def _put_in_place(temporary: Path, path: Path) -> None:
    with storing(path):
        _flush(temporary)
        _rename(temporary, path)


def partial_path(path: Path) -> Path:
    """Return a new hidden name beside `path`, which `remove_leftovers` would remove."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")


def remove_leftovers(folder: Path) -> None:
    """Remove what crashed writes left behind in `folder`; only its one writer may call this."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            _remove(path)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, reach the disk, so that they survive a power cut."""
    is_folder = path.is_dir()
    if is_folder and os.name != "posix":  # where a folder cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        raise MissingFileError(f"cannot write {pattern}: the folder {folder} does not exist")
    old = matching_files(pattern)
    if old and not overwrite:
        raise InputError(f"{old[0]} exists; choose another name or allow overwriting")
    temporary = partial_path(folder / "slices")
    aside = temporary.with_suffix(_ASIDE)
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
    sync(folder)


def reserve(file: IO[Any], n_bytes: int, folder: Path) -> None:
    """Make an open file of `folder` `n_bytes` long, with all of that space on the disk, or raise `OSError`.

    Writing to the memory map of a file with holes kills the process when the disk is full.
    """
    file.truncate(n_bytes)
    file.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    elif shutil.disk_usage(folder).free < n_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _flush(path: Path) -> None:
    """Have a file, or a folder and all in it, reach the disk."""
    for each in (path, *path.rglob("*")):
        sync(each)


def _rename(temporary: Path, path: Path) -> None:
    """Put `temporary` at `path`. A folder cannot replace another one, so the old one steps aside first."""
    with _rename_lock:
        if not path.is_dir() or path.is_symlink():
            temporary.replace(path)
        else:
            aside = temporary.with_suffix(_ASIDE)
            path.rename(aside)
            try:
                temporary.rename(path)
            except OSError:
                aside.rename(path)
                raise
            shutil.rmtree(aside, ignore_errors=True)
    sync(path.parent)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
