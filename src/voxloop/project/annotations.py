"""Labels and classes as the outcome of a sequence of events; no files here (see `voxloop.project.annotation_log`).

The labels of an image follow from the strokes that are not undone: per voxel the last stroke since the last `Cleared`
wins, and its class is then looked up among the classes as they are now. Class ids are never used twice, so a merge or
a removal of a class changes that look-up alone, and undoing it brings every voxel back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, AwareDatetime, Field, PlainSerializer, PlainValidator

from voxloop.blocks import Shape3
from voxloop.errors import InputError, ProjectError
from voxloop.project.runs import Runs, as_runs, check_runs, count_voxels, expand_runs, flat_slice, nearest_to_centre
from voxloop.specs import Spec

MAX_CLASS_ID = np.iinfo(np.uint16).max
ERASER = 0

# Okabe and Ito's colours, told apart by colour-blind readers too, in the order in which new classes get them.
PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#999999")


def palette_color(class_id: int) -> str:
    """Return the colour of a class for which nobody has chosen one."""
    return PALETTE[(class_id - 1) % len(PALETTE)]


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable, without spaces around it")
    return text


def _some_runs(values: Any) -> Runs:
    runs = as_runs(values)
    if len(runs) == 0:
        raise ValueError("a stroke needs at least one voxel")
    return runs


ClassId = Annotated[int, Field(ge=1, le=MAX_CLASS_ID)]
ClassName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Color = Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]
ImageIndex = Annotated[int, Field(ge=0)]


class Stroke(Spec):
    """Voxels of an image that get a class; class 0 is the eraser.

    `runs` are rows (z, y, x_start, x_stop) in C order of the image and disjoint, as the functions of
    `voxloop.project.runs` return them. `source` says where the stroke came from, such as ``"brush"`` or ``"import"``.
    """

    type: Literal["stroke"] = "stroke"
    image: ImageIndex
    class_id: Annotated[int, Field(ge=ERASER, le=MAX_CLASS_ID)]
    runs: Annotated[Runs, PlainValidator(_some_runs), PlainSerializer(lambda runs: runs.tolist())]
    source: Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_printable)] = "brush"

    @cached_property
    def centre(self) -> Shape3:
        """The voxel (z, y, x) of the stroke nearest to its centre of mass."""
        return nearest_to_centre(self.runs)

    @cached_property
    def flat_slice(self) -> tuple[int, int] | None:
        """The slice that the stroke lies in, as axis and index, or None if it is thicker."""
        return flat_slice(self.runs)

    @cached_property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return count_voxels(self.runs)

    def _key(self) -> tuple[Any, ...]:
        return self.image, self.class_id, self.source, self.runs.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stroke) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class ClassAdded(Spec):
    """A new class; its id is `Annotations.next_class_id`."""

    type: Literal["class_added"] = "class_added"
    class_id: ClassId
    name: ClassName
    color: Color


class ClassRenamed(Spec):
    """A class gets another name."""

    type: Literal["class_renamed"] = "class_renamed"
    class_id: ClassId
    name: ClassName


class ClassRecolored(Spec):
    """A class gets another colour."""

    type: Literal["class_recolored"] = "class_recolored"
    class_id: ClassId
    color: Color


class ClassMerged(Spec):
    """The labels of a class join another class; the class itself goes."""

    type: Literal["class_merged"] = "class_merged"
    class_id: ClassId
    into: ClassId


class ClassRemoved(Spec):
    """A class goes, and its labels vanish."""

    type: Literal["class_removed"] = "class_removed"
    class_id: ClassId


class Cleared(Spec):
    """The labels of one image vanish, or of all images if `image` is None."""

    type: Literal["cleared"] = "cleared"
    image: ImageIndex | None


Edit = Stroke | ClassAdded | ClassRenamed | ClassRecolored | ClassMerged | ClassRemoved | Cleared


class Group(Spec):
    """Several edits that are one step to the user: written together, undone together.

    A two-click line labels both of its sides; an imported label volume may bring several classes.
    """

    type: Literal["group"] = "group"
    edits: Annotated[tuple[Annotated[Edit, Field(discriminator="type")], ...], Field(min_length=1)]


class Undo(Spec):
    """The last step that is not undone is undone."""

    type: Literal["undo"] = "undo"


class Redo(Spec):
    """The step undone last is done again."""

    type: Literal["redo"] = "redo"


Event = Edit | Group | Undo | Redo


class Record(Spec):
    """An event with its place in the sequence, counted from 1, and its time in UTC."""

    seq: Annotated[int, Field(ge=1)]
    time: AwareDatetime
    event: Annotated[Event, Field(discriminator="type")]


@dataclass(frozen=True, slots=True)
class LabelClass:
    """A class that voxels can be labelled with."""

    class_id: int
    name: str
    color: str


@dataclass(frozen=True, slots=True)
class StrokeRow:
    """A row of the table of strokes; `class_id` is the class its voxels count for now, 0 for the eraser."""

    seq: int
    time: datetime
    image: int
    centre: Shape3
    class_id: int
    n_voxels: int
    source: str


class Annotations:
    """Classes and labelled voxels of the images of a project, after any sequence of events.

    Parameters
    ----------
    shapes
        Voxels along (z, y, x) of each image, in the order of the project.
    """

    def __init__(self, shapes: Iterable[Sequence[int]] = ()) -> None:
        self._shapes: list[Shape3] = []
        self._snapshots: list[list[_Snapshot]] = []
        self._table = _ClassTable()
        self._done: list[_Step] = []
        self._undone: list[_Step] = []
        self._n_events = 0
        for shape in shapes:
            self.add_image(shape)

    def add_image(self, shape: Sequence[int]) -> int:
        """Take note of one more image of `shape` (z, y, x); return its index."""
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"shape must be three numbers (z, y, x) of at least 1, not {tuple(shape)}")
        z, y, x = (int(n) for n in shape)
        self._shapes.append((z, y, x))
        self._snapshots.append([])
        return len(self._shapes) - 1

    @property
    def shapes(self) -> tuple[Shape3, ...]:
        """Voxels along (z, y, x) of each image."""
        return tuple(self._shapes)

    @property
    def n_events(self) -> int:
        """Number of events so far, undo and redo included."""
        return self._n_events

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The classes as they are now, by id."""
        return self._table.classes

    @property
    def next_class_id(self) -> int:
        """The id that the next added class must have: no id is used twice, even if its class was undone."""
        return self._table.next_id

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone step, with no edit after it."""
        return bool(self._undone)

    @property
    def strokes(self) -> tuple[StrokeRow, ...]:
        """The strokes in order, without those undone, cleared, or of a removed class."""
        return tuple(
            StrokeRow(step.seq, step.time, stroke.image, stroke.centre, class_id, stroke.n_voxels, stroke.source)
            for step, stroke, class_id in self._live_strokes()
        )

    def labelled_slices(self, image: int) -> set[tuple[int, int]]:
        """Return the slices of an image that somebody drew in: axis (0, 1, 2 for z, y, x) and index.

        A stroke that lies in slices along several axes counts for the first of them; erasing does not count.
        """
        self._check_image(image)
        drawn = (stroke for _, stroke, class_id in self._live_strokes() if stroke.image == image and class_id != ERASER)
        return {place for stroke in drawn if (place := stroke.flat_slice) is not None}

    def labelled_voxels(self, image: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Return the labelled voxels of an image.

        Parameters
        ----------
        image
            Index of the image.

        Returns
        -------
        indices
            Linear indices in C order of the image's (z, y, x), int64 of shape (n,), sorted; read-only.
        classes
            The class of each, uint16 of shape (n,), at least 1; read-only.

        Raises
        ------
        InputError
            If there is no such image.
        """
        self._check_image(image)
        snapshot = self._snapshot(image)
        classes = self._table.look_up()[snapshot.classes]
        indices = snapshot.indices
        if not classes.all():
            kept = classes != 0
            indices, classes = _frozen(indices[kept]), classes[kept]
        return indices, _frozen(classes)

    def stamp(self, event: Event) -> Record:
        """Return the record that `event` would make now.

        Raises
        ------
        InputError
            If the event does not fit the images or classes.
        ProjectError
            If there is nothing to undo or redo.
        """
        self._table_after(event)
        return Record(seq=self._n_events + 1, time=datetime.now(UTC), event=event)

    def apply(self, record: Record) -> None:
        """Change the labels and classes as `record` says; raises like `stamp`, and then nothing has changed."""
        if record.seq != self._n_events + 1:
            raise InputError(f"the event has number {record.seq}; expected {self._n_events + 1}")
        table = self._table_after(record.event)
        match record.event:
            case Undo():
                self._undone.append(self._done.pop())
                for snapshots in self._snapshots:
                    snapshots[:] = [snapshot for snapshot in snapshots if snapshot.n_steps <= len(self._done)]
            case Redo():
                self._done.append(self._undone.pop())
            case event:
                self._done.append(_Step(record.seq, record.time, _edits(event), table))
                self._undone.clear()
        self._table = table
        self._n_events = record.seq

    def _table_after(self, event: Event) -> _ClassTable:
        """Return the classes as they would be after `event`, or raise if it cannot happen now."""
        match event:
            case Undo():
                if not self.can_undo:
                    raise ProjectError("there is nothing to undo")
                table = self._done[-2].table if len(self._done) > 1 else _ClassTable()
                return replace(table, next_id=self._table.next_id)
            case Redo():
                if not self.can_redo:
                    raise ProjectError("there is nothing to redo")
                return replace(self._undone[-1].table, next_id=self._table.next_id)
        table = self._table
        for edit in _edits(event):
            self._check_place(edit)
            table = table.after(edit)
        return table

    def _live_strokes(self) -> list[tuple[_Step, Stroke, int]]:
        """Return the strokes that are not undone, cleared or of a removed class, each with the class it counts for."""
        targets = self._table.look_up()
        live: list[tuple[_Step, Stroke, int]] = []
        for step in self._done:
            for edit in step.edits:
                if isinstance(edit, Cleared):
                    live = [row for row in live if edit.image not in (None, row[1].image)]
                elif isinstance(edit, Stroke) and (targets[edit.class_id] or edit.class_id == ERASER):
                    live.append((step, edit, int(targets[edit.class_id])))
        return live

    def _check_place(self, edit: Edit) -> None:
        """Raise `InputError` unless the image that `edit` names exists and its runs lie inside."""
        if isinstance(edit, Stroke):
            self._check_image(edit.image)
            check_runs(edit.runs, self._shapes[edit.image])
        elif isinstance(edit, Cleared) and edit.image is not None:
            self._check_image(edit.image)

    def _check_image(self, image: int) -> None:
        if not 0 <= image < len(self._shapes):
            raise InputError(f"image is {image} but the project has {len(self._shapes)} images")

    def _snapshot(self, image: int) -> _Snapshot:
        """Return the labels of an image after all steps, from the last snapshot and the steps since."""
        snapshots, shape, n_steps = self._snapshots[image], self._shapes[image], len(self._done)
        base = snapshots[-1] if snapshots else _Snapshot()
        if base.n_steps == n_steps:
            return base
        if n_steps - base.n_steps > _SNAPSHOT_SPAN:
            # After opening, or after many undone steps: leave a snapshot on the way for the undos to come.
            base = base.after(self._done[: n_steps - _SNAPSHOT_SPAN // 2], image, shape)
            snapshots.append(base)
        elif len(snapshots) > 1 and base.n_steps - snapshots[-2].n_steps < _SNAPSHOT_SPAN:
            snapshots.pop()
        snapshots.append(base.after(self._done, image, shape))
        del snapshots[:-_MAX_SNAPSHOTS]
        return snapshots[-1]


@dataclass(frozen=True, slots=True)
class _ClassTable:
    """The classes, and what became of the classes that are gone: the class they were merged into, or 0."""

    classes: tuple[LabelClass, ...] = ()
    gone: Mapping[int, int] = field(default_factory=dict)
    next_id: int = 1

    def look_up(self) -> NDArray[np.uint16]:
        """Return the class that labels of each id count for now, uint16 of shape (next_id,)."""
        targets = np.arange(self.next_id, dtype=np.uint16)
        for class_id, into in self.gone.items():
            targets[class_id] = into
        return targets

    def after(self, edit: Edit) -> _ClassTable:
        """Return the table after `edit`, or raise `InputError` if it does not fit the classes."""
        match edit:
            case Stroke() if edit.class_id != ERASER:
                self._check_class(edit.class_id)
            case ClassAdded():
                if edit.class_id != self.next_id:
                    raise InputError(
                        f"class_id of a new class must be {self.next_id}, the next free one, not {edit.class_id}"
                    )
                self._check_name(edit.name)
                new = LabelClass(edit.class_id, edit.name, edit.color)
                return _ClassTable((*self.classes, new), self.gone, self.next_id + 1)
            case ClassRenamed():
                if edit.name != self._check_class(edit.class_id).name:
                    self._check_name(edit.name)
                return self._with(replace(self._check_class(edit.class_id), name=edit.name))
            case ClassRecolored():
                return self._with(replace(self._check_class(edit.class_id), color=edit.color))
            case ClassMerged():
                self._check_class(edit.into)
                if edit.class_id == edit.into:
                    raise InputError(f"class {edit.class_id} cannot be merged into itself")
                return self._without(edit.class_id, now=edit.into)
            case ClassRemoved():
                return self._without(edit.class_id, now=0)
        return self

    def _with(self, changed: LabelClass) -> _ClassTable:
        classes = tuple(changed if c.class_id == changed.class_id else c for c in self.classes)
        return replace(self, classes=classes)

    def _without(self, class_id: int, *, now: int) -> _ClassTable:
        self._check_class(class_id)
        gone = {old: now if into == class_id else into for old, into in self.gone.items()}
        return replace(
            self, classes=tuple(c for c in self.classes if c.class_id != class_id), gone={**gone, class_id: now}
        )

    def _check_class(self, class_id: int) -> LabelClass:
        for known in self.classes:
            if known.class_id == class_id:
                return known
        raise InputError(f"there is no class {class_id}; the classes are {[c.class_id for c in self.classes]}")

    def _check_name(self, name: str) -> None:
        if any(c.name == name for c in self.classes):
            raise InputError(f"name is {name!r}, but another class is called so")


@dataclass(frozen=True, slots=True)
class _Step:
    """What one undo undoes, and the classes after it."""

    seq: int
    time: datetime
    edits: tuple[Edit, ...]
    table: _ClassTable


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Voxels of an image that a stroke has touched after `n_steps` steps, each with the class it was drawn with."""

    n_steps: int = 0
    indices: NDArray[np.int64] = field(default_factory=lambda: _frozen(np.zeros(0, dtype=np.int64)))
    classes: NDArray[np.uint16] = field(default_factory=lambda: _frozen(np.zeros(0, dtype=np.uint16)))

    def after(self, steps: Sequence[_Step], image: int, shape: Shape3) -> _Snapshot:
        """Return the snapshot after all of `steps`, of which it holds the first `n_steps`."""
        base, strokes = self, list[Stroke]()
        for edit in (edit for step in steps[self.n_steps :] for edit in step.edits):
            if isinstance(edit, Cleared) and edit.image in (None, image):
                base, strokes = _Snapshot(), []
            elif isinstance(edit, Stroke) and edit.image == image:
                strokes.append(edit)
        indices, classes = base._merged(*_last_wins(strokes, shape)) if strokes else (base.indices, base.classes)
        return _Snapshot(len(steps), indices, classes)

    def _merged(
        self, indices: NDArray[np.int64], classes: NDArray[np.uint16]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Return the voxels with those at `indices` (sorted) set to `classes`; class 0 takes them out."""
        position = np.searchsorted(self.indices, indices)
        known = np.zeros(len(indices), dtype=np.bool_)
        inside = position < len(self.indices)
        known[inside] = self.indices[position[inside]] == indices[inside]
        new = ~known & (classes != ERASER)
        merged = self.classes.copy()
        merged[position[known]] = classes[known]
        merged = np.insert(merged, position[new], classes[new])
        places = np.insert(self.indices, position[new], indices[new])
        if not merged.all():
            kept = merged != ERASER
            merged, places = merged[kept], places[kept]
        return _frozen(places), _frozen(merged)


def _last_wins(strokes: Sequence[Stroke], shape: Shape3) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return the voxels that `strokes` touch, sorted, each with the class of the last stroke over it."""
    runs = np.concatenate([stroke.runs for stroke in strokes])
    indices = expand_runs(runs, shape)
    classes = np.repeat(
        np.array([stroke.class_id for stroke in strokes], dtype=np.uint16), [stroke.n_voxels for stroke in strokes]
    )
    if len(strokes) > 1:
        order = np.argsort(indices, kind="stable")
        indices, classes = indices[order], classes[order]
        last = np.append(indices[1:] != indices[:-1], True)
        indices, classes = indices[last], classes[last]
    return indices, classes


# Undo starts from one of the last few snapshots, which are at most so many steps apart.
_SNAPSHOT_SPAN = 64
_MAX_SNAPSHOTS = 3


def _edits(event: Edit | Group) -> tuple[Edit, ...]:
    return event.edits if isinstance(event, Group) else (event,)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
