"""Suggestions of a project: by strategy, with and without labels, and the answer to a plane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from voxloop.active import STRATEGIES, strategy_of
from voxloop.cli.main import main
from voxloop.errors import InputError
from voxloop.project import Project
from voxloop.specs import QuerySpec, StrategyName
from voxloop.volume import Volume

SHAPE = (16, 24, 28)
MIDDLE = 14  # where the dark half ends along x


@pytest.fixture
def project(tmp_path: Path):
    image = np.random.default_rng(0).normal(100, 5, SHAPE)
    image[..., MIDDLE:] += 80
    volume = Volume.from_array(image.astype(np.uint8))
    with Project.create(tmp_path / "p.voxloop", volume, classes=["dark", "bright"]) as made:
        made.configure(
            slic={"size": 64.0},
            features={"sigmas": (0.7, 1.6), "families": ("gaussian",), "context": 1},
            classifier={"n_trees": 20, "smoothing": 0},
        )
        yield made


def label_some(project: Project) -> None:
    project.paint("dark", [(8, 12, 2), (8, 12, 3), (4, 4, 6)])
    project.paint("bright", [(8, 12, 22), (8, 12, 23), (12, 20, 18)])


def test_a_spec_names_every_strategy_and_passes_its_settings() -> None:
    assert set(get_args(StrategyName)) == set(STRATEGIES)
    spec = QuerySpec(strategy="combined", uncertainty="min_margin", tau=7, weight=0.5)
    strategy = strategy_of(spec)
    assert (strategy.kind, strategy.tau, strategy.weight) == ("min_margin", 7, 0.5)
    assert strategy_of(QuerySpec(strategy="power", uncertainty="min_max")).base.kind == "min_max"
    assert all(isinstance(strategy_of(QuerySpec(strategy=name)), kind) for name, kind in STRATEGIES.items())


@pytest.mark.parametrize("strategy", get_args(StrategyName))
def test_every_strategy_suggests_what_is_not_labelled(project: Project, strategy: str) -> None:
    label_some(project)
    project.configure(query={"strategy": strategy})
    labelled = set(project.labels().ids.tolist())
    ids = project.suggest_supervoxels(number=12)
    assert len(set(ids.tolist())) == 12
    assert labelled.isdisjoint(ids.tolist())
    assert np.array_equal(ids, project.suggest_supervoxels(number=12))
    slices, planes = project.suggest_slices(number=2), project.suggest_planes(number=2)
    assert slices
    assert all(plane.supervoxels.size for plane in planes)
    for found in (*slices, *planes):
        assert labelled.isdisjoint(found.supervoxels.tolist())


def test_with_nothing_labelled_it_suggests_what_is_typical(project: Project) -> None:
    first_two = project.suggest_supervoxels(number=2)
    sides = project.supervoxels().centers[first_two.astype(int) - 1, 2] > MIDDLE
    assert sides.tolist() in ([True, False], [False, True])  # one of each kind
    assert project.suggest_slices()[0].score > 0
    assert project.suggest_planes()[0].score > 0
    assert project.labels().n == 0


def test_other_measures_rank_otherwise(project: Project) -> None:
    label_some(project)
    feature = project.suggest_supervoxels(number=30)
    project.configure(query={"strategy": "geometric", "tau": 8})
    assert not np.array_equal(feature, project.suggest_supervoxels(number=30))


def test_a_line_labels_both_sides_of_a_plane_as_one_step(project: Project) -> None:
    label_some(project)
    plane = replace(project.suggest_planes()[0], center=(6.0, 12.0, 13.0), normal=(1.0, 0.0, 0.0), axis=0)
    right = MIDDLE - 0.5 - plane.center[2]
    before = project.labels().n
    answers = project.label_plane(plane, ("bright", "dark"), line=[(-9.0, right), (9.0, right)])
    centers = project.supervoxels().centers[np.array(list(answers)) - 1]
    assert set(answers.values()) == {1, 2}
    # Going down the picture, left of the walker is where x is larger.
    assert np.array_equal(centers[:, 2] >= MIDDLE - 0.5, np.array(list(answers.values())) == 2)
    labels = project.labels()
    assert labels.n == before + len(answers)
    assert dict(zip(labels.ids.tolist(), labels.classes.tolist(), strict=True)).items() >= answers.items()
    assert {row.source for row in project.annotations.strokes} == {"python", "plane"}
    project.undo()
    assert project.labels().n == before


def test_one_class_labels_all_that_an_oblique_plane_shows(project: Project) -> None:
    label_some(project)
    plane = next(p for p in project.suggest_planes(number=20) if p.axis is None)
    labelled = set(project.labels().ids.tolist())
    answers = project.label_plane(plane, "bright")
    assert set(answers.values()) == {2}
    assert labelled.isdisjoint(answers)
    with pytest.raises(InputError, match="nothing to answer"):
        project.label_plane(plane, "bright")
    with pytest.raises(InputError, match="no class 'red'"):
        project.label_plane(plane, "red")


def test_planes_need_three_dimensions(tmp_path: Path) -> None:
    flat = Volume.from_array(np.random.default_rng(0).integers(0, 255, (1, 30, 30)).astype(np.uint8))
    with Project.create(tmp_path / "p.voxloop", flat, classes=["a", "b"]) as project:
        project.configure(slic={"size": 25.0}, features={"sigmas": (0.7,), "families": ("gaussian",)})
        with pytest.raises(InputError, match="planes need a 3D volume"):
            project.suggest_planes()
        assert project.suggest_slices()[0].axis == 0


@pytest.mark.parametrize(("kind", "says"), [("slice", " = "), ("plane", "patch of radius 12"), ("supervoxel", "at (z")])
def test_the_command_suggests_each_kind(project: Project, capsys, kind: str, says: str) -> None:
    label_some(project)
    project.close()
    assert main(["suggest", str(project.folder), "--kind", kind, "--number", "2", "--strategy", "diverse"]) == 0
    assert says in capsys.readouterr().out
    with Project.open(project.folder, read_only=True) as again:
        assert again.specs.query.strategy == "diverse"


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--strategy", "best"], "--strategy is 'best'"), (["--kind", "plane", "--axis", "z"], "--axis is for slices")],
)
def test_a_wrong_option_is_one_line(project: Project, capsys, options: list[str], message: str) -> None:
    project.close()
    assert main(["suggest", str(project.folder), *options]) == 2
    assert message in capsys.readouterr().err
