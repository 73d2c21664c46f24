"""What was said of labels by trees that did not see them: the ground for every estimate of how good a classifier is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import FormatError


@dataclass(frozen=True)
class HeldOut:
    """Opinions of labels by trees that saw neither them nor the rest of their stroke or neighbourhood.

    Attributes
    ----------
    probabilities
        (m, k) float32, rows sum to 1.
    columns
        (m,) int32: the column of each label's class.
    groups
        (m,) int64: the same number for labels that belong together and were left out together.
    """

    probabilities: NDArray[np.float32]
    columns: NDArray[np.int32]
    groups: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """Share of the labels whose class is the most probable one."""
        return float((self.probabilities.argmax(axis=1) == self.columns).mean())

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that `from_arrays` needs."""
        return {"probabilities": self.probabilities, "columns": self.columns, "groups": self.groups}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_classes: int) -> HeldOut:
        """Return what arrays that may come from a stranger hold; raises `FormatError` if they are damaged."""
        try:
            P = np.asarray(arrays["probabilities"], np.float32)
            columns, groups = np.asarray(arrays["columns"], np.int32), np.asarray(arrays["groups"], np.int64)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"the held-out opinions are damaged: {error}") from None
        m = len(P)
        shapes = P.shape == (m, n_classes) and m > 0 and columns.shape == groups.shape == (m,)
        # NaN is neither.
        if not (shapes and P.min() >= 0 and np.abs(P.sum(axis=1) - 1).max() < 1e-3):
            raise FormatError(f"the held-out opinions are damaged: shape {P.shape}, or rows that do not sum to 1")
        if not (columns.min() >= 0 and columns.max() < n_classes and groups.min() >= 0):
            raise FormatError("the held-out opinions are damaged: a class or group that does not exist")
        return cls(P, columns, groups)
