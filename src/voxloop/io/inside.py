"""Paths that lead into a file, such as ``cells.h5/volumes/raw``, and paths that stand for many files."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from voxloop.errors import InputError

_LONGEST_NAME = 255  # bytes; Linux, macOS and Windows agree
_SLICE_INDEX = re.compile(r"\{slice_index(?::0?(\d*)d)?\}")


def usable_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` resolved, or raise `InputError` if no system could have a file of that name."""
    try:
        usable = Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{path} starts at the home of a user who is not known") from None
    longest = max((len(os.fsencode(part)) for part in usable.parts), default=0)
    if "\0" in str(usable) or longest > _LONGEST_NAME:
        raise InputError(f"path {str(path)[:80]!r} holds a zero byte, or a name of more than {_LONGEST_NAME} bytes")
    return usable


def split_inside(path: Path) -> tuple[Path, str]:
    """Return the file that `path` leads to or into, and the path inside that file (empty for the file itself)."""
    for outer in (path, *path.parents):
        if outer.is_file():
            return outer, "/".join(path.parts[len(outer.parts) :])
        if outer.is_dir():
            break
    return path, ""


def source_exists(path: Path) -> bool:
    """Return whether there is a file or folder at `path`, a file that it leads into, or files that match it."""
    return path.exists() or bool(split_inside(path)[1]) or (is_pattern(path) and bool(matching_files(path)))


def is_numbered(path: Path) -> bool:
    """Return whether `path` stands for a file per slice: it holds ``{slice_index}``."""
    return bool(_SLICE_INDEX.search(path.name))


def is_pattern(path: Path) -> bool:
    """Return whether `path` stands for a stack of files: it is numbered, or holds wildcards and is no file."""
    return is_numbered(path) or (glob.has_magic(str(path)) and not path.exists())


def matching_files(pattern: Path) -> list[Path]:
    """Return the files that a pattern stands for, in natural order: slice_9.png comes before slice_10.png."""
    if not is_numbered(pattern):
        found = [Path(name) for name in glob.glob(str(pattern))]  # noqa: PTH207 - of an absolute path as well
        return sorted((p for p in found if p.is_file()), key=natural_order)
    before, after = _around_index(pattern)
    numbered = re.compile(rf"{re.escape(before)}\d+{re.escape(after)}")
    if not pattern.parent.is_dir():
        return []
    return sorted((p for p in pattern.parent.iterdir() if numbered.fullmatch(p.name)), key=natural_order)


def slice_names(pattern: Path, n: int) -> list[str]:
    """Return the names of `n` slices, numbered from 0 and padded with zeros to one length.

    Raises
    ------
    InputError
        If ``{slice_index}`` is not in the file's name exactly once, or the path holds ``..``.
    """
    if ".." in pattern.parts:
        raise InputError(f"{pattern} holds '..'; expected a path without it")
    before, after = _around_index(pattern)
    match = _SLICE_INDEX.search(pattern.name)
    asked = int(match.group(1) or 0) if match else 0
    if asked > 20:
        raise InputError(f"{pattern} asks for {asked} digits; expected at most 20")
    width = max(asked, len(str(n - 1)))
    return [f"{before}{i:0{width}d}{after}" for i in range(n)]


def name_of_pattern(pattern: Path) -> str:
    """Return a name for the volume that a pattern stands for: what is before the first wildcard, or the folder's."""
    start = re.split(r"[*?\[{]", pattern.name)[0].rstrip("_-. ")
    return start or pattern.absolute().parent.name


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers in names by their value."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", str(path))]


def _around_index(pattern: Path) -> tuple[str, str]:
    """Return what is before and after ``{slice_index}`` in the file's name."""
    parts = _SLICE_INDEX.sub("\0", pattern.name).split("\0")
    if len(parts) != 2 or _SLICE_INDEX.search(str(pattern.parent)):
        raise InputError(f"{pattern} must hold {{slice_index}} once, in the file's name")
    return parts[0], parts[1]
