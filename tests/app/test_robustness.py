"""Whatever happens to the layer list, the session goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxloop.project import Project
from voxloop.samples import phantom
from voxloop.specs import FeatureSpec, SlicSpec
from voxloop.volume import Volume

Desk = Any


def goes_on(desk: Desk) -> None:
    """Label, predict, suggest, review, look from the side."""
    controller = desk.controller
    controller.press_digit(1)
    desk.drag([(2, 5, 5), (2, 5, 20), (2, 5, 40)])
    controller.press_digit(2)
    desk.drag([(2, 40, 5), (2, 45, 20), (2, 50, 40)])
    desk.updated()
    assert controller.result is not None
    controller.slices.suggest()
    desk.until(lambda: not controller.slices.is_busy)
    controller.plane.suggest()
    desk.until(lambda: not controller.plane.is_busy)
    controller.review.toggle()
    controller.review.confirm()
    controller.review.toggle()
    controller.undo()
    controller.sides.toggle()
    controller.view_along(1)
    desk.updated()


@pytest.mark.parametrize(
    "name",
    [
        "prediction",
        "probability",
        "uncertainty",
        "over-segmentation",
        "supervoxels",
        "most uncertain",
        "suggested plane",
    ],
)
def test_a_result_layer_is_deleted(desk: Desk, project_folder: Path, name: str) -> None:
    desk.open(project_folder)
    desk.viewer.layers.remove(name)
    goes_on(desk)
    assert [line for level, line in desk.said if level == "warning"] == [
        f"{name} is gone: choose the image under Data to see it again"
    ]
    desk.controller.show_image(0)
    desk.idle()
    assert name in desk.viewer.layers


def test_layers_are_renamed_and_shuffled_and_others_join(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    for number, layer in enumerate(desk.viewer.layers):
        layer.name = f"mine {number}"
    desk.viewer.layers.move(0, len(desk.viewer.layers))
    desk.viewer.add_image(np.zeros((64, 64, 3), np.uint8), rgb=True)
    desk.viewer.add_labels(np.zeros((5, 7, 9), int), name="labels")
    desk.viewer.add_points(np.zeros((2, 3)))
    goes_on(desk)
    assert [line for level, line in desk.said if level != "info"] == []


def test_a_layer_with_time_joins(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    desk.viewer.add_image(np.zeros((3, 16, 64, 64), np.float32), name="movie")
    assert desk.viewer.dims.ndim == 4
    goes_on(desk)
    desk.controller.previews.feature("gaussian", 1.0)
    desk.until(lambda: not desk.controller.previews.is_busy)
    assert [line for level, line in desk.said if level != "info"] == []


@pytest.mark.parametrize("shape", [(1, 40, 50), (40, 1, 50), (16, 40, 50, 3)], ids=["flat", "thin", "rgb"])
def test_flat_thin_and_coloured_images(desk: Desk, tmp_path: Path, shape: tuple[int, ...]) -> None:
    grey = phantom((16, 40, 50), seed=1).image.read()[0]
    voxels = np.stack([grey] * 3, axis=-1) if len(shape) == 4 else np.resize(grey, shape)
    folder = tmp_path / "image.voxloop"
    volume = Volume.from_array(voxels, axes="zyxc"[: voxels.ndim])
    with Project.create(folder, volume, classes=["a", "b"]) as project:
        project.configure(slic=SlicSpec(n_segments=60), features=FeatureSpec(sigmas=(1.0,), families=("gaussian",)))
        project.features()
        project.extent()
    desk.open(folder)
    thick = [n > 1 for n in shape[:3]]
    for digit, place in ((1, 5), (2, 30)):
        desk.controller.press_digit(digit)
        desk.controller.need_project().paint(digit, [tuple(place if t else 0 for t in thick)] if shape[0] != 16 else
                                             [(5, place, place)])  # fmt: skip
    desk.controller.labels_changed()
    desk.updated()
    assert desk.controller.result is not None, desk.said
    for action in (desk.controller.slices.suggest, desk.controller.plane.suggest, desk.controller.sides.toggle,
                   desk.controller.solid.toggle, desk.controller.turn):  # fmt: skip
        action()
    desk.until(lambda: not (desk.controller.plane.is_busy or desk.controller.slices.is_busy))
    assert [line for level, line in desk.said if level != "info"] == []


def test_the_image_goes_while_it_is_open(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    (stored,) = (project_folder / "images").glob("0.npy")
    stored.rename(stored.with_name("gone.npy"))
    goes_on(desk)
    desk.controller.previews.feature("gaussian", 1.0)  # what is on screen is in memory
    desk.until(lambda: not desk.controller.previews.is_busy)
    assert [line for level, line in desk.said if level != "info"] == []
    assert "\n" not in "".join(line for _, line in desk.said)
