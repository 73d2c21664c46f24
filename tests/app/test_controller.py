"""All that the app does, on a viewer without a window."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from voxloop.app import napari_adapter as adapter
from voxloop.project import Project

Desk = Any

BACKGROUND = [(2, 5, 5), (2, 5, 20), (2, 5, 40)]
FOREGROUND = [(2, 40, 5), (2, 45, 20), (2, 50, 40)]


@pytest.fixture
def labelled(desk: Desk, project_folder: Path) -> Desk:
    """A desk with a stroke of each class and the prediction that follows."""
    desk.open(project_folder)
    desk.drag(BACKGROUND)
    desk.controller.press_digit(2)
    desk.drag(FOREGROUND)
    desk.updated()
    return desk


def warnings_of(desk: Desk) -> list[str]:
    return [line for level, line in desk.said if level != "info"]


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "annotations.jsonl").read_text().splitlines()]


# Opening


def test_an_image_becomes_a_project_beside_it_and_opens_again(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, (4, 20, 30), np.uint8), photometric="minisblack")
    desk.controller.open_path(path)
    desk.idle()
    assert (tmp_path / "cells.voxloop").is_dir()
    assert [layer.name for layer in desk.viewer.layers] == ["cells", "labels"]
    assert list(desk.controller.project.class_names.values()) == ["background", "foreground"]
    desk.drag([(1, 5, 5), (1, 5, 9)])
    desk.controller.close_project()
    assert len(desk.viewer.layers) == 0
    desk.controller.open_path(path)
    desk.idle()
    assert np.count_nonzero(desk.controller.layers.labels.data) > 0
    assert warnings_of(desk) == []


def test_what_cannot_be_opened_is_one_line(desk: Desk, tmp_path: Path) -> None:
    bad = tmp_path / "notes.tif"
    bad.write_text("no image")
    for path in (bad, tmp_path / "nowhere.tif"):
        desk.controller.open_path(path)
        desk.idle()
    assert len(warnings_of(desk)) == 2
    assert not any("\n" in line or "internal" in line for line in warnings_of(desk))
    assert desk.controller.project is None
    assert list(tmp_path.iterdir()) == [bad]


def test_a_project_in_use_is_refused(desk: Desk, project_folder: Path) -> None:
    with Project.open(project_folder):
        desk.controller.open_path(project_folder)
        desk.idle()
    assert desk.controller.project is None
    assert len(warnings_of(desk)) == 1
    desk.open(project_folder)
    assert desk.controller.project is not None


def test_a_torn_line_is_cut_off_and_said(desk: Desk, project_folder: Path) -> None:
    with Project.open(project_folder) as project:
        project.paint("background", [(1, 2, 3)])
    with (project_folder / "annotations.jsonl").open("a") as file:
        file.write('{"seq": 99, "time"')
    desk.open(project_folder)
    assert any("Recovered after a crash" in line for line in warnings_of(desk))
    assert desk.controller.layers.labels.data[1, 2, 3] == 1


def test_a_flat_image_and_an_rgb_one_open(desk: Desk, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("flat.npy", (40, 50)), ("colour.npy", (1, 40, 50, 3))):
        np.save(tmp_path / name, rng.integers(0, 255, shape, np.uint8))
        desk.controller.open_path(tmp_path / name)
        desk.until(lambda: desk.controller.project is not None and not desk.controller.is_busy)
        assert desk.controller.layers.labels.data.shape == (1, 40, 50)
        desk.drag([(0, 5, 5), (0, 5, 9)])
        assert np.count_nonzero(desk.controller.layers.labels.data) > 0
        desk.controller.close_project()
    assert warnings_of(desk) == []


# Labelling


def test_a_stroke_is_on_the_disk_when_the_button_is_let_go(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    before = len(log_of(project_folder))
    desk.drag(BACKGROUND)
    (record,) = log_of(project_folder)[before:]
    assert record["event"]["type"] == "stroke"
    assert record["event"]["class_id"] == 1
    shown = np.flatnonzero(desk.controller.layers.labels.data)
    assert np.array_equal(shown, desk.controller.project.annotations.labelled_voxels(0)[0])


def test_the_classifier_learns_from_two_strokes(labelled: Desk) -> None:
    controller = labelled.controller
    assert controller.result.whole
    assert controller.labels.count(1) > 0
    assert controller.labels.count(2) > 0
    assert "labelled, updated" in controller.live_line()
    segmentation = controller.layers.prediction.data.table
    assert np.array_equal(segmentation[1:], controller.project.predict().segmentation)
    assert np.array_equal(controller.layers.uncertainty.data.table[1:], controller.project.uncertainty())
    assert np.flatnonzero(controller.layers.top.data.table).tolist() == sorted(
        controller.project.top_uncertain().tolist()
    )


def test_one_class_is_a_state_and_the_last_result_stays(labelled: Desk) -> None:
    controller = labelled.controller
    result = controller.result
    controller.undo()
    labelled.updated()
    assert controller.live_line().endswith("all labels are 'background'; training needs labels of two classes at least")
    assert controller.result is result
    controller.redo()
    labelled.updated()
    assert controller.problem == ""
    assert warnings_of(labelled) == []


def test_the_status_bar_lists_our_keys_in_every_mode(labelled: Desk) -> None:
    for digit in (0, 1):
        labelled.controller.press_digit(digit)
        labelled.viewer.update_status_from_cursor()
        assert labelled.viewer.help.startswith("1-9 class, 0 eraser")


def test_undo_and_redo_are_those_of_the_project(labelled: Desk, project_folder: Path) -> None:
    controller, layer = labelled.controller, labelled.controller.layers.labels
    shown = layer.data.copy()
    layer.undo()  # what napari's own key and menu call
    assert layer.data[2, 45, 20] == 0
    assert layer.data[2, 5, 20] == 1
    layer.redo()
    assert np.array_equal(layer.data, shown)
    assert [r["event"]["type"] for r in log_of(project_folder)][-2:] == ["undo", "redo"]
    for _ in range(10):
        controller.undo()
    assert not layer.data.any()
    assert warnings_of(labelled)[-1] == "there is nothing to undo"


def test_the_eraser_takes_labels_away(labelled: Desk) -> None:
    labelled.controller.press_digit(0)
    labelled.drag(BACKGROUND)
    labelled.updated()
    data = labelled.controller.layers.labels.data
    assert not (data == 1).any()
    assert (data == 2).any()
    assert labelled.controller.labels.count(1) == 0


def test_fill_of_several_classes_is_one_step(labelled: Desk) -> None:
    layer = labelled.controller.layers.labels
    before = layer.data.copy()
    everything = tuple(axis.ravel() for axis in np.indices((1, 64, 64)) + np.array([2, 0, 0]).reshape(3, 1, 1, 1))
    layer.data_setitem(everything, 1)
    assert (layer.data[2] == 1).all()
    labelled.controller.undo()
    assert np.array_equal(layer.data, before)


def test_strokes_from_the_side(labelled: Desk) -> None:
    controller, layer = labelled.controller, labelled.controller.layers.labels
    adapter.look_at(labelled.viewer, 0, tuple(layer.data_to_world((8, 30, 30))))
    controller.turn()
    assert adapter.shown_slice(labelled.viewer, layer) == (1, 30)
    labelled.drag([(4, 30, 10), (12, 30, 10)])
    assert (layer.data[4:13, 30, 10] == 2).all()
    controller.turn()
    assert adapter.shown_slice(labelled.viewer, layer) == (2, 30)
    labelled.updated()
    assert (2, 30) not in controller.project.annotations.labelled_slices(0)
    assert (1, 30) in controller.project.annotations.labelled_slices(0)
    controller.turn()
    assert adapter.shown_slice(labelled.viewer, layer) == (0, 8)


def test_a_label_that_is_no_class_is_refused_and_taken_off_the_screen(labelled: Desk) -> None:
    layer = labelled.controller.layers.labels
    before = layer.data.copy()
    layer.selected_label = 77
    labelled.drag(BACKGROUND)
    assert "there is no class 77" in warnings_of(labelled)[0]
    assert np.array_equal(layer.data, before)
    assert not any(r["event"].get("class_id") == 77 for r in log_of(labelled.controller.project.folder))


def test_classes_are_added_renamed_recoloured_and_removed(labelled: Desk) -> None:
    controller = labelled.controller
    controller.add_class(" synapse ")
    assert controller.project.class_names[3] == "synapse"
    assert controller.labelling.selected == 3
    controller.rename_class(3, "vesicle")
    controller.recolor_class(3, "#12AB34")
    assert controller.project.annotations.classes[2].color == "#12ab34"
    assert controller.layers.labels.get_color(3)[:3] == pytest.approx([0x12 / 255, 0xAB / 255, 0x34 / 255])
    controller.remove_class(2)
    assert not (controller.layers.labels.data == 2).any()
    assert controller.class_of_key(2) == 3
    controller.undo()
    assert (controller.layers.labels.data == 2).any()
    assert not any(level == "error" for level, _ in labelled.said)


@pytest.mark.parametrize("name", ["", "background", "x" * 200, "new\nline"])
def test_a_class_name_that_cannot_be_is_one_line(labelled: Desk, name: str) -> None:
    labelled.controller.add_class(name)
    assert len(warnings_of(labelled)) == 1
    assert "\n" not in warnings_of(labelled)[0]
    assert len(labelled.controller.project.class_names) == 2


def test_live_off_waits_for_update(labelled: Desk) -> None:
    controller = labelled.controller
    controller.toggle_live()
    before = controller.result
    labelled.drag([(8, 20, 5), (8, 20, 40)])
    labelled.idle()
    assert not controller.is_updating
    assert controller.result is before
    controller.update_now()
    labelled.updated()
    assert controller.result is not before


def test_a_full_disk_is_said_once_and_nothing_is_lost(
    labelled: Desk, project_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    controller, before = labelled.controller, len(log_of(project_folder))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for z in (6, 8, 10):
            labelled.drag([(z, 20, 5), (z, 20, 40)])
        controller.undo()
        controller.try_again()
        labelled.updated()
        assert len(warnings_of(labelled)) == 1
        assert "No space left" in warnings_of(labelled)[0]
        assert "NOT SAVED: 4 edits" in controller.saved_line()
        assert (controller.layers.labels.data[8, 20, 5:41] == 2).all()  # all goes on
        assert not controller.layers.labels.data[10].any()
        assert controller.problem == ""

        # What would leave them out, or lose them, is refused.
        controller.export("segmentation", tmp_path / "out.tif")
        labelled.idle()
        assert "would be missing" in warnings_of(labelled)[-1]
        controller.open_path(tmp_path / "other.tif")
        assert controller.project is not None
        assert not controller.may_close()
        assert controller.may_close()
    assert len(log_of(project_folder)) == before
    controller.try_again()
    assert labelled.said[-1] == ("info", "everything is saved again")
    assert controller.saved_line().startswith("all strokes saved")
    assert len(log_of(project_folder)) == before + 4
    shown = controller.layers.labels.data.copy()
    controller.close_project()
    labelled.open(project_folder)
    assert np.array_equal(controller.layers.labels.data, shown)


def test_a_labels_layer_that_was_deleted_comes_back(labelled: Desk) -> None:
    controller = labelled.controller
    shown = controller.layers.labels.data.copy()
    labelled.viewer.layers.remove(controller.layers.labels)
    labelled.idle()
    assert "the strokes are safe" in warnings_of(labelled)[0]
    controller.compute()
    labelled.idle()
    controller.show_image(0)
    labelled.idle()
    assert controller.layers.labels in labelled.viewer.layers
    assert np.array_equal(controller.layers.labels.data, shown)
    assert len(warnings_of(labelled)) == 1


# Stages


def test_what_is_stale_says_so_and_is_computed_again(labelled: Desk) -> None:
    controller = labelled.controller
    assert (controller.state_of("supervoxels"), controller.state_of("features")) == ("ready", "ready")
    n_before = controller.tables[0].n
    controller.configure(slic={"n_segments": 100})
    assert (controller.state_of("supervoxels"), controller.state_of("features")) == ("stale", "stale")
    controller.update_now()
    labelled.until(lambda: controller.tables[0].n != n_before)
    labelled.updated()
    assert controller.state_of("features") == "ready"
    assert len(controller.layers.prediction.data.table) == controller.tables[0].n + 1
    assert controller.result.ids.size == controller.tables[0].n


def test_a_response_of_earlier_tables_is_dropped(labelled: Desk) -> None:
    controller, stale = labelled.controller, labelled.controller.result
    controller.configure(slic={"n_segments": 100})
    controller.compute()
    labelled.until(lambda: controller.result is not None and controller.result is not stale)
    labelled.updated()
    current = controller.result
    controller._on_response(stale)
    assert controller.result is current


def test_an_update_that_is_dropped_is_not_waited_for(labelled: Desk) -> None:
    labelled.drag([(8, 20, 5), (8, 20, 40)])
    assert labelled.controller.is_updating
    labelled.controller.close_project()
    assert not labelled.controller.is_updating
    assert labelled.controller.live_line() == "no project is open"


def test_cancel_leaves_what_was_there(labelled: Desk) -> None:
    controller, states = labelled.controller, []
    controller.job_changed.connect(lambda state: states.append(state.status))
    controller.configure(slic={"n_segments": 100})
    controller.compute()
    controller.cancel()
    labelled.idle()
    assert states[-1] == "cancelled"
    assert controller.state_of("supervoxels") == "stale"
    labelled.drag([(8, 20, 5), (8, 20, 40)])
    labelled.updated()
    assert controller.problem == ""


def test_settings_that_cannot_be_are_refused(labelled: Desk) -> None:
    labelled.controller.configure(features={"families": ()})
    assert warnings_of(labelled) == ["families must name at least one"]


def test_a_second_job_is_refused_in_one_line(labelled: Desk) -> None:
    labelled.controller.configure(slic={"n_segments": 100})
    labelled.controller.compute()
    labelled.controller.compute()
    assert "still running" in warnings_of(labelled)[0]
    labelled.idle()


# Guidance, review, export


def test_suggest_goes_there_skips_and_comes_back(labelled: Desk) -> None:
    controller = labelled.controller
    controller.slices.suggest()
    labelled.until(lambda: not controller.slices.is_busy)
    first = controller.slices.current
    axis, index = first.axis, first.index
    assert labelled.viewer.dims.order[0] == axis
    assert round(labelled.viewer.dims.point[axis] / controller.layers.labels.scale[axis]) == index
    controller.slices.suggest()
    labelled.until(lambda: not controller.slices.is_busy)
    assert (controller.slices.current.axis, controller.slices.current.index) != (axis, index)
    remembered = [entry for entry in controller.project.history.entries if entry.type == "suggestion"]
    assert [tuple(entry.center) for entry in remembered] == [s.center for s in controller.slices.trail.suggestions]
    controller.slices.back()
    assert controller.slices.current is first
    controller.slices.back()
    assert ("info", "there is no earlier suggestion") in labelled.said


def test_what_to_label_in_a_slice_is_white_until_it_is_labelled(labelled: Desk) -> None:
    controller = labelled.controller
    controller.slices.suggest()
    labelled.until(lambda: not controller.slices.is_busy)
    wanted = controller.slices.current.supervoxels
    table = controller.layers.top.data.table
    assert 0 < len(wanted) <= 5
    assert controller.layers.top.visible
    assert np.flatnonzero(table == 2).tolist() == sorted(wanted)
    first = int(wanted[0])
    controller.labelling.label_supervoxel(controller.tables[0], first, 1)
    labelled.updated()
    assert np.flatnonzero(controller.layers.top.data.table == 2).tolist() == sorted(set(wanted.tolist()) - {first})
    controller.slices.suggest()
    labelled.until(lambda: not controller.slices.is_busy)
    controller.slices.back()
    assert np.flatnonzero(controller.layers.top.data.table == 2).tolist() == sorted(set(wanted.tolist()) - {first})


def test_a_slice_is_looked_for_while_painting_goes_on(labelled: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from voxloop.app import slice_guide

    controller, go = labelled.controller, threading.Event()
    slices = slice_guide.Suggester.slices

    def slow(*arguments: Any, **options: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        go.wait(60)
        return slices(*arguments, **options)

    monkeypatch.setattr(slice_guide.Suggester, "slices", slow)
    controller.slices.suggest()
    before = labelled.viewer.dims.point
    labelled.drag([(8, 20, 5), (8, 20, 40)])
    assert controller.slices.is_busy
    assert labelled.viewer.dims.point == before
    go.set()
    labelled.until(lambda: not controller.slices.is_busy)
    assert controller.slices.current is not None

    # What is found for an image that is gone is dropped.
    go.clear()
    controller.slices.suggest()
    controller.close_project()
    go.set()
    labelled.idle()
    assert controller.slices.current is None


def test_guidance_before_a_prediction_says_why_not(desk: Desk, project_folder: Path) -> None:
    desk.open(project_folder)
    desk.controller.slices.suggest()
    desk.controller.review.toggle()
    assert len(warnings_of(desk)) == 2
    assert all("no prediction" in line and "no labels" in line for line in warnings_of(desk))


def test_a_review_by_keys(labelled: Desk) -> None:
    controller, data = labelled.controller, labelled.controller.layers.labels.data
    ids = np.asarray(controller.tables[0].supervoxels.labels)
    controller.review.toggle()
    first, second, third = controller.review.queue.ids[:3]
    predicted = controller.review.queue.predicted_class
    assert controller.layers.top.data.table[first] == 2
    controller.review.confirm()
    assert (data[ids == first] == predicted).all()
    controller.press_digit(2)
    assert (data[ids == second] == 2).all()
    controller.review.skip()
    assert not data[ids == third].any()
    assert controller.review.queue.position == 3
    labelled.updated()
    assert {int(first), int(second)} <= set(controller.labels.images[0].ids.tolist())
    controller.undo()
    assert not data[ids == second].any()
    while not controller.review.queue.is_over:
        controller.review.skip()
    controller.review.confirm()
    controller.review.skip()
    controller.review.toggle()
    assert controller.review.queue is None
    assert not (controller.layers.top.data.table == 2).any()


def test_export_has_the_labels_of_its_moment(labelled: Desk, tmp_path: Path) -> None:
    controller, out = labelled.controller, tmp_path / "out.tif"
    expected = controller.project.predict().segmentation
    controller.export("segmentation", out)
    labelled.drag([(8, 20, 5), (8, 20, 40)])
    labelled.idle()
    assert ("info", f"segmentation written to {out}") in labelled.said
    ids = np.asarray(controller.tables[0].supervoxels.labels)
    assert tifffile.imread(out).shape == ids.shape
    assert set(np.unique(tifffile.imread(out))) <= set(expected.tolist())
    controller.export("segmentation", out)
    labelled.idle()
    assert "exists" in warnings_of(labelled)[0]


def test_everything_is_there_after_opening_again(labelled: Desk, project_folder: Path) -> None:
    shown, probabilities = labelled.controller.layers.labels.data, labelled.controller.result.prediction.probabilities
    labelled.controller.close_project()
    labelled.open(project_folder)
    assert np.array_equal(labelled.controller.layers.labels.data, shown)
    assert np.array_equal(labelled.controller.result.prediction.probabilities, probabilities)


def test_two_images_train_one_classifier(labelled: Desk, tmp_path: Path) -> None:
    controller = labelled.controller
    np.save(tmp_path / "second.npy", np.asarray(controller.layers.input[0].data)[:8])
    controller.add_image(tmp_path / "second.npy")
    labelled.until(lambda: controller.image == 1 and not controller.is_busy)
    controller.update_now()
    labelled.until(lambda: controller.tables)
    labelled.updated()
    assert controller.labels.n_labelled > 0
    assert controller.result.ids.size == controller.tables[1].n
    controller.show_image(0)
    labelled.until(lambda: controller.image == 0 and not controller.is_busy)
    labelled.updated()
    assert controller.result.ids.size == controller.tables[0].n


def test_closing_in_the_middle_of_a_job_lets_go_of_the_project(labelled: Desk, project_folder: Path) -> None:
    labelled.controller.configure(slic={"n_segments": 100})
    labelled.controller.compute()
    labelled.controller.close()
    with Project.open(project_folder) as project:
        assert project.count_labelled_voxels()["background"] > 0
    shutil.rmtree(project_folder)
