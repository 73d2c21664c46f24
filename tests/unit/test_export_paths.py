"""Path patterns: what they stand for, and names that try to lead elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxloop.errors import InputError
from voxloop.project.paths import as_file_name, expand

FIELDS = {"dataset_dir": Path("/data/mice"), "nickname": "cells", "result_type": "masks", "class_name": "nucleus"}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("out/x.tif", "out/x.tif"),
        ("{dataset_dir}/{nickname}-{result_type}.h5", "/data/mice/cells-masks.h5"),
        ("{nickname}_{class}_{slice_index:04d}.png", "cells_nucleus_{slice_index:04d}.png"),
        ("{nickname}{nickname}.npy", "cellscells.npy"),
        ("a{.tif", "a{.tif"),
    ],
)
def test_fields(pattern: str, expected: str) -> None:
    assert expand(pattern, **FIELDS) == Path(expected)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{name}.tif", r"holds \{name\}; expected \{dataset_dir\}"),
        ("{}.tif", r"holds \{\}"),
        ("{nickname.__class__}.tif", "expected"),
        ("{nickname!r}.tif", "expected"),
        ("out/{dataset_dir}/x.tif", "must come first"),
    ],
)
def test_fields_that_cannot_be_used(pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand(pattern, **FIELDS)


def test_a_class_goes_with_some_sources_only() -> None:
    with pytest.raises(InputError, match="probabilities and masks"):
        expand("{class}.tif", **{**FIELDS, "class_name": None})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a\0b", "C:\\x", "con", "NUL.tif"])
def test_a_name_stays_in_its_folder(name: str) -> None:
    path = expand("out/{nickname}", **{**FIELDS, "nickname": name})
    assert path.parent == Path("out")
    assert path.name not in ("", ".", "..", name)


def test_a_name_that_looks_like_a_field_is_a_name() -> None:
    path = expand("{nickname}.png", **{**FIELDS, "nickname": "{slice_index}{class}*"})
    assert path.name == "_slice_index__class__.png"


@given(st.text(max_size=200))
def test_any_text_becomes_one_name(name: str) -> None:
    safe = as_file_name(name)
    assert Path("folder", safe).parts == ("folder", safe)
    assert safe not in (".", "..")
    assert as_file_name(safe) == safe
    assert not set(safe) & set('/\\:*?"<>|{}[]\0\n')
