"""Every command, run in this process: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from voxloop.cli.main import main
from voxloop.io import open_volume, save_volume
from voxloop.project import Project
from voxloop.project import project as project_module
from voxloop.samples import Sample

REPOSITORY = Path(__file__).resolve().parents[2]


class Ended:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


@pytest.fixture
def voxloop(capsys: pytest.CaptureFixture[str], cells: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs a command line in the folder of `cells`."""
    monkeypatch.chdir(cells)

    def run(line: str, *more: str) -> Ended:
        capsys.readouterr()
        try:
            code = main([*line.split(), *more])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def points(cells: Path, small_sample: Sample) -> Path:
    """A table of points of both classes."""
    with (cells / "points.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["z", "y", "x", "class"])
        for class_id, name in ((1, "background"), (2, "mitochondria")):
            for voxel in np.argwhere(small_sample.truth == class_id)[::500]:
                rows.writerow([*voxel, name])
    return cells / "points.csv"


def test_from_an_image_to_a_segmentation(voxloop, points: Path) -> None:
    made = voxloop("new p.voxloop cells.tif --class background --class mitochondria")
    assert made.code == 0
    assert "16 x 48 x 48 uint8, voxel 10 x 8 x 8 nanometer" in made.out
    cut = voxloop("supervoxels p.voxloop --size 120 --compactness 0.4")
    assert cut.code == 0
    assert "supervoxels of" in cut.out
    assert "as before" in voxloop("supervoxels p.voxloop").out
    assert voxloop("features p.voxloop --sigmas 0.7 1.6 --statistics mean --families gaussian hessian").code == 0
    assert "as before" in voxloop("features p.voxloop").out
    labelled = voxloop(f"label p.voxloop --points {points}")
    assert labelled.code == 0
    assert "background: " in labelled.out
    assert voxloop("train p.voxloop --n-trees 12 --min-samples-leaf 2 --seed 4").out.startswith("trained 12 trees on ")
    assert "mitochondria" in voxloop("predict p.voxloop").out
    assert " = " in voxloop("suggest p.voxloop --number 2").out
    assert voxloop("export p.voxloop segmentation s.tif").out == "s.tif: written\n"
    done = voxloop("run p.voxloop --export uncertainty=u.npy --export probabilities=p.zarr")
    assert done.out.startswith("supervoxels: as before\nfeatures: as before\nprediction: as before\n")
    assert set(np.unique(np.asarray(open_volume("s.tif").data))) == {1, 2}
    assert open_volume("s.tif").spacing == (10.0, 8.0, 8.0)
    assert np.load("u.npy").dtype == np.float32
    with Project.open("p.voxloop", read_only=True) as project:
        assert project.specs.slic.size == 120
        assert project.specs.slic.compactness == 0.4
        assert project.specs.features.sigmas == (0.7, 1.6)
        assert project.specs.classifier.n_trees == 12


def test_every_command_prints_one_json_object(voxloop, points: Path) -> None:
    assert voxloop("info cells.tif --json").json["shape"] == [16, 48, 48]
    assert voxloop("info cells.voxloop --json").json["images"][0]["stages"]["prediction"] == "ready"
    assert voxloop("new p.voxloop cells.tif --class background --class mitochondria --json").json["project"]
    (cut,) = voxloop("supervoxels p.voxloop --n-segments 200 --json").json["images"]
    assert cut["asked_for"] == 200
    assert cut["got"] > 0
    (described,) = voxloop("features p.voxloop --sigmas 0.7 --json").json["images"]
    assert described["n"] == cut["got"]
    counts = voxloop(f"label p.voxloop --points {points} --json").json["labelled_voxels"]
    assert min(counts.values()) > 0
    assert set(voxloop("label p.voxloop --undo --json").json["labelled_voxels"].values()) == {0}
    assert voxloop("label p.voxloop --redo --json").json["labelled_voxels"] == counts
    trained = voxloop("train p.voxloop --n-trees 5 --json").json
    assert trained["n_trees"] == 5
    (shares,) = voxloop("predict p.voxloop --json").json["images"]
    assert sum(shares["shares"].values()) == pytest.approx(1)
    suggestions = voxloop("suggest p.voxloop --number 3 --axis z --json").json["suggestions"]
    assert {s["axis"] for s in suggestions} == {"z"}
    assert all(s["center"][0] == s["index"] for s in suggestions)
    assert voxloop("export p.voxloop supervoxels s.npy --json").json == {
        "source": "supervoxels",
        "files": ["s.npy", "s.npy.voxloop.json"],
    }
    done = voxloop("run p.voxloop --export labels=l.npy --overwrite --threads 2 --json").json
    assert done["exports"] == {"labels": "l.npy"}
    assert voxloop("warmup --threads 1 --json").json["seconds"] >= 0


def test_demo(voxloop, cells: Path) -> None:
    line = "demo --image cells.tif --truth truth.tif --rounds 1 --size 60 --out demo --learn-slices 9"
    played = voxloop(line, "--json")
    assert played.code == 0
    assert [row["round"] for row in played.json["rounds"]] == [0, 1]
    assert all(Path(path).exists() for path in played.json["files"].values())
    assert "overview" in voxloop(line).out
    assert open_volume("demo/segmentation.tif").shape == (7, 48, 48)


def test_label_volumes(voxloop, cells: Path, small_sample: Sample) -> None:
    labels = np.zeros(small_sample.truth.shape, np.uint8)
    labels[3, :5] = small_sample.truth[3, :5] + 10
    save_volume(cells / "labels.tif", labels)
    assert voxloop("label cells.voxloop --undo").code == 0
    before = voxloop("info cells.voxloop --json").json["labelled_voxels"]
    done = voxloop("label cells.voxloop --volume labels.tif --map 11=background --map 12=nucleus --json")
    assert done.json["labelled_voxels"]["nucleus"] == np.count_nonzero(labels == 12)
    assert done.json["labelled_voxels"]["background"] >= before["background"]
    assert voxloop("label cells.voxloop --undo --json").json["labelled_voxels"] == before


def test_mask_crop_spacing_and_several_images(voxloop, cells: Path) -> None:
    mask = np.zeros((16, 48, 48), np.uint8)
    mask[4:] = 1
    save_volume(cells / "mask.tif", mask)
    line = "new m.voxloop cells.tif --mask mask.tif --crop 2:10,:,8: --spacing 2 1 1 --unit um --json"
    (record,) = voxloop(line).json["images"]
    assert record["shape"] == [8, 48, 40]
    assert record["spacing"] == [2, 1, 1]
    assert record["unit"] == "micrometer"
    assert record["crop"] == [[2, 10], [0, 48], [8, 48]]
    assert len(voxloop("new two.voxloop cells.tif truth.tif --json").json["images"]) == 2
    assert voxloop("supervoxels two.voxloop --size 300 --json").json["images"][1]["image"] == "truth"


def test_the_same_seed_gives_the_same_bytes_at_any_number_of_threads(voxloop, cells: Path) -> None:
    written = []
    for threads in (1, 2):
        assert voxloop(f"run cells.voxloop --threads {threads} --export uncertainty=u{threads}.tif").code == 0
        written.append(np.asarray(open_volume(f"u{threads}.tif").data).tobytes())
        for part in ("cache", "models"):
            subprocess.run(["rm", "-r", cells / "cells.voxloop" / part], check=True)
    assert written[0] == written[1]


def test_warnings_go_to_stderr(voxloop, cells: Path) -> None:
    mask = np.ones((16, 48, 48), np.uint8)
    mask[0] = 0
    save_volume(cells / "mask.tif", mask)
    (cells / "p.csv").write_text("z,y,x,class\n0,0,0,a\n5,0,0,a\n5,40,40,b\n")
    voxloop("new m.voxloop cells.tif --mask mask.tif")
    voxloop("features m.voxloop --sigmas 0.7")
    voxloop("label m.voxloop --points p.csv")
    trained = voxloop("train m.voxloop --json")
    assert trained.err == "voxloop: 1 labelled voxels lie outside the mask and are not used\n"
    assert trained.json["n_outside"] == 1


def test_interrupt_ends_with_130(voxloop, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(project_module.Project, "class_shares", interrupted)
    ended = voxloop("predict cells.voxloop")
    assert (ended.code, ended.out) == (130, "")
    assert ended.err == "voxloop: stopped; what was finished is kept\n"


def test_faults_of_our_own_end_with_1_and_debug_shows_where(voxloop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(project_module.Project, "class_shares", broken)
    ended = voxloop("predict cells.voxloop")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "voxloop: internal error: ZeroDivisionError: two lines (--debug shows where)\n"
    with pytest.raises(ZeroDivisionError):
        main(["predict", "cells.voxloop", "--debug"])


def test_debug_shows_a_traceback(cells: Path) -> None:
    command = [sys.executable, "-m", "voxloop", "info", "nothing.tif"]
    plain = subprocess.run(command, capture_output=True, text=True, cwd=cells)
    assert (plain.returncode, plain.stderr) == (2, "voxloop: nothing.tif does not exist\n")
    assert plain.stdout == ""
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, cwd=cells)
    assert debug.returncode != 0
    assert "Traceback" in debug.stderr
    assert "nothing.tif does not exist" in debug.stderr


def test_a_reader_that_goes_away_is_no_error(cells: Path) -> None:
    script = "import sys; from voxloop.cli.main import main; sys.exit(main(['info', 'cells.tif']))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cells
    ) as process:
        process.stdout.close()  # nobody reads
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")


def test_batch_and_model_files(voxloop, cells: Path) -> None:
    (cells / "broken.tif").write_bytes(b"II*\0")
    command = "batch cells.voxloop cells.tif broken.tif --out {nickname}-{result_type}.npy --source segmentation masks"
    done = voxloop(command)
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0].startswith("done     cells.tif (")
    assert lines[1].startswith("failed   broken.tif: ")
    assert lines[2] == "1 done, 0 there before, 1 failed"
    again = voxloop(f"{command} --json --jobs 2")
    assert again.code == 1
    assert [image["state"] for image in again.json["images"]] == ["there", "failed"]
    assert voxloop("export-model cells.voxloop cells.voxmodel").out == (
        "cells.voxmodel: written, for background, mitochondria\n"
    )
    assert voxloop("export-model cells.voxloop cells.voxmodel").code == 2
    assert "classes   background, mitochondria" in voxloop("info cells.voxmodel").out
    assert voxloop("info cells.voxmodel --json").json["spacing"] == [10, 8, 8]
    assert voxloop("predict --model cells.voxmodel cells.tif --out s.npy --threads 1").code == 0
    assert (cells / "s.npy").read_bytes() == (cells / "cells-segmentation.npy").read_bytes()
    for wrong, words in (
        ("predict --model cells.tif cells.tif --out t.npy", "no model"),
        ("predict --model cells.voxmodel cells.tif", "--out"),
        ("predict cells.voxloop --out t.npy", "--model"),
        ("batch cells.voxloop cells.tif --out {a}.npy", "{a}"),
        ("batch no.voxloop cells.tif --out {nickname}.npy", "no.voxloop"),
    ):
        ended = voxloop(wrong)
        assert (ended.code, ended.err.count("\n")) == (2, 1), wrong
        assert words in ended.err


