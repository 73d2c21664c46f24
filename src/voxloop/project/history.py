"""What happened between the strokes: rounds of learning, and what was suggested; the strokes say what was answered.

One JSON record a line in ``history.jsonl``. Nothing is computed from it but the stop signal and pictures of the way, so
that a line which cannot be read is left out with a warning, and a full disk stops nobody.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from voxloop.active import PlaneSuggestion, SliceSuggestion, StopSignal, changed_share, cohen_kappa
from voxloop.specs import Spec

logger = logging.getLogger(__name__)

Share = Annotated[float, Field(ge=0, le=1)]


class Round(Spec):
    """A prediction of a whole image after labels have changed.

    `n_labelled` counts the labelled supervoxels of all images, `n_strokes` the strokes. `kappa` and `change` compare
    with the prediction before, if it was of the same supervoxels: Cohen's kappa by volume, and the share of supervoxels
    that have another class. `accuracy` is the one estimated on held-out strokes, where it was.
    """

    type: Literal["round"] = "round"
    time: AwareDatetime
    image: Annotated[int, Field(ge=0)]
    n_labelled: Annotated[int, Field(ge=0)]
    n_strokes: Annotated[int, Field(ge=0)]
    kappa: Annotated[float, Field(ge=-1, le=1)] | None = None
    change: Share | None = None
    accuracy: Share | None = None


class Suggested(Spec):
    """A place that was suggested; a slice has an axis and an index, a plane a normal."""

    type: Literal["suggestion"] = "suggestion"
    time: AwareDatetime
    image: Annotated[int, Field(ge=0)]
    kind: Literal["slice", "plane"]
    center: tuple[float, float, float]
    axis: Annotated[int, Field(ge=0, le=2)] | None = None
    index: Annotated[int, Field(ge=0)] | None = None
    normal: tuple[float, float, float] | None = None
    reason: str


Entry = Annotated[Round | Suggested, Field(discriminator="type")]
_ENTRY: TypeAdapter[Round | Suggested] = TypeAdapter(Entry)


class History:
    """The history of a project, read when it is opened and added to, line by line.

    Parameters
    ----------
    path
        The file; made with the first entry.
    read_only
        Remember what is added, but do not write it.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._entries = _read(path)

    @property
    def entries(self) -> tuple[Round | Suggested, ...]:
        """All of it, oldest first."""
        return tuple(self._entries)

    def rounds(self, image: int = 0) -> list[Round]:
        """Return the rounds of an image, oldest first."""
        return [entry for entry in self._entries if isinstance(entry, Round) and entry.image == image]

    def stop_signal(self, image: int = 0) -> StopSignal:
        """Return what the rounds of an image say about going on."""
        changes = [(r.kappa, r.change) for r in self.rounds(image) if r.kappa is not None and r.change is not None]
        return reduce(lambda signal, change: signal.after_change(*change), changes, StopSignal())

    def add_round(
        self,
        image: int,
        *,
        n_labelled: int,
        n_strokes: int,
        before: NDArray[np.integer] | None,
        after: NDArray[np.integer],
        sizes: NDArray[np.integer],
        accuracy: float | None = None,
    ) -> None:
        """Remember a round.

        Parameters
        ----------
        image
            Which image was predicted.
        n_labelled, n_strokes
            Labelled supervoxels and strokes of all images.
        before, after
            (n,) class of each supervoxel in the round before and in this one; None if it was of other supervoxels.
        sizes
            (n,) voxels of each supervoxel.
        accuracy
            As estimated on held-out strokes.
        """
        kappa = change = None
        if before is not None and before.shape == after.shape:
            kappa, change = cohen_kappa(before, after, sizes=sizes), changed_share(before, after)
        self.add(
            Round(
                time=datetime.now(UTC),
                image=image,
                n_labelled=n_labelled,
                n_strokes=n_strokes,
                kappa=kappa,
                change=change,
                accuracy=accuracy,
            )
        )

    def add_suggestions(self, image: int, suggestions: Sequence[SliceSuggestion] | Sequence[PlaneSuggestion]) -> None:
        """Remember what was suggested for an image."""
        for found in suggestions:
            if isinstance(found, PlaneSuggestion):
                where: dict[str, Any] = {"kind": "plane", "axis": found.axis, "normal": found.normal}
            else:
                where = {"kind": "slice", "axis": found.axis, "index": found.index}
            self.add(Suggested(time=datetime.now(UTC), image=image, center=found.center, reason=found.reason, **where))

    def add(self, entry: Round | Suggested) -> None:
        """Remember an entry, on the disk if it can be."""
        self._entries.append(entry)
        if self._read_only:
            return
        try:
            with self._path.open("ab") as file:
                # What a crash or a full disk left of the line before must not spoil this one.
                file.write((b"" if _ends_a_line(self._path) else b"\n") + entry.model_dump_json().encode() + b"\n")
        except OSError as error:
            logger.warning("%s could not be added to: %s", self._path.name, error.strerror)


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"


def _read(path: Path) -> list[Round | Suggested]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        logger.warning("%s cannot be read: %s", path.name, error.strerror)
        return []
    entries = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            entries.append(_ENTRY.validate_json(line))
        except ValidationError:
            logger.warning("line %d of %s is damaged and is left out", number, path.name)
    return entries
