"""What the tutorials and how-tos tell people to type works as it stands, in the order of the page."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from voxloop.cli.main import main
from voxloop.io import formats, open_labels, save_volume
from voxloop.simulate.score import score

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOW_TOS = ("label", "suggest", "several-images", "ilastik", "headless")
FORMATS = ("tiff", "zarr", "hdf5-n5", "medical", "mrc", "stacks", "numpy")
SHAPE = (40, 120, 120)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def fences(page: Path) -> list[tuple[str, str]]:
    """Return language and content of each code block of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def follow(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the blocks of a page in the current folder: shell, Python, and tables to save as points.csv."""
    ran = 0
    for language, code in fences(page):
        if language == "csv":
            Path("points.csv").write_text(code)
        elif language == "python":
            exec(compile(code, str(page), "exec"), {})
        elif language == "sh":
            for line in code.replace("\\\n", " ").splitlines():
                command, *arguments = shlex.split(line, comments=True)
                assert command == "voxloop"
                capsys.readouterr()
                assert main(arguments) == 0, f"{line}\n{capsys.readouterr().err}"
                assert capsys.readouterr().err == "", line
                ran += 1
    assert ran


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the tutorial was followed."""
    return tmp_path_factory.mktemp("tutorial")


def test_tutorial(tutorial: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tutorial)
    follow(DOCS / "tutorial" / "command-line.md", capsys)
    first, truth = (np.asarray(open_labels(name).data) for name in ("first.tif", "truth.tif"))
    assert score(first, truth).iou_of(2) > 0.4
    assert Path("mitochondria.csv").read_text().count("\n") > 1


def test_electron_micrographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make, compare = (code for language, code in fences(DOCS / "tutorial" / "electron.md") if language == "python")
    exec(compile(make, "electron.md", "exec"), {})
    assert tifffile.imread("training.tif").shape == (48, 256, 256)
    masks = tifffile.imread("testing-masks.tif")
    assert set(np.unique(masks)) == {0, 255}
    tifffile.imwrite("testing-segmentation.tif", (masks > 0).astype(np.uint8) + 1)
    exec(compile(compare, "electron.md", "exec"), {})
    assert float(capsys.readouterr().out) == 1


@pytest.mark.parametrize("name", HOW_TOS)
def test_how_to(
    name: str, tutorial: Path, tmp_path: Path, write_ilp: Any, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each in a copy of the tutorial's folder, with the images that the page takes for granted."""
    assert (tutorial / "cells.voxloop").exists(), "test_tutorial makes it"
    folder = tmp_path / "work"
    shutil.copytree(tutorial, folder)
    monkeypatch.chdir(folder)
    image = tifffile.imread("cells.tif")
    if name == "several-images":
        for copy in ("cells2.tif", "cells3.tif"):
            shutil.copy("cells.tif", copy)
        save_volume("inside.tif", np.ones(SHAPE, np.uint8))
        tifffile.imwrite("colour.tif", np.stack([image] * 3, axis=-1), photometric="rgb")
        tifffile.imwrite("film.tif", np.stack([image] * 3), ome=True, metadata={"axes": "TZYX"})
    elif name == "ilastik":
        shutil.rmtree("cells.voxloop")
        block = ("[5:6,60:64,90:99,0:1]", np.ones((1, 4, 9, 1)))
        write_ilp(folder / "cells.ilp", [{"path": "cells.tif", "shape": SHAPE, "blocks": [block]}])
    elif name == "headless":
        shutil.rmtree("cells.voxloop")
    follow(DOCS / "how-to" / f"{name}.md", capsys)


@pytest.mark.parametrize("name", FORMATS)
def test_format(
    name: str, tutorial: Path, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(tutorial, folder)
    monkeypatch.chdir(folder)
    Path("slices").mkdir()
    follow(DOCS / "formats" / f"{name}.md", capsys)


def test_every_format_has_its_page() -> None:
    pages = {page.stem for page in (DOCS / "formats").glob("*.md")}
    assert pages == {"index", "vendors", *FORMATS}
    overview = (DOCS / "formats" / "index.md").read_text(encoding="utf-8")
    for format_ in formats.FORMATS:
        for suffix in format_.suffixes:
            assert f"{suffix} " in overview.replace("`", " "), suffix


def test_notebook(tmp_path: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    nbclient = pytest.importorskip("nbclient")
    notebook = jupytext.read(DOCS / "tutorial" / "notebook.md")
    kernel = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=kernel).execute()
    (said,) = [o.text for cell in notebook.cells for o in cell.get("outputs", ()) if o.output_type == "stream"]
    assert float(re.search(r"mitochondria ([0-9.]+)", said).group(1)) > 0.4
    assert "next: " in said
    workflow = next(cell.source for cell in notebook.cells if cell.cell_type == "code")
    statements = [line for line in workflow.splitlines() if line.strip() and line[0] not in " ]"]
    assert len(statements) <= 10


def test_messages_in_troubleshooting_are_in_the_sources() -> None:
    """So that a message that is reworded is reworded there, too."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "src").rglob("*.py"))
    sources = re.sub(r'"\s*\n?\s*f?"', "", sources)  # strings over several lines
    for cell in re.findall(r"^\| (`.*?`(?:, `.*?`)*)", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE):
        for message in re.findall(r"`(.*?)`", cell):
            for part in re.split(r"\.\.\.|'\.\.\.'|\bN\b|\bX\b", message):
                assert part.strip(" '") in sources, message