def test_export_options(voxloop, cells: Path) -> None:
    line = "export cells.voxloop probabilities p.h5 --dtype uint8 --rescale 0 1 --crop 0:4,:,8: --axes czyx --json"
    assert voxloop(line).json == {"source": "probabilities", "files": ["p.h5"]}
    volume = open_volume(cells / "p.h5")
    assert (volume.shape, volume.dtype, volume.axes) == ((4, 48, 40), np.uint8, "czyx")
    assert voxloop("export cells.voxloop uncertainty u.tif --rescale data --dtype uint16").code == 0
    assert open_volume(cells / "u.tif").read().max() == 65535
    assert "--rescale takes two numbers" in voxloop("export cells.voxloop uncertainty v.tif --rescale all of it").err
    assert voxloop("export cells.voxloop features f.tif --features hessian:1.6").code == 0


def test_tables(voxloop, cells: Path) -> None:
    assert voxloop("table cells.voxloop objects {nickname}-objects.csv").out == "cells-objects.csv: written\n"
    assert voxloop("table cells.voxloop classes c.csv --json").json == {"table": "classes", "path": "c.csv"}
    assert (cells / "c.csv").read_text().splitlines()[1].startswith("1,background,#")
    assert voxloop("table cells.voxloop classes c.csv").code == 2


