"""Trained classifiers on disk: plain arrays, nothing to unpickle."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxloop.classify import Classifier
from voxloop.io.atomic import write_atomically

logger = logging.getLogger(__name__)

# Raised when the same labels and features give another classifier.
VERSION = 14


def save_classifier(path: Path, classifier: Classifier, digest: str) -> None:
    """Write a classifier and the digest of what it was trained on; raises `StorageError` if that fails."""
    path.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, digest=np.array(digest), **classifier.to_arrays())  # type: ignore[arg-type]  # its stub
    write_atomically(path, buffer.getvalue())


def load_classifier(
    path: Path, digest: str, *, classes: NDArray[np.int32], n_features: Callable[[], int]
) -> Classifier | None:
    """Return the classifier trained on what `digest` stands for, or None if the file holds another or is damaged.

    A stranger can write any digest: a classifier of other classes than `classes`, or on another number of features, is
    none that these labels can have given.
    """
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if str(arrays["digest"]) != digest:
                return None
            loaded = Classifier.from_arrays(dict(arrays))
    except Exception as error:  # a damaged file makes zipfile, zlib and numpy raise nearly anything
        reason = f"{type(error).__name__}, {str(error)[:100]!r}"
        logger.warning("%s is damaged and will be trained again: %s", path.name, reason)
        return None
    if not np.array_equal(loaded.classes, classes) or loaded.first.n_features != n_features():
        logger.warning("%s does not fit the labels and will be trained again", path.name)
        return None
    return loaded
