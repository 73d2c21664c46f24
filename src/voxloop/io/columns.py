"""Tables, as columns of one length by name, to CSV and Parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxloop.errors import FormatError, InputError
from voxloop.io.atomic import replacing, storing

Columns = dict[str, NDArray[Any]]

_ROWS = 50_000  # of a CSV that are text at a time


def check_table_format(path: Path) -> None:
    """Raise `FormatError` unless the suffix is one of a table, `InputError` if the library that it needs is missing."""
    if path.suffix.lower() not in _WRITERS:
        raise FormatError(f"{path.name} names no format of tables; expected {' or '.join(_WRITERS)}")
    if path.suffix.lower() == ".parquet":
        _parquet_library()


def write_columns(path: Path, columns: Columns, *, overwrite: bool = False) -> None:
    """Write a table as the suffix of `path` says; the file is whole or not there.

    Parameters
    ----------
    path
        ``.csv`` or ``.parquet`` (which needs ``voxloop[tables]``).
    columns
        At least one. In columns of dtype object, None is an empty cell.
    overwrite
        Replace a file that is there.

    Raises
    ------
    FormatError
        If the suffix is another one.
    InputError
        If the file exists and `overwrite` is false, or the library for Parquet is missing.
    StorageError
        If the disk is full or writing is not permitted.
    """
    check_table_format(path)
    with replacing(path, overwrite=overwrite) as temporary, storing(path):
        _WRITERS[path.suffix.lower()](temporary, columns)


def _write_csv(path: Path, columns: Columns) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(columns)
        n = len(next(iter(columns.values())))
        for start in range(0, n, _ROWS):
            rows.writerows(zip(*(_texts(c[start : start + _ROWS]) for c in columns.values()), strict=True))


def _texts(values: NDArray[Any]) -> list[Any]:
    """Return values as a CSV writes them: numbers with the digits that their type has, truth as 0 and 1."""
    if values.dtype == np.float32:
        return [str(value) for value in values]
    as_python: list[Any] = values.astype(np.uint8 if values.dtype.kind == "b" else values.dtype).tolist()
    return as_python


def _write_parquet(path: Path, columns: Columns) -> None:
    pyarrow = _parquet_library()
    table = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
    pyarrow.parquet.write_table(table, path)


def _parquet_library() -> ModuleType:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError(
            'a Parquet table needs pyarrow, which is not installed: pip install "voxloop[tables]"'
        ) from None
    return pyarrow  # type: ignore[no-any-return]  # without stubs


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet}
