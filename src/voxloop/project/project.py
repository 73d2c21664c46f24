"""The one stateful object: a project folder and everything computed from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike as ArrayInput
from numpy.typing import NDArray

from voxloop.active import PlaneSuggestion, SliceSuggestion, StopSignal, top_uncertain, uncertainty
from voxloop.blocks import Box
from voxloop.classify import (
    Assessment,
    Classifier,
    Forest,
    LabelledImage,
    Opinions,
    Prediction,
    SupervoxelLabels,
    label_supervoxels,
)
from voxloop.classify.refinement import Refiner
from voxloop.errors import InputError
from voxloop.features import FeatureTable
from voxloop.project import judging, models
from voxloop.project.cache import ArrayCache, Entry
from voxloop.project.export import export, export_options
from voxloop.project.folder import ProjectFolder
from voxloop.project.history import History
from voxloop.project.judging import FeatureSuggestion
from voxloop.project.meshes import export_meshes
from voxloop.project.model_file import Model
from voxloop.project.planes import label_plane
from voxloop.project.record import Specs
from voxloop.project.refining import Refining, compute_refined, read_refined
from voxloop.project.report import write_report
from voxloop.project.results import ProjectResults
from voxloop.project.sources import Source
from voxloop.project.stages import (
    ImageStages,
    Kept,
    feature_entries,
    features_digest,
    read_entry,
    supervoxels_digest,
)
from voxloop.project.suggestions import Suggester
from voxloop.project.tables import TableKind, export_table, make_table
from voxloop.project.training import check_labels, fit_labels
from voxloop.specs import SlicSpec, digest_of
from voxloop.supervoxels import Supervoxels
from voxloop.supervoxels.extent import Extent

HISTORY = "history.jsonl"

Stage = Literal["supervoxels", "features", "prediction"]
State = Literal["missing", "stale", "ready"]


@dataclass(frozen=True, eq=False)
class _Snapshot:
    """Labels, classes and specs as they were at one moment: another thread may paint while something is computed.

    Attributes
    ----------
    labels
        The labelled supervoxels of each image.
    class_names
        Names of the classes by id.
    specs
        What was chosen for each stage.
    features
        Digest of each image's feature table.
    """

    labels: tuple[SupervoxelLabels, ...]
    class_names: dict[int, str]
    specs: Specs
    features: tuple[str, ...]

    @property
    def classes(self) -> NDArray[np.int32]:
        """(k,) sorted ids of the classes."""
        return np.array(sorted(self.class_names), np.int32)

    @cached_property
    def classifier_digest(self) -> str:
        """Digest of all that the classifier depends on."""
        parts = [
            [features, *(array.tolist() for array in of_image.arrays)]
            for features, of_image in zip(self.features, self.labels, strict=True)
            if of_image.n
        ]
        return digest_of("classifier", models.VERSION, self.specs.classifier.digest, parts)

    def prediction_digest(self, image: int) -> str:
        """Digest of all that the prediction of an image depends on."""
        return digest_of("prediction", self.classifier_digest, self.features[image], sorted(self.class_names))


@dataclass(frozen=True)
class LabelSummary:
    """What the labels of all images come to: supervoxels a class, conflicts, and voxels that do not count."""

    counts: dict[str, int]
    n_conflicts: int
    n_outside: int

    @property
    def n_labelled(self) -> int:
        """Number of labelled supervoxels."""
        return sum(self.counts.values())


class Project(ProjectFolder):
    """A folder with images, labels and everything computed from them; made by `create`, opened by `open`.

    A stage is computed when it is asked for, and only if something that it depends on has changed since:
    `supervoxels`, `features`, `train` and `predict` can be called in any order, and `suggest_slices` and `export` call
    what they need. Every label is on the disk when the call that adds it returns.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cache = ArrayCache(self.folder / "cache", read_only=self.read_only)
        self._stages: dict[int, ImageStages] = {}
        self._kept = Kept()
        self.history = History(self.folder / HISTORY, read_only=self.read_only)

    def labels(self, image: int = 0) -> SupervoxelLabels:
        """Return which supervoxels of an image are labelled, and as what."""
        return self._labels_under(self.specs.slic, image)

    def label_summary(self) -> LabelSummary:
        """Return the number of labelled supervoxels of each class over all images, and of conflicts."""
        labels = [self.labels(index) for index in range(len(self.images))]
        counts = {name: sum(x.count(class_id) for x in labels) for class_id, name in self.class_names.items()}
        return LabelSummary(counts, sum(len(x.conflicts) for x in labels), sum(x.n_outside for x in labels))

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
                smoothing=now.specs.classifier.smoothing,
                opinions=self._opinions(now, image, classifier.first),
                executor=self.executor,
            )
            if not self.read_only:
                cut = supervoxels_digest(self.images[image].content_digest, slic)
                accuracy = classifier.held_out.accuracy if classifier.held_out else None
                self._note_round(now, image, made, supervoxels, cut, accuracy)
                arrays = {"probabilities": made.probabilities, "classes": made.classes}
                self._cache.put(name, digest, arrays, meta={"supervoxels": cut})
            return made

        return self._kept.get(name, digest, compute)

    def assess(self) -> Assessment:
        """Return how good the classifier is: accuracy with its interval, confusion matrix, importances.

        All of it comes from labels that were held out, stroke by stroke.

        Raises
        ------
        InputError
            If nothing can be trained, or fewer than two classes are labelled in two places.
        """
        now = self._snapshot()
        classifier = self._train(now)

        def compute() -> Assessment:
            images, names = self._learned_images(now)
            return judging.assess(
                classifier, images, names, now.specs.classifier, now.class_names, executor=self.executor
            )

        return self._kept.get("assessment", now.classifier_digest, compute)

    def suggest_features(self) -> FeatureSuggestion:
        """Return which of the features that are computed are worth it, for the labels that there are.

        Takes seconds; what `progress` raises ends it.

        Raises
        ------
        InputError
            If nothing can be trained, or no class is labelled in two places.
        """
        now = self._snapshot()
        check_labels(now.labels, now.class_names)
        images, names = self._learned_images(now)
        return judging.suggest_features(
            images, names, now.specs.classifier, now.specs.features, executor=self.executor, progress=self.progress
        )

    def refine(self, image: int = 0) -> NDArray[np.integer]:
        """Return the class of each voxel of an image (z, y, x), 0 outside the mask.

        Supervoxels at a predicted boundary, and those that the classifier is unsure of, are decided voxel by voxel: by
        a forest that learns from the labelled voxels, as much as held-out strokes say that it helps, and by what is
        said of the supervoxels around, smoothed. All others keep the class of `predict`.

        Returns
        -------
        ndarray
            uint8 or uint16, a read-only memory map of the project's cache.

        Raises
        ------
        InputError
            If there are labels of fewer than two classes.
        """
        name, digest, shape = f"refined-{image}", self._refined(image)[1], self.images[image].shape

        def compute() -> NDArray[np.integer]:
            if (stored := read_refined(self._cache, name, digest, shape)) is not None:
                return stored
            return compute_refined(self, self._refiner(image), self._cache, name, digest)

        return self._kept.get(name, digest, compute)

    def refine_slice(self, index: int, *, axis: int = 0, image: int = 0) -> NDArray[np.integer]:
        """Return the class of each voxel of one slice of an image, as `refine` does but for the rounding of filters.

        Parameters
        ----------
        index, axis
            Which slice, and the axis 0, 1, 2 (z, y, x) that it is perpendicular to.
        image
            Which image.

        Returns
        -------
        ndarray
            int32, the two axes that are left.

        Raises
        ------
        InputError
            If there is no such slice, or there are labels of fewer than two classes.
        """
        shape = self._image_record(image).shape
        if axis not in (0, 1, 2) or not 0 <= index < shape[axis]:
            raise InputError(f"axis {axis}, index {index} is not a slice of an image of shape {shape}")
        start, stop = [0, 0, 0], list(shape)
        start[axis], stop[axis] = index, index + 1
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        return self._refiner(image).classes_in(box).squeeze(axis)

    def uncertainty(self, image: int = 0) -> NDArray[np.float32]:
        """Return how unsure the classifier is of each supervoxel (n,), by the measure of ``specs.query``."""
        return uncertainty(self.predict(image).probabilities, self.specs.query.uncertainty)

    def top_uncertain(self, image: int = 0) -> NDArray[np.uint32]:
        """Return the supervoxels of an image to highlight, most uncertain first; never labelled ones."""
        scores, done = self.uncertainty(image), self.labels(image).ids
        return top_uncertain(scores, share=self.specs.query.top_share, exclude=done)

    def suggest_supervoxels(self, *, number: int = 1, image: int = 0) -> NDArray[np.uint32]:
        """Return the ids of the supervoxels of an image to label next, best first, by the strategy of ``specs.query``.

        This and the other suggestions need no labels: before there is a classifier, they show what is typical.
        """
        return Suggester.of(self, image).supervoxels(number)

    def suggest_slices(
        self, *, number: int = 1, axes: Sequence[int] | None = None, image: int = 0
    ) -> list[SliceSuggestion]:
        """Return the slices of an image where the next labels help most, best first."""
        found = Suggester.of(self, image).slices(number, axes=axes)
        self.history.add_suggestions(image, found)
        return found

    def suggest_planes(self, *, number: int = 1, image: int = 0) -> list[PlaneSuggestion]:
        """Return the round patches of planes where the next labels help most, best first; see `label_plane`."""
        found = Suggester.of(self, image).planes(number)
        self.history.add_suggestions(image, found)
        return found

    def label_plane(
        self,
        plane: PlaneSuggestion,
        classes: str | int | tuple[str | int, str | int],
        *,
        line: ArrayInput | None = None,
        image: int = 0,
    ) -> dict[int, int]:
        """Label what a patch shows: all of it as one class, or each side of a straight line as another.

        Every supervoxel that is seen in the patch and has no label yet takes a class whole, as `label_patch` says; the
        voxels of it that the patch shows are labelled, in one step that `undo` takes back.

        Parameters
        ----------
        plane
            A suggestion of `suggest_planes`.
        classes
            A class by name or id, or with a line two of them: left and right of it, walking along it.
        line
            Two points (2, 2), each (down, right) from the centre of the patch, in voxels of the finest axis.
        image
            Which image.

        Returns
        -------
        The class id that each supervoxel got.
        """
        return label_plane(self, plane, classes, line=line, image=image)

    def stop_signal(self, image: int = 0) -> StopSignal:
        """Return whether more labels are likely to change an image's segmentation, from the rounds so far.

        A round is a prediction after labels have changed.
        """
        return self.history.stop_signal(image)

    def class_shares(self, image: int = 0) -> dict[str, float]:
        """Return the share of an image's voxels, inside the mask, that each class is predicted to take."""
        sizes, segmentation = self.supervoxels(image).sizes, self.predict(image).segmentation
        counts = np.bincount(segmentation, weights=sizes, minlength=self.annotations.next_class_id)
        return {name: float(counts[class_id] / sizes.sum()) for class_id, name in self.class_names.items()}

    def report(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write one HTML page about the project and return its path.

        Slices with segmentation and uncertainty, labels and conflicts, accuracy with its interval, confusion matrix,
        importances, the volume of each class, and how it went. Its pictures are inside; it loads nothing.

        Parameters
        ----------
        path
            Where to; must end in ``.html``.
        overwrite
            Whether an existing file may be replaced.

        Raises
        ------
        InputError
            If there are no images, or the file exists and may not be replaced.
        """
        return write_report(self, path, overwrite=overwrite)

    def model(self) -> Model:
        """Return the trained classifier with all that it needs to segment other images; see `Model.save`, `batch`."""
        return Model.of(self)

    def results(self, image: int = 0) -> ProjectResults:
        """Return the results of an image, computed when they are asked for; what exports and tables are made of."""
        self._image_record(image)
        return ProjectResults(self, image)

    def export(
        self, source: Source, path: str | os.PathLike[str], *, image: int = 0, overwrite: bool = False, **options: Any
    ) -> list[Path]:
        """Write a result of an image to a file, block by block.

        Parameters
        ----------
        source
            ``segmentation`` (uint8 or uint16 class of each voxel, 0 outside the mask), ``refined`` (the same, decided
            voxel by voxel near boundaries, see `refine`), ``probabilities`` (float32, a
            channel a class), ``uncertainty`` (float32), ``supervoxels`` (uint32), ``labels`` (the labelled voxels),
            ``masks`` (uint8, 0 or 1, a channel a class), ``objects`` (uint32, a number for each connected piece of a
            class), ``top_uncertain`` (uint8, 1 where the next labels help most) or ``features`` (float32, the filter
            responses of `features`).
        path
            Where to; the suffix says the format, see `create_volume`. It may hold ``{dataset_dir}`` (the folder of the
            image), ``{nickname}`` (its name), ``{result_type}`` (the source), ``{slice_index}`` (a file a slice) and,
            for probabilities and masks, ``{class}`` (a file a class).
        image
            Which image.
        overwrite
            Whether an existing file may be replaced.
        **options
            `crop`, `dtype`, `rescale`, `axes`, `features`, `ome_zarr`: see `ExportOptions`.

        Returns
        -------
        list of Path
            The files written. What a format cannot hold (see the table of formats) is in a JSON file beside it.

        Raises
        ------
        InputError
            If an argument cannot be used, or a file exists.
        """
        return export(self.results(image), source, path, export_options(options), overwrite=overwrite)

    def export_meshes(
        self,
        path: str | os.PathLike[str],
        *,
        classes: Sequence[str | int] | None = None,
        source: Literal["segmentation", "refined"] = "segmentation",
        crop: tuple[slice, slice, slice] | None = None,
        smoothing: int = 10,
        image: int = 0,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write the surface of each class as triangles; needs ``voxloop[meshes]``.

        Surfaces are closed, also at the border of the image, and lie half a voxel around the voxels' centres. Their
        coordinates (x, y, z) are in the unit of the voxel size, with the centre of the image's first voxel at 0.

        Parameters
        ----------
        path
            Where to: ``.stl``, ``.ply`` or ``.obj``, with ``{class}`` in it for a file a class.
        classes
            Names or ids; by default all that have voxels.
        source
            Which segmentation; `refine` says what is refined in it.
        crop
            Three slices (z, y, x) in voxels of the image: a part of it.
        smoothing
            Rounds of Taubin's smoothing, which rounds the voxels' steps and keeps the size; 0 leaves them.
        image
            Which image.
        overwrite
            Whether existing files may be replaced.

        Raises
        ------
        InputError
            If an argument cannot be used, or the surface takes more than the memory budget (some 700 bytes a vertex).
        """
        return export_meshes(
            self.results(image),
            path,
            classes=classes,
            source=source,
            crop=crop,
            smoothing=smoothing,
            overwrite=overwrite,
        )

    def table(self, kind: TableKind, image: int = 0) -> dict[str, NDArray[Any]]:
        """Return a table of an image as columns by name.

        Parameters
        ----------
        kind
            ``supervoxels``: class, probability of each class, uncertainty, size, centre and label of each.
            ``objects``: class, size, centre and bounding box (both ends in it) of each connected piece of a class, and
            whether it touches the border; connected through faces, numbered as in the source ``objects`` of `export`.
            ``classes``: volume, share of all voxels inside the mask, number of objects and of supervoxels of each.
        image
            Which image.

        Returns
        -------
        dict
            Arrays of one length. Sizes are in voxels and in the unit of the spacing, which is in the column's name:
            ``volume_micrometer3`` (``area_micrometer2`` of a 2D image), ``center_z_micrometer``. The centre of the
            first voxel of the image is at 0.
        """
        return make_table(kind, self.results(image))

    def export_table(
        self, kind: TableKind, path: str | os.PathLike[str], *, image: int = 0, overwrite: bool = False
    ) -> Path:
        """Write a table of an image, see `table`, to ``.csv`` or ``.parquet`` (``voxloop[tables]``); return the path.

        The path may hold ``{dataset_dir}``, ``{nickname}`` and ``{result_type}``, as that of `export`.
        """
        return export_table(kind, self.results(image), path, overwrite=overwrite)

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

    def _refined(self, image: int) -> tuple[Refining, str]:
        """Return what refines an image under the labels as they are now, and the digest of the result."""
        self._image_record(image)
        refining = Refining.of(self)
        return refining, refining.digest(self._snapshot().prediction_digest(image))

    def _refiner(self, image: int) -> Refiner:
        refining, digest = self._refined(image)
        return self._kept.get(f"refiner-{image}", digest, lambda: refining.refiner(image))

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

    def _snapshot(self) -> _Snapshot:
        """Return labels, classes and specs as they are now."""
        specs, class_names = self.specs, self.class_names
        indices = range(len(self.images))
        features = (features_digest(self._feature_entries(i, specs), specs.features) for i in indices)
        labels = tuple(self._labels_under(specs.slic, index) for index in indices)
        return _Snapshot(labels, class_names, specs, tuple(features))

    def _train(self, now: _Snapshot) -> Classifier:
        if not self.images:
            raise InputError("the project has no images")
        check_labels(now.labels, now.class_names)
        digest = now.classifier_digest
        return self._kept.get("classifier", digest, lambda: self._load_classifier(now) or self._fit(now))

    def _fit(self, now: _Snapshot) -> Classifier:
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
        now: _Snapshot,
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

    def _learned_from(self, now: _Snapshot, image: int) -> LabelledImage:
        """Return what is learned from an image."""
        stages, specs = self._stages_of(image), now.specs
        values = stages.features(specs.slic, specs.features).values
        return LabelledImage.of(now.labels[image], values, stages.supervoxels(specs.slic), self.images[image].spacing)

    def _learned_images(self, now: _Snapshot) -> tuple[list[LabelledImage], tuple[str, ...]]:
        """Return what is learned from the images with labels, and the names of their features."""
        indices = [index for index, labels in enumerate(now.labels) if labels.n]
        names = self._stages_of(indices[0]).features(now.specs.slic, now.specs.features).names
        return [self._learned_from(now, index) for index in indices], names

    def _load_classifier(self, now: _Snapshot) -> Classifier | None:
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

    def _opinions(self, now: _Snapshot, image: int, first: Forest) -> Opinions:
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
