"""Model files from strangers: one clear line, no memory taken, no walk out of an array."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from voxloop.errors import FormatError, InputError, VoxloopError
from voxloop.project import Model, Project, model_file
from voxloop.specs import ClassifierSpec
from voxloop.supervoxels.model import Adjacency


@pytest.fixture(scope="module")
def original(_cells_template: Path) -> dict[str, bytes]:
    with Project.open(_cells_template / "cells.voxloop", read_only=True) as project:
        path = project.model().save(_cells_template / "m.voxmodel", overwrite=True)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def array_of(content: bytes) -> np.ndarray:
    return np.load(io.BytesIO(content))


def write(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(FormatError) as raised:
        Model.open(path)
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


def test_a_model_comes_back_as_it_was(original: dict[str, bytes], tmp_path: Path, cells: Path) -> None:
    model = Model.open(write(tmp_path / "a.voxmodel", original))
    with Project.open(cells / "cells.voxloop", read_only=True) as project:
        expected = project.model()
    assert model.classes == expected.classes
    assert model.specs == expected.specs
    assert (model.n_channels, model.channels, model.spacing, model.unit) == (1, None, (10, 8, 8), "nanometer")
    for name, array in expected.classifier.to_arrays().items():
        np.testing.assert_array_equal(model.classifier.to_arrays()[name], array)
    with pytest.raises(InputError, match="exists"):
        model.save(tmp_path / "a.voxmodel")
    with pytest.raises(InputError, match="must end in"):
        model.save(tmp_path / "a.pkl")


CHANGES = {
    "format": lambda h: {**h, "format": 2},
    "no classes": lambda h: {**h, "classes": []},
    "other classes": lambda h: {**h, "classes": [{**c, "class_id": c["class_id"] + 7} for c in h["classes"]]},
    "classes twice": lambda h: {**h, "classes": [h["classes"][0]] * 2},
    "a class with lines": lambda h: {**h, "classes": [{**h["classes"][0], "name": "a\nb"}, h["classes"][1]]},
    "a class with a colour": lambda h: {**h, "classes": [{**h["classes"][0], "color": "red"}, h["classes"][1]]},
    "channels": lambda h: {**h, "n_channels": 0},
    "channels below 0": lambda h: {**h, "channels": [-1]},
    "spacing": lambda h: {**h, "spacing": [0, 1, 1]},
    "infinite spacing": lambda h: {**h, "spacing": ["inf", 1, 1]},
    "specs": lambda h: {**h, "specs": {"slic": {"size": -1}}},
    "unknown": lambda h: {**h, "run": "rm"},
    "features": lambda h: {**h, "versions": {**h["versions"], "features": 99, "voxloop": "9.9"}},
}


@pytest.mark.parametrize("change", CHANGES)
def test_headers_that_cannot_be_right(original: dict[str, bytes], tmp_path: Path, change: str) -> None:
    header = CHANGES[change](json.loads(original["model.json"]))
    message = refused(write(tmp_path / "a.voxmodel", {**original, "model.json": json.dumps(header).encode()}))
    if change == "features":
        assert "made by voxloop 9.9" in message


def with_array(name: str, change) -> dict[str, object]:
    return {"name": f"first_{name}.npy", "change": change}


def changed(array: np.ndarray, where, value) -> np.ndarray:
    copy = array.copy()
    copy[where] = value
    return copy


ARRAYS = [
    with_array("left", lambda a: changed(a, 0, -1)),
    with_array("left", lambda a: changed(a, 0, 2**31 - 1)),
    with_array("left", lambda a: changed(a, 0, 0)),
    with_array("left", lambda a: a[:-1]),
    with_array("left", lambda a: a.reshape(1, -1)),
    with_array("feature", lambda a: changed(a, 0, 10**6)),
    with_array("feature", lambda a: a.astype(np.float64)[:3]),
    with_array("roots", lambda a: a[::-1].copy()),
    with_array("roots", lambda _: np.zeros(0, np.int32)),
    with_array("roots", lambda a: changed(a, -1, a[-1] + 5)),
    with_array("value", lambda a: changed(a, 0, np.nan)),
    with_array("value", lambda a: changed(a, slice(None), 0)),
    with_array("value", lambda a: a * 1e38),
    with_array("value", lambda a: -a),
    with_array("classes", lambda a: a[::-1].copy()),
    with_array("classes", lambda _: np.array([1, 1], np.int32)),
    with_array("n_features", lambda _: np.array(0)),
    with_array("n_features", lambda _: np.array([1, 2, 3])),
    with_array("n_features", lambda _: np.array(np.nan)),
    with_array("left", lambda _: np.array([{"a": 1}], object)),
    with_array("threshold", lambda a: np.array(["x"] * a.size)),
]


@pytest.mark.parametrize("case", ARRAYS)
def test_trees_that_cannot_be_walked(original: dict[str, bytes], tmp_path: Path, case) -> None:
    array = case["change"](array_of(original[case["name"]]))
    refused(write(tmp_path / "a.voxmodel", {**original, case["name"]: npy(array)}))


def test_announced_sizes_are_not_believed(original: dict[str, bytes], tmp_path: Path, monkeypatch) -> None:
    header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000000,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    bomb = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(40)
    assert "1000000000000" in refused(write(tmp_path / "a.voxmodel", {**original, "first_left.npy": bomb}))
    monkeypatch.setattr(model_file, "_MAX_ARRAYS", 1000)
    assert "announce more than 1,000 bytes" in refused(write(tmp_path / "b.voxmodel", original))


def test_other_files_and_no_files(original: dict[str, bytes], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    for name in ("../first_left.npy", "evil.pkl", "first_left.npy/x", "third_left.npy"):
        assert "other files" in refused(write(tmp_path / "a.voxmodel", {**original, name: b""}))
    refused(write(tmp_path / "a.voxmodel", {**original, "first_left.npy": pickle.dumps(Evil())}))
    for name in original:
        refused(write(tmp_path / "a.voxmodel", {k: v for k, v in original.items() if k != name and "second" not in k}))
        break
    refused(write(tmp_path / "a.voxmodel", {}))
    (tmp_path / "b.voxmodel").write_bytes(b"nothing of the kind")
    refused(tmp_path / "b.voxmodel")
    with pytest.raises(FileNotFoundError):
        Model.open(tmp_path / "no.voxmodel")
    with pytest.raises(FileNotFoundError):
        Model.open(tmp_path)
    assert not (tmp_path / "touched").exists()


def test_damaged_bytes(original: dict[str, bytes], tmp_path: Path) -> None:
    """Whatever is wrong, the file is refused or gives a classifier whose answers are shares."""
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.voxmodel", original)
    whole = path.read_bytes()
    n_features = Model.open(path).classifier.first.n_features
    rows = rng.normal(size=(50, n_features)).astype(np.float32)
    graph = Adjacency(np.zeros((0, 2), np.int64), np.zeros(0), 50)
    for i in range(200):
        damaged = bytearray(whole)
        if i % 4 == 0:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            for position in rng.integers(0, len(whole), 1 + i % 5):
                damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        check_answers(path, rows, graph)
    for i in range(200):
        name = list(original)[1 + i % (len(original) - 1)]
        array = bytearray(original[name])
        for position in rng.integers(0, len(array), 1 + i % 3):
            array[position] = rng.integers(256)
        check_answers(write(path, {**original, name: bytes(array)}), rows, graph)


def check_answers(path: Path, rows: np.ndarray, graph: Adjacency) -> None:
    try:
        model = Model.open(path)
    except VoxloopError as error:
        if "\n" in str(error):
            raise
        return
    if model.classifier.first.n_features == rows.shape[1]:
        shares = model.classifier.predict(rows, graph)
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-3)
    assert isinstance(model.specs.classifier, ClassifierSpec)
