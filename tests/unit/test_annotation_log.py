"""The file of annotation events: what it holds, what it refuses, what it recovers."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from voxloop.errors import InputError, MissingFileError, ProjectError, StorageError
from voxloop.project.annotation_log import AnnotationLog
from voxloop.project.annotations import ClassAdded, Redo, Stroke, Undo

SHAPES = [(2, 3, 5)]
RED = ClassAdded(class_id=1, name="cell", color="#ff0000")
STROKE = Stroke(image=0, class_id=1, runs=[[1, 2, 0, 4]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "annotations.jsonl"
    with AnnotationLog.open(path, SHAPES) as log:
        log.append(RED)
        log.append(STROKE)
    return path


def test_a_line_is_a_record(path: Path) -> None:
    _, second = (json.loads(line) for line in path.read_text().splitlines())
    assert second["seq"] == 2
    assert second["time"].endswith("Z")
    assert second["event"] == {"type": "stroke", "image": 0, "class_id": 1, "runs": [[1, 2, 0, 4]], "source": "brush"}


def test_undo_survives_closing(path: Path) -> None:
    with AnnotationLog.open(path, SHAPES) as log:
        log.append(Undo())
    with AnnotationLog.open(path, SHAPES) as log:
        assert log.annotations.strokes == ()
        log.append(Redo())
    indices, classes = AnnotationLog.open(path, SHAPES, read_only=True).annotations.labelled_voxels(0)
    assert indices.tolist() == [25, 26, 27, 28]
    assert classes.tolist() == [1] * 4


def test_each_record_is_synced_before_it_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    with AnnotationLog.open(path, SHAPES) as log:
        monkeypatch.setattr(
            os, "fsync", lambda _: seen.append((path.read_bytes().count(b"\n"), log.annotations.n_events))
        )
        log.append(STROKE)
        assert log.annotations.n_events == 3
    assert seen == [(3, 2)]


@pytest.mark.parametrize("tail", [b"{", b'{"seq":3', b"\x00" * 40, b"\xff\xfe", b'{"seq":3}', b"{]\n", b"\x00\x00\n"])
def test_a_torn_last_line_is_cut_off_and_reported(path: Path, tail: bytes) -> None:
    good = path.read_bytes()
    path.write_bytes(good + tail)
    reader = AnnotationLog.open(path, SHAPES, read_only=True)
    assert (
        reader.recovered
        == f"annotations.jsonl ended in {len(tail)} bytes of a record that was never finished; it is ignored"
    )
    assert path.read_bytes() == good + tail
    with AnnotationLog.open(path, SHAPES) as log:
        assert log.recovered is not None
        assert log.recovered.endswith("was removed")
        assert path.read_bytes() == good
        log.append(STROKE)
    assert AnnotationLog.open(path, SHAPES, read_only=True).annotations.n_events == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"\n", "line 2: damaged"),
        (b"\x00\x00\x00\n", "line 2: damaged"),
        (b'{"seq": 2}\n', "line 2: time is missing"),
        (b"7\n", "line 2: a record must be a JSON object, not a int"),
        (
            b'{"seq":3,"time":"2025-01-01T00:00:00Z","event":{"type":"undo"}}\n',
            "line 2: the event has number 3; expected 2",
        ),
        (b'{"seq":2,"time":"2025-01-01T00:00:00Z","event":{"type":"redo"}}\n', "line 2: there is nothing to redo"),
        (
            b'{"seq":2,"time":"2025-01-01T00:00:00Z","event":{"type":"class_removed","class_id":4}}\n',
            "line 2: there is no class",
        ),
        (b'{"seq":2,"time":"2025-01-01T00:00:00Z","event":{"type":"paint"}}\n', "line 2: event"),
        (b'{"seq":2,"time":"2025-01-01T00:00:00","event":{"type":"undo"}}\n', "line 2: time"),
    ],
)
def test_damage_before_the_end_is_refused_with_its_line(path: Path, line: bytes, message: str) -> None:
    first, second = path.read_bytes().splitlines(keepends=True)
    content = first + line + second
    path.write_bytes(content)
    for read_only in (True, False):
        with pytest.raises(ProjectError, match=f"^annotations.jsonl, {message}") as caught:
            AnnotationLog.open(path, SHAPES, read_only=read_only)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_whole_last_line_that_makes_no_sense_is_not_cut_off(path: Path) -> None:
    path.write_bytes(
        path.read_bytes() + b'{"seq":3,"time":"2025-01-01T00:00:00Z","event":{"type":"from the future"}}\n'
    )
    for read_only in (True, False):
        with pytest.raises(ProjectError, match="line 3: event"):
            AnnotationLog.open(path, SHAPES, read_only=read_only)


def test_strokes_must_fit_the_images_of_the_project(path: Path) -> None:
    with pytest.raises(ProjectError, match=r"line 2: run 0 is \[1, 2, 0, 4\] but the image has shape \(2, 3, 3\)"):
        AnnotationLog.open(path, [(2, 3, 3)])


def test_a_refused_event_writes_nothing(path: Path) -> None:
    before = path.read_bytes()
    with AnnotationLog.open(path, SHAPES) as log:
        with pytest.raises(InputError, match="no class 5"):
            log.append(Stroke(image=0, class_id=5, runs=[[0, 0, 0, 1]]))
        with pytest.raises(ProjectError, match="nothing to redo"):
            log.append(Redo())
    assert path.read_bytes() == before


def test_reading_changes_nothing_and_writing_is_refused(path: Path) -> None:
    log = AnnotationLog.open(path, SHAPES, read_only=True)
    with pytest.raises(ProjectError, match="not open for writing"):
        log.append(STROKE)
    writer = AnnotationLog.open(path, SHAPES)
    writer.close()
    writer.close()
    with pytest.raises(ProjectError, match="not open for writing"):
        writer.append(STROKE)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"cannot read .*annotations.jsonl: No such file"):
        AnnotationLog.open(tmp_path / "annotations.jsonl", SHAPES, read_only=True)
    with pytest.raises(StorageError, match=r"cannot write .*annotations.jsonl: No such file"):
        AnnotationLog.open(tmp_path / "nowhere" / "annotations.jsonl", SHAPES)
    with pytest.raises(MissingFileError, match="Is a directory"):
        AnnotationLog.open(tmp_path, SHAPES)


def test_what_another_program_wrote_is_not_overwritten(path: Path) -> None:
    with AnnotationLog.open(path, SHAPES) as log:
        with path.open("ab") as other:
            other.write(b"something\n")
        with pytest.raises(ProjectError, match="changed by another program"):
            log.append(STROKE)
    assert path.read_bytes().endswith(b"something\n")


@pytest.mark.parametrize("failing", ["fsync", "truncate too"])
def test_a_failed_write_leaves_no_trace(path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    good = path.read_bytes()
    log = AnnotationLog.open(path, SHAPES)

    def fail(*args: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        if failing == "truncate too":

            class Stuck:
                """The file, but it cannot be cut off."""

                def __init__(self, file) -> None:
                    self.fileno, self.seek, self.write, self.truncate = file.fileno, file.seek, file.write, fail

            patch.setattr(log, "_file", Stuck(log._file))
        with pytest.raises(StorageError, match="Input/output error; the last edit was not saved") as caught:
            log.append(Stroke(image=0, class_id=1, runs=[[0, 0, 0, 1], [0, 1, 0, 1], [0, 2, 0, 1]]))
        assert "\n" not in str(caught.value)
        assert log.annotations.n_events == 2
    if failing == "fsync":
        assert path.read_bytes() == good
    log.append(Undo())
    log.close()
    assert path.read_bytes().startswith(good)
    assert path.read_bytes().count(b"\n") == 3
    assert AnnotationLog.open(path, SHAPES, read_only=True).annotations.n_events == 3


def test_opening_two_thousand_strokes(tmp_path: Path) -> None:
    path = tmp_path / "annotations.jsonl"
    rng = np.random.default_rng(0)
    expected: dict[int, int] = {}
    with path.open("wb") as file:
        time = "2025-01-01T00:00:00Z"
        file.write(json.dumps({"seq": 1, "time": time, "event": RED.model_dump()}).encode() + b"\n")
        for seq in range(2, 2002):
            z, y, x = (int(rng.integers(0, n)) for n in (20, 30, 40))
            class_id = int(rng.integers(0, 2))
            event = {"type": "stroke", "image": 0, "class_id": class_id, "runs": [[z, y, x, x + 10]]}
            file.write(json.dumps({"seq": seq, "time": time, "event": event}).encode() + b"\n")
            expected |= dict.fromkeys(range((z * 30 + y) * 50 + x, (z * 30 + y) * 50 + x + 10), class_id)
    indices, classes = AnnotationLog.open(path, [(20, 30, 50)], read_only=True).annotations.labelled_voxels(0)
    labels = dict(zip(indices.tolist(), classes.tolist(), strict=True))
    assert labels == {index: class_id for index, class_id in expected.items() if class_id}


def test_what_a_full_disk_refuses_is_kept_in_order_until_it_can_be_saved(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = AnnotationLog.open(path, SHAPES)
    good = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        log.keep(STROKE)
        log.keep(Undo())
        assert log.n_unsaved == 2
        with pytest.raises(StorageError, match="No space left"):
            log.save()
        with pytest.raises(StorageError, match="No space left"):
            log.append(Redo())  # what must be on the disk comes after what is not there yet
        with pytest.raises(InputError):
            log.keep(Stroke(image=7, class_id=1, runs=[[1, 2, 0, 4]]))
    assert log.n_unsaved == 2
    assert path.read_bytes() == good
    log.keep(Redo())
    assert log.n_unsaved == 0
    log.close()
    with pytest.raises(ProjectError, match="not open for writing"):
        log.keep(Undo())
    again = AnnotationLog.open(path, SHAPES, read_only=True).annotations
    assert again.n_events == log.annotations.n_events
    assert again.strokes == log.annotations.strokes != ()


def test_nothing_is_kept_of_an_edit_that_another_program_came_before(path: Path) -> None:
    with AnnotationLog.open(path, SHAPES) as log:
        with path.open("ab") as other:
            other.write(b"something\n")
        with pytest.raises(ProjectError, match="changed by another program"):
            log.keep(STROKE)
        assert log.n_unsaved == 0
        assert len(log.annotations.strokes) == 1
