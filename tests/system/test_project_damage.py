"""Damaged and hostile project folders: what can be computed again is, the rest is a clear error."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxloop.errors import MissingFileError, ProjectError, VoxloopError
from voxloop.project import Project
from voxloop.samples import Sample
from voxloop.simulate.annotator import SimulatedAnnotator


def results(folder: Path) -> list[bytes]:
    """Return the bytes of everything that is computed."""
    with Project.open(folder / "cells.voxloop") as project:
        suggestion = project.suggest_slices()[0]
        return [
            project.predict().probabilities.tobytes(),
            np.asarray(project.supervoxels().labels).tobytes(),
            project.features().values.tobytes(),
            project.supervoxels().graph.edges.tobytes(),
            repr((suggestion.axis, suggestion.index, suggestion.center, suggestion.score)).encode(),
        ]


# What cannot be computed again


def test_missing_labels_are_an_error(cells: Path) -> None:
    log = cells / "cells.voxloop" / "annotations.jsonl"
    content = log.read_bytes()
    log.unlink()
    before = sorted(cells.rglob("*"))
    for read_only in (False, True):
        with pytest.raises(ProjectError, match=r"lost its labels: annotations.jsonl is missing") as raised:
            Project.open(cells / "cells.voxloop", read_only=read_only)
        assert "\n" not in str(raised.value)
    assert sorted(cells.rglob("*")) == before
    log.write_bytes(content)
    Project.open(cells / "cells.voxloop").close()


def test_a_new_project_has_a_log(tmp_path: Path) -> None:
    Project.create(tmp_path / "new.voxloop").close()
    assert (tmp_path / "new.voxloop" / "annotations.jsonl").read_bytes() == b""
    Project.open(tmp_path / "new.voxloop", read_only=True).close()


def test_torn_last_line_is_cut_off_and_read_only_leaves_it(cells: Path) -> None:
    log = cells / "cells.voxloop" / "annotations.jsonl"
    whole = log.read_bytes()
    expected = results(cells)
    log.write_bytes(whole + b'{"seq": 99, "time"')
    with Project.open(cells / "cells.voxloop", read_only=True) as project:
        assert project.predict().probabilities.tobytes() == expected[0]
    assert log.read_bytes() == whole + b'{"seq": 99, "time"'
    assert results(cells) == expected
    assert log.read_bytes() == whole


@pytest.mark.parametrize("line", [0, 1, 3])
def test_damaged_line_is_an_error_that_names_it(cells: Path, line: int) -> None:
    log = cells / "cells.voxloop" / "annotations.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"', b"?", 3)
    log.write_bytes(b"".join(lines))
    with pytest.raises(ProjectError, match=f"annotations.jsonl, line {line + 1}: damaged"):
        Project.open(cells / "cells.voxloop")
    assert log.read_bytes() == b"".join(lines)


def test_labels_that_do_not_fit_the_image_are_an_error(cells: Path) -> None:
    log = cells / "cells.voxloop" / "annotations.jsonl"
    lines = log.read_text().splitlines()
    last = json.loads(lines[-1])
    last["event"]["runs"] = [[0, 0, 0, 10**6]]
    log.write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    with pytest.raises(ProjectError, match="the image has shape"):
        Project.open(cells / "cells.voxloop")


def _changed(change: Callable[[dict], object]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return changed


DOCUMENTS = {
    "empty": lambda _: "",
    "torn": lambda text: text[: len(text) // 2],
    "no object": lambda _: "[1, 2]",
    "no version": _changed(lambda d: d.pop("schema_version")),
    "unknown field": _changed(lambda d: d.update(more=1)),
    "wrong spec": _changed(lambda d: d["specs"]["slic"].update(compactness=-1)),
    "unknown choice": _changed(lambda d: d["specs"]["features"].update(definition="own")),
    "no specs of that kind": _changed(lambda d: d["specs"].update(slic=3)),
    "shape of two": _changed(lambda d: d["images"][0].update(shape=[16, 48])),
    "shape of nothing": _changed(lambda d: d["images"][0].update(shape=[0, 48, 48])),
    "negative spacing": _changed(lambda d: d["images"][0].update(spacing=[1, -1, 1])),
    "no file": _changed(lambda d: d["images"][0].pop("file")),
    "no images": _changed(lambda d: d.update(images=None)),
    "deep": lambda _: "[" * 100_000,
}


@pytest.mark.parametrize("damage", DOCUMENTS)
def test_damaged_document_is_an_error(cells: Path, damage: str) -> None:
    document = cells / "cells.voxloop" / "project.json"
    document.write_text(DOCUMENTS[damage](document.read_text()))
    before = document.read_bytes()
    with pytest.raises(ProjectError) as raised:
        Project.open(cells / "cells.voxloop")
    assert "\n" not in str(raised.value)
    assert "project.json" in str(raised.value)
    assert document.read_bytes() == before
    with pytest.raises(ProjectError):  # and not that it is in use
        Project.open(cells / "cells.voxloop", read_only=True)


def test_image_forgotten_by_the_document(cells: Path) -> None:
    document = cells / "cells.voxloop" / "project.json"
    document.write_text(_changed(lambda d: d.update(images=[]))(document.read_text()))
    with pytest.raises(ProjectError, match=r"annotations.jsonl, line"):
        Project.open(cells / "cells.voxloop")


def test_no_project(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nothing"):
        with pytest.raises(MissingFileError, match="no voxloop project"):
            Project.open(tmp_path / name)
    assert not any((tmp_path / "empty").iterdir())


# What can be computed again


def entry(folder: Path, name: str) -> Path:
    """Return the folder of the one entry of a name in the cache."""
    (found,) = (folder / "cells.voxloop" / "cache" / name).iterdir()
    return found


def edit(array_name: str, change: Callable[[np.ndarray], object]) -> Callable[[Path], None]:
    """Return a function that changes an array of an entry in place."""

    def edit_file(folder: Path) -> None:
        array = np.lib.format.open_memmap(folder / f"{array_name}.npy", mode="r+")
        change(array)
        array.flush()

    return edit_file


def replace(array_name: str, make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Return a function that puts another array in place of one of an entry, and says so in the header."""

    def replace_file(folder: Path) -> None:
        array = make(np.load(folder / f"{array_name}.npy"))
        np.save(folder / f"{array_name}.npy", array)
        header = json.loads((folder / "entry.json").read_text())
        offset = (folder / f"{array_name}.npy").stat().st_size - array.nbytes
        header["arrays"][array_name] = {"dtype": array.dtype.str, "shape": array.shape, "offset": offset}
        (folder / "entry.json").write_text(json.dumps(header))

    return replace_file


