"""Any sequence of edits, undos and redos, in memory and through the file, against a model of dictionaries."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from voxloop.project import annotations as annotations_module
from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.annotations import (
    Annotations,
    ClassAdded,
    ClassMerged,
    ClassRecolored,
    ClassRemoved,
    ClassRenamed,
    Cleared,
    Edit,
    Event,
    Group,
    Redo,
    Stroke,
    Undo,
)
from voxloop.project.runs import runs_from_points

SHAPES = [(2, 2, 3), (1, 3, 4)]
COLORS = st.sampled_from(["#000000", "#ff0000", "#00ff7f"])
IMAGES = st.integers(0, 1)


class Model:
    """Labels as one dictionary per image; undo keeps whole copies."""

    def __init__(self) -> None:
        self.classes: dict[int, tuple[str, str]] = {}
        self.voxels: list[dict[tuple[int, int, int], int]] = [{}, {}]

    def edit(self, edit: Edit) -> None:
        match edit:
            case Stroke():
                for z, y, start, stop in edit.runs.tolist():
                    for x in range(start, stop):
                        self.voxels[edit.image].pop((z, y, x), None)
                        if edit.class_id:
                            self.voxels[edit.image][z, y, x] = edit.class_id
            case ClassAdded():
                self.classes[edit.class_id] = (edit.name, edit.color)
            case ClassRenamed():
                self.classes[edit.class_id] = (edit.name, self.classes[edit.class_id][1])
            case ClassRecolored():
                self.classes[edit.class_id] = (self.classes[edit.class_id][0], edit.color)
            case ClassMerged():
                del self.classes[edit.class_id]
                self.voxels = [{v: edit.into if c == edit.class_id else c for v, c in d.items()} for d in self.voxels]
            case ClassRemoved():
                del self.classes[edit.class_id]
                self.voxels = [{v: c for v, c in d.items() if c != edit.class_id} for d in self.voxels]
            case Cleared():
                self.voxels = [{} if edit.image in (None, i) else d for i, d in enumerate(self.voxels)]


def check_equal(annotations: Annotations, model: Model) -> None:
    assert {c.class_id: (c.name, c.color) for c in annotations.classes} == model.classes
    for image, shape in enumerate(SHAPES):
        indices, classes = annotations.labelled_voxels(image)
        voxels = zip(*(axis.tolist() for axis in np.unravel_index(indices, shape)), strict=True)
        assert dict(zip(voxels, classes.tolist(), strict=True)) == model.voxels[image]
        assert (np.diff(indices) > 0).all()


class AnnotationMachine(RuleBasedStateMachine):
    @initialize(span=st.sampled_from([2, 5, 64]))
    def start(self, span: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(annotations_module, "_SNAPSHOT_SPAN", span)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "annotations.jsonl")
        self.log = AnnotationLog.open(self.path, SHAPES)
        self.model = Model()
        self.done: list[Model] = []
        self.undone: list[Model] = []
        self.n_added = 0

    def teardown(self) -> None:
        self.log.close()
        self.folder.cleanup()
        self.patch.undo()

    def append(self, event: Event, *edits: Edit) -> None:
        self.log.append(event)
        self.done.append(copy.deepcopy(self.model))
        self.undone.clear()
        for edit in edits or (event,):
            self.model.edit(edit)
            self.n_added += isinstance(edit, ClassAdded)

    def stroke(self, data: st.DataObject) -> Stroke:
        image = data.draw(IMAGES)
        voxel = st.tuples(*(st.integers(0, n - 1) for n in SHAPES[image]))
        points = data.draw(st.lists(voxel, min_size=1, max_size=8))
        class_id = data.draw(st.sampled_from([0, *self.model.classes]))
        return Stroke(image=image, class_id=class_id, runs=runs_from_points(points))

    def some_class(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.model.classes)))

    def has_class(self) -> bool:
        return bool(self.model.classes)

    def new_class(self, color: str) -> ClassAdded:
        class_id = self.log.annotations.next_class_id
        return ClassAdded(class_id=class_id, name=f"class {class_id}", color=color)

    @rule(color=COLORS)
    def add_class(self, color: str) -> None:
        self.append(self.new_class(color))

    @rule(data=st.data())
    def paint(self, data: st.DataObject) -> None:
        self.append(self.stroke(data))

    @rule(data=st.data(), color=COLORS)
    def paint_together(self, data: st.DataObject, color: str) -> None:
        edits = (self.stroke(data), self.new_class(color), self.stroke(data))
        self.append(Group(edits=edits), *edits)

    @precondition(has_class)
    @rule(data=st.data(), color=COLORS)
    def recolor(self, data: st.DataObject, color: str) -> None:
        self.append(ClassRecolored(class_id=self.some_class(data), color=color))

    @precondition(has_class)
    @rule(data=st.data())
    def rename(self, data: st.DataObject) -> None:
        class_id = self.some_class(data)
        self.append(ClassRenamed(class_id=class_id, name=f"renamed {class_id}"))

    @precondition(has_class)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.append(ClassRemoved(class_id=self.some_class(data)))

    @precondition(lambda self: len(self.model.classes) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        class_id = self.some_class(data)
        into = data.draw(st.sampled_from(sorted(set(self.model.classes) - {class_id})))
        self.append(ClassMerged(class_id=class_id, into=into))

    @rule(image=st.one_of(st.none(), IMAGES))
    def clear(self, image: int | None) -> None:
        self.append(Cleared(image=image))

    @precondition(lambda self: self.done)
    @rule(times=st.integers(1, 4))
    def undo(self, times: int) -> None:
        for _ in range(min(times, len(self.done))):
            self.log.append(Undo())
            self.undone.append(self.model)
            self.model = self.done.pop()

    @precondition(lambda self: self.undone)
    @rule()
    def redo(self) -> None:
        self.log.append(Redo())
        self.done.append(self.model)
        self.model = self.undone.pop()

    @rule()
    def close_and_open(self) -> None:
        self.log.close()
        self.log = AnnotationLog.open(self.path, SHAPES)
        assert self.log.recovered is None

    @invariant()
    def memory_and_file_agree_with_the_model(self) -> None:
        replayed = AnnotationLog.open(self.path, SHAPES, read_only=True).annotations
        live = self.log.annotations
        check_equal(live, self.model)
        check_equal(replayed, self.model)
        assert replayed.strokes == live.strokes
        assert replayed.next_class_id == live.next_class_id == self.n_added + 1
        assert (live.can_undo, live.can_redo) == (bool(self.done), bool(self.undone))
        assert (replayed.can_undo, replayed.can_redo) == (live.can_undo, live.can_redo)


AnnotationMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnnotationMachine = AnnotationMachine.TestCase