def test_meshes(voxloop, cells: Path) -> None:
    assert voxloop("mesh cells.voxloop m.stl --class mitochondria").out == "m.stl: written\n"
    assert (cells / "m.stl").stat().st_size > 1000
    assert voxloop("mesh cells.voxloop m.stl").code == 2


def test_train_says_how_good_and_features_which_are_worth_it(voxloop, points: Path) -> None:
    voxloop("new p.voxloop cells.tif --class background --class mitochondria")
    voxloop("features p.voxloop --sigmas 0.7 1.6 --statistics mean --families gaussian hessian")
    voxloop(f"label p.voxloop --points {points}")
    trained = voxloop("train p.voxloop --json").json
    found = trained["assessment"]
    assert found["low"] <= found["accuracy"] <= found["high"]
    assert sum(map(sum, found["confusion"])) == found["n_labels"] <= trained["counts"]["background"] + 99
    assert set(found["importances"]) == {f"{f} sigma={s}" for f in ("gaussian", "hessian") for s in (0.7, 1.6)}
    assert "labels right (95 % interval " in voxloop("train p.voxloop").out
    suggested = voxloop("features p.voxloop --suggest --json").json
    assert {cell["cell"] for cell in suggested["suggested"]} <= set(found["importances"])
    assert set(suggested["spec"]["sigmas"]) <= {0.7, 1.6}
    assert "log-loss in bits" in voxloop("features p.voxloop --suggest").out


