"""What has changed is computed again, and nothing else."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from voxloop.project import Project, stages, training
from voxloop.project.annotations import ClassRecolored, ClassRenamed
from voxloop.specs import ClassifierSpec, FeatureSpec, QuerySpec, SlicSpec


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of what takes time."""
    counts: Counter[str] = Counter()

    def count(module, name: str) -> None:
        original = getattr(module, name)

        def counted(*arguments, **options):
            counts[f"{name} {options['sigma']:g}" if "sigma" in options else name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, counted)

    count(stages, "slic")
    count(stages, "compute_scale")
    count(stages, "extent")
    count(training, "fit_classifier")
    return counts


CUT, FINE, COARSE, FIT, EXTENT = "slic", "compute_scale 0.7", "compute_scale 1.6", "fit_classifier", "extent"

CHANGES = {
    "nothing": (lambda _: None, set()),
    "the same specs again": (
        lambda project: project.configure(slic={"size": 100.0}, classifier={"n_trees": 10}),
        set(),
    ),
    "supervoxels": (lambda project: project.configure(slic=SlicSpec(size=150)), {CUT, FINE, COARSE, FIT, EXTENT}),
    "one sigma less": (lambda project: project.configure(features={"sigmas": (0.7,)}), {FIT}),
    "another sigma": (
        lambda project: project.configure(features={"sigmas": (0.7, 1.0, 1.6)}),
        {"compute_scale 1", FIT},
    ),
    "a pair left out": (lambda project: project.configure(features={"left_out": (("hessian", 1.6),)}), {COARSE, FIT}),
    "one sigma in 2D": (lambda project: project.configure(features={"sigmas_2d": (1.6,)}), {COARSE, FIT}),
    "context": (lambda project: project.configure(features={"context": 2}), {FIT}),
    "no regions": (lambda project: project.configure(features={"regions": ()}), {FIT}),
    "a statistic": (lambda project: project.configure(features={"statistics": ("mean",)}), {FINE, COARSE, FIT}),
    "the classifier": (lambda project: project.configure(classifier={"seed": 1}), {FIT}),
    "the query": (lambda project: project.configure(query=QuerySpec(uncertainty="min_max")), set()),
    "a stroke": (lambda project: project.paint("background", [(3, 40, x) for x in range(20)]), {FIT}),
    "a stroke and its undo": (
        lambda project: (project.paint("background", [(3, 40, x) for x in range(20)]), project.undo()),
        set(),
    ),
    "a class more": (lambda project: project.add_class("nucleus"), set()),
    "a class's name": (lambda project: project.append(ClassRenamed(class_id=2, name="blob")), set()),
    "a class's colour": (lambda project: project.append(ClassRecolored(class_id=2, color="#000000")), set()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reopened", [False, True])
def test_what_a_change_costs(cells: Path, calls: Counter[str], change: str, reopened: bool) -> None:
    make, expected = CHANGES[change]
    with Project.open(cells / "cells.voxloop") as project:
        project.suggest_slices()
        make(project)
        if not reopened:
            project.suggest_slices()
    if reopened:
        with Project.open(cells / "cells.voxloop") as project:
            project.suggest_slices()
    assert dict(calls) == dict.fromkeys(expected, 1)
    calls.clear()
    with Project.open(cells / "cells.voxloop") as project:
        assert all(project.is_current(stage) for stage in ("supervoxels", "features", "prediction"))
        project.suggest_slices()
    assert not calls


def test_states(cells: Path) -> None:
    with Project.open(cells / "cells.voxloop") as project:

        def states() -> list[str]:
            return [project.state_of(stage) for stage in ("supervoxels", "features", "prediction")]

        assert states() == ["ready", "ready", "ready"]
        project.configure(features={"sigmas": (0.7,)})
        assert states() == ["ready", "ready", "stale"]
        project.configure(features={"sigmas": (0.7, 5.0)})
        assert states() == ["ready", "stale", "stale"]
        project.configure(slic={"size": 99.0})
        assert states() == ["stale", "stale", "stale"]
        project.configure(slic={"size": 100.0}, features={"sigmas": (0.7, 1.6)})
        assert states() == ["ready", "ready", "ready"]
    shutil.rmtree(cells / "cells.voxloop" / "cache")
    with Project.open(cells / "cells.voxloop") as project:
        assert states() == ["missing", "missing", "missing"]


def test_deleted_cache_and_model_come_back_with_the_same_bytes(cells: Path, calls: Counter[str]) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        before = project.predict().probabilities.tobytes(), project.train().to_arrays()["first_threshold"].tobytes()
    shutil.rmtree(cells / "cells.voxloop" / "cache")
    shutil.rmtree(cells / "cells.voxloop" / "models")
    with Project.open(cells / "cells.voxloop") as project:
        assert (
            project.predict().probabilities.tobytes(),
            project.train().to_arrays()["first_threshold"].tobytes(),
        ) == before
    assert dict(calls) == dict.fromkeys((CUT, FINE, COARSE, FIT), 1)


def test_an_image_more_leaves_the_first_alone(cells: Path, calls: Counter[str]) -> None:
    np.save(cells / "other.npy", np.random.default_rng(0).integers(0, 255, (8, 20, 20), np.uint8))
    with Project.open(cells / "cells.voxloop") as project:
        project.add_image(cells / "other.npy")
        assert project.state_of("features", 0) == "ready"
        assert project.state_of("supervoxels", 1) == "missing"
        project.predict(0)
        assert not calls
        project.predict(1)
    assert dict(calls) == dict.fromkeys((CUT, FINE, COARSE), 1)


OTHERS = {
    SlicSpec: {
        "n_segments": 7, "size": 7.0, "compactness": 0.7, "max_num_iter": 7, "sigma": 7.0, "coarse_sigma": 7.0,
        "min_size_factor": 0.7, "channel_weights": (0.7,), "method": "watershed",
    },
    FeatureSpec: {
        "definition": "ilastik", "resolution": "full", "families": ("gaussian",), "sigmas": (0.7,), "sigmas_2d": (0.7,),
        "left_out": (("hessian", 0.7),), "statistics": ("mean",), "own": ("shape",), "context": 3, "regions": (4,),
    },
    ClassifierSpec: {
        "n_trees": 7, "min_samples_leaf": 7, "max_features": "all", "balanced": False, "autocontext": False,
        "calibrated": False,
        "smoothing": 7, "seed": 7,
    },
    QuerySpec: {
        "strategy": "random", "uncertainty": "min_max", "tau": 7, "weight": 0.7, "top_share": 0.7, "radius": 7.0,
        "budget": 7, "seed": 7,
    },
}  # fmt: skip


@pytest.mark.parametrize("spec", OTHERS)
def test_digests_follow_every_field(spec) -> None:
    assert set(OTHERS[spec]) == set(spec.model_fields)
    digests = [spec().digest, *(spec().changed(**{name: value}).digest for name, value in OTHERS[spec].items())]
    assert len(set(digests)) == len(digests)
    assert digests == [
        spec(**fields).digest for fields in ({}, *({name: value} for name, value in OTHERS[spec].items()))
    ]


def test_a_table_too_large_for_memory_gives_the_same_bytes(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Project.open(cells / "cells.voxloop") as project:
        whole = project.predict().probabilities.tobytes()
    shutil.rmtree(cells / "cells.voxloop" / "cache")
    shutil.rmtree(cells / "cells.voxloop" / "models")
    monkeypatch.setattr(stages, "TABLE_SHARE", 0.0)
    with Project.open(cells / "cells.voxloop") as project:
        assert not isinstance(project.features().values, np.ndarray)
        assert project.predict().probabilities.tobytes() == whole
