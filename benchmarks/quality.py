"""How good the result of a few strokes is, beside two peers given the same strokes: ``python -m benchmarks.quality``.

The volumes are not part of this repository: the environment variable VOXLOOP_DATA names the folder that holds them.
Strokes are painted on the first part of a volume along z, at random places; the rest is predicted and scored.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import stats
from skimage.feature import multiscale_basic_features
from skimage.segmentation import slic as skimage_slic
from sklearn.ensemble import RandomForestClassifier

from voxloop.classify import Classifier, LabelledImage, Prediction, fit_classifier, label_supervoxels
from voxloop.classify.refinement import (
    Refiner,
    VoxelLabels,
    describe_voxels,
    fit_refinement,
    refine,
    smoothing_weights,
    undecided,
)
from voxloop.features import compute_features
from voxloop.project import Project
from voxloop.simulate.annotator import SimulatedAnnotator, SimulatedStroke
from voxloop.simulate.curves import FULL_LABELS
from voxloop.simulate.score import score as simulate_score
from voxloop.simulate.tables import ImageTables
from voxloop.specs import ClassifierSpec, FeatureSpec
from voxloop.volume import Spacing, Volume

Classes = NDArray[np.uint8]
Segment = Callable[[Sequence[SimulatedStroke], int], Classes]

REFERENCE_SIZE = 2500  # voxels of a supervoxel
REFERENCE_COMPACTNESS = 0.4
REFERENCE_FEATURES = FeatureSpec(definition="ilastik", statistics=("mean",), context=0, regions=())
N_TREES = 100
# What "tuned" chooses from, by the truth of the part that strokes are painted on.
GRID: tuple[dict[str, Any], ...] = tuple(
    {"min_samples_leaf": leaf, "smoothing": smoothing} for leaf in (1, 4) for smoothing in (None, 0, 2)
)


@dataclass(frozen=True)
class Source:
    """A volume with known classes, and which part of it is used.

    Attributes
    ----------
    folder, truth
        Where the image and its classes are.
    spacing
        Size of a voxel (z, y, x).
    n_learn
        Slices along z that strokes are painted on; the rest is scored.
    part
        Slices (z, y, x) of the learned and of the scored part that are kept.
    read_classes
        Makes classes 1, 2, ... of the stored labels, 0 where nothing counts.
    masked
        Whether voxels without a class are outside the mask.
    """

    folder: str
    truth: str
    spacing: Spacing
    n_learn: int
    part: tuple[slice, slice, slice]
    read_classes: Callable[[NDArray[np.generic]], NDArray[np.generic]] = lambda labels: labels
    masked: bool = False


@dataclass(frozen=True)
class Part:
    """The image, its classes and its mask, of the part that is learned from or of the one that is scored."""

    volume: Volume
    truth: Classes
    mask: NDArray[np.bool_] | None


def _object_or_not(labels: NDArray[np.generic]) -> NDArray[np.generic]:
    return (labels > 0) + np.uint8(1)


WHOLE = slice(None)
SOURCES = {
    "lm": Source("lm_ovule_nuclei", "label_instances.tif", (284, 127, 127), 50, (WHOLE,) * 3, _object_or_not),
    "mri": Source("mri_flair_ms_lesions", "label.tif", (1, 1, 1), 60, (WHOLE,) * 3, masked=True),
    "epfl": Source(
        "epfl_hippocampus_ca1",
        "label.tif",
        (5, 5, 5),
        83,
        (slice(48), slice(200, 360), slice(260, 420)),
        _object_or_not,
    ),
    "vnc": Source("vnc_drosophila_sstem", "label.tif", (50, 4.6, 4.6), 14, (WHOLE, slice(300, 600), slice(300, 600))),
    "fib25": Source(
        "fib25_drosophila_medulla", "label_membrane.tif", (10, 10, 10), 125, (slice(48), slice(60, 190), slice(60, 190))
    ),
}


def load(name: str, root: Path, *, whole: bool = False) -> tuple[Part, Part]:
    """Return the part of a volume that is learned from and the one that is scored; uncut if `whole`."""
    source = SOURCES[name]
    kept = (WHOLE,) * 3 if whole else source.part
    image, labels = (tifffile.imread(root / source.folder / file) for file in ("image.tif", source.truth))
    truth = source.read_classes(labels).astype(np.uint8)
    parts = []
    for z in (slice(source.n_learn), slice(source.n_learn, None)):
        voxels, classes = (np.ascontiguousarray(array[z][kept]) for array in (image, truth))
        mask = classes > 0 if source.masked else None
        parts.append(Part(Volume(voxels, spacing=source.spacing, name=name), classes, mask))
    return parts[0], parts[1]


def mean_iou(found: NDArray[np.integer], truth: Classes) -> float:
    """Return the intersection over union, averaged over the classes of the truth; where it is 0 nothing counts."""
    known = truth > 0
    ious = []
    for class_id in np.unique(truth[known]):
        a, b = (found == class_id) & known, truth == class_id
        ious.append((a & b).sum() / (a | b).sum())
    return float(np.mean(ious))


def ours(learn: Part, score: Part, project: Project) -> dict[str, Segment]:
    """Return voxloop as a new project has it: its supervoxels' classes, and those of its voxels."""
    _fill(project, learn, score)
    as_is = project.specs.classifier

    def found(image: int) -> Classes:
        classes = np.concatenate([[0], project.predict(image).segmentation])
        return classes[np.asarray(project.supervoxels(image).labels)].astype(np.uint8)

    def supervoxels(strokes: Sequence[SimulatedStroke], seed: int) -> Classes:
        _paint(project, strokes, as_is.changed(seed=seed))
        return found(1)

    def refined(strokes: Sequence[SimulatedStroke], seed: int) -> Classes:
        _paint(project, strokes, as_is.changed(seed=seed))
        return np.asarray(project.refine(1))

    def tuned(strokes: Sequence[SimulatedStroke], seed: int) -> Classes:
        ious = {}
        for spec in (as_is.changed(seed=seed, **changes) for changes in GRID):
            _paint(project, strokes, spec)
            ious[spec] = mean_iou(found(0), learn.truth)
        _paint(project, strokes, max(ious, key=lambda spec: ious[spec]))
        return found(1)

    return {"supervoxels": supervoxels, "refined": refined, "tuned": tuned}


