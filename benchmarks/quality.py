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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import stats
from skimage.feature import multiscale_basic_features
from skimage.segmentation import slic as skimage_slic
from sklearn.ensemble import RandomForestClassifier

from voxloop.classify import label_supervoxels
from voxloop.features import compute_features
from voxloop.project import Project
from voxloop.simulate.annotator import SimulatedAnnotator, SimulatedStroke
from voxloop.specs import FeatureSpec
from voxloop.volume import Spacing, Volume

Classes = NDArray[np.uint8]
Segment = Callable[[Sequence[SimulatedStroke], int], Classes]

REFERENCE_SIZE = 2500  # voxels of a supervoxel
REFERENCE_COMPACTNESS = 0.4
REFERENCE_FEATURES = FeatureSpec(definition="ilastik", statistics=("mean",), context=0)
N_TREES = 100


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
        (slice(64), slice(200, 360), slice(240, 440)),
        _object_or_not,
    ),
    "vnc": Source("vnc_drosophila_sstem", "label.tif", (50, 4.6, 4.6), 14, (WHOLE, slice(300, 600), slice(300, 600))),
    "fib25": Source(
        "fib25_drosophila_medulla", "label_membrane.tif", (10, 10, 10), 125, (slice(64), slice(50, 200), slice(50, 200))
    ),
}


def load(name: str, root: Path) -> tuple[Part, Part]:
    """Return the part of a volume that is learned from and the one that is scored."""
    source = SOURCES[name]
    image, labels = (tifffile.imread(root / source.folder / file) for file in ("image.tif", source.truth))
    truth = source.read_classes(labels).astype(np.uint8)
    parts = []
    for z in (slice(source.n_learn), slice(source.n_learn, None)):
        voxels, classes = (np.ascontiguousarray(array[z][source.part]) for array in (image, truth))
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
    """Return voxloop as it is by default: its supervoxels' classes, and those of its voxels; `project` is a new one."""
    for class_id in range(1, int(learn.truth.max()) + 1):
        project.add_class(f"class {class_id}")
    for part in (learn, score):
        project.add_image(part.volume, mask=part.mask)

    def paint(strokes: Sequence[SimulatedStroke], seed: int) -> None:
        project.clear_labels(0)
        project.configure(classifier={"seed": seed})
        for stroke in strokes:
            project.paint(stroke.class_id, stroke.voxels, image=0)

    def supervoxels(strokes: Sequence[SimulatedStroke], seed: int) -> Classes:
        paint(strokes, seed)
        classes = np.concatenate([[0], project.predict(1).segmentation])
        return classes[np.asarray(project.supervoxels(1).labels)].astype(np.uint8)

    def refined(strokes: Sequence[SimulatedStroke], seed: int) -> Classes:
        paint(strokes, seed)
        return np.asarray(project.refine(1))

    return {"supervoxels": supervoxels, "refined": refined}


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
        voxels, classes = _voxels(strokes)
        forest = RandomForestClassifier(N_TREES, random_state=seed).fit(tables[0][voxels], classes)
        known = score.truth > 0
        found = np.zeros(score.truth.shape, np.uint8)
        found[known] = forest.predict(tables[1][known])
        return found

    return segment


def _voxels(strokes: Sequence[SimulatedStroke]) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]:
    """Return the voxels of strokes as indices along (z, y, x), and the class of each."""
    voxels = np.concatenate([stroke.voxels for stroke in strokes])
    classes = np.repeat([stroke.class_id for stroke in strokes], [len(stroke.voxels) for stroke in strokes])
    return tuple(voxels.T), classes


@dataclass(frozen=True)
class Score:
    """The mean class IoU of one method with one set of strokes on one volume, and the voxels that were labelled."""

    volume: str
    method: str
    seed: int
    n_labelled: int
    iou: float


def measure(name: str, parts: tuple[Part, Part], *, seeds: int, strokes: int) -> Iterator[Score]:
    """Yield the score of every method with each set of strokes."""
    learn, score = parts
    with tempfile.TemporaryDirectory() as folder, Project.create(Path(folder) / "quality.voxloop") as project:
        methods = ours(learn, score, project)
        methods |= {"reference": reference(learn, score), "voxels": voxel_classifier(learn, score)}
        for seed in range(seeds):
            painted = SimulatedAnnotator(learn.truth, rng=seed).first_strokes(strokes)
            n_labelled = sum(len(stroke.voxels) for stroke in painted)
            for method, segment in methods.items():
                yield Score(name, method, seed, n_labelled, mean_iou(segment(painted, seed), score.truth))


def row(scores: Sequence[Score]) -> str:
    """Return one volume's scores as a row of the table: mean, and half the width of its 95 % interval (Student's t)."""
    cells = []
    for method in dict.fromkeys(score.method for score in scores):
        ious = [score.iou for score in scores if score.method == method]
        half = stats.t.ppf(0.975, len(ious) - 1) * stats.sem(ious) if len(ious) > 1 else np.nan
        cells.append(f"{np.mean(ious):.3f} ± {half:.3f}")
    labelled = np.mean([score.n_labelled for score in scores])
    return f"| {scores[0].volume} | {labelled:.0f} | " + " | ".join(cells) + " |"


HEADER = "| volume | labelled voxels | supervoxels | refined | reference | voxels |\n|---|--:|--:|--:|--:|--:|"


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what was asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--volumes", nargs="+", choices=SOURCES, default=list(SOURCES), help="default: all")
    parser.add_argument("--seeds", type=int, default=10, help="sets of strokes (default: 10)")
    parser.add_argument("--strokes", type=int, default=10, help="of each class (default: 10)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every score there as well")
    options = parser.parse_args(arguments)
    root = Path(os.environ.get("VOXLOOP_DATA", ""))
    if "VOXLOOP_DATA" not in os.environ or not root.is_dir():
        parser.error("VOXLOOP_DATA must name the folder of the volumes")
    print(HEADER)
    scores: list[Score] = []
    start = time.process_time()
    for name in options.volumes:
        found = list(measure(name, load(name, root), seeds=options.seeds, strokes=options.strokes))
        print(row(found), flush=True)
        scores += found
    print(
        f"\n{options.seeds} sets of {options.strokes} strokes a class; {time.process_time() - start:.0f} s of processor"
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(score) for score in scores], indent=1) + "\n")


if __name__ == "__main__":
    main()
