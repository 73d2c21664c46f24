"""The report: one page that needs nothing else, whatever the names in it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from voxloop.cli.main import main
from voxloop.errors import InputError
from voxloop.project import Project
from voxloop.project.annotations import ClassRenamed
from voxloop.volume import Volume

PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """Collects tags, references and text, and sees that every tag that is opened is closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert "url(" not in text
    assert "@import" not in text
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for reference in page.references:
        kind, content = reference.split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content, validate=True).startswith(PNG)
    return page


def test_a_page_that_needs_nothing_else(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        project.append(ClassRenamed(class_id=2, name="<script>alert('&')</script>"))
        shares = project.class_shares()
    assert main(["report", str(cells / "cells.voxloop"), "--out", str(cells / "r.html")]) == 0
    assert capsys.readouterr().out == f"{cells / 'r.html'}: written\n"
    page = read(cells / "r.html")
    assert len(page.references) == 3  # slices
    assert "<script>alert('&')</script>" in page.text
    assert "background" in page.text
    assert f"{100 * shares['background']:.2f} %" in page.text
    assert "nanometer³" in page.text
    assert main(["report", str(cells / "cells.voxloop"), "--out", str(cells / "r.html")]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["report", str(cells / "cells.voxloop"), "--out", str(cells / "r.html"), "--overwrite"]) == 0
    assert main(["report", str(cells / "cells.voxloop"), "--out", str(cells / "r.txt")]) == 2


def test_without_labels_and_in_two_dimensions(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 99, (40, 50)).astype(np.uint8)
    with Project.create(tmp_path / "p.voxloop", classes=["a", "b"]) as project:
        with pytest.raises(InputError, match="no images"):
            project.report(tmp_path / "r.html")
        project.add_image(Volume.from_array(image))
        project.configure(slic={"size": 25.0}, features={"sigmas": (0.7,), "families": ("gaussian",)})
        page = read(project.report(tmp_path / "r.html"))
        assert "Not known: there are no labels to train on." in page.text
        assert page.references == []
        project.paint("a", [(0, 3, x) for x in range(30)])
        project.paint("b", [(0, 30, x) for x in range(30)])
        page = read(project.report(tmp_path / "r.html", overwrite=True))
        assert len(page.references) == 1
        assert "pixel²" in page.text
