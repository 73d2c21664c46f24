"""Trained forests on disk: plain arrays, nothing to unpickle."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path

import numpy as np

from voxloop.classify import Forest
from voxloop.errors import FormatError
from voxloop.project.storage import write_atomically

logger = logging.getLogger(__name__)

# Raised when the same labels and features give another forest.
VERSION = 1


def save_forest(path: Path, forest: Forest, digest: str) -> None:
    """Write a forest and the digest of what it was trained on; raises `StorageError` if that fails."""
    path.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, digest=np.array(digest), **forest.to_arrays())  # type: ignore[arg-type]  # its stub
    write_atomically(path, buffer.getvalue())


def load_forest(path: Path, digest: str) -> Forest | None:
    """Return the forest trained on what `digest` stands for, or None if the file holds another or is damaged."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["digest"]) != digest:
                return None
            return Forest.from_arrays(dict(arrays))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, FormatError) as error:
        logger.warning("%s is damaged and will be trained again: %s", path.name, error)
        return None
