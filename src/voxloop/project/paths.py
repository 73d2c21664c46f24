"""Path patterns of exports, such as ``{dataset_dir}/{nickname}-{result_type}.tif``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from voxloop.errors import InputError

FIELDS = ("dataset_dir", "nickname", "result_type", "class", "slice_index")
_FIELD = re.compile(r"\{([^{}]*)\}")
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|{}\[\]]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows
_MAX_LENGTH = 100


def has_field(pattern: str | os.PathLike[str], field: str) -> bool:
    """Return whether a pattern holds a field."""
    return f"{{{field}}}" in os.fspath(pattern)


def expand(
    pattern: str | os.PathLike[str],
    *,
    dataset_dir: Path,
    nickname: str,
    result_type: str,
    class_name: str | None = None,
) -> Path:
    """Return the path that a pattern stands for; ``{slice_index}`` stays, for the writer of the slices.

    Names come from images and classes, which may come from strangers: what is a part of a path, a wildcard or a
    reserved name in them is replaced, so that a name never leads to another folder.

    Parameters
    ----------
    pattern
        A path that may hold ``{dataset_dir}`` (at its start), ``{nickname}``, ``{result_type}``, ``{class}``.
    dataset_dir, nickname, result_type, class_name
        What these stand for; without a class name ``{class}`` is refused.

    Raises
    ------
    InputError
        If a field is not known or not possible here.
    """
    text = os.fspath(pattern)
    values = {"dataset_dir": str(dataset_dir), "nickname": as_file_name(nickname), "result_type": result_type}
    if class_name is not None:
        values["class"] = as_file_name(class_name)

    def value(match: re.Match[str]) -> str:
        field = match.group(1)
        if field.split(":")[0] == "slice_index":
            return match.group(0)
        if field == "class" and class_name is None:
            raise InputError(f"{text} holds {{class}}, which goes with probabilities and masks only")
        if field not in values:
            raise InputError(f"{text} holds {{{field}}}; expected {', '.join(f'{{{f}}}' for f in FIELDS)}")
        if field == "dataset_dir" and match.start() > 0:
            raise InputError(
                f"{text} holds {{dataset_dir}} in its middle; it stands for a whole path and must come first"
            )
        return values[field]

    return Path(_FIELD.sub(value, text)).expanduser()


def as_file_name(name: str) -> str:
    """Return `name` as a part of a file name that means itself on every system."""
    safe = _NOT_IN_NAMES.sub("_", name)[:_MAX_LENGTH].strip(". ")
    return f"_{safe}" if not safe or _RESERVED.fullmatch(safe) else safe
