"""The main job from end to end on a tiny sample, twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from voxloop.blocks import SerialExecutor, ThreadExecutor
from voxloop.errors import InputError
from voxloop.io import open_volume
from voxloop.project import Project
from voxloop.samples import Sample
from voxloop.simulate.demo import run_demo
from voxloop.volume import Volume

FAST = {"slic": {"size": 60.0}, "features": {"sigmas": (0.7, 1.6)}, "classifier": {"n_trees": 20}}


def blob_sample(shape=(16, 48, 48), seed=0) -> Sample:
    """Bright balls in the dark, with noise."""
    rng = np.random.default_rng(seed)
    at = np.moveaxis(np.indices(shape), 0, -1)
    centres = rng.uniform([0, 5, 5], [shape[0], shape[1] - 5, shape[2] - 5], (14, 3))
    inside = (np.linalg.norm(at[..., None, :] - centres, axis=-1) < 5).any(axis=-1)
    image = np.clip(rng.normal(90, 25, shape) + 70 * inside, 0, 255).astype(np.uint8)
    return Sample(Volume(image, name="balls"), (1 + inside).astype(np.uint8), ("dark", "ball"), ("#0072b2", "#e69f00"))


def test_end_to_end(tmp_path: Path) -> None:
    sample = blob_sample(seed=4)
    seen = []
    result = run_demo(sample, tmp_path / "demo", rounds=6, specs=FAST, report=lambda _, round_: seen.append(round_))
    assert seen == result.rounds
    assert [round_.number for round_ in result.rounds] == [0, 1, 2, 3, 4, 5, 6]
    iou = [round_.score.iou_of(2) for round_ in result.rounds]
    assert iou[0] + 0.1 < iou[-1] <= result.oracle.iou_of(2)
    labelled = [round_.n_labelled for round_ in result.rounds]
    assert labelled == sorted(labelled)  # a round of corrections may label nothing new
    assert labelled[-1] > labelled[0] + 20
    assert set(result.files) == {"segmentation", "uncertainty", "overview", "curve", "table", "project"}
    assert all(path.exists() for path in result.files.values())
    segmentation = np.asarray(open_volume(result.files["segmentation"]).data)
    assert segmentation.shape == (8, 48, 48)
    truth = sample.truth[8:]
    both, either = ((segmentation == 2) & (truth == 2)).sum(), ((segmentation == 2) | (truth == 2)).sum()
    assert both / either == pytest.approx(iou[-1])
    table = json.loads(result.files["table"].read_text())
    assert [row["iou"]["ball"] for row in table] == iou
    with Project.open(result.files["project"], read_only=True) as project:
        assert project.label_summary().n_labelled == labelled[-1]
        assert all(row.source == "simulated" and row.image == 0 for row in project.annotations.strokes)


def test_equal_bytes_at_any_number_of_threads(tmp_path: Path) -> None:
    written = {}
    for name, executor in (("a", SerialExecutor()), ("b", ThreadExecutor(1)), ("c", ThreadExecutor(2))):
        result = run_demo(blob_sample(), tmp_path / name, rounds=1, seed=5, specs=FAST, executor=executor)
        written[name] = [result.files[file].read_bytes() for file in ("table", "segmentation", "uncertainty")]
    assert written["a"] == written["b"] == written["c"]
    other = run_demo(blob_sample(), tmp_path / "d", rounds=1, seed=6, specs=FAST)
    assert other.files["table"].read_bytes() != written["a"][0]


@pytest.mark.slow
def test_a_demo_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("important")
    with pytest.raises(InputError, match="no demo made it"):
        run_demo(blob_sample(), tmp_path / "mine", rounds=1, specs=FAST)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "important"
    for _ in range(2):
        run_demo(blob_sample(), tmp_path / "demo", rounds=1, specs=FAST)


@pytest.mark.slow
def test_other_samples(tmp_path: Path) -> None:
    flat = blob_sample((1, 96, 96))
    masked = replace(blob_sample(), mask=np.tri(48, 48, 20, bool)[None].repeat(16, axis=0))
    masked.truth[~masked.mask] = 0
    for name, sample in (("flat", flat), ("masked", masked)):
        result = run_demo(sample, tmp_path / name, rounds=1, specs=FAST)
        segmentation = np.asarray(open_volume(result.files["segmentation"]).data)
        part = (slice(None), slice(48, None)) if name == "flat" else (slice(8, None),)
        mask = np.ones(segmentation.shape, bool) if sample.mask is None else sample.mask[part]
        assert np.array_equal(segmentation > 0, mask)


def test_bad_input(tmp_path: Path) -> None:
    sample = blob_sample()
    for options, words in (
        ({"rounds": 0}, "rounds"),
        ({"n_learn": 0}, "n_learn"),
        ({"n_learn": 16}, "n_learn"),
        ({"out": tmp_path / "no" / "demo"}, "does not exist"),
    ):
        with pytest.raises(InputError, match=words):
            run_demo(sample, **{"out": tmp_path / "demo", "specs": FAST, **options})
        assert not (tmp_path / "demo").exists()
