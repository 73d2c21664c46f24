"""What is computed from a project folder, stage by stage, each kept until something that it depends on changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import voxloop
from voxloop.classify import (
    Classifier,
    Forest,
    LabelledImage,
    Opinions,
    Prediction,
    SupervoxelLabels,
    label_supervoxels,
)
from voxloop.errors import InputError
from voxloop.features import FeatureTable
from voxloop.project import models
from voxloop.project.cache import ArrayCache, Entry
from voxloop.project.history import History
from voxloop.project.image_folder import ImageFolder
from voxloop.project.record import Specs
from voxloop.project.snapshot import Snapshot
from voxloop.project.stages import (
    CONTEXT_VERSION,
    FEATURES_VERSION,
    SUPERVOXELS_VERSION,
    ImageStages,
    Kept,
    feature_entries,
    features_digest,
    read_entry,
    supervoxels_digest,
)
from voxloop.project.training import check_labels, fit_labels
from voxloop.specs import SlicSpec, digest_of
from voxloop.supervoxels import Supervoxels
from voxloop.supervoxels.extent import Extent

HISTORY = "history.jsonl"

Stage = Literal["supervoxels", "features", "prediction"]
State = Literal["missing", "stale", "ready"]


class ComputedProject(ImageFolder):
    """A project folder with what is computed from it, stage by stage; `Project` adds what is asked of the results."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cache = ArrayCache(self.folder / "cache", read_only=self.read_only)
        self._stages: dict[int, ImageStages] = {}
        self._kept = Kept()
        self.history = History(self.folder / HISTORY, read_only=self.read_only)

    def labels(self, image: int = 0) -> SupervoxelLabels:
        """Return which supervoxels of an image are labelled, and as what."""
        return self._labels_under(self.specs.slic, image)

    def supervoxels(self, image: int = 0) -> Supervoxels:
        """Return the supervoxels of an image."""
        return self._stages_of(image).supervoxels(self.specs.slic)

    def extent(self, image: int = 0) -> Extent:
        """Return which slices the supervoxels of an image meet."""
        return self._stages_of(image).extent(self.specs.slic)

    def features(self, image: int = 0) -> FeatureTable:
        """Return the features of an image's supervoxels."""
        return self._stages_of(image).features(self.specs.slic, self.specs.features)

    def train(self) -> Classifier:
        """Return the classifier trained on the labels of all images.

        Raises
        ------
        InputError
            If there are no images, or labels of fewer than two classes.
        """
        return self._train(self._snapshot())

    def predict(self, image: int = 0) -> Prediction:
        """Return what the classifier says of an image's supervoxels."""
        self._image_record(image)
        now = self._snapshot()
        classifier = self._train(now)
        digest = now.prediction_digest(image)
        name = f"prediction-{image}"

        def compute() -> Prediction:
            stages, slic = self._stages_of(image), now.specs.slic
            supervoxels = stages.supervoxels(slic)
            n, classes = supervoxels.n, now.classes
            if loaded := read_entry(self._cache, name, digest, lambda entry: _read_prediction(entry, n, classes)):
                return loaded
            made = Prediction.by(
                classifier,
                stages.features(slic, now.specs.features).values,
                supervoxels.graph,
                classes,
                opinions=self._opinions(now, image, classifier.first),
                executor=self.executor,
                memory=self.memory,
            )
            if not self.read_only:
                cut = supervoxels_digest(self.images[image].content_digest, slic)
                accuracy = classifier.held_out.accuracy if classifier.held_out else None
                self._note_round(now, image, made, supervoxels, cut, accuracy)
                arrays = {"probabilities": made.probabilities, "classes": made.classes}
                self._cache.put(name, digest, arrays, meta={"supervoxels": cut})
            return made

        return self._kept.get(name, digest, compute)

    def state_of(self, stage: Stage, image: int = 0) -> State:
        """Return whether a stage's result is on the disk, was made from something that has changed, or is missing."""
        self._image_record(image)
        everywhere = range(len(self.images))
        if stage == "prediction" and not all(self.is_current("features", index) for index in everywhere):
            # Its digest is not known before there are supervoxels that the labels can be given to.
            return "stale" if self._cache.digest_of(f"prediction-{image}") else "missing"
        wanted = self._wanted_entries(stage, image)
        there = {name: self._cache.digest_of(name) for name in wanted}
        if there == wanted:
            return "ready"
        return "stale" if any(there.values()) else "missing"

    def is_current(self, stage: Stage, image: int = 0) -> bool:
        """Whether a stage's result is on the disk and nothing that it depends on has changed."""
        return self.state_of(stage, image) == "ready"

    def relink(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> list[Path]:  # noqa: D102 - inherited
        found = super().relink(old, new)
        self._stages.clear()  # they hold the images as they were
        return found

    # Behind the scenes

    def inputs_digest(self) -> str:
        """Return the digest of all that any result follows from: images, specs, classes, and the labelled voxels."""
        images = [[record.content_digest, [v.content_digest for v in record.feature_volumes]] for record in self.images]
        strokes = hashlib.sha256()
        for image in range(len(self.images)):
            for part in self.annotations.labelled_voxels(image):
                strokes.update(part.tobytes())
        classes = [[c.class_id, c.name, c.color] for c in self.annotations.classes]
        versions = [SUPERVOXELS_VERSION, FEATURES_VERSION, CONTEXT_VERSION, models.VERSION, voxloop.__version__]
        return digest_of(versions, images, self.specs.digest, classes, strokes.hexdigest())

    def _stages_of(self, image: int) -> ImageStages:
        opened = self._image(image)
        if image not in self._stages or self._stages[image].image is not opened:
            self._stages[image] = ImageStages(
                index=image,
                image=opened,
                content_digest=self.images[image].content_digest,
                cache=self._cache,
                save=not self.read_only,
                executor=self.executor,
                progress=self.progress,
                memory=self.memory,
            )
        return self._stages[image]

    def _wanted_entries(self, stage: Stage, image: int) -> dict[str, str]:
        """Return the names and digests of the cache entries that a stage's result is made of."""
        content = self._image_record(image).content_digest
        if stage == "supervoxels":
            digest = supervoxels_digest(content, self.specs.slic)
            return {f"supervoxels-{image}": digest, f"supervoxel-tables-{image}": digest}
        if stage == "features":
            return self._feature_entries(image, self.specs)
        return {f"prediction-{image}": self._snapshot().prediction_digest(image)}

    def _labels_under(self, slic: SlicSpec, image: int) -> SupervoxelLabels:
        indices, classes = self.annotations.labelled_voxels(image)
        if indices.size == 0:
            return label_supervoxels([], [])
        return label_supervoxels(self._stages_of(image).voxel_supervoxels(slic, indices), classes)

    def _snapshot(self) -> Snapshot:
        """Return labels, classes and specs as they are now."""
        specs, class_names = self.specs, self.class_names
        indices = range(len(self.images))
        features = (features_digest(self._feature_entries(i, specs), specs.features) for i in indices)
        labels = tuple(self._labels_under(specs.slic, index) for index in indices)
        return Snapshot(labels, class_names, specs, tuple(features))

    def _train(self, now: Snapshot) -> Classifier:
        if not self.images:
            raise InputError("the project has no images")
        check_labels(now.labels, now.class_names)
        digest = now.classifier_digest
        return self._kept.get("classifier", digest, lambda: self._load_classifier(now) or self._fit(now))

    def _fit(self, now: Snapshot) -> Classifier:
        classifier = fit_labels(
            now.labels,
            lambda index: self._learned_from(now, index),
            now.class_names,
            now.specs.classifier,
            opinions_of=lambda index, first: self._opinions(now, index, first),
            executor=self.executor,
        )
        if not self.read_only:
            models.save_classifier(self._classifier_path, classifier, now.classifier_digest)
        return classifier

    def _note_round(
        self,
        now: Snapshot,
        image: int,
        made: Prediction,
        supervoxels: Supervoxels,
        cut: str,
        accuracy: float | None,
    ) -> None:
        """Remember a prediction after labels have changed, beside the one in the cache if it is of the same `cut`."""
        name, n_strokes, rounds = f"prediction-{image}", len(self.annotations.strokes), self.history.rounds(image)
        if rounds and rounds[-1].n_strokes == n_strokes:
            return
        digest = self._cache.digest_of(name)
        entry = self._cache.get(name, digest) if digest else None
        before = None
        if digest and entry is not None and entry.meta.get("supervoxels") == cut:
            known = np.asarray(entry.arrays["classes"])
            earlier = read_entry(self._cache, name, digest, lambda e: _read_prediction(e, supervoxels.n, known))
            before = earlier.segmentation if earlier else None
        self.history.add_round(
            image,
            n_labelled=sum(labels.n for labels in now.labels),
            n_strokes=n_strokes,
            before=before,
            after=made.segmentation,
            sizes=supervoxels.sizes,
            accuracy=accuracy,
        )

    def _feature_entries(self, image: int, specs: Specs) -> dict[str, str]:
        record = self._image_record(image)
        volumes = [volume.content_digest for volume in record.feature_volumes]
        return feature_entries(image, record.content_digest, specs.slic, specs.features, volumes)

    def _learned_from(self, now: Snapshot, image: int) -> LabelledImage:
        """Return what is learned from an image."""
        stages, specs = self._stages_of(image), now.specs
        values = stages.features(specs.slic, specs.features).values
        return LabelledImage.of(now.labels[image], values, stages.supervoxels(specs.slic), self.images[image].spacing)

    def _learned_images(self, now: Snapshot) -> tuple[list[LabelledImage], tuple[str, ...]]:
        """Return what is learned from the images with labels, and the names of their features."""
        indices = [index for index, labels in enumerate(now.labels) if labels.n]
        names = self._stages_of(indices[0]).features(now.specs.slic, now.specs.features).names
        return [self._learned_from(now, index) for index in indices], names

    def _load_classifier(self, now: Snapshot) -> Classifier | None:
        """Return the classifier on the disk if it was made from these labels and can be, or None."""
        first = next(index for index, labels in enumerate(now.labels) if labels.n)
        return models.load_classifier(
            self._classifier_path,
            now.classifier_digest,
            classes=np.unique(np.concatenate([labels.classes for labels in now.labels])),
            n_features=lambda: self._learned_from(now, first).values.shape[1],
        )

    @property
    def _classifier_path(self) -> Path:
        return self.folder / "models" / "classifier.npz"

    def _opinions(self, now: Snapshot, image: int, first: Forest) -> Opinions:
        """Return what the first forest says of an image: training needs some of it, and prediction all."""
        values = self._stages_of(image).features(now.specs.slic, now.specs.features).values
        digest = digest_of(now.classifier_digest, now.features[image])
        return self._kept.get(f"opinions-{image}", digest, lambda: Opinions(first, values, executor=self.executor))


def _read_prediction(entry: Entry, n: int, classes: NDArray[np.int32]) -> Prediction:
    """Return the prediction that a cache entry holds, or raise `InputError` if it is none of `n` supervoxels."""
    probabilities = np.asarray(entry.arrays["probabilities"])
    if probabilities.shape != (n, len(classes)) or not np.array_equal(entry.arrays["classes"], classes):
        raise InputError(f"probabilities has shape {probabilities.shape}; expected {(n, len(classes))}")
    # NaN is neither.
    if not (probabilities.min(initial=0) >= 0 and np.abs(probabilities.sum(axis=1) - 1).max(initial=0) < 1e-3):
        raise InputError("probabilities has rows that do not sum to 1")
    return Prediction(probabilities.astype(np.float32, copy=False), classes)