def _fill(project: Project, learn: Part, score: Part) -> None:
    """Add the classes and both parts to a new project."""
    for class_id in range(1, int(learn.truth.max()) + 1):
        project.add_class(f"class {class_id}")
    for part in (learn, score):
        project.add_image(part.volume, mask=part.mask)


def _paint(project: Project, strokes: Sequence[SimulatedStroke], spec: ClassifierSpec) -> None:
    """Replace all labels of the part that is learned from."""
    project.clear_labels(0)
    project.configure(classifier=spec)
    for stroke in strokes:
        project.paint(stroke.class_id, stroke.voxels, image=0)


def reference(learn: Part, score: Part) -> Segment:
    """Return the reference workflow, made of public libraries.

    scikit-image's SLIC, means of the filters over each supervoxel, scikit-learn's random forest, the likeliest class.
    """
    labels, values = zip(*(_reference_table(part) for part in (learn, score)), strict=True)

    def segment(strokes: Sequence[SimulatedStroke], seed: int) -> Classes:
        voxels, classes = _voxels(strokes)
        labelled = label_supervoxels(labels[0][voxels], classes)
        forest = RandomForestClassifier(N_TREES, random_state=seed)
        forest.fit(values[0][labelled.ids.astype(np.int64) - 1], labelled.classes)
        return np.concatenate([[0], forest.predict(values[1])])[labels[1]].astype(np.uint8)

    return segment


