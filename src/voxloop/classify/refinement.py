"""From supervoxels to voxels: near predicted boundaries every voxel is decided by itself.

A supervoxel that straddles a boundary is wrong on one side of it, and a structure thinner than a supervoxel has none of
its own. So a second forest learns from the labelled voxels what the first one learned from their supervoxels, and the
two opinions are combined as a logarithmic opinion pool (Genest and Zidek, Statistical Science 1986): the product of the
probabilities, each to the power of its weight. How much the voxel forest counts is decided by strokes that both were
kept from seeing: it differs from one image to the next. docs/decisions/0015 and 0031.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from voxloop.blocks import Block, Box, Executor, Progress, SerialExecutor, Shape3, map_blocks, partition, within_memory
from voxloop.classify.autocontext import Classifier, fit_classifier
from voxloop.classify.forest import Forest, fit_forest
from voxloop.classify.labelled import LabelledImage, deal_folds, group_labels
from voxloop.classify.labels import label_supervoxels
from voxloop.classify.prediction import Prediction
from voxloop.features import voxel_features
from voxloop.specs import ClassifierSpec, FeatureSpec
from voxloop.supervoxels import Adjacency
from voxloop.volume import ArrayLike, Volume

VOXELS_A_CLASS = 2000  # at most, to train on: strokes hold many alike
N_FOLDS = 5
WEIGHTS = np.linspace(0, 1, 11)  # of the voxel forest that are tried
SLACK = 0.05  # of the least loss: docs/decisions/0031
MUCH_LESS = 0.85  # of the loss with a forest whose splits draw some features, for one whose splits look at all
LEAST = 0.01  # probability in the pool: a forest that saw no counterexample cannot overrule the other
SURE = 0.8  # probability of a supervoxel's class from which on its inside is not looked at
SMOOTHING = 1.5  # voxels of the finest axis: rounds off the ragged outlines of supervoxels
TRUNCATE = 3.0  # reach of that smoothing in standard deviations
VOXELS_AT_ONCE = 256  # whose surroundings are weighed: some 1300 voxels each
BLOCK_SIDE = 128  # voxels: the halo of the largest filters makes smaller blocks slow, and larger ones take memory


@dataclass(frozen=True)
class VoxelLabels:
    """Labelled voxels of an image.

    Attributes
    ----------
    indices
        (m,) int64, linear indices in C order, sorted.
    classes
        (m,) their classes.
    supervoxels
        (m,) the supervoxels that they lie in, 1..n.
    """

    indices: NDArray[np.int64]
    classes: NDArray[np.int32]
    supervoxels: NDArray[np.int64]

    def take(self, rows: NDArray[np.integer]) -> VoxelLabels:
        """Return some of the voxels."""
        return VoxelLabels(self.indices[rows], self.classes[rows], self.supervoxels[rows])


@dataclass(frozen=True)
class Refinement:
    """What decides a voxel.

    Attributes
    ----------
    forest
        That of the voxels.
    weight
        How much it counts in the pool with the supervoxels', 0..1.
    shift
        (k,) added to the logarithms of what it says, as that of the `Calibration` is to what supervoxels say.
    """

    forest: Forest
    weight: float
    shift: NDArray[np.float64]


def sample_voxels(labels: Sequence[VoxelLabels], *, rng: int | np.random.Generator = 0) -> list[VoxelLabels]:
    """Return at most `VOXELS_A_CLASS` labelled voxels of each class, drawn at random from all images together."""
    generator = np.random.default_rng(rng)
    classes = np.concatenate([of_image.classes for of_image in labels])
    chosen = np.zeros(len(classes), np.bool_)
    for class_id in np.unique(classes):
        chosen[generator.permutation(np.flatnonzero(classes == class_id))[:VOXELS_A_CLASS]] = True
    ends = np.cumsum([len(of_image.classes) for of_image in labels])[:-1]
    return [of_image.take(np.flatnonzero(part)) for of_image, part in zip(labels, np.split(chosen, ends), strict=True)]


def describe_voxels(
    volume: Volume,
    voxels: VoxelLabels,
    spec: FeatureSpec,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int,
) -> NDArray[np.float32]:
    """Return the features (m, f) of labelled voxels; only blocks that hold some are computed."""
    blocks = _blocks(volume)
    coordinates = np.stack(np.unravel_index(voxels.indices, volume.shape), axis=1)
    of_axis = [coordinates[:, a] // blocks[0].inner.shape[a] for a in range(3)]
    block_of_voxel = np.ravel_multi_index(of_axis, _n_blocks(volume))
    order = np.argsort(block_of_voxel, kind="stable")  # keeps C order within a block
    used, starts = np.unique(block_of_voxel[order], return_index=True)
    places = np.split(coordinates[order], starts[1:])
    jobs = [(blocks[block].inner, place) for block, place in zip(used, places, strict=True)]
    executor = within_memory(executor, memory=memory, item_bytes=_item_bytes(blocks[0], 0))
    work = partial(_describe_box, volume, spec)
    rows = np.concatenate(list(map_blocks(work, jobs, executor=executor, progress=progress, stage="labelled voxels")))
    features = np.empty_like(rows)
    features[order] = rows
    return features


def _n_blocks(volume: Volume) -> Shape3:
    """Return how many blocks a volume is cut into along (z, y, x)."""
    z, y, x = (-(-n // BLOCK_SIDE) for n in volume.shape)
    return z, y, x


def _blocks(volume: Volume) -> list[Block]:
    """Return the blocks of a volume, nearly equal: they do not depend on the machine, so neither do the bits."""
    z, y, x = (-(-n // number) for n, number in zip(volume.shape, _n_blocks(volume), strict=True))
    return partition(volume.shape, (z, y, x))


def _item_bytes(block: Block, n_features: int) -> int:
    """Return about how much memory a block takes: its features if all voxels are wanted, and fields to compute them."""
    return block.inner.size * 4 * (n_features + 30)


def _describe_box(volume: Volume, spec: FeatureSpec, job: tuple[Box, NDArray[np.int64]]) -> NDArray[np.float32]:
    box, coordinates = job
    wanted = np.zeros(box.shape, np.bool_)
    wanted[tuple((coordinates - np.array(box.start)).T)] = True
    return voxel_features(volume, box, wanted, spec)


def fit_refinement(
    images: Sequence[LabelledImage],
    voxels: Sequence[VoxelLabels],
    classifier: Classifier,
    spec: ClassifierSpec,
    *,
    describe: Callable[[int, VoxelLabels], NDArray[np.float32]],
    surround: Callable[[int, VoxelLabels], sparse.csr_array],
    executor: Executor | None = None,
) -> Refinement:
    """Train the forest of the voxels and choose its weight.

    Labels that belong together (those of a stroke) are left out of both forests, a fifth at a time, and what is then
    said of them decides the weight (`choose_weight`). Splits of the voxels' forest look at all features if that makes
    the loss of the pool `MUCH_LESS` (docs/decisions/0037). Labels too few to leave any out say nothing against either
    opinion: both count the same.

    Parameters
    ----------
    images
        What is learned from each image, with labels of two classes in all.
    voxels
        The labelled voxels of each image.
    classifier
        What the images taught; its shift towards the classes' shares is the voxels' as well.
    spec
        The forests.
    describe
        Gives the features (m, f) of some labelled voxels of an image, by its position in `images`.
    surround
        Gives the `smoothing_weights` (m, n) of some labelled voxels of an image, likewise.
    executor
        Grows the trees; the result does not depend on it.

    Raises
    ------
    InputError
        If there are fewer than two classes, or features do not fit.
    """
    folds = _folds_of_supervoxels(images, voxels, spec)
    sampled = sample_voxels(voxels, rng=spec.seed)
    drawn = [position for position, of_image in enumerate(sampled) if of_image.classes.size]
    rows = np.concatenate([describe(position, sampled[position]) for position in drawn])
    classes = np.concatenate([of_image.classes for of_image in sampled])
    of_rows = np.concatenate([own[of_image.supervoxels] for own, of_image in zip(folds, sampled, strict=True)])
    of_rows = _keep_every_class(of_rows, classes)
    seen = of_rows >= 0
    if not seen.any():
        forest = fit_forest(rows, classes, spec, executor=executor)
        return Refinement(forest, 0.5, _shift_of(classifier, forest.classes))
    around = [surround(position, of_image) for position, of_image in enumerate(sampled)]
    known = np.unique(classes)
    of_supervoxels = _held_out_supervoxels(images, sampled, around, folds, known, spec, executor)[seen]
    columns = np.searchsorted(known, classes)[seen]
    # A split that draws a few features seldom meets the one that tells the classes apart where all others see noise.
    forests, weights, losses = [], [], []
    for tried in (spec, spec.changed(max_features="all")):
        forests.append(fit_forest(rows, classes, tried, folds=_without_gaps(of_rows), executor=executor))
        of_voxels = forests[-1].predict_held_out(rows, _without_gaps(of_rows))
        weight, loss = choose_weight(of_supervoxels, of_voxels[seen], columns)
        weights.append(weight)
        losses.append(loss)
    better = int(losses[1] < MUCH_LESS * losses[0])
    return Refinement(forests[better], weights[better], _shift_of(classifier, known))


def _shift_of(classifier: Classifier, classes: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the shift of each class (k,); none of one that only grazed supervoxels have."""
    shift = np.zeros(len(classes))
    shift[np.searchsorted(classes, classifier.classes)] = classifier.calibration.shift
    return shift