def set_at(index, value) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[index] = value

    return change


def drop(array_name: str) -> Callable[[Path], None]:
    def drop_array(folder: Path) -> None:
        header = json.loads((folder / "entry.json").read_text())
        del header["arrays"][array_name]
        (folder / "entry.json").write_text(json.dumps(header))

    return drop_array


def meta(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def change_meta(folder: Path) -> None:
        header = json.loads((folder / "entry.json").read_text())
        change(header["meta"])
        (folder / "entry.json").write_text(json.dumps(header))

    return change_meta


TABLES, LABELS, FEATURES = "supervoxel-tables-0", "supervoxels-0", "features-0-1_6"
DAMAGES = {
    "torn file": (LABELS, lambda f: os.truncate(f / "labels.npy", 100)),
    "no file": (TABLES, lambda f: (f / "edges.npy").unlink()),
    "no header": (FEATURES, lambda f: (f / "entry.json").unlink()),
    "garbage header": (FEATURES, lambda f: (f / "entry.json").write_bytes(b"\xff\x00")),
    "labels above n": (LABELS, edit("labels", set_at((7, 20, 20), 10**9))),
    "labels of another shape": (LABELS, replace("labels", lambda a: a[:-1])),
    "labels of another dtype": (LABELS, replace("labels", lambda a: a.astype(np.float32))),
    "labels missing": (LABELS, drop("labels")),
    "edges above n": (TABLES, edit("edges", set_at((3, 1), 10**9))),
    "edges below 1": (TABLES, edit("edges", set_at((3, 0), 0))),
    "edges of three": (TABLES, replace("edges", lambda a: np.concatenate([a, a[:, :1]], axis=1))),
    "edges of floats": (TABLES, replace("edges", lambda a: a.astype(np.float64))),
    "area too short": (TABLES, replace("area", lambda a: a[:-1])),
    "area not finite": (TABLES, edit("area", set_at(0, np.nan))),
    "area below 0": (TABLES, edit("area", set_at(0, -1))),
    "sizes too short": (TABLES, replace("sizes", lambda a: a[:10])),
    "sizes too long": (TABLES, replace("sizes", lambda a: np.append(a, a))),
    "size 0": (TABLES, edit("sizes", set_at(3, 0))),
    "centers not finite": (TABLES, edit("centers", set_at((0, 0), np.inf))),
    "centers of one": (TABLES, replace("centers", lambda a: a[:, :1])),
    "tables missing": (TABLES, drop("centers")),
    "report of other facts": (TABLES, meta(lambda m: m.update(more=1))),
    "report without facts": (TABLES, meta(lambda m: m.clear())),
    "features not finite": (FEATURES, edit("values", set_at((0, 0), np.nan))),
    "features too few": (FEATURES, replace("values", lambda a: a[:-1])),
    "features without names": (FEATURES, meta(lambda m: m.clear())),
    "features with a number for names": (FEATURES, meta(lambda m: m.update(names=3))),
    "probabilities not numbers": ("prediction-0", edit("probabilities", set_at((0, 0), np.nan))),
    "probabilities above 1": ("prediction-0", edit("probabilities", set_at((0, 0), 7))),
    "probabilities too few": ("prediction-0", replace("probabilities", lambda a: a[:-1])),
    "classes unknown": ("prediction-0", edit("classes", set_at(1, 9))),
    "extent beyond the volume": ("extent-0", edit("last", set_at((0, 0), 10**6))),
    "extent below 0": ("extent-0", edit("first", set_at((0, 0), -7))),
    "extent too short": ("extent-0", replace("first", lambda a: a[:-1])),
    "slices too few": ("extent-0", replace("in_y", lambda a: a[:-1])),
    "slices below 0": ("extent-0", edit("in_z", set_at(0, -5))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_cache_is_computed_again(cells: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    expected = results(cells)
    name, spoil = DAMAGES[damage]
    spoil(entry(cells, name))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert results(cells) == expected
    assert any("in the cache is damaged and will be computed again" in message for message in caplog.messages)
    assert not any("\n" in message for message in caplog.messages)
    caplog.clear()
    assert results(cells) == expected
    assert not caplog.messages


FORESTS = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: os.truncate(path, path.stat().st_size // 2),
    "no zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
    "pickle": lambda path: np.savez(path, digest=np.load(path)["digest"], classes=np.array([{}], dtype=object)),
    "a second forest that does not fit": lambda path: _resave(path, second_n_features=lambda a: a + 1),
    "no trees": lambda path: np.savez(path, digest=np.load(path)["digest"]),
    "a walk that never ends": lambda path: _resave(path, first_left=lambda a: np.zeros_like(a)),
    "a walk that leaves": lambda path: _resave(path, first_left=lambda a: a + 10**6),
    "a feature that is not there": lambda path: _resave(path, first_feature=lambda a: np.where(a >= 0, 10**6, a)),
    "no class in a leaf": lambda path: _resave(path, first_value=np.zeros_like),
}
OTHER_FORESTS = {
    "another number of features": {"first_n_features": lambda a: a + 1},
    "other classes": {"first_classes": lambda a: a + 7, "second_classes": lambda a: a + 7},
}


def _resave(path: Path, **changes: Callable[[np.ndarray], np.ndarray]) -> None:
    arrays = dict(np.load(path))
    np.savez(path, **{name: changes.get(name, lambda a: a)(array) for name, array in arrays.items()})


@pytest.mark.parametrize("damage", FORESTS)
def test_damaged_forest_is_trained_again(
    cells: Path, small_sample: Sample, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Project.open(cells / "cells.voxloop") as project:  # enough labels for a second forest
        for stroke in SimulatedAnnotator(small_sample.truth, rng=1).first_strokes():
            project.paint(stroke.class_id, stroke.voxels)
    expected = results(cells)
    assert "second_n_features" in np.load(cells / "cells.voxloop" / "models" / "classifier.npz")
    shutil.rmtree(cells / "cells.voxloop" / "cache" / "prediction-0")
    FORESTS[damage](cells / "cells.voxloop" / "models" / "classifier.npz")
    with caplog.at_level(logging.WARNING):
        assert results(cells) == expected
    assert "classifier.npz is damaged and will be trained again" in caplog.text


@pytest.mark.parametrize("folder", [".", "images", "models", "cache/prediction-0"])
def test_what_a_killed_command_left_behind_goes_when_the_project_is_opened(cells: Path, folder: str) -> None:
    leftover = cells / "cells.voxloop" / folder / ".a-file.0123abcd.partial"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"half")
    with Project.open(cells / "cells.voxloop", read_only=True):
        assert leftover.exists()  # somebody else may be writing it
    with Project.open(cells / "cells.voxloop"):
        assert not leftover.exists()


@pytest.mark.parametrize("other", OTHER_FORESTS)
def test_a_sound_forest_of_something_else_is_trained_again(
    cells: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = results(cells)
    shutil.rmtree(cells / "cells.voxloop" / "cache" / "prediction-0")
    _resave(cells / "cells.voxloop" / "models" / "classifier.npz", **OTHER_FORESTS[other])
    with caplog.at_level(logging.WARNING):
        assert results(cells) == expected
    assert "classifier.npz does not fit the labels and will be trained again" in caplog.text


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_anywhere(cells: Path, data: st.DataObject) -> None:
    """Whatever a few flipped bytes say, the answer is a result or an error of voxloop's own, never a crash."""
    sound, damaged = cells / "sound", cells / "cells.voxloop"
    if not sound.exists():
        shutil.copytree(damaged, sound)
    # What an example computes again or adds to must not be there for the next one.
    shutil.rmtree(damaged)
    shutil.copytree(sound, damaged)
    files = sorted(p.relative_to(sound) for p in sound.rglob("*") if p.is_file() and p.stat().st_size)
    path = damaged / data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        position = min(position, 300)  # headers are where it hurts
    replacement = data.draw(st.binary(min_size=1, max_size=8))
    content[position : position + len(replacement)] = replacement
    path.write_bytes(content)
    with suppress(VoxloopError):
        results(cells)
