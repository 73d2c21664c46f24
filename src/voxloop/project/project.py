"""The one stateful object: a project folder and everything computed from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike as ArrayInput
from numpy.typing import NDArray

from voxloop.active import PlaneSuggestion, SliceSuggestion, StopSignal, top_uncertain, uncertainty
from voxloop.blocks import Box
from voxloop.classify import Assessment
from voxloop.classify.cut import STRENGTH, cut_graph
from voxloop.classify.refinement import Refiner
from voxloop.errors import InputError
from voxloop.project import judging
from voxloop.project.computed import ComputedProject
from voxloop.project.export import export, export_options
from voxloop.project.judging import FeatureSuggestion
from voxloop.project.meshes import export_meshes
from voxloop.project.model_file import Model
from voxloop.project.planes import label_plane
from voxloop.project.refining import Refining, compute_refined, read_refined
from voxloop.project.report import write_report
from voxloop.project.results import ProjectResults
from voxloop.project.sources import Source
from voxloop.project.suggestions import Suggester
from voxloop.project.tables import TableKind, export_table, make_table
from voxloop.project.training import check_labels


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


class Project(ComputedProject):
    """A folder with images, labels and everything computed from them; made by `create`, opened by `open`.

    A stage is computed when it is asked for, and only if something that it depends on has changed since:
    `supervoxels`, `features`, `train` and `predict` can be called in any order, and `suggest_slices` and `export` call
    what they need. Every label is on the disk when the call that adds it returns.
    """

    def label_summary(self) -> LabelSummary:
        """Return the number of labelled supervoxels of each class over all images, and of conflicts."""
        labels = [self.labels(index) for index in range(len(self.images))]
        counts = {name: sum(x.count(class_id) for x in labels) for class_id, name in self.class_names.items()}
        return LabelSummary(counts, sum(len(x.conflicts) for x in labels), sum(x.n_outside for x in labels))

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

    def graph_cut(self, image: int = 0, *, strength: float = STRENGTH) -> NDArray[np.int32]:
        """Return the class (n,) of each supervoxel of an image, decided for all of them at once by a graph cut.

        Neighbours tend to be of one class, across edges of the image less than within regions: specks go and holes
        close. All others have the class of `predict`.

        Parameters
        ----------
        image
            Which image.
        strength
            How much a contact of two classes costs; 0 gives the classes of `predict`.

        Raises
        ------
        InputError
            If there are labels of fewer than two classes, or the strength is negative.
        """
        graph, values = self.supervoxels(image).graph, self.features(image).values
        return cut_graph(self.predict(image), graph, values, strength=strength)

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
            ``segmentation`` (uint8 or uint16 class of each voxel, 0 outside the mask), ``graph_cut`` (the same, without
            specks, see `graph_cut`), ``refined`` (the same, decided voxel by voxel near boundaries, see `refine`),
            ``probabilities`` (float32, a channel a class), ``uncertainty`` (float32), ``supervoxels`` (uint32),
            ``labels`` (the labelled voxels), ``masks`` (uint8, 0 or 1, a channel a class), ``objects`` (uint32, a
            number for each connected piece of a class), ``top_uncertain`` (uint8, 1 where the next labels help most) or
            ``features`` (float32, the filter responses of `features`).
        path
            Where to; the suffix says the format, see `create_volume`. It may hold ``{dataset_dir}`` (the folder of the
            image), ``{nickname}`` (its name), ``{result_type}`` (the source), ``{slice_index}`` (a file a slice) and,
            for probabilities and masks, ``{class}`` (a file a class).
        image
            Which image.
        overwrite
            Whether an existing file may be replaced.
        **options
            `crop`, `dtype`, `rescale`, `axes`, `features`, `strength`, `ome_zarr`, `ome_tiff`: see `ExportOptions`.

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

    # Behind the scenes

    def _refined(self, image: int) -> tuple[Refining, str]:
        """Return what refines an image under the labels as they are now, and the digest of the result."""
        self._image_record(image)
        refining = Refining.of(self)
        return refining, refining.digest(self._snapshot().prediction_digest(image))

    def _refiner(self, image: int) -> Refiner:
        refining, digest = self._refined(image)
        return self._kept.get(f"refiner-{image}", digest, lambda: refining.refiner(image))
