"""What the README tells people to type works as it stands."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from voxloop.cli.main import COMMANDS, main
from voxloop.io import open_volume, save_volume
from voxloop.simulate.score import score

SHAPE = (32, 96, 96)
README = Path(__file__).resolve().parents[2] / "README.md"


def blocks(language: str) -> Iterator[str]:
    """Yield the README's code blocks of a language."""
    return iter(re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README takes for granted: an image ``cells.tif`` and a table of points."""
    monkeypatch.chdir(tmp_path)
    truth = np.ones(SHAPE, np.uint8)
    for centre in ((12, 60, 54), (20, 20, 70)):  # the first is where the README's stroke says it is
        distance = np.linalg.norm(np.moveaxis(np.indices(SHAPE), 0, -1) - centre, axis=-1)
        truth[distance < 12] = 2
    noise = np.random.default_rng(0).normal(0, 10, SHAPE)
    save_volume("cells.tif", (200 - 70 * truth + noise).clip(0, 255).astype(np.uint8), spacing=(10, 8, 8), unit="nm")
    save_volume("truth.tif", truth)
    rows = ["z,y,x,class"]
    for class_id, name in ((1, "background"), (2, "mitochondria")):
        rows += [f"{z},{y},{x},{name}" for z, y, x in np.argwhere(truth == class_id)[::2000]]
    Path("points.csv").write_text("\n".join(rows))
    return tmp_path


def assert_segmented() -> None:
    segmentation, truth = (np.asarray(open_volume(name).data) for name in ("cells-segmented.tif", "truth.tif"))
    assert score(segmentation, truth).iou_of(2) > 0.7  # three strokes: .6 to .9, as the noise will have it


def test_python(workplace: Path) -> None:
    (code,) = blocks("python")
    namespace: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), namespace)
    assert_segmented()
    assert open_volume("cells-uncertainty.zarr").shape == SHAPE
    assert len(code.splitlines()) <= 15


def test_shell(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("voxloop ")]
    assert len(lines) >= 5
    for line in lines:
        _, *arguments = shlex.split(line, comments=True)
        if arguments[0] not in COMMANDS:  # the viewer needs a screen
            continue
        assert main(arguments) == 0, line
        assert capsys.readouterr().err == ""
    assert_segmented()


@pytest.mark.skipif(shutil.which("make") is None or sys.platform == "win32", reason="needs make")
def test_targets_exist() -> None:
    makefile = README.with_name("Makefile").read_text()
    targets = re.findall(r"`?make ([a-z-]+)`?", README.read_text(encoding="utf-8"))
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links() -> None:
    for path in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8")):
        assert (README.parent / path).exists() or path == "docs/images/overview.png", path
