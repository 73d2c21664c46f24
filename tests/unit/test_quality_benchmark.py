"""The quality benchmark on a volume of its own: every method beats chance, and the table says what was scored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks import quality

SHAPE = (16, 60, 60)


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Balls in noise, stored as the nuclei are."""
    rng = np.random.default_rng(0)
    at = np.moveaxis(np.indices(SHAPE), 0, -1)
    centres = rng.uniform([0, 8, 8], [SHAPE[0], 52, 52], (12, 3))
    labels = (np.linalg.norm(at[..., np.newaxis, :] - centres, axis=-1) < 7).argmax(axis=-1).astype(np.uint8)
    image = np.clip(60 + 70 * (labels > 0) + rng.normal(0, 20, SHAPE), 0, 255).astype(np.uint8)
    folder = tmp_path / "lm_ovule_nuclei"
    folder.mkdir()
    tifffile.imwrite(folder / "image.tif", image)
    tifffile.imwrite(folder / "label_instances.tif", labels)
    source = replace(quality.SOURCES["lm"], spacing=(1, 1, 1), n_learn=8)
    monkeypatch.setitem(quality.SOURCES, "lm", source)
    monkeypatch.setattr(quality, "REFERENCE_SIZE", 100)
    monkeypatch.setattr(quality, "N_TREES", 10)
    monkeypatch.setenv("VOXLOOP_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.slow
def test_all_methods_on_the_same_strokes(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--volumes", "lm", "--seeds", "2", "--strokes", "5", "--whole", "--uncut"]
    quality.main([*few, "--json", str(volumes / "scores.json")])
    scores = json.loads((volumes / "scores.json").read_text())
    assert [score["method"] for score in scores] == ["supervoxels", "refined", "tuned", "reference", "voxels"] * 2
    for seed in (0, 1):
        of_seed = [score for score in scores if score["seed"] == seed]
        assert len({score["n_labelled"] for score in of_seed}) == 1
        assert all(0.6 < score["iou"] <= 1 for score in of_seed)
    assert scores[0]["iou"] != scores[5]["iou"]
    assert "| lm |" in capsys.readouterr().out


def test_mean_iou_by_hand() -> None:
    truth = np.array([0, 1, 1, 1, 2, 2], np.uint8)
    assert quality.mean_iou(np.array([2, 1, 1, 2, 2, 1]), truth) == pytest.approx((2 / 4 + 1 / 3) / 2)


def test_the_folder_of_the_volumes_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOXLOOP_DATA", raising=False)
    with pytest.raises(SystemExit):
        quality.main(["--volumes", "lm"])


@pytest.mark.slow
@pytest.mark.parametrize("features", [None, {"context": 0, "regions": (2, 8)}])
def test_whole_supervoxels_of_the_whole_volume(volumes: Path, features: dict[str, object] | None) -> None:
    scores = list(quality.measure_whole("lm", volumes, seeds=2, features=features))
    iou = {(score.method, score.seed): score.iou for score in scores}
    assert set(iou) == {
        ("oracle", 0), ("100 supervoxels", 0), ("100 supervoxels", 1), ("100 refined", 0), ("100 refined", 1),
        ("all supervoxels", 0), ("all refined", 0),
    }  # fmt: skip
    assert all(0.5 < iou[key] <= 1 for key in iou)
    assert iou["all supervoxels", 0] <= iou["oracle", 0]
    assert [len(row.split("|")) for row in quality.whole_rows(scores)] == [7, 7]


@pytest.mark.slow
def test_uncut_volumes_and_how_long_an_update_takes(volumes: Path) -> None:
    scores = list(quality.measure_uncut("lm", volumes, seeds=2, strokes=5))
    assert [score.method for score in scores] == ["uncut supervoxels", "uncut refined", "uncut voxels"] * 2
    assert all(0.6 < score.iou <= 1 for score in scores)
    assert all(score.seconds > 0 for score in scores if score.method != "uncut refined")
    assert len(quality.uncut_row(scores).split("|")) == 10


def test_times_are_medians() -> None:
    def score(method: str, seconds: float) -> quality.Score:
        return quality.Score("lm", f"uncut {method}", 0, 9, 0.5, seconds)

    of_ours = [score("supervoxels", seconds) for seconds in (9.0, 0.1, 0.2)]
    row = quality.uncut_row([*of_ours, *(score("voxels", seconds) for seconds in (8.0, 10.0, 90.0))])
    assert row.endswith("| 0.20 | 10.0 | 50 |")
