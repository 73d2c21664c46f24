"""One trained classifier on many images: each is segmented in a scratch folder, and only what was asked for remains."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from voxloop.active import top_uncertain, uncertainty
from voxloop.blocks import Executor, Progress, default_executor, memory_budget
from voxloop.classify import Prediction, SupervoxelLabels, label_supervoxels
from voxloop.classify.cut import cut_graph
from voxloop.color import as_lab
from voxloop.errors import Cancelled, InputError, VoxloopError
from voxloop.io import folder_of, format_to_write, is_numbered, matching_files
from voxloop.project.annotations import LabelClass
from voxloop.project.batch_images import BatchImage, batch_images
from voxloop.project.cache import ArrayCache
from voxloop.project.export import ExportOptions, check_distinct, export_files, export_options, planned_files
from voxloop.project.folder import is_project
from voxloop.project.images import ProjectImage
from voxloop.project.model_file import Model
from voxloop.project.project import Project
from voxloop.project.sources import OF_STROKES, Source
from voxloop.project.stages import ImageStages
from voxloop.project.tables import TableKind, planned_table, write_table
from voxloop.specs import FeatureSpec, digest_of
from voxloop.supervoxels import Supervoxels
from voxloop.supervoxels.extent import Extent
from voxloop.volume import Spacing, Volume

_OTHER_SIZE = 1.25  # times as large or small: then the classifier may not know what it sees


@dataclass(frozen=True)
class BatchItem:
    """What became of one image.

    Attributes
    ----------
    image
        Its path.
    frame
        Its time point, if it is one of a series.
    state
        ``written``, ``there`` (all files existed), or ``failed``.
    files
        The files that hold its results.
    reason
        Why it failed, in one line.
    note
        What may be wrong with the result, in one line, or empty.
    seconds
        How long it took.
    """

    image: str
    frame: int | None
    state: Literal["written", "there", "failed"]
    files: tuple[Path, ...] = ()
    reason: str = ""
    note: str = ""
    seconds: float = 0.0


def batch(
    model: Model | Project | str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str] | BatchImage],
    out: str | os.PathLike[str],
    *,
    mask: str | os.PathLike[str] | None = None,
    frames: slice | None = None,
    sources: Sequence[Source] = ("segmentation",),
    tables: Mapping[TableKind, str | os.PathLike[str]] = MappingProxyType({}),
    jobs: int = 1,
    overwrite: bool = False,
    image_axes: str | None = None,
    spacing: Spacing | None = None,
    unit: str | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    memory: int | str | None = None,
    report: Callable[[BatchItem], None] | None = None,
    **options: Any,
) -> list[BatchItem]:
    """Segment images with a trained classifier; one that fails does not stop the others.

    Files that exist are not made again, so a stopped run goes on where it was; each appears when it is complete.
    Nothing is added to the project. Supervoxels and features lie in the folder for temporary files (``TMPDIR``)
    meanwhile.

    Parameters
    ----------
    model
        A project, the folder of one, a model, or the file of one.
    images
        Files, as for `open_volume`, or a `BatchImage` for each that has a mask, a part or a time point of its own.
    out
        Where results go: a path pattern as for `Project.export`, such as
        ``{dataset_dir}/{nickname}-{result_type}.tif``.
    mask
        Where the mask of each image is: a path pattern such as ``{dataset_dir}/{nickname}-mask.tif``.
    frames
        Of a series these time points, each as an image of its own; ``slice(None)`` for all.
    sources
        What is written of each image: any source but ``labels`` and ``refined``, which need strokes.
    tables
        Tables to be written of each image and their path patterns, such as ``{"objects": "{nickname}.csv"}``.
    jobs
        How many images are worked on at a time; they share processors and memory.
    overwrite
        Whether results that exist are made again.
    image_axes, spacing, unit
        Correct what all the files say, see `open_volume`.
    executor, progress, memory
        As for `Project.open`; with several jobs `progress` is told of images only.
    report
        Called with each image as soon as it is done.
    **options
        How results are written, see `ExportOptions`.

    Returns
    -------
    list of BatchItem
        In the order of `images`.

    Raises
    ------
    InputError
        If the model, the pattern or an option cannot be used, or two results would have one name: before any work.
    Cancelled
        If `progress` says so; images that were finished stay.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise InputError(f"jobs must be at least 1, not {jobs!r}")
    executor = executor or default_executor()
    how = export_options(options)
    used = _as_model(model, executor, progress, memory)
    chosen = batch_images(images, mask=mask, frames=frames, axes=image_axes)
    plans = _plan(used, chosen, out, sources, tables)
    how.check(used.specs.features, sources)
    scratch = _Scratch(
        executor=executor if jobs == 1 else executor.limited(max(1, executor.n_workers // jobs)),
        progress=progress if jobs == 1 else None,
        memory=max(2**20, memory_budget(memory) // jobs),
        opening={"axes": image_axes, "spacing": spacing, "unit": unit},
    )

    def work(index: int) -> BatchItem:
        return _segment(used, chosen[index], plans[index], how, scratch, overwrite=overwrite)

    done: dict[int, BatchItem] = {}
    with ThreadPoolExecutor(jobs, thread_name_prefix="voxloop-batch") as pool:
        futures = {pool.submit(work, index): index for index in range(len(chosen))}
        try:
            for future in as_completed(futures):
                done[futures[future]] = item = future.result()
                if report is not None:
                    report(item)
                if progress is not None and jobs > 1:
                    progress("images", len(done), len(plans))
        except BaseException:
            scratch.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [done[index] for index in range(len(chosen))]


def _as_model(
    model: Model | Project | str | os.PathLike[str],
    executor: Executor,
    progress: Progress | None,
    memory: int | str | None,
) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, Project):
        return model.model()
    if is_project(model):
        with Project.open(model, read_only=True, executor=executor, progress=progress, memory=memory) as project:
            return project.model()
    return Model.open(model)


@dataclass(frozen=True)
class _Plan:
    """The files to be written of one image: by source and class, and by table."""

    volumes: dict[Source, dict[int | None, Path]]
    tables: dict[TableKind, Path]

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*(file for targets in self.volumes.values() for file in targets.values()), *self.tables.values())

    def without(self, unwanted: Callable[[Path], bool]) -> _Plan:
        """Return the plan without some files."""
        volumes = {s: {c: f for c, f in targets.items() if not unwanted(f)} for s, targets in self.volumes.items()}
        return _Plan(volumes, {kind: file for kind, file in self.tables.items() if not unwanted(file)})


def _plan(
    model: Model,
    images: Sequence[BatchImage],
    out: str | os.PathLike[str],
    sources: Sequence[Source],
    tables: Mapping[TableKind, str | os.PathLike[str]],
) -> list[_Plan]:
    """Return the files to be written of each image; no two are the same, and all are of a known format."""
    if not sources or set(sources) & set(OF_STROKES):
        raise InputError(
            f"sources must name at least one result of an image that has no labels, so not {' or '.join(OF_STROKES)}"
        )
    plans = [
        _Plan(
            {s: planned_files(s, out, classes=model.classes, **image.fields) for s in sources},
            {kind: planned_table(kind, pattern, **image.fields) for kind, pattern in tables.items()},
        )
        for image in images
    ]
    for plan in plans:
        for targets in plan.volumes.values():
            for file in targets.values():
                format_to_write(file)
    check_distinct([file for plan in plans for file in plan.files])
    return plans


@dataclass(frozen=True)
class _Scratch:
    """How all images are worked on; `stop` ends the work under way within a block."""

    executor: Executor
    progress: Progress | None
    memory: int
    opening: Mapping[str, Any]

    @cached_property
    def stop(self) -> threading.Event:
        """Set when no more work is wanted."""
        return threading.Event()

    def tell(self, stage: str, done: int, total: int) -> None:
        """Pass progress on, unless the work is to stop."""
        if self.stop.is_set():
            raise Cancelled("the batch was stopped")
        if self.progress is not None:
            self.progress(stage, done, total)


def _segment(
    model: Model, image: BatchImage, plan: _Plan, options: ExportOptions, scratch: _Scratch, *, overwrite: bool
) -> BatchItem:
    """Segment one image and write what is missing of its results; whatever goes wrong is told, not raised."""
    start = time.perf_counter()
    files = plan.files
    try:
        wanted = plan if overwrite else plan.without(_exists)
        if not wanted.files:
            return BatchItem(str(image.file), image.frame, "there", files)
        with _opened(model, image, scratch) as results:
            for source, targets in wanted.volumes.items():
                if targets:
                    export_files(results, source, targets, options, overwrite=overwrite)
            for kind, target in wanted.tables.items():
                write_table(kind, results, target, overwrite=overwrite)
            note = _size_note(model, results.volume)
        return BatchItem(str(image.file), image.frame, "written", files, note=note, seconds=time.perf_counter() - start)
    except Cancelled:
        raise
    except VoxloopError as error:
        reason = str(error)
    except MemoryError:
        reason = f"{image} takes more memory than there is"
    except Exception as error:  # a fault of ours in one image must not cost the others
        reason = f"internal error: {type(error).__name__}: {error}"
    reason = " ".join(reason.split())
    return BatchItem(str(image.file), image.frame, "failed", reason=reason, seconds=time.perf_counter() - start)


def _exists(file: Path) -> bool:
    return bool(matching_files(file)) if is_numbered(file) else os.path.lexists(file)


def _size_note(model: Model, volume: Volume) -> str:
    """Return a line if the voxels have another size than those that the model was trained on."""
    if volume.unit != model.unit or volume.unit == "pixel":
        return ""
    ratios = np.divide(volume.spacing, model.spacing)
    if np.maximum(ratios, 1 / ratios).max() < _OTHER_SIZE:
        return ""
    here, there = (" x ".join(f"{s:g}" for s in spacing) for spacing in (volume.spacing, model.spacing))
    return f"its voxels are {here} {volume.unit}, those of the training were {there}"


@contextmanager
def _opened(model: Model, image: BatchImage, scratch: _Scratch) -> Iterator[ModelResults]:
    """Open an image as the model needs it; what is computed of it is gone at the end."""
    volume, mask = image.open(channels=model.channels, **scratch.opening)
    seen = as_lab(volume) if model.color == "lab" else volume
    if seen.n_channels != model.n_channels:
        raise InputError(f"{image} has {seen.n_channels} channel(s) but the model was trained on {model.n_channels}")
    with tempfile.TemporaryDirectory(prefix="voxloop-", ignore_cleanup_errors=True) as folder:
        stages = ImageStages(
            index=0,
            image=ProjectImage(seen, mask),
            content_digest=digest_of("batch", str(image)),
            cache=ArrayCache(Path(folder)),
            save=True,
            executor=scratch.executor,
            progress=scratch.tell,
            memory=scratch.memory,
        )
        yield ModelResults(model, stages)


@dataclass(frozen=True)
class ModelResults:
    """The results of an image that a model segments: an `ImageResults` without labels."""

    model: Model
    stages: ImageStages

    @property
    def name(self) -> str:
        """What the image is called."""
        return self.volume.name

    @property
    def dataset_dir(self) -> Path:
        """The folder that the image's file lies in."""
        assert self.volume.path is not None
        return folder_of(self.volume.path)

    @property
    def volume(self) -> Volume:
        """The image."""
        return self.stages.image.volume

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The classes, sorted by id."""
        return self.model.classes

    @property
    def feature_spec(self) -> FeatureSpec:
        """How features are computed."""
        return self.model.specs.features

    @property
    def executor(self) -> Executor:
        """Runs the blocks."""
        return self.stages.executor

    @property
    def progress(self) -> Progress | None:
        """Is told how far the work is."""
        return self.stages.progress

    @property
    def memory(self) -> int:
        """Bytes that a process may take for its blocks."""
        return self.stages.memory

    def digest(self) -> None:
        """Return None: a batch that was stopped begins the file that it was writing anew."""

    def supervoxels(self) -> Supervoxels:
        """Return the supervoxels."""
        return self.stages.supervoxels(self.model.specs.slic)

    def extent(self) -> Extent:
        """Return which slices the supervoxels meet."""
        return self.stages.extent(self.model.specs.slic)

    def prediction(self) -> Prediction:
        """Return the class probabilities of the supervoxels."""
        return self._prediction

    @cached_property
    def _prediction(self) -> Prediction:
        classifier, values = self.model.classifier, self._values()
        if values.shape[1] != classifier.first.n_features:
            raise InputError(
                f"{self.name} has {values.shape[1]} features a supervoxel but the model was trained on "
                f"{classifier.first.n_features}: is one of them a single slice?"
            )
        return Prediction.by(
            classifier,
            values,
            self.supervoxels().graph,
            np.array([c.class_id for c in self.classes], np.int32),
            executor=self.executor,
            memory=self.memory,
        )

    def graph_cut(self, strength: float) -> NDArray[np.int32]:
        """Return the class (n,) of each supervoxel by a graph cut of that strength."""
        return cut_graph(self.prediction(), self.supervoxels().graph, self._values(), strength=strength)

    def _values(self) -> NDArray[np.float32]:
        specs = self.model.specs
        return self.stages.features(specs.slic, specs.features).values

    def refined(self) -> NDArray[np.integer]:
        """Raise `InputError`: voxels are decided by strokes, which a model does not hold."""
        raise InputError("refined needs the strokes of a project; a model has none")

    def uncertainty(self) -> NDArray[np.float32]:
        """Return how unsure the classifier is of each supervoxel."""
        return uncertainty(self.prediction().probabilities, self.model.specs.query.uncertainty)

    def top_uncertain(self) -> NDArray[np.uint32]:
        """Return the supervoxels to label next."""
        return top_uncertain(self.uncertainty(), share=self.model.specs.query.top_share)

    def labels(self) -> SupervoxelLabels:
        """Return which supervoxels are labelled: none."""
        return label_supervoxels([], [])

    def labelled_voxels(self) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
        """Return the sorted linear indices of the labelled voxels, and the class of each: none."""
        return np.zeros(0, np.int64), np.zeros(0, np.uint16)
