"""What the page of supervoxels says about them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voxloop.app.piece_guide import describe, explain, warn
from voxloop.features import FeatureTable
from voxloop.project import Project
from voxloop.project.images import ImageRecord
from voxloop.supervoxels import Adjacency, SlicReport, Supervoxels


def pieces(sizes: list[int], *, asked_for: int) -> Supervoxels:
    n = len(sizes)
    graph = Adjacency(np.zeros((0, 2), np.int64), np.zeros(0), n)
    report = SlicReport(asked_for=asked_for, got=n, iterations=10, converged=True)
    return Supervoxels(np.zeros((1, 1, 1), np.uint32), np.array(sizes), np.zeros((n, 3)), graph, report)


def record(shape: tuple[int, int, int], spacing: tuple[float, float, float], folder: Path) -> ImageRecord:
    np.save(folder / "image.npy", np.zeros(shape, np.uint8))
    with Project.create(folder / "p.voxloop", folder / "image.npy", spacing=spacing, unit="micrometer") as project:
        return project.images[0]


def test_size_is_said_in_the_unit_of_the_image(tmp_path: Path) -> None:
    image = record((9, 20, 20), (2.0, 0.5, 0.5), tmp_path)
    found = pieces([128, 128, 128, 0 + 16], asked_for=5)  # 100 on average: 50 cubic micrometers
    line = describe(found, image)
    assert line.startswith("4 (5 asked for), 100 voxels on average: about 3.7 µm across; 25% smaller")
    assert "thinner than about 1.8 µm" in warn(found, image)


def test_a_flat_image_has_areas(tmp_path: Path) -> None:
    image = record((1, 20, 20), (7.0, 0.5, 0.5), tmp_path)
    assert "about 5 µm across; 0% smaller" in describe(pieces([100, 100], asked_for=2), image)


def test_the_variance_between_pieces_is_that_of_the_sharpest_brightness() -> None:
    names = ("gaussian sigma=3.5 mean", "gaussian sigma=0.7 mean", "gaussian sigma=0.7 std", "gaussian sigma=3.5 std")
    values = np.array([[9, 0, 1, 9], [9, 2, 1, 9]], np.float32)
    found = pieces([10, 10], asked_for=2)
    assert explain(found, FeatureTable(values, names)).startswith("50% of the variance")
    values[:, 1:3] = 0
    assert explain(found, FeatureTable(values, names)) == ""
    assert explain(found, FeatureTable(values[:, :2], names[:2])) == ""