def _reference_table(part: Part) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    voxels = np.asarray(part.volume.data)
    n_inside = voxels.size if part.mask is None else int(part.mask.sum())
    low, high = float(voxels.min()), float(voxels.max())
    labels = skimage_slic(
        (voxels - low) / (high - low),
        n_segments=max(1, n_inside // REFERENCE_SIZE),
        compactness=REFERENCE_COMPACTNESS,
        mask=part.mask,
        channel_axis=None,
        start_label=1,
    )
    _, numbers = np.unique(labels[labels > 0], return_inverse=True)
    labels = labels.astype(np.int64)
    labels[labels > 0] = numbers + 1
    values = compute_features(part.volume, labels, int(labels.max()), REFERENCE_FEATURES).values
    return labels, np.asarray(values)


def voxel_classifier(learn: Part, score: Part) -> Segment:
    """Return a forest on voxels as in scikit-image's example of trainable segmentation: its features and 100 trees."""
    tables = [multiscale_basic_features(np.asarray(part.volume.data)) for part in (learn, score)]

    def segment(strokes: Sequence[SimulatedStroke], seed: int) -> Classes:
        return _predict_voxels(_fit_voxels(tables[0], strokes, seed), tables[1], score.truth > 0)

    return segment


def _fit_voxels(table: NDArray[np.float32], strokes: Sequence[SimulatedStroke], seed: int) -> RandomForestClassifier:
    """Train on the painted voxels of a table (z, y, x, f)."""
    voxels, classes = _voxels(strokes)
    return RandomForestClassifier(N_TREES, random_state=seed).fit(table[voxels], classes)


def _predict_voxels(forest: RandomForestClassifier, table: NDArray[np.float32], known: NDArray[np.bool_]) -> Classes:
    """Return the class of the voxels that are `known` (z, y, x), 0 for the others."""
    found = np.zeros(known.shape, np.uint8)
    found[known] = forest.predict(table[known])
    return found


def _voxels(strokes: Sequence[SimulatedStroke]) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    """Return the voxels of strokes as indices along (z, y, x), and the class of each."""
    voxels = np.concatenate([stroke.voxels for stroke in strokes])
    classes = np.repeat([stroke.class_id for stroke in strokes], [len(stroke.voxels) for stroke in strokes])
    return tuple(voxels.T), classes


@dataclass(frozen=True)
class Score:
    """The mean class IoU of one method with one set of strokes on one volume, what was labelled, and seconds of CPU."""

    volume: str
    method: str
    seed: int
    n_labelled: int
    iou: float
    seconds: float = 0.0


def measure(
    name: str, parts: tuple[Part, Part], *, seeds: int, strokes: int, features: Mapping[str, Any] | None = None
) -> Iterator[Score]:
    """Yield the score of every method with each set of strokes; ours with other `features` than by default."""
    learn, score = parts
    with tempfile.TemporaryDirectory() as folder, Project.create(Path(folder) / "quality.voxloop") as project:
        project.configure(features=features or {})
        methods = ours(learn, score, project)
        methods |= {"reference": reference(learn, score), "voxels": voxel_classifier(learn, score)}
        for seed in range(seeds):
            painted = SimulatedAnnotator(learn.truth, rng=seed).first_strokes(strokes)
            n_labelled = sum(len(stroke.voxels) for stroke in painted)
            for method, segment in methods.items():
                start = time.process_time()
                found = segment(painted, seed)
                seconds = time.process_time() - start
                yield Score(name, method, seed, n_labelled, mean_iou(found, score.truth), seconds)


def measure_uncut(name: str, root: Path, *, seeds: int, strokes: int) -> Iterator[Score]:
    """Yield scores on all of the scored part, not a crop of it, and how long an update takes: `Score.seconds`.

    An update is what follows the last stroke: from its labels to what is said of everything in the part that is painted
    on, each of its supervoxels or each of its voxels. The filters' responses are there already.
    """
    learn, score = load(name, root, whole=True)
    tables = [multiscale_basic_features(np.asarray(part.volume.data)) for part in (learn, score)]
    everywhere = np.ones(learn.truth.shape, np.bool_)
    with tempfile.TemporaryDirectory() as folder, Project.create(Path(folder) / "uncut.voxloop") as project:
        methods = ours(learn, score, project)
        as_is = project.specs.classifier
        for seed in range(seeds):
            painted = SimulatedAnnotator(learn.truth, rng=seed).first_strokes(strokes)
            n_labelled = sum(len(stroke.voxels) for stroke in painted)
            _paint(project, painted[:-1], as_is.changed(seed=seed))
            project.predict(0)
            start = time.process_time()
            project.paint(painted[-1].class_id, painted[-1].voxels, image=0)
            project.predict(0)
            seconds = {"supervoxels": time.process_time() - start}
            start = time.process_time()
            forest = _fit_voxels(tables[0], painted, seed)
            _predict_voxels(forest, tables[0], everywhere)
            seconds["voxels"] = time.process_time() - start
            found = {method: methods[method](painted, seed) for method in ("supervoxels", "refined")}
            found["voxels"] = _predict_voxels(forest, tables[1], score.truth > 0)
            for method, classes in found.items():
                iou = mean_iou(classes, score.truth)
                yield Score(name, f"uncut {method}", seed, n_labelled, iou, seconds.get(method, np.nan))


def measure_whole(name: str, root: Path, *, seeds: int, features: Mapping[str, Any] | None = None) -> Iterator[Score]:
    """Yield the IoU of class 2 on the whole scored part, with whole supervoxels labelled by what most of them is.

    That is what strokes without a mistake come to. `Score.method` is the labels and the result: ``"100 refined"``.
    """
    learn, score = load(name, root, whole=True)
    with tempfile.TemporaryDirectory() as folder, Project.create(Path(folder) / "whole.voxloop") as project:
        project.configure(features=features or {})
        _fill(project, learn, score)
        learned, judged = (ImageTables.of_project(project, i, p.truth) for i, p in enumerate((learn, score)))
        yield Score(name, "oracle", 0, judged.supervoxels.n, judged.truth_table.oracle().iou_of(2))
        for labels, repeats in (("100", seeds), ("all", 1)):
            for seed in range(repeats):
                spec = project.specs.classifier.changed(seed=seed)
                ids = _balanced(learned, 100, seed) if labels == "100" else _many(learned, seed)
                voxels = _voxels_of(learned, ids)
                image = learned.labelled(label_supervoxels(voxels.supervoxels, voxels.classes))
                classifier = fit_classifier([image], spec)
                classes = np.arange(1, int(learn.truth.max()) + 1, dtype=np.int32)
                prediction = Prediction.by(classifier, judged.values, judged.supervoxels.graph, classes)
                iou = judged.truth_table.score(prediction.segmentation).iou_of(2)
                yield Score(name, f"{labels} supervoxels", seed, image.labels.n, iou)
                found = _refine(project, image, voxels, classifier, prediction, judged, spec)
                iou = simulate_score(found, score.truth).iou_of(2)
                yield Score(name, f"{labels} refined", seed, image.labels.n, iou)


def _balanced(tables: ImageTables, n: int, seed: int) -> NDArray[np.uint32]:
    """Return `n` supervoxels drawn at random, as many of each class."""
    rng = np.random.default_rng(seed)
    classes = np.unique(tables.majority[tables.majority > 0])
    of_class = [np.flatnonzero(tables.majority == c) for c in classes]
    drawn = [rng.choice(rows, n // len(classes), replace=False) for rows in of_class]
    return (np.sort(np.concatenate(drawn)) + 1).astype(np.uint32)


def _many(tables: ImageTables, seed: int) -> NDArray[np.uint32]:
    """Return as many supervoxels as count for all, drawn at random."""
    known = tables.known_ids
    return np.sort(np.random.default_rng(seed).choice(known, min(FULL_LABELS, known.size), replace=False))


def _voxels_of(tables: ImageTables, ids: NDArray[np.uint32]) -> VoxelLabels:
    """Return all voxels of some supervoxels, each labelled with the class of most of its supervoxel's."""
    chosen = np.zeros(tables.supervoxels.n + 1, np.bool_)
    chosen[ids] = True
    labels = tables.labels.reshape(-1)
    indices = np.flatnonzero(chosen[labels])
    supervoxels = labels[indices].astype(np.int64)
    return VoxelLabels(indices, tables.majority[supervoxels - 1], supervoxels)


def _refine(
    project: Project,
    image: LabelledImage,
    voxels: VoxelLabels,
    classifier: Classifier,
    prediction: Prediction,
    judged: ImageTables,
    spec: ClassifierSpec,
) -> Classes:
    """Return the class of each voxel of the scored part."""
    features, memory = project.specs.features, project.memory
    labels, spacing = project.supervoxels(0).labels, project.volume(0).relative_spacing
    refinement = fit_refinement(
        [image],
        [voxels],
        classifier,
        spec,
        describe=lambda _, some: describe_voxels(project.volume(0), some, features, memory=memory),
        surround=lambda _, some: smoothing_weights(labels, some, n=image.graph.n, relative_spacing=spacing),
    )
    unsure = undecided(prediction, judged.supervoxels.graph)
    out = np.empty(judged.truth.shape, np.uint8)
    refine(Refiner(project.volume(1), judged.labels, prediction, unsure, refinement, features), out, memory=memory)
    return out


def row(scores: Sequence[Score]) -> str:
    """Return one volume's scores as a row of the table: mean, and half the width of its 95 % interval (Student's t)."""
    cells = []
    for method in dict.fromkeys(score.method for score in scores):
        ious = [score.iou for score in scores if score.method == method]
        half = stats.t.ppf(0.975, len(ious) - 1) * stats.sem(ious) if len(ious) > 1 else np.nan
        cells.append(f"{np.mean(ious):.3f} ± {half:.3f}")
    labelled = np.mean([score.n_labelled for score in scores])
    return f"| {scores[0].volume} | {labelled:.0f} | " + " | ".join(cells) + " |"


HEADER = (
    "| volume | labelled voxels | supervoxels | refined | tuned | reference | voxels |\n|---|--:|--:|--:|--:|--:|--:|"
)


UNCUT_HEADER = (
    "| uncut volume | labelled voxels | supervoxels | refined | voxels | update, s | by voxels, s | times |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|"
)


def uncut_row(scores: Sequence[Score]) -> str:
    """Return the row of `row`, and the median seconds of an update: ours, the voxel classifier's, their ratio."""
    ours, theirs = (
        float(np.median([score.seconds for score in scores if score.method == f"uncut {method}"]))
        for method in ("supervoxels", "voxels")
    )
    return f"{row(scores)} {ours:.2f} | {theirs:.1f} | {theirs / ours:.0f} |"


WHOLE_SEEDS = 5  # at most, of what is slow: whole volumes
WHOLE_HEADER = "| volume | labelled supervoxels | supervoxels | refined | oracle |\n|---|--:|--:|--:|--:|"


def whole_rows(scores: Sequence[Score]) -> list[str]:
    """Return the rows of the table of `measure_whole`: means over the draws."""
    by_method: dict[str, list[Score]] = {}
    for score in scores:
        by_method.setdefault(score.method, []).append(score)
    rows = []
    for labels in ("100", "all"):
        ious = [np.mean([s.iou for s in by_method[name]]) for name in _columns(labels)]
        n = by_method[f"{labels} supervoxels"][0].n_labelled
        rows.append(f"| {scores[0].volume} | {n:,} | " + " | ".join(f"{iou:.3f}" for iou in ious) + " |")
    return rows


def _columns(labels: str) -> tuple[str, ...]:
    return f"{labels} supervoxels", f"{labels} refined", "oracle"


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what was asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--volumes", nargs="+", choices=SOURCES, default=list(SOURCES), help="default: all")
    parser.add_argument("--seeds", type=int, default=10, help="sets of strokes (default: 10)")
    parser.add_argument("--strokes", type=int, default=10, help="of each class (default: 10)")
    parser.add_argument(
        "--whole", nargs="*", choices=SOURCES, default=["epfl"],
        help="also score all of these, with supervoxels labelled one by one; none after it: no volume (default: epfl)",
    )  # fmt: skip
    parser.add_argument(
        "--uncut", nargs="*", choices=SOURCES, default=["fib25", "vnc"],
        help="also paint and score all of these, and time updates; none after it: no volume (default: fib25 vnc)",
    )  # fmt: skip
    parser.add_argument(
        "--regions", type=int, nargs="+", metavar="STEPS",
        help="averages over regions, such as 8 32, instead of those over neighbours (default: as a new project has it)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every score there as well")
    options = parser.parse_args(arguments)
    root = Path(os.environ.get("VOXLOOP_DATA", ""))
    if "VOXLOOP_DATA" not in os.environ or not root.is_dir():
        parser.error("VOXLOOP_DATA must name the folder of the volumes")
    features = {"context": 0, "regions": options.regions} if options.regions else None
    print(HEADER)
    scores: list[Score] = []
    start = time.process_time()
    for name in options.volumes:
        parts = load(name, root)
        found = list(measure(name, parts, seeds=options.seeds, strokes=options.strokes, features=features))
        print(row(found), flush=True)
        scores += found
    print(
        f"\n{options.seeds} sets of {options.strokes} strokes a class; {time.process_time() - start:.0f} s of processor"
    )
    seeds = min(options.seeds, WHOLE_SEEDS)
    if options.uncut:
        print(f"\n{UNCUT_HEADER}")
        for name in options.uncut:
            found = list(measure_uncut(name, root, seeds=seeds, strokes=options.strokes))
            print(uncut_row(found), flush=True)
            scores += found
    if options.whole:
        print(f"\n{WHOLE_HEADER}")
        for name in options.whole:
            found = list(measure_whole(name, root, seeds=seeds, features=features))
            print("\n".join(whole_rows(found)), flush=True)
            scores += found
    print(f"\n{time.process_time() - start:.0f} s of processor in all")
    if options.json:
        options.json.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n")


if __name__ == "__main__":
    main()
