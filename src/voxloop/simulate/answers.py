"""What a person is asked in one round, and what the person answers, with a person's mistakes.

Three ways to label: a class for a whole supervoxel (1 input each), strokes on a suggested slice (1 input each), and two
clicks that draw a line through a patch of a plane (2 inputs each; Konyushkova, Sznitman, Fua, ICCV 2015).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from voxloop.active import (
    N_TO_LABEL,
    STRATEGIES,
    ForegroundAwareRandom,
    PlaneSuggestion,
    QueryState,
    Strategy,
    best_planes,
    label_patch,
    make_strategy,
    resample_plane,
    slices_to_label,
)
from voxloop.errors import InputError
from voxloop.simulate.annotator import SimulatedAnnotator, SimulatedStroke
from voxloop.simulate.tables import ImageTables
from voxloop.volume import Volume

PATCH_INPUTS = 2
CLICK_ERROR = 1.0  # standard deviation of a click along either axis, in voxels of the finest axis
SLIVER = 0.05  # a class with a smaller share of the patch is not worth a line
_N_ANGLES = 36


@dataclass(frozen=True)
class Answer:
    """What a person said in one round.

    Attributes
    ----------
    supervoxels, classes
        (v,) supervoxel and class of each labelled voxel, for `label_supervoxels`; one entry for a whole supervoxel.
    n_inputs
        What it cost: clicks and strokes.
    """

    supervoxels: NDArray[np.uint32]
    classes: NDArray[np.int32]
    n_inputs: int


class Dialogue(ABC):
    """Asks and answers round after round; made for one run by `make_dialogue`."""

    @abstractmethod
    def answer(self, state: QueryState, n_inputs: int) -> Answer | None:
        """Return the answer to the next question, for at most `n_inputs` but one question; None if none is left."""


@dataclass
class SupervoxelDialogue(Dialogue):
    """Shows one supervoxel after the other; each gets the class of most of its voxels."""

    tables: ImageTables
    strategy: Strategy
    rng: np.random.Generator

    def answer(self, state: QueryState, n_inputs: int) -> Answer | None:
        """Return the classes of the supervoxels that the strategy asks for."""
        ids = self.strategy.query(state, n_inputs, rng=self.rng)
        return answer_supervoxels(self.tables, ids) if ids.size else None


@dataclass
class SliceDialogue(Dialogue):
    """Takes the person to one slice after the other: a stroke in each marked supervoxel, one in the largest error."""

    tables: ImageTables
    strategy: Strategy
    rng: np.random.Generator
    painted: list[tuple[int, int]] = field(default_factory=list)

    def answer(self, state: QueryState, n_inputs: int) -> Answer | None:
        """Return the strokes on the best slices that show something to paint."""
        if state.is_cold:
            return SupervoxelDialogue(self.tables, self.strategy, self.rng).answer(state, n_inputs)
        if state.open_rows.size == 0:
            return None
        tables = self.tables
        classes = np.concatenate([[0], state.opinion.segmentation])
        annotator = SimulatedAnnotator(tables.truth, rng=self.rng)
        strokes: list[SimulatedStroke] = []
        while not strokes:
            found = slices_to_label(
                self.strategy,
                state,
                tables.extent,
                avoid=self.painted,
                number=ceil(n_inputs / (N_TO_LABEL + 1)),
                rng=self.rng,
            )
            if not found:
                return None
            for suggestion in found:
                self.painted.append((suggestion.axis, suggestion.index))
                ids = np.take(tables.labels, suggestion.index, axis=suggestion.axis)
                left = n_inputs - len(strokes)
                n_marked = min(N_TO_LABEL, left)
                n_errors = min(1, left - n_marked)
                strokes += annotator.answer(suggestion, ids, classes[ids], n_uncertain=n_marked, n_errors=n_errors)
        voxels = np.concatenate([stroke.voxels for stroke in strokes])
        of_voxel = np.repeat([s.class_id for s in strokes], [len(s.voxels) for s in strokes])
        return Answer(tables.labels[tuple(voxels.T)], of_voxel.astype(np.int32), len(strokes))


@dataclass
class PatchDialogue(Dialogue):
    """Shows round patches of planes; two clicks draw the line between two classes."""

    tables: ImageTables
    strategy: Strategy
    rng: np.random.Generator
    radius: float

    def answer(self, state: QueryState, n_inputs: int) -> Answer | None:
        """Return the classes of the supervoxels that the best patches cut."""
        if state.is_cold:
            return SupervoxelDialogue(self.tables, self.strategy, self.rng).answer(state, n_inputs)
        if state.open_rows.size == 0:
            return None
        supervoxels = self.tables.supervoxels
        planes = best_planes(
            self.strategy.worth(state, rng=self.rng),
            supervoxels.centers,
            supervoxels.sizes,
            shape=self.tables.truth.shape,
            spacing=self.tables.spacing,
            radius=self.radius,
            number=max(1, n_inputs // PATCH_INPUTS),
            exclude=_closed_ids(state),
        )
        found: dict[int, int] = {}
        for plane in planes:
            # A supervoxel that two patches of a round cut keeps the first answer.
            found = answer_patch(self.tables, plane, rng=self.rng) | found
        return Answer(
            np.array(list(found), np.uint32), np.array(list(found.values()), np.int32), PATCH_INPUTS * len(planes)
        )


def make_dialogue(name: str, tables: ImageTables, *, rng: np.random.Generator, radius: float = 12.0) -> Dialogue:
    """Return what is asked and how it is answered, by the name of a strategy.

    Parameters
    ----------
    name
        A name of `STRATEGIES` asks for supervoxels, as does ``far``, foreground-aware random. ``slices-`` or
        ``planes-`` before a name of `STRATEGIES` asks for strokes on slices, or for patches of planes.
    tables
        The image that is labelled.
    rng
        Whatever is random in questions and answers.
    radius
        Of a patch, in voxels of the finest axis.

    Raises
    ------
    InputError
        If there is no such strategy, or the image has one slice and planes are asked for.
    """
    if name == "far":
        return SupervoxelDialogue(tables, ForegroundAwareRandom(tables.majority), rng)
    shown, _, measure = name.rpartition("-")
    if name not in dialogue_names():
        raise InputError(f"strategy is {name!r}; expected one of {', '.join(dialogue_names())}")
    strategy = make_strategy(measure)
    if not shown:
        return SupervoxelDialogue(tables, strategy, rng)
    if shown == "slices":
        return SliceDialogue(tables, strategy, rng)
    if min(tables.truth.shape) < 2:
        raise InputError(f"strategy {name!r} needs a 3D volume, not one of shape {tables.truth.shape}")
    return PatchDialogue(tables, strategy, rng, radius)


def dialogue_names() -> list[str]:
    """Return all names that `make_dialogue` knows."""
    return [*STRATEGIES, "far", *(f"{shown}-{name}" for shown in ("slices", "planes") for name in STRATEGIES)]


def answer_supervoxels(tables: ImageTables, ids: NDArray[np.uint32]) -> Answer:
    """Return the class of most voxels of each supervoxel: what someone says who looks at it from all sides."""
    return Answer(ids, tables.majority[ids.astype(np.int64) - 1], len(ids))


def answer_patch(
    tables: ImageTables, plane: PlaneSuggestion, *, rng: np.random.Generator, click_error: float = CLICK_ERROR
) -> dict[int, int]:
    """Return the classes that two clicks in a patch give to the supervoxels that it cuts and that have none.

    The line is the best straight one between the two most frequent classes of the patch; then either click misses by
    `click_error` (standard deviation along each axis, in voxels of the finest axis). Without a second class that fills
    5 % of the patch, or a line that is better than none, all of it is called by one class. So the mistakes are a
    person's: a bent border, a third class, a shaky hand, and supervoxels that the line cuts. Where nothing is known of
    what the patch shows, the answer is empty.
    """
    truth = Volume(tables.truth, spacing=tables.spacing)
    patch = resample_plane(truth, tables.labels, plane)
    rows, columns = np.nonzero(patch.inside)
    classes = tables.truth[tuple(patch.voxels[rows, columns].T)]
    pixels = patch.offsets(np.column_stack([rows, columns]))[classes > 0]
    classes = classes[classes > 0]
    if classes.size == 0:
        return {}
    counts = np.bincount(classes)
    first, second = (int(c) for c in np.argsort(-counts, kind="stable")[:2])
    line = None
    if counts[second] >= SLIVER * classes.size:
        line = best_line(pixels, (classes == first).astype(np.int64) - (classes == second), radius=plane.radius)
    if line is None:
        return label_patch(plane, tables.supervoxels.centers, classes=first, spacing=tables.spacing)
    ends, first_is_left = line
    return label_patch(
        plane,
        tables.supervoxels.centers,
        classes=(first, second) if first_is_left else (second, first),
        line=ends + rng.normal(0, click_error, (2, 2)),
        spacing=tables.spacing,
    )


def best_line(
    points: NDArray[np.float64], signs: NDArray[np.int64], *, radius: float
) -> tuple[NDArray[np.float64], bool] | None:
    """Return the straight line that best parts two kinds of points in a circle around the origin.

    Parameters
    ----------
    points
        (m, 2) as (down, right).
    signs
        (m,) 1 and -1 for the two kinds, 0 for points that do not matter.
    radius
        Of the circle.

    Returns
    -------
    The two points (2, 2) where the line meets the circle, and whether the kind 1 is left of it for someone who walks
    from the first to the second; None if no line of the 36 directions tried is better than none.
    """
    angles = np.arange(_N_ANGLES) * np.pi / _N_ANGLES
    normals = np.column_stack([np.cos(angles), np.sin(angles)])
    heights = points @ normals.T
    order = np.argsort(heights, axis=0, kind="stable")
    heights = np.take_along_axis(heights, order, axis=0)
    below = np.cumsum(signs[order], axis=0)
    # Right minus wrong, if the kind 1 is below; its negative, if above.
    agreement = (2 * below - signs.sum())[:-1]
    agreement[np.diff(heights, axis=0) < 1e-9] = 0  # no line passes between points of one height
    if agreement.size == 0 or np.abs(agreement).max() <= abs(int(signs.sum())):
        return None
    split, angle = np.unravel_index(int(np.abs(agreement).argmax()), agreement.shape)
    height = heights[split : split + 2, angle].mean()
    down, right = normals[angle]
    along = np.array([-right, down]) * np.sqrt(max(radius * radius - height * height, 1.0))
    foot = height * normals[angle]
    # Who walks along (-right, down) has the higher points on the right.
    return np.array([foot - along, foot + along]), bool(agreement[split, angle] > 0)


def _closed_ids(state: QueryState) -> NDArray[np.int64]:
    """Return the ids that are not asked for: those with a label, and those without a known class."""
    return np.setdiff1d(np.arange(state.n), state.open_rows) + 1