def test_train_says_why_it_cannot_say_how_good(voxloop, cells: Path) -> None:
    voxloop("new p.voxloop cells.tif --class a --class b")
    (cells / "two.csv").write_text("z,y,x,class\n3,3,3,a\n3,40,40,b\n")
    voxloop("label p.voxloop --points two.csv")
    trained = voxloop("train p.voxloop")
    assert trained.code == 0
    assert "once classes are labelled in two places at least: a, b" in trained.out
    assert voxloop("train p.voxloop --json").json["assessment"] is None


@pytest.mark.slow
@pytest.mark.parametrize("page", ["export", "batch"])
def test_commands_of_the_how_tos(voxloop, cells: Path, page: str) -> None:
    (cells / "new").mkdir()
    (cells / "slices").mkdir()
    for copy in ("new/a.tif", "new/b.tif", "new.tif"):
        shutil.copy(cells / "cells.tif", cells / copy)
    shape = (16, 48, 48)
    for name in ("a", "b"):
        tifffile.imwrite(cells / "new" / f"{name}-mask.tif", np.ones(shape, np.uint8), photometric="minisblack")
    film = np.random.default_rng(0).integers(0, 255, (10, *shape), np.uint8)
    tifffile.imwrite(cells / "film.tif", film, imagej=True, metadata={"axes": "TZYX"})
    (cells / "images.csv").write_text('image,name,crop\nnew/a.tif,left,":,:,0:24"\nnew/a.tif,right,":,:,24:"\n')
    text = (REPOSITORY / "docs" / "how-to" / f"{page}.md").read_text()
    commands = re.findall(r"^voxloop (.*)$", text, re.MULTILINE)
    assert len(commands) > 3
    for command in commands:
        words = [w for word in shlex.split(command) for w in (["new/a.tif", "new/b.tif"] if "*" in word else [word])]
        ended = voxloop("", *words)
        assert (ended.code, ended.err) == (0, ""), command
