"""`voxloop napari`, without opening a window."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from voxloop.cli.main import main


def test_a_path_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["napari", str(tmp_path / "nowhere.tif")]) == 2
    assert capsys.readouterr().err == f"voxloop: {tmp_path / 'nowhere.tif'} does not exist\n"


def test_a_sample_and_a_path_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["napari", str(tmp_path), "--sample", str(tmp_path / "try.voxloop")]) == 2
    assert capsys.readouterr().err == "voxloop: give an image or a project, or --sample, not both\n"


def test_without_napari_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    assert main(["napari"]) == 2
    assert capsys.readouterr().err == 'voxloop: the app needs napari: pip install "voxloop[napari]"\n'


def test_the_other_commands_know_nothing_of_the_app() -> None:
    code = (
        "import sys; from voxloop.cli.main import build_parser; build_parser(); import voxloop.project;"
        "print([m for m in sys.modules if m.split('.')[0] in ('napari', 'qtpy', 'PySide6') or m == 'voxloop.app'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