def _folds_of_supervoxels(
    images: Sequence[LabelledImage], voxels: Sequence[VoxelLabels], spec: ClassifierSpec
) -> list[NDArray[np.int64]]:
    """Return for each image the fold of every supervoxel (n + 1,) that holds labelled voxels, else -1."""
    # Grazed supervoxels teach the supervoxel forest nothing, but their voxels belong to a stroke as all others.
    labelled = [
        replace(image, labels=label_supervoxels(of_image.supervoxels, of_image.classes))
        for image, of_image in zip(images, voxels, strict=True)
    ]
    classes = np.concatenate([image.labels.classes for image in labelled])
    dealt = deal_folds(group_labels(labelled), classes, n_folds=N_FOLDS, rng=spec.seed)
    folds = []
    for image, own in zip(labelled, np.split(dealt, np.cumsum([i.labels.n for i in labelled])[:-1]), strict=True):
        of_supervoxel = np.full(image.graph.n + 1, -1, np.int64)
        of_supervoxel[image.labels.ids] = own
        folds.append(of_supervoxel)
    return folds


def _keep_every_class(folds: NDArray[np.int64], classes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the folds, -1 where leaving one out would leave no label of some class."""
    n_classes = np.unique(classes).size
    lost = [fold for fold in np.unique(folds) if np.unique(classes[folds != fold]).size < n_classes]
    return np.where(np.isin(folds, lost), -1, folds)


def _without_gaps(folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the folds numbered 0, 1, ..., so that each has trees of its own; -1 stays."""
    _, numbers = np.unique(np.append(folds, -1), return_inverse=True)
    return numbers[:-1].astype(np.int64) - 1


def _held_out_supervoxels(
    images: Sequence[LabelledImage],
    voxels: Sequence[VoxelLabels],
    around: Sequence[sparse.csr_array],
    folds: Sequence[NDArray[np.int64]],
    classes: NDArray[np.int32],
    spec: ClassifierSpec,
    executor: Executor | None,
) -> NDArray[np.float32]:
    """Return for each voxel (m, k) what is said of the supervoxels around without its fold's labels; 0 if nothing."""
    found = [np.zeros((len(of_image.classes), len(classes)), np.float32) for of_image in voxels]
    for fold in range(N_FOLDS):
        kept = [
            replace(image, labels=image.labels.take(own[image.labels.ids] != fold))
            for image, own in zip(images, folds, strict=True)
        ]
        rest = [image for image in kept if image.labels.n]
        if np.unique(np.concatenate([image.labels.classes for image in rest])).size < 2:
            continue
        classifier = fit_classifier(rest, spec, executor=executor)
        # Classes count the same where the weight is chosen, and the voxels' forest knows nothing of their shares.
        classifier = replace(classifier, calibration=classifier.calibration.unshifted)
        for out, image, of_image, weights, own in zip(found, images, voxels, around, folds, strict=True):
            rows = own[of_image.supervoxels] == fold
            if rows.any():
                columns = np.unique(weights[rows].indices)
                said = Prediction.by(
                    classifier, image.values, image.graph, classes,
                    ids=(columns + 1).astype(np.uint32), executor=executor,
                )  # fmt: skip
                out[rows] = weights[rows][:, columns] @ said.probabilities
    return np.concatenate(found)


def choose_weight(
    of_supervoxels: NDArray[np.float32], of_voxels: NDArray[np.float32], columns: NDArray[np.integer]
) -> tuple[float, float]:
    """Return the weight of the voxel forest in the pool, and the least loss of any, from honest opinions of labels.

    The loss is the cross-entropy, each class counting the same. The weight is the largest whose loss is at most `SLACK`
    above the least: strokes lie inside structures, where supervoxels do better than at the boundaries that are to be
    decided.

    Parameters
    ----------
    of_supervoxels, of_voxels
        (m, k) probabilities of each voxel by the supervoxels around it, and by itself.
    columns
        (m,) the column of each voxel's class.
    """
    counts = np.bincount(columns)
    shares = (1 / counts[columns]) / np.count_nonzero(counts)
    losses = []
    for weight in WEIGHTS:
        scores = pool(of_supervoxels, of_voxels, float(weight))
        losses.append(shares @ -np.log(scores[np.arange(len(columns)), columns] / scores.sum(axis=1)))
    least = float(np.min(losses))
    return float(WEIGHTS[np.flatnonzero(np.array(losses) <= (1 + SLACK) * least)[-1]]), least


def pool(of_supervoxels: NDArray[np.float32], of_voxels: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Return p^(1 - weight) q^weight for two opinions p and q (m, k), neither below `LEAST`."""
    pooled: NDArray[np.float32] = np.maximum(of_supervoxels, LEAST) ** np.float32(1 - weight)
    pooled *= np.maximum(of_voxels, LEAST) ** np.float32(weight)
    return pooled


def undecided(prediction: Prediction, graph: Adjacency) -> NDArray[np.bool_]:
    """Return which supervoxels (n,) may hold voxels of another class: at a predicted boundary, or unsure."""
    segmentation = prediction.segmentation
    found: NDArray[np.bool_] = prediction.probabilities.max(axis=1) < SURE
    for edges, _ in graph.parts():
        a, b = edges.T - 1
        differ = segmentation[a] != segmentation[b]
        found[a[differ]] = True
        found[b[differ]] = True
    return found


def smoothing_weights(
    labels: ArrayLike, voxels: VoxelLabels, *, n: int, relative_spacing: Sequence[float]
) -> sparse.csr_array:
    """Return how much each supervoxel counts at each voxel where `Refiner` smooths what is said of them.

    Parameters
    ----------
    labels
        Array-like (z, y, x): supervoxels 1..n, 0 outside.
    voxels
        Some voxels (m,) of that image, each in a supervoxel.
    n
        Number of supervoxels.
    relative_spacing
        Voxel size (z, y, x), smallest 1.

    Returns
    -------
    (m, n) float64, rows sum to 1: shares of a Gaussian around the voxel that lie in the supervoxels.
    """
    labels = np.asarray(labels)
    reach = _smoothing_reach(relative_spacing)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    gaussian = np.exp(-((offsets / _smoothing_sigma(relative_spacing)) ** 2).sum(axis=1) / 2)
    centres = np.stack(np.unravel_index(voxels.indices, labels.shape), axis=1)
    parts = []
    for start in range(0, max(1, len(centres)), VOXELS_AT_ONCE):  # no voxels are a part without rows
        near = centres[start : start + VOXELS_AT_ONCE, np.newaxis] + offsets
        in_image: NDArray[np.bool_] = np.all((near >= 0) & (near < labels.shape), axis=2)
        ids = labels[tuple(np.where(in_image[..., np.newaxis], near, 0).transpose(2, 0, 1))]
        row, offset = np.nonzero(in_image & (ids > 0))
        columns = ids[row, offset].astype(np.int64) - 1
        parts.append(sparse.coo_array((gaussian[offset], (row, columns)), shape=(len(near), n)).tocsr())
    weights = sparse.csr_array(sparse.vstack(parts))
    weights.data /= np.repeat(weights.sum(axis=1), np.diff(weights.indptr))
    return weights


def _smoothing_sigma(relative_spacing: Sequence[float]) -> list[float]:
    return [SMOOTHING / size for size in relative_spacing]


def _smoothing_reach(relative_spacing: Sequence[float]) -> Shape3:
    z, y, x = (int(TRUNCATE * sigma + 0.5) for sigma in _smoothing_sigma(relative_spacing))
    return z, y, x


@dataclass(frozen=True)
class Refiner:
    """All that is needed to refine any box of an image; can be sent to another process.

    Attributes
    ----------
    volume
        The image.
    labels
        Array-like (z, y, x): supervoxels 1..n, 0 outside.
    prediction
        What is said of the n supervoxels.
    undecided
        (n,) bool, the supervoxels whose voxels are looked at.
    refinement
        What decides the voxels.
    features
        As the refinement's forest was trained with.
    """

    volume: Volume
    labels: ArrayLike
    prediction: Prediction
    undecided: NDArray[np.bool_]
    refinement: Refinement
    features: FeatureSpec

    def classes_in(self, box: Box) -> NDArray[np.int32]:
        """Return the class of each voxel of a box (z, y, x), 0 outside."""
        outer = box.grow(_smoothing_reach(self.volume.relative_spacing), self.volume.box)
        labels = np.asarray(self.labels[outer.slices])
        inner = np.ascontiguousarray(labels[box.slices_in(outer)])
        found: NDArray[np.int32] = np.concatenate([[np.int32(0)], self.prediction.segmentation])[inner]
        wanted = np.concatenate([[False], self.undecided])[inner]
        if not wanted.any():
            return found
        of_supervoxels = self._smoothed(labels)[(slice(None), *box.slices_in(outer))][:, wanted].T
        of_voxels = np.zeros_like(of_supervoxels)
        forest = self.refinement.forest
        rows = voxel_features(self.volume, box, wanted, self.features)
        known = np.searchsorted(self.prediction.classes, forest.classes)
        of_voxels[:, known] = forest.predict(rows, executor=SerialExecutor())
        weight, shift = self.refinement.weight, self.refinement.shift
        scores = pool(of_supervoxels, of_voxels, weight)
        scores[:, known] *= np.exp(weight * shift).astype(np.float32)
        found[wanted] = self.prediction.classes[known][scores[:, known].argmax(axis=1)]
        return found

    def _smoothed(self, labels: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the probabilities (k, z, y, x) of the voxels' supervoxels, smoothed; outside counts as no voxel."""
        table = np.concatenate([np.zeros((1, len(self.prediction.classes)), np.float32), self.prediction.probabilities])
        sigma = _smoothing_sigma(self.volume.relative_spacing)
        smooth = partial(ndimage.gaussian_filter, sigma=sigma, truncate=TRUNCATE, mode="constant")
        fields = np.stack([smooth(column[labels]) for column in table.T])
        total = fields.sum(axis=0)
        shares: NDArray[np.float32] = np.divide(fields, total, out=np.zeros_like(fields), where=total > 0)
        return shares


def refine(
    refiner: Refiner,
    out: NDArray[np.integer],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int,
) -> None:
    """Write the class of every voxel to `out` (z, y, x), block by block; the same bits on every executor."""
    blocks = _blocks(refiner.volume)
    n_features = refiner.refinement.forest.n_features
    executor = within_memory(executor, memory=memory, item_bytes=_item_bytes(blocks[0], n_features))
    parts = map_blocks(partial(_refine_block, refiner), blocks, executor=executor, progress=progress, stage="refining")
    for block, part in zip(blocks, parts, strict=True):
        out[block.inner.slices] = part


def _refine_block(refiner: Refiner, block: Block) -> NDArray[np.int32]:
    return refiner.classes_in(block.inner)
