"""`voxloop simulate`: lines for people, JSON for machines, one line for what cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voxloop.cli.main import main

SHORT = ["--rounds", "1", "--inputs-per-round", "4", "--start-per-class", "2", "--repeats", "2", "--size", "120"]


def arguments(cells: Path, *more: str) -> list[str]:
    files = ["--image", str(cells / "cells.tif"), "--truth", str(cells / "truth.tif"), "--out", str(cells / "curves")]
    return ["simulate", *files, *SHORT, *more]


def test_a_table_for_people_then_json_for_machines(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strategies = ["--strategy", "random", "--strategy", "slices-feature"]
    assert main(arguments(cells, *strategies)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["strategy", "random", "slices-feature"]
    assert "after 8 inputs" in lines[2]
    assert "0 curves were there already" in lines[1]
    assert (cells / "curves" / "curves.png").stat().st_size > 10_000

    assert main(arguments(cells, *strategies, "--json")) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["strategy"] for row in data["strategies"]] == ["random", "slices-feature"]
    for row, line in zip(data["strategies"], lines[3:5], strict=True):
        assert f"{row['final_mean']:.3f}" in line
        assert row["repeats"] == 2
        assert row["fully_labelled"] <= row["oracle"] <= 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--strategy", "oracle"], "strategy is 'oracle'; expected one of random"),
        (["--strategy", "random", "--repeats", "0"], "repeats must be 1 or more, not 0"),
        (["--strategy", "random", "--rounds", "0"], "rounds"),
        (["--strategy", "random", "--learn-slices", "16"], "n_learn must be 1 to 15, not 16"),
    ],
)
def test_one_line_for_what_cannot_be_done(
    cells: Path, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert main(arguments(cells, *more)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (cells / "curves").exists()
