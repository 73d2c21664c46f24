"""Damaged and hostile annotation files are refused in one line, or recovered; nothing else happens."""

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from voxloop.errors import ProjectError
from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.annotations import ClassAdded, ClassMerged, Cleared, Group, Redo, Stroke, Undo

SHAPES = [(2, 3, 5)]
EVENTS = (
    ClassAdded(class_id=1, name="µ tubule", color="#00ff00"),
    Group(edits=(ClassAdded(class_id=2, name="b", color="#0000ff"), Stroke(image=0, class_id=2, runs=[[1, 2, 0, 5]]))),
    Stroke(image=0, class_id=1, runs=[[0, 0, 1, 3], [1, 2, 0, 2]]),
    Undo(),
    Redo(),
    ClassMerged(class_id=2, into=1),
    Cleared(image=0),
    Stroke(image=0, class_id=1, runs=[[0, 1, 0, 1]]),
)


def good_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "annotations.jsonl")
        with AnnotationLog.open(path, SHAPES) as log:
            for event in EVENTS:
                log.append(event)
        return path.read_bytes()


GOOD = good_file()


def assert_one_line(error: Exception) -> None:
    assert "\n" not in str(error)


def open_or_refuse(content: bytes) -> AnnotationLog | None:
    """Open the file as a reader and as a writer, and append to it; None if it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "annotations.jsonl")
        path.write_bytes(content)
        try:
            reader = AnnotationLog.open(path, SHAPES, read_only=True)
        except ProjectError as error:
            assert_one_line(error)
            assert path.read_bytes() == content
            return None
        assert path.read_bytes() == content
        with AnnotationLog.open(path, SHAPES) as log:
            assert log.annotations.n_events == reader.annotations.n_events
            assert (log.recovered is None) == (reader.recovered is None)
            assert content.startswith(path.read_bytes())
            log.append(Cleared(image=None))
        reader = AnnotationLog.open(path, SHAPES, read_only=True)
        assert reader.annotations.n_events == log.annotations.n_events
        return log


@given(cut=st.integers(0, len(GOOD)))
def test_a_file_cut_anywhere_keeps_all_whole_lines(cut: int) -> None:
    log = open_or_refuse(GOOD[:cut])
    assert log is not None
    assert log.annotations.n_events == GOOD[:cut].count(b"\n") + 1


@settings(max_examples=200)
@given(data=st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    content = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.sampled_from([0, 1, 1, 8]))
        content[at : at + length] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b"\n", b"-", b"9" * 30]))
        )
    open_or_refuse(bytes(content))


@given(tail=st.binary(max_size=200))
def test_anything_at_the_end(tail: bytes) -> None:
    open_or_refuse(GOOD + tail)


@given(content=st.one_of(st.binary(max_size=100), st.integers(1, 10**5).map(lambda n: b"[" * n + b"\n{}\n")))
def test_something_else_altogether(content: bytes) -> None:
    open_or_refuse(content)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=10,
)


@given(field=st.sampled_from(["image", "class_id", "runs", "source", "type", "extra"]), value=json_values)
def test_a_field_of_a_stroke_can_be_anything(field: str, value: object) -> None:
    event = {"type": "stroke", "image": 0, "class_id": 0, "runs": [[0, 0, 0, 1]], "source": "brush", field: value}
    record = {"seq": len(EVENTS) + 1, "time": "2025-01-01T00:00:00Z", "event": event}
    open_or_refuse(GOOD + json.dumps(record).encode() + b"\n")
