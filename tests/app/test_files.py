"""Files on their way in and out: looked into before they become a project, moved, exported, segmented in a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from voxloop.project import Project
from voxloop.samples import phantom

Desk = Any


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "cells.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, phantom((8, 40, 50), seed=1).image.read()[0], photometric="minisblack")
    return path


def test_voxel_size_crop_and_mask_are_chosen_before_the_project_is_made(desk: Desk, image: Path) -> None:
    controller = desk.controller
    mask = np.ones((8, 40, 50), np.uint8)
    mask[:, :10] = 0
    np.save(image.with_name("mask.npy"), mask)
    controller.propose(image)
    desk.idle()
    assert controller.project is None
    assert controller.pending.volume.shape == (8, 40, 50)
    crop = (slice(None), slice(5, 40), slice(None))
    controller.accept(spacing=(30.0, 5.0, 5.0), unit="nanometer", crop=crop, mask=str(image.with_name("mask.npy")))
    desk.idle()
    record = controller.project.images[0]
    assert (record.spacing, record.unit, record.shape) == ((30.0, 5.0, 5.0), "nanometer", (8, 35, 50))
    assert np.count_nonzero(controller.project.mask(0)[0]) == 30 * 50
    assert controller.pending is None

    # The next file becomes a further image; a project that is there already is opened.
    controller.propose(image)
    desk.idle()
    controller.dismiss()
    assert controller.pending is None
    controller.propose(image)
    desk.idle()
    controller.accept(spacing=(30.0, 5.0, 5.0), unit="nanometer")
    desk.until(lambda: controller.image == 1 and not controller.is_busy)
    controller.close_project()
    controller.propose(image)
    desk.idle()
    assert len(controller.project.images) == 2
    assert desk.said == []


def test_a_project_whose_image_has_moved_opens_after_one_question(desk: Desk, image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cells.voxloop"
    with Project.create(folder, image, classes=["a", "b"]) as project:
        project.paint("a", [(1, 2, 3)])
    image.parent.rename(tmp_path / "moved")
    controller = desk.controller
    controller.open_path(folder)
    desk.idle()
    assert controller.project is None
    assert controller.moved.files == (str(image),)
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.zeros((8, 40, 50), np.uint8), photometric="minisblack")
    controller.relink(other)
    desk.idle()
    assert desk.said[-1][0] == "error"
    assert controller.moved is not None
    controller.relink(tmp_path / "moved" / "cells.tif")
    desk.until(lambda: controller.project is not None)
    desk.idle()
    assert controller.layers.labels.data[1, 2, 3] == 1


def test_part_and_type_of_an_export_and_a_batch_of_which_one_fails(
    desk: Desk, project_folder: Path, tmp_path: Path, image: Path
) -> None:
    desk.open(project_folder)
    controller = desk.controller
    desk.drag([(2, 5, 5), (2, 5, 20), (2, 5, 40)])
    controller.press_digit(2)
    desk.drag([(2, 40, 5), (2, 45, 20), (2, 50, 40)])
    desk.updated()
    crop = (slice(2, 6), slice(None), slice(10, 30))
    controller.export("probabilities", tmp_path / "p.tif", crop=crop, dtype="uint8", rescale=(0.0, 1.0))
    desk.idle()
    written = tifffile.imread(tmp_path / "p.tif")
    assert written.dtype == np.uint8
    assert sorted(written.shape) == [2, 4, 20, 64]

    bad = image.with_name("bad.tif")
    bad.write_text("no image")
    controller.batch("segmentation", [str(image), str(bad)], "{dataset_dir}/{nickname}-{result_type}.tif")
    desk.idle()
    assert set(np.unique(tifffile.imread(image.with_name("cells-segmentation.tif")))) <= {1, 2}
    assert [line for level, line in desk.said if level == "error"] == [
        line for _, line in desk.said if line.startswith(str(bad))
    ]
    assert desk.said[-1] == ("info", "1 of 2 images are done")
    assert len(controller.need_project().images) == 1
